//! Key updates and tickets: whole, fragmented, coalesced, illegal.

use std::time::Duration;

use super::*;

const UPDATED: Event = Event::KeyUpdate { request: KeyUpdateRequest::NotRequested };

#[test]
fn key_update_is_surfaced_and_new_keys_are_demanded() {
    for role in [Role::Client, Role::Server] {
        let (mut peer, mut receiver) = (Peer::new(), Receiver::new(role));
        let update = peer.handshake(&KEY_UPDATE_REQUEST);
        let event = Event::KeyUpdate { request: KeyUpdateRequest::Requested };
        assert_eq!(receiver.event(&update), Ok(Some(event)));
        peer.rekey(2);
        let data = peer.data(b"new");
        assert_eq!(receiver.open(&data), Err(RecordError::RekeyDue));
        receiver.opener.rekey(keys(2));
        assert_eq!(receiver.opener.sequence(), 0);
        assert_eq!(receiver.open(&data), Ok(Opened::Data { consumed: data.len(), len: 3 }));
    }
}

#[test]
fn a_key_update_is_put_together_from_fragments() {
    for cut in 1..KEY_UPDATE.len() {
        let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
        let first = peer.handshake(&KEY_UPDATE[..cut]);
        let second = peer.handshake(&KEY_UPDATE[cut..]);
        assert_eq!(receiver.event(&first), Ok(None));
        assert_eq!(receiver.event(&second), Ok(Some(UPDATED)));
        assert_eq!(receiver.opener.post_handshake_bytes(), 0, "no buffer outlives its message");
    }
}

#[test]
fn handshake_bytes_after_a_key_update_are_refused() {
    for extra in [&[24][..], &KEY_UPDATE, &[4, 0, 0, 0]] {
        let record = Peer::new().handshake(&[&KEY_UPDATE, extra].concat());
        let opened = Receiver::new(Role::Client).open(&record);
        assert_eq!(opened, Err(RecordError::DataAfterKeyUpdate));
    }
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
    assert_eq!(receiver.event(&peer.handshake(&KEY_UPDATE[..2])), Ok(None));
    let rest = peer.handshake(&[&KEY_UPDATE[2..], &[24]].concat());
    assert_eq!(receiver.open(&rest), Err(RecordError::DataAfterKeyUpdate));
    assert_eq!(RecordError::DataAfterKeyUpdate.alert(), 10);
}

#[test]
fn broken_key_updates_are_refused() {
    let open = |body: &[u8]| Receiver::new(Role::Server).open(&Peer::new().handshake(body));
    assert_eq!(open(&[24, 0, 0, 0]), Err(RecordError::KeyUpdateLength { length: 0 }));
    assert_eq!(open(&[24, 0, 0, 2]), Err(RecordError::KeyUpdateLength { length: 2 }));
    assert_eq!(open(&[24, 1, 0, 1]), Err(RecordError::KeyUpdateLength { length: 0x10001 }));
    let error = RecordError::KeyUpdateRequest { found: 2 };
    assert_eq!(open(&[24, 0, 0, 1, 2]), Err(error));
    assert_eq!(error.alert(), 47);
}

// threat 15
#[test]
fn key_updates_are_capped_in_a_row() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
    for generation in 2..34 {
        let update = peer.handshake(&KEY_UPDATE_REQUEST);
        assert!(receiver.event(&update).unwrap().is_some());
        peer.rekey(generation);
        receiver.opener.rekey(keys(generation));
    }
    let error = RecordError::TooManyKeyUpdates { max: 32, span: Span::InARow };
    let update = peer.handshake(&KEY_UPDATE);
    assert_eq!(receiver.open(&update), Err(error));
    assert_eq!(error.alert(), 10);
}

// threat 15
#[test]
fn key_updates_are_capped_per_second_between_data() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
    let mut turn = |generation: u8| {
        let data = peer.data(b"x");
        receiver.event(&data)?;
        let update = peer.handshake(&KEY_UPDATE);
        let event = receiver.event(&update)?;
        peer.rekey(generation);
        receiver.opener.rekey(keys(generation));
        Ok(event)
    };
    for generation in 0..128 {
        assert_eq!(turn(generation), Ok(Some(UPDATED)));
    }
    let error = RecordError::TooManyKeyUpdates { max: 128, span: Span::PerSecond };
    assert_eq!(turn(128), Err(error));
}

#[test]
fn key_updates_of_a_long_idle_connection_are_never_refused() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
    for generation in (0..=255).cycle().take(1000) {
        let update = peer.handshake(&KEY_UPDATE);
        assert_eq!(receiver.event(&update), Ok(Some(UPDATED)));
        peer.rekey(generation);
        receiver.opener.rekey(keys(generation));
        receiver.now += Duration::from_secs(3600);
    }
}

// threat 15
#[test]
fn tickets_are_capped_in_a_row_even_within_one_record() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Client));
    let few = message(4, b"ticket").repeat(32);
    let mut input = peer.handshake(&few);
    for _ in 0..32 {
        let consumed = input.len();
        assert_eq!(receiver.open(&input), Ok(Opened::Event { consumed, event: Event::Ticket }));
        input.clear();
    }
    let error = RecordError::TooManyTickets { max: 32, span: Span::InARow };
    assert_eq!(receiver.open(&peer.handshake(&message(4, b"ticket"))), Err(error));
    assert_eq!((error.alert(), error.code()), (10, "too_many_tickets"));
}

