//! Established sessions: bytes in equal bytes out over every mix of sides, key updates, closing.

use std::io::{Read, Write};
use std::sync::Arc;

use portcullis::config::plan::ClientAuth;
use portcullis::core::client_hello::RecordLimit;
use portcullis::core::record::OVERHEAD;
use portcullis::core::refusal::Reason;
use portcullis::tls::HelloFacts;
use portcullis::tls::wire::{
    CONTROL_BYTES_MAX, OUT_BYTES_MIN, Scratch, Side, Stop, Transfer, Wire, transfer,
    transfer_within,
};
use portcullis_kit::{Authority, Identity, monotonic_now};
use proptest::prelude::*;
use rustls::{ClientConfig, ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::record_limits::assert_within;
use crate::support::*;

/// What `received` holds, in the clear.
pub(crate) fn opened(wire: &mut Wire, received: &mut [u8]) -> Vec<u8> {
    let mut out = vec![0; OUT_BYTES_MIN + received.len()];
    let now = monotonic_now();
    let done = transfer(wire, &mut Wire::Plain, received, &mut out, &mut Scratch::default(), now);
    assert!(matches!(done.stop, Stop::InputEmpty | Stop::CloseNotify), "{done:?}");
    assert_eq!(done.consumed, received.len());
    out.truncate(done.produced);
    out
}

/// The other end of a wire: a rustls connection, or plain bytes.
enum Peer {
    Plain(Vec<u8>),
    Tls(Box<rustls::Connection>),
}

/// Two wires, the peers at their far ends, and what is held between passes.
struct Relay {
    peers: [Peer; 2],
    wires: [Wire; 2],
    held: [Vec<u8>; 2],
    received: [Vec<u8>; 2],
    scratch: Scratch,
    payload: u64,
    passes: usize,
    /// Of the records to the first peer.
    limit: RecordLimit,
}

#[derive(Debug, Clone)]
enum Op {
    Send { from: usize, length: usize, piece: usize, room: usize },
    UpdateKeys { side: usize },
}

struct Pki {
    servers: Authority,
    server: Identity,
}

type Version = Option<&'static SupportedProtocolVersion>;

impl Pki {
    fn new() -> Self {
        let servers = Authority::new("Servers");
        let server = servers.server(&[NAME]);
        Self { servers, server }
    }

    fn downstream(&self, version: Version, limit: RecordLimit) -> (Peer, Wire) {
        let Some(version) = version else { return (Peer::Plain(Vec::new()), Wire::Plain) };
        let mut world = World::new();
        let chain = world.chain("a", &self.server, ClientAuth::None);
        let config = Arc::new(client_config(self.servers.roots(), version, None));
        let mut peer = client(&config, NAME);
        let hello = HelloFacts { record_limit: limit, ..hello(NAME) };
        let done = drive(begin(&world.terms(chain), hello), &mut peer, usize::MAX);
        (Peer::Tls(Box::new(peer.into())), done.map_err(|error| error.0).unwrap().wire)
    }

    fn upstream(&self, version: Version) -> (Peer, Wire, Vec<u8>) {
        let Some(version) = version else {
            return (Peer::Plain(Vec::new()), Wire::Plain, Vec::new());
        };
        let mut world = World::new();
        let trust = world.trust(&self.servers);
        let id = world.upstream(trust, None);
        let mut peer = ServerConnection::new(self.server_config(version)).unwrap();
        let dialler = world.load().upstream(id).dialler();
        let (wire, _, left) = dial(dialler.start(NAME).unwrap(), &mut peer).unwrap();
        (Peer::Tls(Box::new(peer.into())), wire, left)
    }

    fn server_config(&self, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.server.chain_der.clone(), self.server.key_der.clone_key())
            .unwrap();
        Arc::new(config)
    }

    fn relay(&self, down: Version, up: Version) -> Relay {
        self.relay_within(RecordLimit::Standard, down, up)
    }

    /// To a client that takes records of so much.
    fn relay_within(&self, limit: RecordLimit, down: Version, up: Version) -> Relay {
        let (client, down) = self.downstream(down, limit);
        let (server, up, left) = self.upstream(up);
        Relay {
            peers: [client, server],
            wires: [down, up],
            held: [Vec::new(), left],
            received: [Vec::new(), Vec::new()],
            scratch: Scratch::default(),
            payload: 0,
            passes: 0,
            limit,
        }
    }
}

