//! What a client is told that breaks the protocol, and that the refusal says the same: hellos that lack
//! what their version wants, and records that do not belong where they are.

use std::sync::Arc;

use portcullis::config::plan::{ClientAuth, Group};
use portcullis::core::client_hello::{HelloBuffer, Peek, peek};
use portcullis::core::refusal::{Reason, Refusal};
use portcullis::tls::downstream::{DownstreamTerms, HelloFacts, ServerHandshake};
use portcullis::tls::handshake::Outcome;
use portcullis_kit::Authority;
use rustls::{ClientConnection, SupportedProtocolVersion};

use crate::support::*;

const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

struct Site {
    servers: Authority,
    terms: Arc<DownstreamTerms>,
}

impl Site {
    fn new(change: impl FnOnce(&mut World)) -> Self {
        let servers = Authority::new("Servers");
        let mut world = World::new();
        let chain = world.chain("open", &servers.server(&[NAME]), ClientAuth::None);
        change(&mut world);
        let terms = world.terms(chain);
        Self { servers, terms }
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConnection {
        client(&Arc::new(client_config(self.servers.roots(), version, None)), NAME)
    }

    /// A handshake for the client that sends `hello`, as the worker begins it.
    fn begin(&self, hello: &[u8]) -> ServerHandshake {
        let mut joined = HelloBuffer::new();
        let Peek::Hello(hello) = peek(hello, &mut joined) else { panic!("no hello: {hello:?}") };
        let newest = hello.newest();
        begin(&self.terms, HelloFacts { sni: Some(NAME), prefers_chacha20: false, newest })
    }
}

/// The refusal of a handshake that gets `input`, with all that the client is sent.
fn refused(server: &mut ServerHandshake, input: &[u8]) -> (Refusal, Vec<u8>) {
    let (mut held, mut out) = (input.to_vec(), Vec::new());
    match server.advance(&mut held, &mut out).outcome {
        Outcome::Failed(refusal) => (refusal, out),
        other => panic!("{other:?}"),
    }
}

/// An alert in the clear.
fn alert(code: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, code]
}

fn record(content: u8, payload: &[u8]) -> Vec<u8> {
    [&[content, 3, 3][..], &(payload.len() as u16).to_be_bytes(), payload].concat()
}

/// A hello in one record without the extension `kind`.
fn without(hello: &[u8], kind: u16) -> Vec<u8> {
    // Behind the two headers version and random; then three lists.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 1 + usize::from(hello[at]);
    let (mut kept, mut next) = (Vec::new(), at + 2);
    while next < hello.len() {
        let length = usize::from(u16::from_be_bytes([hello[next + 2], hello[next + 3]]));
        let end = next + 4 + length;
        if hello[next..next + 2] != kind.to_be_bytes() {
            kept.extend_from_slice(&hello[next..end]);
        }
        next = end;
    }
    assert!(kept.len() < hello.len() - at - 2, "no extension {kind} in the hello");
    let length = (kept.len() as u16).to_be_bytes();
    let body = [&hello[9..at], &length, &kept].concat();
    record(22, &[&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat())
}

#[test]
fn a_hello_without_what_its_version_wants_is_told_what() {
    let site = Site::new(|_| {});
    let (missing, version, failure) = (109, 70, 40);
    type Case = (&'static SupportedProtocolVersion, u16, u8, u8, Reason, &'static str);
    let cases: [Case; 5] = [
        (TLS13, 51, 3, missing, Reason::ProtocolViolation, "TLS 1.3 without key_share"),
        (TLS13, 10, 3, missing, Reason::ProtocolViolation, "TLS 1.3 without supported_groups"),
        (TLS13, 13, 3, missing, Reason::ProtocolViolation, "TLS 1.3 without signature_algorithms"),
        (TLS12, 13, 3, failure, Reason::CipherMismatch, "SHA-1"),
        (TLS12, 13, 2, version, Reason::VersionMismatch, "TLS 1.1 or older"),
    ];
    for (speaks, extension, minor, code, reason, detail) in cases {
        let mut hello = without(&sent_by(&mut site.client(speaks)), extension);
        hello[10] = minor;
        let (refusal, out) = refused(&mut site.begin(&hello), &hello);
        assert_eq!((refusal.reason, refusal.alert), (reason, Some(code)), "{refusal:?}");
        assert!(refusal.detail.contains(detail), "{refusal:?}");
        assert_eq!(out, alert(code), "{refusal:?}");
    }
}

/// rustls has no alert for these. As long as nothing is sealed, the client gets one of ours.
#[test]
fn who_breaks_the_rules_before_anything_is_sealed_is_told_so() {
    let site = Site::new(|_| {});
    let certificate = [11, 0, 0, 60, 0, 0, 57];
    let (piece, data) = (record(22, &certificate), record(23, b"data"));
    let cases: [(&[&[u8]], u8); 5] = [
        (&[&piece, &data], 10),
        (&[&record(22, &[])], 10),
        (&[&[22, 3, 3, 0xff, 0xff]], 22),
        (&[&record(22, &[11, 0xff, 0xff, 0xff, 0])], 50),
        (&[&record(22, &[16, 0, 0, 0])], 50),
    ];
    for (records, code) in cases {
        let hello = sent_by(&mut site.client(TLS12));
        let mut server = site.begin(&hello);
        let (mut held, mut out) = (hello, Vec::new());
        assert!(matches!(server.advance(&mut held, &mut out).outcome, Outcome::NeedMore));
        let (refusal, out) = refused(&mut server, &records.concat());
        assert_eq!(refusal.reason, Reason::ProtocolViolation, "{refusal:?}");
        assert_eq!((refusal.alert, &out[..]), (Some(code), &alert(code)[..]), "{refusal:?}");
    }
}

#[test]
fn a_second_hello_with_another_name_is_told_so() {
    let site = Site::new(|world| {
        world.plan.downstream_tls[0].crypto.groups = vec![Group::Secp384r1];
    });
    let mut peer = site.client(TLS13);
    let hello = sent_by(&mut peer);
    let mut server = site.begin(&hello);
    let (mut held, mut out) = (hello, Vec::new());
    assert!(matches!(server.advance(&mut held, &mut out).outcome, Outcome::NeedMore));
    give(&mut peer, &out).unwrap();
    let mut second = sent_by(&mut peer);
    let name = NAME.as_bytes();
    let at = second.windows(name.len()).position(|window| window == name).unwrap();
    second[at] = b'x';
    let (refusal, out) = refused(&mut server, &second);
    assert_eq!((refusal.reason, refusal.alert), (Reason::ProtocolViolation, Some(47)));
    assert_eq!(out, alert(47));
}

/// What the client signs off is not what the gateway saw: extended_master_secret was taken out.
#[test]
fn a_finished_that_does_not_fit_is_called_what_it_is() {
    let site = Site::new(|_| {});
    let mut peer = site.client(TLS12);
    let mut held = without(&sent_by(&mut peer), 23);
    let mut server = site.begin(&held);
    let refusal = loop {
        let mut out = Vec::new();
        let advance = server.advance(&mut held, &mut out);
        held.drain(..advance.consumed);
        if let Outcome::Failed(refusal) = advance.outcome {
            break refusal;
        }
        give(&mut peer, &out).unwrap();
        let sent = sent_by(&mut peer);
        assert!(!sent.is_empty(), "the handshake neither ended nor failed");
        held.extend_from_slice(&sent);
    };
    assert_eq!((refusal.reason, refusal.alert), (Reason::ProtocolViolation, Some(51)));
    assert!(refusal.detail.contains("Finished"), "{refusal:?}");
}
