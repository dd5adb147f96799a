//! What a client is told that breaks the protocol, and that the refusal says the same: hellos that lack
//! what their version wants, records that do not belong where they are, and TLS 1.2 after the handshake.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use portcullis::config::plan::{ClientAuth, Group, TlsVersion};
use portcullis::core::refusal::{Reason, Refusal};
use portcullis::tls::downstream::{DownstreamTerms, ServerHandshake};
use portcullis::tls::handshake::Outcome;
use portcullis::tls::wire::{CONTROL_BYTES_MAX, OUT_BYTES_MIN, Scratch, Stop, Wire, transfer};
use portcullis_kit::{Authority, KeyKind, monotonic_now};
use rustls::{ClientConnection, ConnectionTrafficSecrets, SupportedProtocolVersion};

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
        begin_for(&self.terms, hello)
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

/// A hello in one record with one extension more.
fn with(hello: &[u8], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 1 + usize::from(hello[at]);
    let length = (body.len() as u16).to_be_bytes();
    let list = [&hello[at + 2..], &kind.to_be_bytes(), &length, body].concat();
    let body = [&hello[9..at], &(list.len() as u16).to_be_bytes(), &list].concat();
    record(22, &[&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat())
}

fn share(group: u8, length: u8) -> Vec<u8> {
    [&[0, group, 0, length][..], &vec![9; usize::from(length)]].concat()
}

#[test]
fn a_hello_without_what_its_version_wants_is_told_what() {
    let site = Site::new(|_| {});
    let (missing, version, failure) = (109, 70, 40);
    type Case = (&'static SupportedProtocolVersion, u16, u8, u8, Reason, &'static str);
    let cases: [Case; 6] = [
        (TLS13, 51, 3, missing, Reason::ProtocolViolation, "TLS 1.3 without key_share"),
        (TLS13, 10, 3, missing, Reason::ProtocolViolation, "TLS 1.3 without supported_groups"),
        (TLS13, 13, 3, missing, Reason::ProtocolViolation, "TLS 1.3 without signature_algorithms"),
        (TLS12, 13, 3, failure, Reason::CipherMismatch, "SHA-1"),
        (TLS12, 13, 2, version, Reason::VersionMismatch, "TLS 1.1 or older"),
        (TLS12, 13, 1, version, Reason::VersionMismatch, "TLS 1.1 or older"),
    ];
    for (speaks, extension, minor, code, reason, detail) in cases {
        let mut hello = without(&sent_by(&mut site.client(speaks)), extension);
        if minor < 3 {
            // Beside supported_versions what stands here says nothing.
            hello = without(&hello, 43);
        }
        hello[10] = minor;
        let (refusal, out) = refused(&mut site.begin(&hello), &hello);
        assert_eq!((refusal.reason, refusal.alert), (reason, Some(code)), "{refusal:?}");
        assert!(refusal.detail.contains(detail), "{refusal:?}");
        // mbedTLS and wolfSSL read no record of a version that they do not speak.
        let [content, major, _, rest @ ..] = alert(code);
        assert_eq!(out, [&[content, major, minor], &rest[..]].concat(), "{refusal:?}");
    }
}

/// RFC 8446 §9.2: beside a key that is not taken it would be one, and rustls does not ask.
#[test]
fn a_hello_that_rests_on_its_key_alone_is_not_called_broken() {
    let site = Site::new(|_| {});
    let identity = [&[0, 6][..], b"ticket", &[0; 4]].concat();
    let key = [&[0, 12][..], &identity, &[0, 33, 32], &[9; 32]].concat();
    for (extensions, what) in [
        (&[10, 51][..], "supported_groups"),
        (&[13], "signature_algorithms"),
        (&[10, 13, 51], "signature_algorithms"),
    ] {
        let hello = sent_by(&mut site.client(TLS13));
        let hello = extensions.iter().fold(hello, |hello, kind| without(&hello, *kind));
        let hello = with(&hello, 41, &key);
        let (refusal, out) = refused(&mut site.begin(&hello), &hello);
        assert_eq!(refusal.reason, Reason::ProtocolViolation, "{refusal:?}");
        assert!(refusal.detail.contains(&format!("without {what}")), "{refusal:?}");
        assert!(refusal.hint().contains("in every hello"), "{refusal:?}");
        assert_eq!((refusal.alert, &out[..]), (Some(109), &alert(109)[..]), "{refusal:?}");
    }
}

/// RFC 7507: rustls leaves it to the downgrade sentinel of TLS 1.3, which such a client does not know.
#[test]
fn a_client_that_fell_back_is_refused_where_it_need_not_have() {
    let fallback = |site: &Site| {
        let mut hello = sent_by(&mut site.client(TLS12));
        let at = hello.windows(4).position(|bytes| bytes == [0, 0xff, 1, 0]).unwrap();
        hello[at..at + 2].copy_from_slice(&[0x56, 0]);
        hello
    };
    let site = Site::new(|_| {});
    let hello = fallback(&site);
    let (refusal, out) = refused(&mut site.begin(&hello), &hello);
    assert_eq!((refusal.reason, refusal.alert), (Reason::VersionMismatch, Some(86)));
    assert!(refusal.hint().contains("middlebox"), "{refusal:?}");
    assert_eq!(out, alert(86));
    let site = Site::new(|world| {
        world.plan.downstream_tls[0].crypto.versions = vec![TlsVersion::Tls12];
    });
    let (mut hello, mut out) = (fallback(&site), Vec::new());
    let outcome = site.begin(&hello.clone()).advance(&mut hello, &mut out).outcome;
    assert!(matches!(outcome, Outcome::NeedMore), "{outcome:?}");
}

/// rustls has no alert for these. As long as nothing is sealed, the client gets one of ours.
#[test]
fn who_breaks_the_rules_before_anything_is_sealed_is_told_so() {
    let site = Site::new(|_| {});
    let certificate = [11, 0, 0, 60, 0, 0, 57];
    let (piece, data) = (record(22, &certificate), record(23, b"data"));
    let cases: [(&[&[u8]], u8); 8] = [
        (&[&piece, &data], 10),
        (&[&record(22, &[])], 10),
        (&[&[22, 3, 3, 0xff, 0xff]], 22),
        (&[&[22, 3, 3, 0x48, 0]], 22),
        (&[&record(24, &[1, 0, 0])], 10),
        (&[&record(99, &[1])], 10),
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

/// In TLS 1.3 the answer is sealed.
#[test]
fn an_alert_of_no_known_level_breaks_the_rules_whatever_it_says() {
    let site = Site::new(|_| {});
    for (version, level) in [(TLS12, 0), (TLS12, 3), (TLS13, 0), (TLS13, 0xff)] {
        for description in [0, 40, 90] {
            let hello = sent_by(&mut site.client(version));
            let mut server = site.begin(&hello);
            let (mut held, mut out) = (hello, Vec::new());
            assert!(matches!(server.advance(&mut held, &mut out).outcome, Outcome::NeedMore));
            let (refusal, out) = refused(&mut server, &record(21, &[level, description]));
            assert_eq!(refusal.reason, Reason::ProtocolViolation, "{refusal:?}");
            assert_eq!(refusal.alert, Some(47), "{refusal:?}");
            assert!(refusal.detail.contains("a level that does not exist"), "{refusal:?}");
            assert!(!out.is_empty() && (version == TLS13 || out == alert(47)), "{out:?}");
        }
    }
}

/// RFC 5246 §7.2.1: it is answered, and nobody waits for the time of the handshake to be up.
#[test]
fn who_closes_in_a_handshake_of_tls_1_2_is_answered() {
    let site = Site::new(|_| {});
    let begun = || {
        let hello = sent_by(&mut site.client(TLS12));
        let mut server = site.begin(&hello);
        let (mut held, mut out) = (hello, Vec::new());
        assert!(matches!(server.advance(&mut held, &mut out).outcome, Outcome::NeedMore));
        server
    };
    let (refusal, out) = refused(&mut begun(), &record(21, &[1, 0]));
    assert_eq!((refusal.reason, refusal.alert), (Reason::ClientClosed, None), "{refusal:?}");
    assert!(refusal.detail.contains("close_notify"), "{refusal:?}");
    assert_eq!(out, [21, 3, 3, 0, 2, 1, 0]);
    // Another warning, user_canceled, ends nothing; what comes after it does.
    let mut server = begun();
    let (mut held, mut out) = (record(21, &[1, 90]), Vec::new());
    assert!(matches!(server.advance(&mut held, &mut out).outcome, Outcome::NeedMore));
    assert_eq!(refused(&mut server, &record(21, &[1, 0])).0.reason, Reason::ClientClosed);
    // Within a message it breaks the rules, and behind a change_cipher_spec it should be sealed.
    let piece = record(22, &[11, 0, 0, 60, 0, 0, 57]);
    let (refusal, out) = refused(&mut begun(), &[piece, record(21, &[1, 0])].concat());
    assert_eq!(refusal.reason, Reason::ProtocolViolation, "{refusal:?}");
    assert_eq!(out, alert(10));
}

/// A hello of TLS 1.2 for `NAME` with these suites and, behind its name, these extensions.
fn made(suites: &[u8], extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let vec16 = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let name = vec16(&[&[0], &vec16(NAME.as_bytes())[..]].concat());
    let all = [&[(0, &name[..])], extensions].concat();
    let list = all.iter().flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &vec16(body)].concat());
    let list = vec16(&list.collect::<Vec<u8>>());
    let body = [&[3, 3][..], &[7; 32], &[0], &vec16(suites), &[1, 0], &list].concat();
    record(22, &[&[1, 0][..], &vec16(&body)].concat())
}

type Extension = (u16, &'static [u8]);
const SIGNED: Extension = (13, &[0, 2, 4, 3]);
const X25519: Extension = (10, &[0, 2, 0, 29]);
const HYBRID: Extension = (10, &[0, 2, 0x11, 0xec]);

fn speaks_only(version: TlsVersion) -> Site {
    Site::new(|world| world.plan.downstream_tls[0].crypto.versions = vec![version])
}

/// Who sends this is told this alert, and the log this reason, in words and a hint that have these.
#[track_caller]
fn is_told(
    site: &Site,
    (suites, extensions): (&[u8], &[Extension]),
    (reason, code): (Reason, u8),
    detail: &str,
    hint: &str,
) {
    let hello = made(suites, extensions);
    let (refusal, out) = refused(&mut site.begin(&hello), &hello);
    assert_eq!((refusal.reason, refusal.alert), (reason, Some(code)), "{refusal:?}");
    assert!(refusal.detail.contains(detail), "{detail}: {refusal:?}");
    assert!(refusal.hint().contains(hint), "{hint}: {}", refusal.hint());
    assert_eq!(out, alert(code), "{refusal:?}");
}

/// The log names what does not fit, and the hint is something that helps.
#[test]
fn who_shares_no_group_with_the_chain_is_told_why() {
    let (both, tls12) = (Site::new(|_| {}), speaks_only(TlsVersion::Tls12));
    let mismatch = (Reason::GroupMismatch, 40);
    let is_told = |site, extensions: &[Extension], ending, detail, hint| {
        is_told(site, (&[0xc0, 0x2b], extensions), ending, detail, hint);
    };
    let words = "ec_point_formats of the client's hello lack uncompressed";
    let violation = (Reason::ProtocolViolation, 47);
    is_told(&both, &[SIGNED, X25519, (11, &[1, 1])], violation, words, "broke the TLS protocol");
    let words = "x25519mlkem768 exists in TLS 1.3 only, and the client offers 1.2";
    is_told(&both, &[SIGNED, HYBRID], mismatch, words, "share x25519");
    let speaks_both = (43, &[4, 3, 4, 3, 3][..]);
    let words = "and this chain takes 1.2 alone";
    is_told(&tls12, &[SIGNED, HYBRID, speaks_both], mismatch, words, "share x25519");
    is_told(&both, &[SIGNED], mismatch, "names no key-exchange groups", "no supported_groups");
}

/// As above.
#[test]
fn who_shares_no_suite_or_signature_with_the_chain_is_told_why() {
    let (both, tls13) = (Site::new(|_| {}), speaks_only(TlsVersion::Tls13));
    let rsa = both.servers.server_with(&[NAME], KeyKind::Rsa2048, Default::default());
    let pairs = Site::new(|world| world.plan.downstream_tls[0].certificates.push(files(&rsa)));
    let is_told = |site, sent: (&[u8], &[Extension]), detail, hint| {
        is_told(site, sent, (Reason::CipherMismatch, 40), detail, hint);
    };
    let words = "no cipher suite in common that exists before TLS 1.3, and the client offers 1.2";
    is_told(&both, (&[0x13, 1], &[SIGNED, X25519]), words, "suites of 1.3 only");
    let words = "no cipher suite in common that exists in TLS 1.3";
    let extensions = [SIGNED, X25519, (43, &[2, 3, 4][..])];
    is_told(&tls13, (&[0xc0, 0x2b], &extensions), words, "suites of 1.2 only");
    let all: &[u8] = &[0xc0, 0x2b, 0xc0, 0x2f, 0x13, 1];
    let sha1: Extension = (13, &[0, 4, 2, 1, 2, 3]);
    let words = "takes signatures by rsa_pkcs1_sha1, ecdsa_sha1";
    is_told(&pairs, (all, &[sha1, X25519]), words, "none of the signatures that are made here");
    let p384: Extension = (13, &[0, 4, 2, 3, 5, 3]);
    let words = "takes signatures by ecdsa_sha1, ecdsa_secp384r1_sha384";
    is_told(&pairs, (all, &[p384, X25519]), words, "with an ECDSA key on P-384");
}

/// A handshake that has asked for a share on P-384, and the second hello for it.
fn asked_again() -> (ServerHandshake, Vec<u8>) {
    let site = Site::new(|world| {
        world.plan.downstream_tls[0].crypto.groups = vec![Group::Secp384r1];
    });
    let mut peer = site.client(TLS13);
    let hello = sent_by(&mut peer);
    let mut server = site.begin(&hello);
    let (mut held, mut out) = (hello, Vec::new());
    assert!(matches!(server.advance(&mut held, &mut out).outcome, Outcome::NeedMore));
    give(&mut peer, &out).unwrap();
    let sent = sent_by(&mut peer);
    // Behind the change_cipher_spec that comes first.
    (server, sent.strip_prefix(&[20, 3, 3, 0, 1, 1]).unwrap().to_vec())
}

/// RFC 7250 §4.2. It has broken no rule.
#[test]
fn who_takes_raw_public_keys_only_is_told_so() {
    let (site, tls12) = (Site::new(|_| {}), speaks_only(TlsVersion::Tls12));
    let speaks_both = (43, &[4, 3, 4, 3, 3][..]);
    for (site, kind) in [(&site, 19), (&site, 20), (&tls12, 19), (&tls12, 20)] {
        let sent = [SIGNED, X25519, speaks_both, (kind, &[1, 2])];
        let ending = (Reason::CipherMismatch, 43);
        let hint = "offer X.509 certificates too";
        is_told(site, (&[0xc0, 0x2b, 0x13, 1], &sent), ending, "raw public keys only", hint);
        // One that takes both is served.
        let both = [SIGNED, X25519, (kind, &[2, 2, 0])];
        let (mut hello, mut out) = (made(&[0xc0, 0x2b], &both), Vec::new());
        let outcome = site.begin(&hello.clone()).advance(&mut hello, &mut out).outcome;
        assert!(matches!(outcome, Outcome::NeedMore), "{outcome:?}");
    }
}

#[test]
fn a_second_hello_with_another_name_is_told_so() {
    let (mut server, mut second) = asked_again();
    let name = NAME.as_bytes();
    let at = second.windows(name.len()).position(|window| window == name).unwrap();
    second[at] = b'x';
    let (refusal, out) = refused(&mut server, &second);
    assert_eq!((refusal.reason, refusal.alert), (Reason::ProtocolViolation, Some(47)));
    assert_eq!(out, alert(47));
}

/// RFC 8446 §4.2.8.
#[test]
fn a_second_hello_has_the_share_that_was_asked_for_and_no_other() {
    let (x25519, p384) = (share(29, 32), share(24, 97));
    let cases = [
        (x25519.clone(), "RefusedToFollow"),
        ([&p384[..], &x25519].concat(), "extension 51"),
        ([x25519, p384].concat(), "extension 51"),
        (vec![], "extension 51"),
    ];
    for (shares, what) in cases {
        let (mut server, second) = asked_again();
        let shares = [&(shares.len() as u16).to_be_bytes()[..], &shares].concat();
        let second = with(&without(&second, 51), 51, &shares);
        let (refusal, out) = refused(&mut server, &second);
        assert_eq!(refusal.reason, Reason::ProtocolViolation, "{refusal:?}");
        assert!(refusal.detail.contains(what), "{what}: {refusal:?}");
        assert_eq!((refusal.alert, &out[..]), (Some(47), &alert(47)[..]), "{what}");
    }
}

#[test]
fn a_second_hello_may_change_its_keys_and_nothing_else() {
    let site = Site::new(|world| {
        world.plan.downstream_tls[0].crypto.groups = vec![Group::Secp384r1];
    });
    // In one record, and in pieces of 60 bytes.
    for pieces in [usize::MAX, 60] {
        let split = |hello: &[u8]| -> Vec<u8> {
            hello[5..].chunks(pieces).flat_map(|piece| record(22, piece)).collect()
        };
        let retried = || {
            let mut peer = site.client(TLS13);
            let hello = sent_by(&mut peer);
            let mut server = site.begin(&hello);
            let (mut held, mut out) = (split(&hello), Vec::new());
            let advance = server.advance(&mut held, &mut out);
            assert!(matches!(advance.outcome, Outcome::NeedMore));
            give(&mut peer, &out).unwrap();
            // Behind the change_cipher_spec that may come first.
            let sent = sent_by(&mut peer);
            let ccs = if sent[0] == 20 { 6 } else { 0 };
            (server, sent[..ccs].to_vec(), sent[ccs..].to_vec())
        };
        let (mut server, ccs, second) = retried();
        let mut held = [ccs, split(&second)].concat();
        // Byte by byte, as a slow network has it.
        let (mut input, mut out) = (Vec::new(), Vec::new());
        for byte in held.drain(..) {
            input.push(byte);
            let advance = server.advance(&mut input, &mut out);
            assert!(matches!(advance.outcome, Outcome::NeedMore), "{:?}", advance.outcome);
            input.drain(..advance.consumed);
        }
        assert!(!out.is_empty(), "it goes on");
        let (random, suites) = (5 + 4 + 2, 5 + 4 + 2 + 32 + 1 + 32 + 2);
        let changes = [
            ("random", Some(random)),
            ("legacy_session_id", Some(random + 32 + 1)),
            ("cipher_suites", Some(suites + 1)),
            ("extension 23", None),
        ];
        for (what, at) in changes {
            let (mut server, ccs, mut second) = retried();
            match at {
                Some(at) => second[at] ^= 1,
                None => second = without(&second, 23),
            }
            let (refusal, out) = refused(&mut server, &[ccs, split(&second)].concat());
            assert_eq!((refusal.reason, refusal.alert), (Reason::ProtocolViolation, Some(47)));
            assert!(refusal.detail.contains(what), "{what}: {refusal:?}");
            assert_eq!(out, alert(47), "{what}");
        }
        let (mut server, _, second) = retried();
        let mut short = second[5..second.len() - 1].to_vec();
        // Its length goes with it, and the list of extensions is too long then.
        let length = (short.len() - 4) as u16;
        short[2..4].copy_from_slice(&length.to_be_bytes());
        let (refusal, _) = refused(&mut server, &record(22, &short));
        assert!(refusal.detail.contains("in its second hello"), "{refusal:?}");
    }
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

/// A TLS 1.2 client that can send what rustls' client never would, and its session.
struct Rogue {
    wire: Wire,
    sequence: u64,
    seals: (LessSafeKey, [u8; 4]),
    opens: (u64, LessSafeKey, [u8; 4]),
}

fn key12(secrets: &ConnectionTrafficSecrets) -> (LessSafeKey, [u8; 4]) {
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("GCM") };
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap());
    (key, *iv.as_ref().first_chunk().unwrap())
}

/// RFC 5288 §3: four bytes of salt, eight of explicit nonce.
fn nonce12(salt: [u8; 4], explicit: &[u8]) -> Nonce {
    Nonce::try_assume_unique_for_key(&[&salt, explicit].concat()).unwrap()
}

/// RFC 5246 §6.2.3.3.
fn aad12(sequence: u64, content: u8, length: usize) -> Aad<Vec<u8>> {
    let length = (length as u16).to_be_bytes();
    Aad::from([&sequence.to_be_bytes()[..], &[content, 3, 3], &length].concat())
}

impl Rogue {
    fn new(site: &Site) -> Self {
        let mut config = client_config(site.servers.roots(), TLS12, None);
        config.enable_secret_extraction = true;
        let mut peer = client(&Arc::new(config), NAME);
        let done = handshake(&site.terms, &mut peer, NAME).map_err(|error| error.0).unwrap();
        let secrets = peer.dangerous_extract_secrets().unwrap();
        let (opened, opens) = (secrets.rx.0, key12(&secrets.rx.1));
        Self {
            wire: done.wire,
            sequence: secrets.tx.0,
            seals: key12(&secrets.tx.1),
            opens: (opened, opens.0, opens.1),
        }
    }

    fn seal(&mut self, content: u8, plain: &[u8]) -> Vec<u8> {
        let explicit = self.sequence.to_be_bytes();
        let aad = aad12(self.sequence, content, plain.len());
        let mut sealed = plain.to_vec();
        let nonce = nonce12(self.seals.1, &explicit);
        self.seals.0.seal_in_place_append_tag(nonce, aad, &mut sealed).unwrap();
        self.sequence += 1;
        record(content, &[&explicit[..], &sealed].concat())
    }

    /// Hands the gateway these bytes.
    fn send(&mut self, bytes: &[u8]) -> Stop {
        let (mut input, mut out) = (bytes.to_vec(), vec![0; OUT_BYTES_MIN]);
        let (wire, mut scratch, now) = (&mut self.wire, Scratch::default(), monotonic_now());
        loop {
            let done = transfer(wire, &mut Wire::Plain, &mut input, &mut out, &mut scratch, now);
            input.drain(..done.consumed);
            if !matches!(done.stop, Stop::OutputFull) {
                return done.stop;
            }
        }
    }

    /// The alerts in what the gateway sends, each with its level.
    fn alerts(&mut self, mut sent: &[u8]) -> Vec<[u8; 2]> {
        let mut alerts = Vec::new();
        while let Some(&[21, 3, 3, 0, length]) = sent.first_chunk() {
            let (payload, rest) = sent[5..].split_at(usize::from(length));
            let (sequence, key, salt) = &mut self.opens;
            let mut sealed = payload[8..].to_vec();
            let nonce = nonce12(*salt, &payload[..8]);
            let opened = key.open_in_place(nonce, aad12(*sequence, 21, 2), &mut sealed).unwrap();
            alerts.push(opened.try_into().unwrap());
            *sequence += 1;
            sent = rest;
        }
        assert!(sent.is_empty(), "{sent:?}");
        alerts
    }
}

const HELLO: &[u8] = &[
    1, 0, 0, 41, 3, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 0, 0, 2, 0xc0, 0x2b, 1, 0,
];

// threat 18
#[test]
fn renegotiation_is_refused_and_the_session_goes_on() {
    let site = Site::new(|_| {});
    let mut rogue = Rogue::new(&site);
    let hello = rogue.seal(22, HELLO);
    let stop = rogue.send(&hello);
    assert!(matches!(stop, Stop::InputEmpty), "{stop:?}");
    let mut control = [0; CONTROL_BYTES_MAX];
    let bytes = rogue.wire.seal_control(&mut control);
    assert_eq!(rogue.alerts(&control[..bytes]), [[1, 100]], "no_renegotiation");
    let data = rogue.seal(23, b"data");
    assert!(matches!(rogue.send(&data), Stop::InputEmpty));
}

/// Whoever finds it, rustls or we: the client is told in a sealed record, and the refusal names what it
/// was told.
// threat 18
#[test]
fn a_violation_after_a_handshake_of_tls_1_2_is_answered_with_its_alert() {
    let site = Site::new(|_| {});
    type Sent = fn(&mut Rogue) -> Vec<u8>;
    let cases: [(Sent, u8, Reason, &str); 16] = [
        (|r| r.seal(22, &HELLO[..20]), 10, Reason::ProtocolViolation, "without a whole message"),
        (|r| r.seal(22, &[]), 10, Reason::ProtocolViolation, "without a whole message"),
        (
            |r| [r.seal(22, HELLO), r.seal(22, &HELLO[..1])].concat(),
            10,
            Reason::ProtocolViolation,
            "without a whole message",
        ),
        (|r| r.seal(22, &[20, 0, 0, 0]), 10, Reason::ProtocolViolation, "unexpected"),
        (
            |r| (0..33).flat_map(|_| r.seal(23, &[])).collect(),
            10,
            Reason::ProtocolViolation,
            "TooManyEmptyFragments",
        ),
        (|_| record(20, &[1]), 10, Reason::ProtocolViolation, "a record of type 20"),
        (|r| r.seal(24, &[1, 0, 0]), 10, Reason::ProtocolViolation, "a record of type 24"),
        (|_| vec![23, 2, 0, 0, 1], 50, Reason::ProtocolViolation, "version 0x0200"),
        (|_| vec![23, 3, 3, 0xff, 0xff], 22, Reason::ProtocolViolation, "65535 bytes"),
        // 2^14 + 2048, which RFC 5246 §6.2.3 allows and no cipher here needs.
        (|_| vec![23, 3, 3, 0x48, 0], 22, Reason::ProtocolViolation, "18432 bytes"),
        (|r| r.seal(23, &[0; 18_407]), 22, Reason::ProtocolViolation, "excess record size"),
        (|r| r.seal(23, &[0; 16_385]), 22, Reason::ProtocolViolation, "excess record size"),
        (|r| r.seal(21, &[7, 40]), 47, Reason::ProtocolViolation, "a level that does not exist"),
        (|r| r.seal(21, &[0, 0]), 47, Reason::ProtocolViolation, "a level that does not exist"),
        (|r| r.seal(21, &[0xff, 0]), 47, Reason::ProtocolViolation, "a level that does not exist"),
        (|_| record(23, &[0; 40]), 20, Reason::ClientRecord, "decrypt"),
    ];
    for (bytes, code, reason, detail) in cases {
        let mut rogue = Rogue::new(&site);
        let bytes = bytes(&mut rogue);
        let Stop::Failed(fault) = rogue.send(&bytes) else { panic!("{detail}: not refused") };
        let Refusal { alert, .. } = &fault.refusal;
        assert_eq!((fault.refusal.reason, *alert), (reason, Some(code)), "{fault:?}");
        assert!(fault.refusal.detail.contains(detail), "{fault:?}");
        let mut control = [0; CONTROL_BYTES_MAX];
        let sealed = rogue.wire.seal_alert(code, &mut control);
        let alerts = rogue.alerts(&control[..sealed]);
        assert_eq!(alerts.last(), Some(&[2, code]), "{fault:?}");
        let after = rogue.wire.seal_alert(code, &mut control);
        assert_eq!(after + rogue.wire.seal_close(&mut control), 0, "{fault:?}");
        let Stop::Failed(_) = rogue.send(&bytes) else { panic!("{detail}: opened once more") };
    }
}

/// rustls has no alert for it and keeps its keys: that it has answered the first is not to be taken for
/// an end.
#[test]
fn who_cannot_be_told_of_a_violation_over_tls_1_2_is_told_nothing() {
    let site = Site::new(|_| {});
    let mut rogue = Rogue::new(&site);
    let bytes = [rogue.seal(22, HELLO), rogue.seal(22, HELLO)].concat();
    let stop = rogue.send(&bytes);
    assert!(matches!(stop, Stop::Failed(_)), "{stop:?}");
    let mut control = [0; CONTROL_BYTES_MAX];
    assert_eq!(rogue.wire.seal_alert(10, &mut control), 0);
}