impl Peer {
    /// Gives it bytes to send; returns what goes over the network.
    fn send(&mut self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain(waiting) => {
                let mut bytes = std::mem::take(waiting);
                bytes.extend_from_slice(data);
                bytes
            }
            Self::Tls(connection) => {
                connection.set_buffer_limit(None);
                connection.writer().write_all(data).unwrap();
                let mut bytes = Vec::new();
                while connection.wants_write() {
                    connection.write_tls(&mut bytes).unwrap();
                }
                bytes
            }
        }
    }

    /// Hands it bytes of the network; returns what they say.
    fn receive(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain(_) => bytes.to_vec(),
            Self::Tls(connection) => {
                let mut data = Vec::new();
                while !bytes.is_empty() {
                    connection.read_tls(&mut bytes).unwrap();
                    connection.process_new_packets().unwrap();
                    let mut part = vec![0; 1 << 16];
                    while let Ok(read @ 1..) = connection.reader().read(&mut part) {
                        data.extend_from_slice(&part[..read]);
                    }
                }
                data
            }
        }
    }

    fn update_keys(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(connection) => {
                let _ = connection.refresh_traffic_keys();
            }
        }
    }
}

impl Relay {
    /// `data` from one peer, arriving in pieces, an output of `room` bytes.
    fn send(&mut self, from: usize, data: &[u8], piece: usize, room: usize) {
        let bytes = self.peers[from].send(data);
        for part in bytes.chunks(piece) {
            self.held[from].extend_from_slice(part);
            let done = self.turn(from, room);
            assert!(matches!(done.stop, Stop::InputEmpty), "{done:?}");
        }
        self.settle();
    }

    /// Passes until the input says no more; returns the last.
    fn turn(&mut self, from: usize, room: usize) -> Transfer {
        let mut out = vec![0; room];
        loop {
            let (down, up) = self.wires.split_at_mut(1);
            let (from_wire, to_wire) =
                if from == 0 { (&mut down[0], &mut up[0]) } else { (&mut up[0], &mut down[0]) };
            let held = &mut self.held[from];
            let is_plain = matches!(from_wire, Wire::Plain);
            let now = monotonic_now();
            // Every other pass within the input, where the machine's cryptography does that.
            self.passes += 1;
            let lead = LEADS[self.passes / 2 % LEADS.len()];
            let mut buffer = [&vec![0xee; lead], &held[..]].concat();
            let within = match self.passes % 2 {
                0 => transfer_within(from_wire, to_wire, &mut buffer, lead, now),
                _ => None,
            };
            let is_within = within.is_some();
            let done = within.unwrap_or_else(|| {
                transfer(from_wire, to_wire, held, &mut out, &mut self.scratch, now)
            });
            let sent = if is_within { &buffer[..done.produced] } else { &out[..done.produced] };
            if from == 1 && !matches!(to_wire, Wire::Plain) {
                assert_within(self.limit, sent);
            }
            let said = self.peers[1 - from].receive(sent);
            match is_within {
                true => *held = buffer.split_off(lead + done.consumed),
                false => drop(held.drain(..done.consumed)),
            }
            self.payload += done.payload;
            self.received[1 - from].extend_from_slice(&said);
            match done.stop {
                Stop::OutputFull => {
                    // Plain bytes may have no room at all within the buffer; the next pass is the other way.
                    let has_no_room = is_within && lead < OVERHEAD && is_plain;
                    let moved = if is_within { done.consumed } else { done.produced };
                    assert!(has_no_room || moved > 0, "no progress: {done:?}");
                }
                _ => return done,
            }
        }
    }

    /// Sends what is owed on both sides, and what the peers answer to it, until all is quiet.
    fn settle(&mut self) {
        for _ in 0..8 {
            for side in 0..2 {
                let mut out = [0; CONTROL_BYTES_MAX];
                let bytes = self.wires[side].seal_control(&mut out);
                let said = self.peers[side].receive(&out[..bytes]);
                assert!(said.is_empty());
                let answer = self.peers[side].send(&[]);
                self.held[side].extend_from_slice(&answer);
                self.turn(side, OUT_BYTES_MIN);
            }
        }
    }
}

/// Bytes before the input: of plain ones each record takes 22.
const LEADS: [usize; 4] = [0, 22, 30, 128];

const SIDES: [Version; 3] = [None, Some(&rustls::version::TLS12), Some(&rustls::version::TLS13)];

