//! Any bytes, in any pieces: a Postgres client's prelude ends, is answered twice at most, and never goes
//! on with bytes that came before an answer. The same bytes as an upstream's answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::core::prelude::postgres::{Postgres, Step};
use portcullis::core::prelude::upstream;

// The first byte is the size of the pieces.
fuzz_target!(|data: &[u8]| {
    let Some((&size, rest)) = data.split_first() else { return };
    let (mut prelude, mut held, mut answers) = (Postgres::new(), Vec::new(), 0);
    for piece in rest.chunks(usize::from(size).max(1)) {
        held.extend_from_slice(piece);
        match prelude.step(&held) {
            Step::NeedMore => assert!(held.len() < 8),
            Step::Answer { .. } => {
                answers += 1;
                assert_eq!((answers, held.len()), (1, 8));
                held.clear();
            }
            Step::Promise { .. } => {
                assert_eq!(held.len(), 8);
                break;
            }
            Step::NoPrelude | Step::PlainText { .. } | Step::Refuse(_) => break,
        }
    }
    let is_yes = upstream::answer(rest) == upstream::Answer::Yes;
    assert_eq!(is_yes, rest == b"S");
});
