//! Recorded hellos in random pieces, with random changes, and garbage.

use proptest::prelude::*;

use super::*;

fn any_recorded() -> impl Strategy<Value = &'static [u8]> {
    proptest::sample::select(RECORDED).prop_map(|(_, wire)| wire)
}

proptest! {
    // threat 2: with 63 cuts at most there are 64 records at most.
    #[test]
    fn random_splits_and_prefixes_change_nothing(
        wire in any_recorded(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..63),
        prefix in any::<prop::sample::Index>(),
    ) {
        let message = payload(wire);
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(message.len())).collect();
        at.extend([0, message.len()]);
        at.sort_unstable();
        at.dedup();
        let split: Vec<u8> = at.windows(2).flat_map(|w| record(&message[w[0]..w[1]])).collect();
        prop_assert_eq!(accepted(&split), accepted(&record(&message)));

        let len = prefix.index(split.len());
        let at_least = needs(&split[..len]);
        prop_assert!(at_least > len && at_least <= split.len());
    }

    // threat 4
    #[test]
    fn mutations_never_panic_and_broken_hellos_are_never_plain_text(
        wire in any_recorded(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut input = wire.to_vec();
        for (at, byte) in edits {
            let at = at.index(input.len());
            input[at] = byte;
        }
        input.truncate(cut.index(input.len()) + 1);
        let tls = input[0] == 22 && input.iter().skip(1).take(2).eq([3, 1].iter().take(input.len() - 1));
        match peek(&input, &mut HelloBuffer::new()) {
            Peek::Hello(hello) => prop_assert!(hello.wire_len() <= input.len()),
            Peek::NeedMore { at_least } => prop_assert!(at_least > input.len()),
            Peek::Reject(reason) => prop_assert!(!(tls && reason.is_not_tls()), "{}", reason),
        }
    }

    #[test]
    fn garbage_never_panics(input in proptest::collection::vec(any::<u8>(), 0..600)) {
        let tls = [&[22, 3, 1, 1, 0, 1, 0, 0, 252], &input[..]].concat();
        for input in [input, tls] {
            if let Peek::NeedMore { at_least } = peek(&input, &mut HelloBuffer::new()) {
                prop_assert!(at_least > input.len());
            }
        }
    }
}