fn op() -> impl Strategy<Value = Op> {
    let length = prop_oneof![0..200usize, 16_000..17_000usize, 0..60_000usize];
    let piece = prop_oneof![1..40usize, 1..20_000usize, Just(usize::MAX)];
    let room = prop_oneof![Just(OUT_BYTES_MIN), OUT_BYTES_MIN..300_000usize];
    prop_oneof![
        6 => (0..2usize, length, piece, room)
            .prop_map(|(from, length, piece, room)| Op::Send { from, length, piece, room }),
        1 => (0..2usize).prop_map(|side| Op::UpdateKeys { side }),
    ]
}

fn limit() -> impl Strategy<Value = RecordLimit> {
    let narrow = prop_oneof![RecordLimit::LEAST..600, RecordLimit::LEAST..16_384];
    prop_oneof![Just(RecordLimit::Standard), narrow.prop_map(RecordLimit::Content)]
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn bytes_out_are_bytes_in_over_every_mix(
        ops in prop::collection::vec(op(), 1..10),
        limit in limit(),
    ) {
        let pki = Pki::new();
        for down in SIDES {
            for up in SIDES {
                let mut relay = pki.relay_within(limit, down, up);
                let mut sent = [Vec::new(), Vec::new()];
                for (index, op) in ops.iter().enumerate() {
                    match *op {
                        Op::Send { from, length, piece, room } => {
                            let data = pattern(length, index);
                            // Very small pieces of much data only take long.
                            relay.send(from, &data, piece.max(length / 100 + 1), room);
                            sent[1 - from].extend_from_slice(&data);
                        }
                        Op::UpdateKeys { side } => relay.peers[side].update_keys(),
                    }
                }
                relay.settle();
                prop_assert!(relay.received == sent, "{:?} {:?} {:?}", limit, down, up);
                prop_assert_eq!(relay.payload, (sent[0].len() + sent[1].len()) as u64);
            }
        }
    }
}

#[test]
fn key_updates_of_both_peers_are_followed_and_answered() {
    let pki = Pki::new();
    let tls13 = Some(&rustls::version::TLS13);
    let mut relay = pki.relay(tls13, tls13);
    for round in 0..10 {
        for side in 0..2 {
            relay.peers[side].update_keys();
            let data = pattern(1000, round);
            relay.send(side, &data, usize::MAX, OUT_BYTES_MIN);
            assert!(relay.received[1 - side].ends_with(&data));
            assert!(!relay.wires[side].owes_control());
        }
    }
}

#[test]
fn own_key_update_comes_before_the_limit_and_is_understood() {
    let pki = Pki::new();
    let tls13 = Some(&rustls::version::TLS13);
    let mut relay = pki.relay(tls13, tls13);
    relay.wires = relay.wires.map(|wire| wire.with_key_update_after(3));
    for round in 0..20 {
        for side in 0..2 {
            relay.send(side, &pattern(100, round), usize::MAX, OUT_BYTES_MIN);
        }
    }
    assert_eq!(relay.received[0].len(), 2000);
    assert_eq!(relay.received[0], relay.received[1]);
    for wire in &relay.wires {
        // Twenty records would be under one key otherwise.
        let text = format!("{wire:?}");
        let (_, sealer) = text.split_once("sealer: ").unwrap();
        let (_, sequence) = sealer.split_once("sequence: ").unwrap();
        let sealed: u64 = sequence.split([',', ' ']).next().unwrap().parse().unwrap();
        assert!(sealed <= 3, "{text}");
    }
}

#[test]
fn own_key_update_that_falls_due_within_a_buffer_goes_before_what_follows() {
    let tls13 = Some(&rustls::version::TLS13);
    let mut relay = Pki::new().relay(tls13, tls13);
    relay.wires = relay.wires.map(|wire| wire.with_key_update_after(1));
    let mut buffer = relay.peers[0].send(b"before, ");
    relay.peers[0].update_keys();
    buffer.extend(relay.peers[0].send(b"after"));
    let [down, up] = &mut relay.wires;
    // Elsewhere than on a CPU for which records are opened in place the whole of it takes the other way.
    if let Some(done) = transfer_within(down, up, &mut buffer, 0, monotonic_now()) {
        assert!(matches!(done.stop, Stop::OutputFull), "{done:?}");
        assert_eq!(done.payload, "before, ".len() as u64);
        relay.received[1] = relay.peers[1].receive(&buffer[..done.produced]);
        assert!(relay.wires[1].owes_control());
        buffer.drain(..done.consumed);
    }
    relay.held[0] = buffer;
    relay.turn(0, OUT_BYTES_MIN);
    assert_eq!(relay.received[1], b"before, after");
}