// threat 15
#[test]
fn tickets_are_capped_per_second_between_data_and_never_over_the_years() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Client));
    let mut turn = |receiver: &mut Receiver| {
        receiver.event(&peer.data(b"x"))?;
        receiver.event(&peer.handshake(&message(4, b"ticket")))
    };
    for _ in 0..1_000 {
        assert_eq!(turn(&mut receiver), Ok(Some(Event::Ticket)));
        receiver.now += Duration::from_millis(10);
    }
    receiver.now += Duration::from_secs(1);
    for _ in 0..128 {
        assert_eq!(turn(&mut receiver), Ok(Some(Event::Ticket)));
    }
    let error = RecordError::TooManyTickets { max: 128, span: Span::PerSecond };
    assert_eq!(turn(&mut receiver), Err(error));
}

#[test]
fn a_ticket_is_handed_out_once() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Client));
    let record = peer.handshake(&message(4, b"ticket"));
    assert_eq!(receiver.event(&record), Ok(Some(Event::Ticket)));
    assert_eq!(receiver.opener.take_ticket().as_deref(), Some(&b"ticket"[..]));
    assert_eq!(receiver.opener.take_ticket(), None);
    assert_eq!(receiver.event(&peer.data(b"x")), Ok(None));
}

#[test]
fn coalesced_messages_come_out_one_by_one() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Client));
    let body = [&message(4, b"one")[..], &message(4, b"two"), &KEY_UPDATE].concat();
    let record = peer.handshake(&body);
    let mut input = record.clone();
    for expected in [b"one", b"two"] {
        let consumed = input.len();
        assert_eq!(receiver.open(&input), Ok(Opened::Event { consumed, event: Event::Ticket }));
        assert_eq!(receiver.opener.take_ticket().as_deref(), Some(&expected[..]));
        input.clear();
    }
    assert_eq!(receiver.open(&[]), Ok(Opened::Event { consumed: 0, event: UPDATED }));
    assert_eq!(receiver.open(&[]), Err(RecordError::RekeyDue));
}

#[test]
fn queued_messages_come_before_the_next_record() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Client));
    let record = peer.handshake(&[message(4, b"one"), message(4, b"two")].concat());
    let data = peer.data(b"x");
    assert_eq!(receiver.event(&record), Ok(Some(Event::Ticket)));
    assert_eq!(receiver.open(&data), Ok(Opened::Event { consumed: 0, event: Event::Ticket }));
    assert_eq!(receiver.open(&data), Ok(Opened::Data { consumed: data.len(), len: 1 }));
}

#[test]
fn tickets_in_fragments_of_every_size_are_put_together() {
    let flight = [message(4, &[1; 40]), message(4, &[2; 3]), KEY_UPDATE.to_vec()].concat();
    for size in 1..=flight.len() {
        let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Client));
        let mut seen = Vec::new();
        for fragment in flight.chunks(size) {
            let mut input = peer.handshake(fragment);
            while let Opened::Event { consumed, event } = receiver.open(&input).unwrap() {
                input.drain(..consumed);
                seen.push((event, receiver.opener.take_ticket()));
                if event == UPDATED {
                    break;
                }
            }
        }
        let expected = [
            (Event::Ticket, Some([1; 40].into())),
            (Event::Ticket, Some([2; 3].into())),
            (UPDATED, None),
        ];
        assert_eq!(seen, expected, "fragments of {size}");
        assert_eq!(receiver.opener.post_handshake_bytes(), 0);
    }
}

#[test]
fn anything_inside_a_fragmented_message_is_refused() {
    let between: [fn(&mut Peer) -> Vec<u8>; 4] = [
        |peer| peer.data(b"x"),
        |peer| peer.data(b""),
        |peer| peer.alert(1, 90),
        |peer| peer.alert(1, 0),
    ];
    for make in between {
        let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
        assert_eq!(receiver.event(&peer.handshake(&KEY_UPDATE[..3])), Ok(None));
        let error = receiver.open(&make(&mut peer)).unwrap_err();
        assert_eq!((error.code(), error.alert()), ("interleaved_handshake", 10));
    }
}

#[test]
fn illegal_messages_are_refused_from_their_first_byte() {
    let legal = |role, found| found == 24 || (role == Role::Client && found == 4);
    for role in [Role::Client, Role::Server] {
        for found in (0..=255).filter(|found| !legal(role, *found)) {
            let opened = Receiver::new(role).open(&Peer::new().handshake(&[found]));
            let error = RecordError::MessageType { found };
            assert_eq!(opened, Err(error));
            assert_eq!(error.alert(), 10);
        }
    }
}

// threat 3
#[test]
fn a_message_over_the_cap_is_refused_by_its_claimed_length() {
    let limits = OpenLimits { message_bytes_max: 100, ..OpenLimits::default() };
    let (mut peer, mut receiver) = (Peer::new(), Receiver::limited(Role::Client, limits));
    let record = peer.handshake(&message(4, &[1; 100]));
    assert_eq!(receiver.event(&record), Ok(Some(Event::Ticket)));
    let error = RecordError::MessageTooLong { length: 101, max: 100 };
    assert_eq!(receiver.open(&peer.handshake(&[4, 0, 0, 101])), Err(error));
    assert_eq!(receiver.opener.post_handshake_bytes(), 0, "refused before it was kept");
    assert_eq!(error.alert(), 50);
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Client));
    assert_eq!(receiver.event(&peer.handshake(&[4, 0, 255, 255, 1])), Ok(None));
    assert!(receiver.opener.post_handshake_bytes() < 64);
}
