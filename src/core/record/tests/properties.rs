//! Properties: any split of the stream gives the same bytes, and no input panics.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Sent {
    Data(Vec<u8>, usize),
    KeyUpdate,
    Ticket(Vec<u8>, usize),
}

pub(super) fn sent() -> impl Strategy<Value = Sent> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..200);
    prop_oneof![
        6 => (bytes(), 0usize..100).prop_map(|(body, padding)| Sent::Data(body, padding)),
        1 => Just(Sent::KeyUpdate),
        1 => (bytes(), 1usize..50).prop_map(|(body, size)| Sent::Ticket(body, size)),
    ]
}

/// Seals all of `script`; returns the stream and the data and tickets in it.
pub(super) fn seal_all(script: &[Sent]) -> (Vec<u8>, Vec<u8>, Vec<Vec<u8>>) {
    let (mut peer, mut generation) = (Peer::new(), 1);
    let (mut stream, mut data, mut tickets) = (Vec::new(), Vec::new(), Vec::new());
    for item in script {
        match item {
            Sent::Data(body, padding) => {
                data.extend_from_slice(body);
                stream.extend(peer.record(&[&body[..], &[23], &vec![0; *padding]].concat()));
            }
            Sent::KeyUpdate => {
                stream.extend(peer.handshake(&KEY_UPDATE));
                generation += 1;
                peer.rekey(generation);
            }
            Sent::Ticket(body, size) => {
                for fragment in message(4, body).chunks(*size) {
                    stream.extend(peer.handshake(fragment));
                }
                tickets.push(body.clone());
            }
        }
    }
    (stream, data, tickets)
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same_bytes(
        script in proptest::collection::vec(sent(), 0..30),
        cuts in proptest::collection::vec(1usize..400, 1..40),
        room in 600usize..2000,
    ) {
        let (stream, data, tickets) = seal_all(&script);
        let mut opener = Opener::new(keys(1), 0, Role::Client, OpenLimits::default());
        let mut sealer = Sealer::new(keys(100), 0);
        let mut check = Opener::new(keys(100), 0, Role::Server, OpenLimits::default());
        let (mut generation, mut arrived, mut done) = (1, 0, 0);
        let (mut got, mut got_tickets) = (Vec::new(), Vec::new());
        let (mut out, mut plain) = (vec![0; room], vec![0; room]);
        let mut cuts = cuts.iter().cycle();
        let now = now();
        while done < stream.len() {
            let input = &stream[done..arrived];
            let pumped = transfer_tls_to_tls(&mut opener, &mut sealer, input, &mut out, now);
            done += pumped.consumed;
            let sealed = &out[..pumped.produced];
            let opened = transfer_tls_to_plain(&mut check, sealed, &mut plain, now);
            prop_assert_eq!(opened.consumed, pumped.produced);
            got.extend_from_slice(&plain[..opened.produced]);
            match pumped.stop {
                Stop::InputEmpty { at_least } => {
                    prop_assert!(arrived - done < at_least);
                    if done < stream.len() {
                        prop_assert!(arrived < stream.len(), "stuck with all input");
                    }
                    arrived = stream.len().min(arrived + cuts.next().unwrap());
                }
                Stop::OutputFull => prop_assert!(pumped.produced > 0),
                Stop::Event(Event::KeyUpdate { .. }) => {
                    generation += 1;
                    opener.rekey(keys(generation));
                }
                Stop::Event(Event::Ticket) => {
                    got_tickets.push(opener.take_ticket().unwrap().into_vec());
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(got, data);
        prop_assert_eq!(got_tickets, tickets);
    }

    #[test]
    fn any_inner_plaintext_is_judged_without_panic(
        inners in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20),
        kinds in proptest::collection::vec(20u8..25, 20),
        client in any::<bool>(),
    ) {
        let role = if client { Role::Client } else { Role::Server };
        let (mut peer, mut receiver) = (Peer::new(), Receiver::new(role));
        for (inner, kind) in inners.iter().zip(kinds) {
            let record = peer.content(kind, inner);
            let first = receiver.open(&record);
            if let Err(error) = first {
                prop_assert_eq!(receiver.open(&record), Err(error));
                break;
            }
        }
    }

    #[test]
    fn any_bytes_are_judged_without_panic(input in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut receiver = Receiver::new(Role::Server);
        if let Ok(opened) = receiver.open(&input) {
            let more = matches!(opened, Opened::NeedMore { at_least } if at_least > input.len());
            prop_assert!(more, "random bytes were accepted: {:?}", opened);
        }
    }
}