#[test]
fn nothing_is_sealed_within_a_buffer_before_a_key_update_that_is_owed() {
    let tls13 = Some(&rustls::version::TLS13);
    let mut relay = Pki::new().relay(tls13, None);
    relay.wires = relay.wires.map(|wire| wire.with_key_update_after(1));
    relay.send(1, b"before, ", usize::MAX, OUT_BYTES_MIN);
    relay.peers[0].update_keys();
    relay.held[0] = relay.peers[0].send(&[]);
    relay.turn(0, OUT_BYTES_MIN);
    let [down, up] = &mut relay.wires;
    assert!(down.owes_control());
    let mut buffer = [&[0; OVERHEAD][..], b"after"].concat();
    let done = transfer_within(up, down, &mut buffer, OVERHEAD, monotonic_now());
    assert!(done.is_none(), "{done:?}");
    relay.send(1, &buffer[OVERHEAD..], usize::MAX, OUT_BYTES_MIN);
    assert_eq!(relay.received[0], b"before, after");
}

// threat 15
#[test]
fn flood_of_key_updates_owes_one_reply_and_then_ends() {
    let pki = Pki::new();
    let tls13 = Some(&rustls::version::TLS13);
    let mut relay = pki.relay(tls13, tls13);
    let mut refused = None;
    for _ in 0..40 {
        relay.peers[0].update_keys();
        let bytes = relay.peers[0].send(&[]);
        relay.held[0].extend_from_slice(&bytes);
        let done = relay.turn(0, OUT_BYTES_MIN);
        assert_eq!(done.payload, 0);
        if let Stop::Failed(fault) = done.stop {
            refused = Some(fault);
            break;
        }
    }
    // The client never read: one KeyUpdate settles all that it asked for.
    let mut out = [0; CONTROL_BYTES_MAX];
    assert_eq!(relay.wires[0].seal_control(&mut out), 5 + 5 + 1 + 16);
    assert!(!relay.wires[0].owes_control());
    let fault = refused.unwrap();
    assert_eq!((fault.side, fault.refusal.reason), (Side::From, Reason::ProtocolViolation));
    assert_eq!(fault.refusal.alert, Some(10));
}

#[test]
fn close_notify_is_carried_in_each_direction() {
    let pki = Pki::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut relay = pki.relay(Some(version), Some(version));
        let Peer::Tls(client) = &mut relay.peers[0] else { panic!("TLS") };
        client.writer().write_all(b"last words").unwrap();
        client.send_close_notify();
        let bytes = relay.peers[0].send(&[]);
        relay.held[0].extend_from_slice(&bytes);
        let done = relay.turn(0, OUT_BYTES_MIN);
        assert!(matches!(done.stop, Stop::CloseNotify), "{done:?}");
        assert_eq!(relay.received[1], b"last words");
        let mut out = [0; CONTROL_BYTES_MAX];
        let bytes = relay.wires[1].seal_close(&mut out);
        assert!(bytes > 0);
        let Peer::Tls(server) = &mut relay.peers[1] else { panic!("TLS") };
        server.read_tls(&mut &out[..bytes]).unwrap();
        assert!(server.process_new_packets().unwrap().peer_has_closed());
        // The other direction flows on (threat 23).
        relay.send(1, b"and yet", usize::MAX, OUT_BYTES_MIN);
        assert_eq!(relay.received[0], b"and yet");
        let bytes = relay.wires[0].seal_close(&mut out);
        assert!(bytes > 0);
        assert_eq!(relay.wires[0].seal_close(&mut out), 0, "close_notify goes out once");
    }
}

