//! The opener record by record: headers, lengths, inner types, padding, alerts and caps.

use std::time::Duration;

use proptest::prelude::*;
use zeroize::ZeroizeOnDrop;

use super::*;

#[test]
fn every_prefix_of_a_record_needs_more() {
    let record = Peer::new().data(b"hello");
    for end in 0..record.len() {
        let mut receiver = Receiver::new(Role::Server);
        let at_least = if end < HEADER { HEADER } else { record.len() };
        assert_eq!(receiver.open(&record[..end]), Ok(Opened::NeedMore { at_least }));
        assert_eq!(
            receiver.open(&record),
            Ok(Opened::Data { consumed: record.len(), len: 5 }),
            "a short input must leave no trace"
        );
        assert_eq!(&receiver.out[..5], b"hello");
    }
}

#[test]
fn a_short_output_is_asked_for_and_leaves_no_trace() {
    let record = Peer::new().data(b"hello");
    let mut receiver = Receiver::new(Role::Server);
    let opened = receiver.opener.open(&record, &mut [0; 5], receiver.now);
    assert_eq!(opened, Ok(Opened::NeedRoom { at_least: 6 }));
    let opened = receiver.opener.open(&record, &mut [0; 6], receiver.now);
    assert_eq!(opened, Ok(Opened::Data { consumed: record.len(), len: 5 }));
}

#[test]
fn ciphertext_over_the_limit_is_refused_by_its_header() {
    let header = |length: usize| {
        let length = u16::try_from(length).unwrap().to_be_bytes();
        [23, 3, 3, length[0], length[1]]
    };
    assert_eq!(
        Receiver::new(Role::Server).open(&header(CIPHERTEXT_MAX)),
        Ok(Opened::NeedMore { at_least: RECORD_MAX })
    );
    let length = CIPHERTEXT_MAX + 1;
    let error = RecordError::CiphertextTooLong { length, max: CIPHERTEXT_MAX };
    assert_eq!(Receiver::new(Role::Server).open(&header(length)), Err(error));
    assert_eq!(error.alert(), 22);
}

#[test]
fn plaintext_over_the_limit_is_refused() {
    let mut longest = Peer::new();
    let record = longest.data(&vec![7; PLAINTEXT_MAX]);
    let mut receiver = Receiver::new(Role::Server);
    assert_eq!(
        receiver.open(&record),
        Ok(Opened::Data { consumed: record.len(), len: PLAINTEXT_MAX })
    );
    let too_long = longest.data(&vec![7; PLAINTEXT_MAX + 1]);
    let error = RecordError::PlaintextTooLong { length: PLAINTEXT_MAX + 2, max: PLAINTEXT_MAX + 1 };
    assert_eq!(receiver.open(&too_long), Err(error));
    assert_eq!(error.alert(), 22);
}

#[test]
fn padding_counts_towards_the_plaintext_limit() {
    let mut inner = vec![0; PLAINTEXT_MAX + 2];
    inner[0] = 1;
    inner[1] = 23;
    let record = Peer::new().record(&inner[..=PLAINTEXT_MAX]);
    let opened = Receiver::new(Role::Server).open(&record);
    assert_eq!(opened, Ok(Opened::Data { consumed: record.len(), len: 1 }));
    let record = Peer::new().record(&inner);
    let error = Receiver::new(Role::Server).open(&record).unwrap_err();
    assert_eq!(error.code(), "plaintext_too_long");
}

#[test]
fn only_the_outer_type_of_application_data_is_legal() {
    for found in (0..=255).filter(|found| *found != 23) {
        let error = RecordError::OuterType { found };
        assert_eq!(Receiver::new(Role::Server).open(&[found]), Err(error));
        assert_eq!(Receiver::new(Role::Client).open(&[found, 3, 3, 0, 1, 1]), Err(error));
        assert_eq!(error.alert(), 10);
    }
}

#[test]
fn change_cipher_spec_after_the_handshake_is_refused() {
    // Legal to drop only before the peer's Finished (RFC 8446 §5).
    let mut receiver = Receiver::new(Role::Server);
    assert_eq!(receiver.open(&[20, 3, 3, 0, 1, 1]), Err(RecordError::OuterType { found: 20 }));
    let inner = Peer::new().content(20, &[1]);
    let mut receiver = Receiver::new(Role::Server);
    assert_eq!(receiver.open(&inner), Err(RecordError::InnerType { found: 20 }));
}

#[test]
fn plain_alert_after_the_handshake_is_refused() {
    let mut receiver = Receiver::new(Role::Server);
    assert_eq!(receiver.open(&[21, 3, 3, 0, 2, 1, 0]), Err(RecordError::OuterType { found: 21 }));
}

