//! Records that are opened, or sealed, where they lie give what they give elsewhere.

use proptest::prelude::*;

use super::super::aead::Library;
use super::properties::{seal_all, sent};
use super::*;

fn opener(generation: u8, role: Role) -> Opener {
    Opener::new(keys(generation).by(Library::Ring), 0, role, OpenLimits::default())
}

/// A pass within `buffer`, and the bytes that are to be sent.
fn pass(opener: &mut Opener, to: Option<&mut Sealer>, buffer: &mut [u8]) -> (Done, Stop, Vec<u8>) {
    let mut done = Done::default();
    let stop = match to {
        Some(sealer) => transfer_tls_to_tls_within(opener, sealer, buffer, &mut done, now()),
        None => transfer_tls_to_plain_within(opener, buffer, &mut done, now()),
    };
    assert!(done.produced <= done.consumed, "{done:?}");
    (done, stop, buffer[..done.produced].to_vec())
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same_bytes(
        script in proptest::collection::vec(sent(), 0..30),
        cuts in proptest::collection::vec(1usize..400, 1..40),
        is_sealed in any::<bool>(),
    ) {
        let (stream, data, tickets) = seal_all(&script);
        let mut opener = opener(1, Role::Client);
        let mut sealer = is_sealed.then(|| Sealer::new(keys(100), 0));
        let (mut generation, mut arrived, mut at) = (1, 0, 0);
        let (mut got, mut got_tickets) = (Vec::new(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        while at < stream.len() {
            let mut buffer = stream[at..arrived].to_vec();
            let (done, stop, sent) = pass(&mut opener, sealer.as_mut(), &mut buffer);
            prop_assert_eq!(&buffer[done.consumed..], &stream[at + done.consumed..arrived]);
            at += done.consumed;
            got.extend(sent);
            match stop {
                Stop::InputEmpty { at_least } => {
                    prop_assert!(arrived - at < at_least);
                    prop_assert!(at == stream.len() || arrived < stream.len(), "stuck");
                    arrived = stream.len().min(arrived + cuts.next().unwrap());
                }
                Stop::Event(Event::KeyUpdate { .. }) => {
                    generation += 1;
                    opener.rekey(keys(generation).by(Library::Ring));
                }
                Stop::Event(Event::Ticket) => {
                    got_tickets.push(opener.take_ticket().unwrap().into_vec());
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        if is_sealed {
            let mut plain = vec![0; got.len()];
            let mut check = Opener::new(keys(100), 0, Role::Server, OpenLimits::default());
            let opened = transfer_tls_to_plain(&mut check, &got, &mut plain, now());
            prop_assert_eq!(opened.consumed, got.len());
            plain.truncate(opened.produced);
            got = plain;
        }
        prop_assert_eq!(got, data);
        prop_assert_eq!(got_tickets, tickets);
    }

    #[test]
    fn whatever_comes_is_judged_as_elsewhere(
        inners in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20),
        kinds in proptest::collection::vec(20u8..25, 20),
        spoilt in proptest::option::of((0usize..20, 0usize..60)),
    ) {
        let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
        let mut within = opener(1, Role::Server);
        for (at, (inner, kind)) in inners.iter().zip(kinds).enumerate() {
            let mut record = peer.content(kind, inner);
            if let Some((_, byte)) = spoilt.filter(|(spoilt, _)| *spoilt == at) {
                let byte = byte.min(record.len() - 1);
                record[byte] ^= 1;
            }
            let elsewhere = receiver.open(&record);
            let mut buffer = [&[9; 7][..], &record].concat();
            prop_assert_eq!(within.open_within(&mut buffer, 7, 5, receiver.now), elsewhere);
            prop_assert_eq!(&buffer[..5], &[9; 5], "what lies before is not touched");
            if let Ok(Opened::Data { len, .. }) = elsewhere {
                prop_assert_eq!(&buffer[5..5 + len], &receiver.out[..len]);
            }
        }
    }
}

proptest! {
    #[test]
    fn plain_bytes_are_sealed_as_elsewhere_as_far_as_the_lead_allows(
        length in prop_oneof![0usize..3_000, 16_380usize..16_390, 32_760usize..70_000],
        lead in 0usize..130,
        by_ring in any::<bool>(),
    ) {
        let library = if by_ring { Library::Ring } else { Library::AwsLc };
        let plain: Vec<u8> = (0..251).cycle().take(length).collect();
        let mut elsewhere = vec![0; sealed_length(length)];
        let sealed = transfer_plain_to_tls(&mut Sealer::new(keys(1), 0), &plain, &mut elsewhere);
        prop_assert_eq!(sealed.consumed, length);

        let mut buffer = [&vec![9; lead], &plain[..]].concat();
        let mut done = Done { consumed: lead, produced: 0 };
        let mut sealer = Sealer::new(keys(1).by(library), 0);
        let stop = transfer_plain_to_tls_within(&mut sealer, &mut buffer, &mut done);
        let (records, room) = (length.div_ceil(PLAINTEXT_MAX), lead / OVERHEAD);
        let expected = match room < records {
            true => Stop::OutputFull,
            false => Stop::InputEmpty { at_least: 1 },
        };
        prop_assert_eq!(stop, expected);
        prop_assert_eq!(done.consumed - lead, length.min(room * PLAINTEXT_MAX));
        prop_assert_eq!(&buffer[..done.produced], &elsewhere[..done.produced]);
        prop_assert_eq!(done.produced, elsewhere.len().min(room * (PLAINTEXT_MAX + OVERHEAD)));
        prop_assert_eq!(&buffer[done.consumed..], &plain[done.consumed - lead..]);
    }
}

#[test]
fn a_sealer_that_may_seal_no_more_says_so_within_a_buffer() {
    let mut sealer = Sealer::new(keys(1).by(Library::Ring), 0);
    sealer.seal_close_notify(&mut [0; 64]).unwrap();
    let mut buffer = [7; 100];
    let mut done = Done { consumed: OVERHEAD, produced: 0 };
    let stop = transfer_plain_to_tls_within(&mut sealer, &mut buffer, &mut done);
    assert_eq!(stop, Stop::Unsealed(SealError::Closed));
    assert_eq!(done, Done { consumed: OVERHEAD, produced: 0 }, "nothing of it counts");
}

#[test]
fn full_records_are_packed_to_the_front() {
    let mut peer = Peer::new();
    let body: Vec<u8> = (0..251).cycle().take(PLAINTEXT_MAX).collect();
    let records = [&body[..], &body[..100], &[], &body[..]].map(|body| peer.data(body));
    let mut buffer = records.concat();
    let (done, stop, sent) = pass(&mut opener(1, Role::Server), None, &mut buffer);
    assert_eq!((done.consumed, stop), (buffer.len(), Stop::InputEmpty { at_least: HEADER }));
    assert_eq!(sent, [&body[..], &body[..100], &body[..]].concat());
}

#[test]
fn a_place_behind_the_header_is_refused_before_anything_is_opened() {
    let mut buffer = Peer::new().data(b"payload");
    let whole = buffer.clone();
    let mut opener = opener(1, Role::Server);
    for to in [HEADER + 1, whole.len(), whole.len() + 1] {
        let opened = opener.open_within(&mut buffer, 0, to, now());
        assert_eq!(opened, Ok(Opened::NeedRoom { at_least: b"payload".len() + 1 }));
    }
    assert_eq!(
        opener.open_within(&mut buffer, whole.len() + 1, 0, now()),
        Ok(Opened::NeedMore { at_least: HEADER })
    );
    assert_eq!(buffer, whole);
    let opened = opener.open_within(&mut buffer, 0, HEADER, now());
    assert_eq!(opened, Ok(Opened::Data { consumed: whole.len(), len: 7 }));
    assert_eq!(&buffer[HEADER..HEADER + 7], b"payload");
}

#[test]
fn keys_of_a_library_that_cannot_say_so() {
    let by = |library| {
        let keys = keys(1).by(library);
        Opener::new(keys, 0, Role::Server, OpenLimits::default())
    };
    let seals_in_place = |library| Sealer::new(keys(1).by(library), 0).seals_in_place();
    assert!(seals_in_place(Library::Ring) && !seals_in_place(Library::AwsLc));
    assert!(by(Library::Ring).opens_in_place());
    let mut other = by(Library::AwsLc);
    assert!(!other.opens_in_place());
    let mut buffer = Peer::new().data(b"payload");
    assert_eq!(other.open_within(&mut buffer, 0, 0, now()), Err(RecordError::BadRecordMac));
}
