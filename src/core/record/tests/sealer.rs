//! The sealer: lengths, alerts, key updates and the limits of a key.

use super::*;

#[test]
fn every_length_survives_the_round_trip_in_place_and_beside() {
    for aead in [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::Chacha20Poly1305] {
        let keys = || TrafficKeys::new(aead, &vec![3; aead.key_length()], &[9; 12]).unwrap();
        let mut opener = Opener::new(keys(), 5, Role::Client, OpenLimits::default());
        let mut sealer = Sealer::new(keys(), 5);
        let mut out = vec![0; RECORD_MAX];
        for length in (1..130).chain([1399, 16_383, PLAINTEXT_MAX]) {
            let plaintext: Vec<u8> = (0..251).cycle().take(length).collect();
            let mut beside = vec![0; length + OVERHEAD];
            assert_eq!(sealer.seal_from(&plaintext, &mut beside), Ok(length + OVERHEAD));
            let mut in_place = vec![0; length + OVERHEAD];
            in_place[HEADER..HEADER + length].copy_from_slice(&plaintext);
            assert_eq!(sealer.seal(&mut in_place, ContentType::ApplicationData), Ok(()));
            for record in [beside, in_place] {
                let opened = opener.open(&record, &mut out, now());
                assert_eq!(opened, Ok(Opened::Data { consumed: record.len(), len: length }));
                assert_eq!(out[..length], plaintext);
            }
        }
        assert_eq!(opener.sequence(), sealer.sequence());
    }
}

#[test]
fn keys_that_were_folded_go_on_where_they_were() {
    let mut opener = Opener::new(keys(1), 0, Role::Client, OpenLimits::default());
    let mut sealer = Sealer::new(keys(1), 0);
    let mut out = vec![0; RECORD_MAX];
    assert!(!sealer.is_expanded() && !opener.is_expanded(), "before the first record");
    for round in 0..3 {
        let mut record = [0; 4 + OVERHEAD];
        assert_eq!(sealer.seal_from(&[round; 4], &mut record), Ok(record.len()));
        let opened = opener.open(&record, &mut out, now());
        assert_eq!(opened, Ok(Opened::Data { consumed: record.len(), len: 4 }));
        assert_eq!(out[..4], [round; 4]);
        assert!(sealer.is_expanded() && opener.is_expanded());
        sealer.fold();
        opener.fold();
        assert!(!sealer.is_expanded() && !opener.is_expanded());
    }
    assert_eq!((sealer.sequence(), opener.sequence()), (3, 3));
}

#[test]
fn too_long_or_too_short_is_refused_and_uses_no_sequence_number() {
    let mut sealer = Sealer::new(keys(1), 0);
    let length = PLAINTEXT_MAX + 1;
    let error = SealError::PlaintextTooLong { length, max: PLAINTEXT_MAX };
    let mut out = vec![0; length + OVERHEAD];
    assert_eq!(sealer.seal_from(&vec![0; length], &mut out), Err(error));
    assert_eq!(sealer.seal(&mut out, ContentType::ApplicationData), Err(error));
    let error = SealError::BufferTooShort { length: 22, needed: 23 };
    assert_eq!(sealer.seal_from(&[0], &mut [0; 22]), Err(error));
    let error = SealError::BufferTooShort { length: 21, needed: 22 };
    assert_eq!(sealer.seal(&mut [0; 21], ContentType::ApplicationData), Err(error));
    assert_eq!(sealer.sequence(), 0);
}

#[test]
fn alerts_and_key_updates_are_understood() {
    let mut sealer = Sealer::new(keys(1), 0);
    let mut receiver = Receiver::new(Role::Server);
    let mut out = [0; 64];
    for (generation, request) in
        [(2, KeyUpdateRequest::NotRequested), (3, KeyUpdateRequest::Requested)]
    {
        let length = sealer.seal_key_update(request, &mut out).unwrap();
        assert_eq!(receiver.event(&out[..length]), Ok(Some(Event::KeyUpdate { request })));
        sealer.rekey(keys(generation));
        receiver.opener.rekey(keys(generation));
    }
    let length = sealer.seal_alert(AlertLevel::Warning, 90, &mut out).unwrap();
    assert_eq!(receiver.event(&out[..length]), Ok(None));
    let length = sealer.seal_close_notify(&mut out).unwrap();
    assert_eq!(receiver.event(&out[..length]), Ok(Some(Event::CloseNotify)));
}