#[test]
fn version_is_checked_as_rustls_does() {
    let record = Peer::new().data(b"x");
    for minor in [0, 1, 2, 3, 4, 255] {
        let mut other = record.clone();
        other[2] = minor;
        assert!(Receiver::new(Role::Server).open(&other).is_ok());
    }
    let error = RecordError::Version { found: 0x0203 };
    assert_eq!(Receiver::new(Role::Server).open(&[23, 2, 3]), Err(error));
    assert_eq!(Receiver::new(Role::Server).open(&[23, 2, 3, 0, 0]), Err(error));
    assert_eq!(error.alert(), 50);
}

#[test]
fn payload_shorter_than_a_tag_is_refused_by_its_header() {
    for length in 0..16 {
        let opened = Receiver::new(Role::Server).open(&[23, 3, 3, 0, length]);
        assert_eq!(opened, Err(RecordError::BadRecordMac));
    }
}

#[test]
fn inner_plaintext_of_zeros_is_refused() {
    for length in [0, 1, 63, 64, 65, 128, 1000, PLAINTEXT_MAX + 1] {
        let record = Peer::new().record(&vec![0; length]);
        let opened = Receiver::new(Role::Server).open(&record);
        assert_eq!(opened, Err(RecordError::InnerTypeMissing));
    }
    assert_eq!(RecordError::InnerTypeMissing.alert(), 10);
}

#[test]
fn unknown_inner_types_are_refused() {
    for found in (1..=255).filter(|found| !(21..=23).contains(found)) {
        let record = Peer::new().content(found, b"x");
        let opened = Receiver::new(Role::Server).open(&record);
        assert_eq!(opened, Err(RecordError::InnerType { found }));
    }
}

proptest! {
    #[test]
    fn padding_is_stripped_and_content_kept(
        body in proptest::collection::vec(any::<u8>(), 1..300),
        zeros in 0usize..400,
        padding in 0usize..400,
    ) {
        // Zeros at the content's end are content, not padding.
        let body = [&body[..], &vec![0; zeros]].concat();
        let record = Peer::new().record(&[&body[..], &[23], &vec![0; padding]].concat());
        let mut receiver = Receiver::new(Role::Server);
        let opened = receiver.open(&record);
        prop_assert_eq!(opened, Ok(Opened::Data { consumed: record.len(), len: body.len() }));
        prop_assert_eq!(&receiver.out[..body.len()], &body[..]);
    }
}

#[test]
fn empty_handshake_and_alert_fragments_are_refused() {
    for content in [21, 22] {
        let record = Peer::new().content(content, &[]);
        let error = RecordError::EmptyFragment { content };
        assert_eq!(Receiver::new(Role::Server).open(&record), Err(error));
        assert_eq!(error.alert(), 10);
    }
}

#[test]
fn every_flipped_bit_fails_authentication() {
    let record = Peer::new().data(b"hello");
    for bit in HEADER * 8..record.len() * 8 {
        let mut broken = record.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let opened = Receiver::new(Role::Server).open(&broken);
        assert_eq!(opened, Err(RecordError::BadRecordMac));
    }
    assert_eq!(RecordError::BadRecordMac.alert(), 20);
}

#[test]
fn replayed_and_reordered_records_fail_authentication() {
    let mut peer = Peer::new();
    let (first, second) = (peer.data(b"1"), peer.data(b"2"));
    assert_eq!(Receiver::new(Role::Server).open(&second), Err(RecordError::BadRecordMac));
    let mut receiver = Receiver::new(Role::Server);
    receiver.open(&first).unwrap();
    assert_eq!(receiver.open(&first), Err(RecordError::BadRecordMac));
}

#[test]
fn an_opener_that_failed_stays_failed() {
    let mut peer = Peer::new();
    let (bad, good) = (peer.content(99, b"x"), peer.data(b"x"));
    let mut receiver = Receiver::new(Role::Server);
    let error = receiver.open(&bad).unwrap_err();
    for input in [&good[..], &bad, &[], &[22]] {
        assert_eq!(receiver.open(input), Err(error));
    }
    receiver.opener.rekey(keys(1));
    assert_eq!(receiver.open(&good), Err(error), "new keys are no cure");
}

#[test]
fn the_last_sequence_number_is_not_used() {
    let mut peer = Peer { keys: keys(1), sequence: u64::MAX - 1 };
    let last = peer.data(b"x");
    let mut receiver = Receiver::new(Role::Server);
    receiver.opener = Opener::new(keys(1), u64::MAX - 1, Role::Server, OpenLimits::default());
    assert!(receiver.open(&last).is_ok());
    assert_eq!(receiver.open(&last), Err(RecordError::SequenceExhausted));
}

#[test]
fn close_notify_ends_the_direction_and_later_input_is_ignored() {
    for level in [1, 2] {
        let mut peer = Peer::new();
        let (close, late) = (peer.alert(level, 0), peer.data(b"late"));
        let mut receiver = Receiver::new(Role::Server);
        assert_eq!(receiver.event(&close), Ok(Some(Event::CloseNotify)));
        assert_eq!(receiver.event(&late), Ok(Some(Event::CloseNotify)));
        assert_eq!(receiver.event(b"garbage"), Ok(Some(Event::CloseNotify)));
    }
}

