//! The pump: what one pass moves, and where it stops.

use super::*;

fn plaintext(length: usize) -> Vec<u8> {
    (0..253).cycle().take(length).collect()
}

fn stream(peer: &mut Peer, lengths: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let (mut plain, mut sealed) = (Vec::new(), Vec::new());
    for &length in lengths {
        let body = plaintext(length);
        sealed.extend(peer.data(&body));
        plain.extend(body);
    }
    (plain, sealed)
}

/// Opens all of `sealed`, which must be whole records under the second keys.
fn opened(sealed: &[u8]) -> Vec<u8> {
    let mut opener = Opener::new(keys(2), 0, Role::Client, OpenLimits::default());
    let mut out = vec![0; sealed.len()];
    let pumped = transfer_tls_to_plain(&mut opener, sealed, &mut out, now());
    assert_eq!(pumped.consumed, sealed.len());
    assert_eq!(pumped.stop, Stop::InputEmpty { at_least: HEADER });
    out.truncate(pumped.produced);
    out
}

#[test]
fn tls_to_tls_moves_every_whole_record_into_an_output_of_the_same_length() {
    let (plain, sealed) = stream(&mut Peer::new(), &[1, 0, 16_384, 1400, 64, 16_384, 5]);
    let mut receiver = Receiver::new(Role::Server);
    let mut sealer = Sealer::new(keys(2), 0);
    let mut out = vec![0; sealed.len()];
    let pumped = transfer_tls_to_tls(&mut receiver.opener, &mut sealer, &sealed, &mut out, now());
    assert_eq!(pumped.consumed, sealed.len());
    assert_eq!(pumped.produced, sealed.len() - OVERHEAD, "the empty record is dropped");
    assert_eq!(pumped.stop, Stop::InputEmpty { at_least: HEADER });
    assert_eq!(opened(&out[..pumped.produced]), plain);
}

#[test]
fn tls_to_tls_works_with_every_output_length() {
    let (plain, sealed) = stream(&mut Peer::new(), &[30, 7, 100, 1]);
    for room in 0..=sealed.len() {
        let mut receiver = Receiver::new(Role::Server);
        let mut sealer = Sealer::new(keys(2), 0);
        let mut out = vec![0; room];
        let first =
            transfer_tls_to_tls(&mut receiver.opener, &mut sealer, &sealed, &mut out, now());
        if first.consumed < sealed.len() {
            assert_eq!(first.stop, Stop::OutputFull, "room of {room}");
        }
        let mut all = out[..first.produced].to_vec();
        let rest = &sealed[first.consumed..];
        let mut out = vec![0; rest.len()];
        let second = transfer_tls_to_tls(&mut receiver.opener, &mut sealer, rest, &mut out, now());
        all.extend(&out[..second.produced]);
        assert_eq!(opened(&all), plain, "room of {room}");
    }
}

#[test]
fn tls_to_plain_packs_back_to_back() {
    let (plain, sealed) = stream(&mut Peer::new(), &[30, 0, 7, 16_384, 1]);
    let mut receiver = Receiver::new(Role::Server);
    let mut out = vec![0; sealed.len()];
    let pumped = transfer_tls_to_plain(&mut receiver.opener, &sealed, &mut out, now());
    assert_eq!((pumped.consumed, pumped.produced), (sealed.len(), plain.len()));
    assert_eq!(out[..pumped.produced], plain);
}

#[test]
fn tls_to_plain_stops_when_the_output_is_full() {
    let (_, sealed) = stream(&mut Peer::new(), &[30, 30]);
    let mut receiver = Receiver::new(Role::Server);
    let pumped = transfer_tls_to_plain(&mut receiver.opener, &sealed, &mut [0; 60], now());
    assert_eq!(pumped, Pumped { consumed: 52, produced: 30, stop: Stop::OutputFull });
}