#[test]
fn altered_record_is_refused_with_bad_record_mac() {
    let pki = Pki::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut relay = pki.relay(Some(version), None);
        let mut bytes = relay.peers[0].send(b"hello");
        *bytes.last_mut().unwrap() ^= 1;
        relay.held[0] = bytes;
        let done = relay.turn(0, OUT_BYTES_MIN);
        let Stop::Failed(fault) = done.stop else { panic!("{done:?}") };
        assert_eq!((fault.side, fault.refusal.reason), (Side::From, Reason::ClientRecord));
        assert_eq!(fault.refusal.alert, Some(20));
        let mut out = [0; CONTROL_BYTES_MAX];
        let sealed = relay.wires[0].seal_alert(20, &mut out);
        let Peer::Tls(client) = &mut relay.peers[0] else { panic!("TLS") };
        client.read_tls(&mut &out[..sealed]).unwrap();
        let seen = client.process_new_packets().unwrap_err();
        assert_eq!(seen, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
    }
}

#[test]
fn tls12_says_any_alert_and_nothing_after_it() {
    use rustls::crypto::aws_lc_rs::cipher_suite as suites;
    let pki = Pki::new();
    for suite in [
        suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ] {
        // Before any data, and behind some.
        for sent in [0, 3] {
            let mut world = World::new();
            let chain = world.chain("a", &pki.server, ClientAuth::None);
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.cipher_suites = vec![suite];
            let config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[&rustls::version::TLS12])
                .unwrap()
                .with_root_certificates(pki.servers.roots())
                .with_no_client_auth();
            let mut peer = client(&Arc::new(config), NAME);
            let done = handshake(&world.terms(chain), &mut peer, NAME);
            let mut wire = done.map_err(|error| error.0).unwrap().wire;
            assert_eq!(peer.negotiated_cipher_suite(), Some(suite));
            let mut out = vec![0; OUT_BYTES_MIN];
            let mut pass = |wire: &mut Wire| {
                let (mut scratch, now) = (Scratch::default(), monotonic_now());
                let mut plain = *b"data";
                let done =
                    transfer(&mut Wire::Plain, wire, &mut plain, &mut out, &mut scratch, now);
                (out[..done.produced].to_vec(), done.stop)
            };
            for _ in 0..sent {
                give(&mut peer, &pass(&mut wire).0).unwrap();
            }
            let mut control = [0; CONTROL_BYTES_MAX];
            let sealed = wire.seal_alert(49, &mut control);
            let seen = give(&mut peer, &control[..sealed]).unwrap_err();
            assert_eq!(seen, rustls::Error::AlertReceived(rustls::AlertDescription::AccessDenied));
            let (bytes, stop) = pass(&mut wire);
            assert!(bytes.is_empty() && matches!(stop, Stop::Failed(_)), "{stop:?}");
            let after = wire.seal_alert(49, &mut control) + wire.seal_close(&mut control);
            assert_eq!(after, 0, "an alert goes out once");
        }
    }
}

#[test]
fn an_alert_of_the_peer_ends_the_session_with_its_name() {
    let pki = Pki::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut relay = pki.relay(Some(version), None);
        let Peer::Tls(client) = &mut relay.peers[0] else { panic!("TLS") };
        // A record that the client cannot open makes it send an alert.
        client
            .read_tls(&mut &[23, 3, 3, 0, 32].into_iter().chain([0; 32]).collect::<Vec<u8>>()[..])
            .unwrap();
        client.process_new_packets().unwrap_err();
        let bytes = relay.peers[0].send(&[]);
        relay.held[0] = bytes;
        let done = relay.turn(0, OUT_BYTES_MIN);
        let Stop::Failed(fault) = done.stop else { panic!("{done:?}") };
        assert_eq!(fault.refusal.reason, Reason::ClientAlert);
        assert!(fault.refusal.detail.contains("bad_record_mac"), "{}", fault.refusal.detail);
    }
}

#[test]
fn nothing_is_owed_once_a_side_is_closed() {
    let pki = Pki::new();
    let tls13 = Some(&rustls::version::TLS13);
    let mut relay = pki.relay(tls13, tls13);
    let mut out = [0; CONTROL_BYTES_MAX];
    let bytes = relay.wires[0].seal_close(&mut out);
    assert!(bytes > 0);
    // The client, whom we told that nothing more comes, still sends and asks for a reply.
    relay.peers[0].update_keys();
    relay.send(0, b"more", usize::MAX, OUT_BYTES_MIN);
    assert_eq!(relay.received[1], b"more");
    assert!(!relay.wires[0].owes_control());
}

#[test]
fn only_tls_has_close_semantics() {
    let pki = Pki::new();
    for version in SIDES {
        let (_, wire) = pki.downstream(version, RecordLimit::Standard);
        assert_eq!(wire.has_close_semantics(), version.is_some());
    }
}