#[test]
fn error_alerts_are_surfaced_whatever_their_level() {
    for (level, description) in [(2, 40), (1, 40), (2, 255), (1, 255), (2, 90)] {
        let record = Peer::new().alert(level, description);
        let mut receiver = Receiver::new(Role::Server);
        let event = Event::FatalAlert { description };
        assert_eq!(receiver.event(&record), Ok(Some(event)));
        assert_eq!(receiver.event(b"more"), Ok(Some(event)));
    }
}

#[test]
fn broken_alerts_are_refused() {
    let open = |body: &[u8]| Receiver::new(Role::Server).open(&Peer::new().content(21, body));
    assert_eq!(open(&[1]), Err(RecordError::AlertLength { length: 1 }));
    assert_eq!(open(&[1, 0, 1]), Err(RecordError::AlertLength { length: 3 }));
    assert_eq!(open(&[1, 0, 1, 0]), Err(RecordError::AlertLength { length: 4 }));
    assert_eq!(open(&[0, 0]), Err(RecordError::AlertLevel { found: 0 }));
    assert_eq!(open(&[3, 40]), Err(RecordError::AlertLevel { found: 3 }));
    assert_eq!(RecordError::AlertLength { length: 1 }.alert(), 50);
    assert_eq!(RecordError::AlertLevel { found: 3 }.alert(), 47);
}

// threat 16
#[test]
fn records_without_data_are_capped_in_a_row() {
    let makes: [fn(&mut Peer) -> Vec<u8>; 3] =
        [|peer| peer.data(&[]), |peer| peer.record(&[23, 0, 0, 0]), |peer| peer.alert(1, 90)];
    for make in makes {
        let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
        for _ in 0..32 {
            assert_eq!(receiver.event(&make(&mut peer)), Ok(None));
        }
        let error = RecordError::TooManyEmptyRecords { max: 32, span: Span::InARow };
        assert_eq!(receiver.open(&make(&mut peer)), Err(error));
        assert_eq!(error.alert(), 10);
    }
}

#[test]
fn data_or_a_second_excuses_records_without_data() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
    for round in 0..10 {
        for _ in 0..32 {
            assert_eq!(receiver.event(&peer.data(&[])), Ok(None));
        }
        if round % 2 == 0 {
            assert_eq!(receiver.event(&peer.data(b"x")), Ok(None));
        } else {
            receiver.now += Duration::from_secs(1);
        }
    }
}

// threat 16
#[test]
fn records_without_data_are_capped_per_second_between_data() {
    let limits = OpenLimits { empty_records_per_second_max: 100, ..OpenLimits::default() };
    let (mut peer, mut receiver) = (Peer::new(), Receiver::limited(Role::Server, limits));
    for _ in 0..100 {
        assert_eq!(receiver.event(&peer.data(&[])), Ok(None));
        assert_eq!(receiver.event(&peer.data(b"x")), Ok(None));
    }
    let error = RecordError::TooManyEmptyRecords { max: 100, span: Span::PerSecond };
    assert_eq!(receiver.open(&peer.data(&[])), Err(error));
}

#[test]
fn a_clock_that_goes_backwards_is_harmless() {
    let (mut peer, mut receiver) = (Peer::new(), Receiver::new(Role::Server));
    receiver.now += Duration::from_secs(5);
    assert_eq!(receiver.event(&peer.data(&[])), Ok(None));
    receiver.now -= Duration::from_secs(3);
    assert_eq!(receiver.event(&peer.data(&[])), Ok(None));
}

#[test]
fn secrets_are_zeroed_on_drop_and_never_shown() {
    fn is_zeroed<T: ZeroizeOnDrop>(_: &T) {}
    let keys = TrafficKeys::new(Aead::Aes128Gcm, &[0xab; 16], &[0xcd; 12]).unwrap();
    is_zeroed(&keys);
    let shown = format!("{keys:?}");
    assert_eq!(shown, "TrafficKeys { aead: Aes128Gcm, .. }");
    let opener = Opener::new(keys, 7, Role::Client, OpenLimits::default());
    let shown = format!("{opener:?}");
    assert!(!shown.contains("171") && !shown.contains("205"), "{shown}");
}

#[test]
fn keys_of_the_wrong_length_are_refused() {
    for aead in [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::Chacha20Poly1305] {
        let expected = aead.key_length();
        for found in (0..64).filter(|found| *found != expected) {
            let error = TrafficKeys::new(aead, &vec![1; found], &[0; 12]).unwrap_err();
            assert_eq!(error, KeyError::Length { aead, expected, found });
        }
        assert!(TrafficKeys::new(aead, &vec![1; expected], &[0; 12]).is_ok());
    }
}

#[test]
fn a_connection_that_is_idle_holds_little() {
    // Beside these, AWS-LC holds one expanded key for each, while bytes flow.
    assert!(size_of::<Opener>() <= 256, "{}", size_of::<Opener>());
    assert!(size_of::<Sealer>() <= 112, "{}", size_of::<Sealer>());
}