#[test]
fn nothing_is_sealed_between_a_key_update_and_its_new_keys() {
    let mut sealer = Sealer::new(keys(1), 0);
    let mut out = [0; 64];
    sealer.seal_key_update(KeyUpdateRequest::NotRequested, &mut out).unwrap();
    assert_eq!(sealer.seal_from(b"x", &mut out), Err(SealError::RekeyDue));
    assert_eq!(sealer.seal_close_notify(&mut out), Err(SealError::RekeyDue));
    sealer.rekey(keys(2));
    assert_eq!(sealer.sequence(), 0);
    assert!(sealer.seal_from(b"x", &mut out).is_ok());
}

#[test]
fn nothing_is_sealed_after_a_closing_alert() {
    for (level, description) in [(AlertLevel::Warning, 0), (AlertLevel::Fatal, 20)] {
        let mut sealer = Sealer::new(keys(1), 0).with_key_update_after(0);
        let mut out = [0; 64];
        sealer.seal_alert(level, description, &mut out).unwrap();
        assert_eq!(sealer.seal_from(b"x", &mut out), Err(SealError::Closed));
        assert_eq!(sealer.seal_close_notify(&mut out), Err(SealError::Closed));
        assert!(!sealer.wants_key_update());
    }
}

#[test]
fn a_key_update_is_wanted_before_the_limit_of_the_key() {
    let mut sealer = Sealer::new(keys(1), (1 << 24) - 1);
    let mut out = [0; 64];
    assert!(!sealer.wants_key_update());
    sealer.seal_from(b"x", &mut out).unwrap();
    assert!(sealer.wants_key_update());
    sealer.seal_key_update(KeyUpdateRequest::NotRequested, &mut out).unwrap();
    sealer.rekey(keys(2));
    assert!(!sealer.wants_key_update());
}

#[test]
fn a_lowered_limit_holds_for_every_key() {
    let mut sealer = Sealer::new(keys(1), 0).with_key_update_after(3);
    let mut out = [0; 64];
    for generation in 2..5 {
        for _ in 0..3 {
            assert!(!sealer.wants_key_update());
            sealer.seal_from(b"x", &mut out).unwrap();
        }
        assert!(sealer.wants_key_update());
        sealer.rekey(keys(generation));
    }
}

#[test]
fn an_aes_key_seals_nothing_past_its_confidentiality_limit() {
    let limit = Aead::Aes128Gcm.confidentiality_limit();
    let mut sealer = Sealer::new(keys(1), limit - 1);
    let mut out = [0; 64];
    sealer.seal_from(b"x", &mut out).unwrap();
    assert_eq!(sealer.seal_from(b"x", &mut out), Err(SealError::KeyExhausted { records: limit }));
}

#[test]
fn the_last_sequence_number_of_a_chacha_key_is_not_used() {
    let keys = TrafficKeys::new(Aead::Chacha20Poly1305, &[1; 32], &[2; 12]).unwrap();
    let mut sealer = Sealer::new(keys, u64::MAX - 1);
    let mut out = [0; 64];
    sealer.seal_from(b"x", &mut out).unwrap();
    assert_eq!(
        sealer.seal_from(b"x", &mut out),
        Err(SealError::KeyExhausted { records: u64::MAX })
    );
}

#[test]
fn an_alert_of_tls12_has_its_form_and_needs_its_room() {
    let mut out = [0; TLS12_ALERT_BYTES_MAX];
    let error = SealError::BufferTooShort { length: 30, needed: 31 };
    assert_eq!(seal_tls12_alert(keys(1), 5, 49, &mut out[..30]), Err(error));
    assert_eq!(seal_tls12_alert(keys(1), 5, 49, &mut out), Ok(31));
    assert_eq!(out[..5], [21, 3, 3, 0, 26]);
    let chacha = TrafficKeys::new(Aead::Chacha20Poly1305, &[3; 32], &[9; 12]).unwrap();
    assert_eq!(seal_tls12_alert(chacha, 5, 49, &mut out), Ok(23));
    assert_eq!(out[..5], [21, 3, 3, 0, 18]);
}