#[test]
fn plain_to_tls_seals_all_into_the_promised_length() {
    for length in [0, 1, 16_384, 16_385, 100_000, 262_144] {
        let plain = plaintext(length);
        let mut sealer = Sealer::new(keys(2), 0);
        let mut out = vec![0; sealed_length(length)];
        let pumped = transfer_plain_to_tls(&mut sealer, &plain, &mut out);
        let stop = Stop::InputEmpty { at_least: 1 };
        assert_eq!(pumped, Pumped { consumed: length, produced: out.len(), stop });
        assert_eq!(opened(&out), plain);
    }
}

#[test]
fn plain_to_tls_stops_when_the_output_is_full() {
    let mut sealer = Sealer::new(keys(2), 0);
    let mut out = vec![0; sealed_length(20_000) - 1];
    let pumped = transfer_plain_to_tls(&mut sealer, &plaintext(20_000), &mut out);
    let produced = PLAINTEXT_MAX + OVERHEAD;
    assert_eq!(pumped, Pumped { consumed: PLAINTEXT_MAX, produced, stop: Stop::OutputFull });
}

#[test]
fn a_partial_record_stays_in_the_input() {
    let (_, sealed) = stream(&mut Peer::new(), &[10, 20]);
    let mut receiver = Receiver::new(Role::Server);
    let mut sealer = Sealer::new(keys(2), 0);
    let mut out = [0; 200];
    let cut = &sealed[..sealed.len() - 1];
    let pumped = transfer_tls_to_tls(&mut receiver.opener, &mut sealer, cut, &mut out, now());
    let stop = Stop::InputEmpty { at_least: 42 };
    assert_eq!(pumped, Pumped { consumed: 32, produced: 32, stop });
}

#[test]
fn events_stop_the_pass_behind_the_data_before_them() {
    let mut peer = Peer::new();
    let (_, mut sealed) = stream(&mut peer, &[10]);
    sealed.extend(peer.handshake(&KEY_UPDATE));
    let consumed = sealed.len();
    peer.rekey(3);
    sealed.extend(stream(&mut peer, &[20]).1);
    sealed.extend(peer.alert(1, 0));
    let mut receiver = Receiver::new(Role::Server);
    let mut out = [0; 500];
    let first = transfer_tls_to_plain(&mut receiver.opener, &sealed, &mut out, now());
    let event = Event::KeyUpdate { request: KeyUpdateRequest::NotRequested };
    assert_eq!(first, Pumped { consumed, produced: 10, stop: Stop::Event(event) });
    receiver.opener.rekey(keys(3));
    let rest = &sealed[consumed..];
    let second = transfer_tls_to_plain(&mut receiver.opener, rest, &mut out, now());
    let stop = Stop::Event(Event::CloseNotify);
    assert_eq!(second, Pumped { consumed: rest.len(), produced: 20, stop });
}

#[test]
fn data_before_a_broken_record_is_delivered() {
    let mut peer = Peer::new();
    let (_, mut sealed) = stream(&mut peer, &[10]);
    let mut broken = peer.data(b"x");
    broken[9] ^= 1;
    sealed.extend(broken);
    let mut receiver = Receiver::new(Role::Server);
    let mut sealer = Sealer::new(keys(2), 0);
    let mut out = [0; 500];
    let pumped = transfer_tls_to_tls(&mut receiver.opener, &mut sealer, &sealed, &mut out, now());
    let stop = Stop::Refused(RecordError::BadRecordMac);
    assert_eq!(pumped, Pumped { consumed: 32, produced: 32, stop });
}

#[test]
fn a_closed_sealer_stops_the_pass() {
    let (_, sealed) = stream(&mut Peer::new(), &[10]);
    let mut receiver = Receiver::new(Role::Server);
    let mut sealer = Sealer::new(keys(2), 0);
    let mut out = [0; 500];
    sealer.seal_close_notify(&mut out).unwrap();
    let pumped = transfer_tls_to_tls(&mut receiver.opener, &mut sealer, &sealed, &mut out, now());
    assert_eq!(pumped.stop, Stop::Unsealed(SealError::Closed));
    assert_eq!(pumped.produced, 0);
    let pumped = transfer_plain_to_tls(&mut sealer, b"x", &mut out);
    let stop = Stop::Unsealed(SealError::Closed);
    assert_eq!(pumped, Pumped { consumed: 0, produced: 0, stop });
}
