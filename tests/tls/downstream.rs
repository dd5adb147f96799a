//! Handshakes with clients: who gets in, what is negotiated, and the alert that each refusal sends.

use std::sync::Arc;

use portcullis::config::plan::{ClientAuth, Group, TlsVersion};
use portcullis::core::refusal::{Reason, Refusal};
use portcullis::tls::downstream::HelloFacts;
use portcullis::tls::handshake::{Outcome, Version};
use portcullis_kit::{Authority, ClientSpec, Identity, KeyKind};
use proptest::prelude::*;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    AlertDescription, Error, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion,
};

use crate::support::*;

struct Pki {
    servers: Authority,
    clients: Authority,
    server: Identity,
    alice: Identity,
}

fn pki() -> Pki {
    let (servers, clients) = (Authority::new("Servers"), Authority::new("Clients"));
    let server = servers.server(&[NAME, "other.test"]);
    let alice = clients.client(&ClientSpec::new("alice").uri("spiffe://test/alice"));
    Pki { servers, clients, server, alice }
}

#[test]
fn clients_get_in_with_every_version_and_mode_and_resume() {
    let Pki { servers, clients, server, alice } = pki();
    for version in VERSIONS {
        for mode in ["require", "optional", "none"] {
            for identity in [Some(&alice), None] {
                if mode == "require" && identity.is_none() {
                    continue;
                }
                let mut world = World::new();
                let trust = world.trust(&clients);
                let auth = match mode {
                    "require" => ClientAuth::Require(trust),
                    "optional" => ClientAuth::Optional(trust),
                    _ => ClientAuth::None,
                };
                let chain = world.chain("orders", &server, auth);
                let config = Arc::new(client_config(servers.roots(), version, identity));
                for (turn, resumed) in [(1, false), (2, true), (3, true)] {
                    // Each turn on terms built anew: another worker.
                    let terms = world.terms(chain);
                    let mut peer = client(&config, NAME);
                    let done = handshake(&terms, &mut peer, NAME).map_err(|error| error.0).unwrap();
                    let label = format!("{version:?} {mode} {} turn {turn}", identity.is_some());
                    assert_eq!(done.facts.negotiated.resumed, resumed, "{label}");
                    assert!(!peer.is_handshaking(), "{label}");
                    let known = identity.is_some() && mode != "none";
                    let subject = done.facts.identity().map(|identity| identity.subject);
                    assert_eq!(subject.as_deref(), known.then_some("CN=alice"), "{label}");
                    assert_eq!(done.facts.authenticated_at().is_some(), known, "{label}");
                }
            }
        }
    }
}

#[test]
fn facts_say_what_was_negotiated() {
    let Pki { servers, clients, server, alice } = pki();
    let mut world = World::new();
    let trust = world.trust(&clients);
    let chain = world.chain("orders", &server, ClientAuth::Require(trust));
    world.plan.downstream_tls[0].alpn = vec!["postgresql".into()];
    let terms = world.terms(chain);
    let mut config = client_config(servers.roots(), &rustls::version::TLS13, Some(&alice));
    config.alpn_protocols = vec![b"h2".to_vec(), b"postgresql".to_vec()];
    let mut peer = client(&Arc::new(config), NAME);
    let facts = handshake(&terms, &mut peer, NAME).map_err(|error| error.0).unwrap().facts;
    assert_eq!(facts.negotiated.version, Version::Tls13);
    assert_eq!(facts.negotiated.suite, "TLS_AES_128_GCM_SHA256");
    assert_eq!(facts.negotiated.group, Some("x25519"));
    assert_eq!(facts.negotiated.alpn.as_deref(), Some(&b"postgresql"[..]));
    assert!(!facts.negotiated.hello_retry);
    let identity = facts.identity().unwrap();
    assert_eq!(identity.sans, ["uri:spiffe://test/alice"]);
    assert_eq!(identity.issuer, "CN=Clients");
}

#[test]
fn client_that_prefers_chacha20_gets_it() {
    let Pki { servers, server, .. } = pki();
    let mut world = World::new();
    let chain = world.chain("open", &server, ClientAuth::None);
    let terms = world.terms(chain);
    for (version, suite) in [
        (&rustls::version::TLS13, "TLS_CHACHA20_POLY1305_SHA256"),
        (&rustls::version::TLS12, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ] {
        let mut peer = client(&Arc::new(client_config(servers.roots(), version, None)), NAME);
        let hello = HelloFacts { prefers_chacha20: true, ..hello(NAME) };
        let done = drive(terms.start(hello), &mut peer, usize::MAX).map_err(|error| error.0);
        assert_eq!(done.unwrap().facts.negotiated.suite, suite);
    }
}

#[test]
fn group_that_needs_another_hello_works_and_is_told() {
    let Pki { servers, server, .. } = pki();
    let mut world = World::new();
    let chain = world.chain("open", &server, ClientAuth::None);
    world.plan.downstream_tls[0].crypto.groups = vec![Group::Secp384r1];
    let terms = world.terms(chain);
    let config = client_config(servers.roots(), &rustls::version::TLS13, None);
    let mut peer = client(&Arc::new(config), NAME);
    let facts = handshake(&terms, &mut peer, NAME).map_err(|error| error.0).unwrap().facts;
    assert!(facts.negotiated.hello_retry);
    assert_eq!(facts.negotiated.group, Some("secp384r1"));
}

#[test]
fn bytes_may_arrive_one_by_one_or_in_any_pieces() {
    let Pki { servers, clients, server, alice } = pki();
    let mut world = World::new();
    let trust = world.trust(&clients);
    let chain = world.chain("orders", &server, ClientAuth::Require(trust));
    let terms = world.terms(chain);
    for version in VERSIONS {
        let config = Arc::new(client_config(servers.roots(), version, Some(&alice)));
        for piece in [1, 2, 3, 5, 7, 64, 500, 1000] {
            let mut peer = client(&config, NAME);
            let done = drive(terms.start(hello(NAME)), &mut peer, piece);
            done.map_err(|error| error.0).unwrap();
        }
    }
}

#[test]
fn messages_may_be_fragmented_over_many_records() {
    let Pki { servers, clients, server, alice } = pki();
    let mut world = World::new();
    let trust = world.trust(&clients);
    let chain = world.chain("orders", &server, ClientAuth::Require(trust));
    let terms = world.terms(chain);
    for version in VERSIONS {
        let mut config = client_config(servers.roots(), version, Some(&alice));
        config.max_fragment_size = Some(64);
        let config = Arc::new(config);
        for piece in [1, usize::MAX] {
            let done = drive(terms.start(hello(NAME)), &mut client(&config, NAME), piece);
            done.map_err(|error| error.0).unwrap();
        }
    }
}

#[test]
fn data_in_the_segment_of_finished_is_left_for_the_wire() {
    use std::io::Write;
    let Pki { servers, clients, server, alice } = pki();
    let mut world = World::new();
    let trust = world.trust(&clients);
    let chain = world.chain("orders", &server, ClientAuth::Require(trust));
    let terms = world.terms(chain);
    let config = client_config(servers.roots(), &rustls::version::TLS13, Some(&alice));
    let mut peer = client(&Arc::new(config), NAME);
    // rustls holds this back until it may be sent: right behind Finished.
    peer.writer().write_all(b"first words").unwrap();
    let mut done = handshake(&terms, &mut peer, NAME).map_err(|error| error.0).unwrap();
    assert!(!done.left.is_empty());
    assert_eq!(crate::wire::opened(&mut done.wire, &mut done.left), b"first words");
}

/// One client that is refused: the reason, a part of the detail, and the alert it saw.
struct Case {
    name: &'static str,
    identity: Option<Identity>,
    reason: Reason,
    detail: &'static str,
    alert: [AlertDescription; 2],
}

fn bad_certificates(clients: &Authority) -> [Case; 7] {
    use AlertDescription as Alert;
    let stranger = Authority::new("Strangers");
    let below = clients.intermediate("Partner Intermediate");
    let spec = || ClientSpec::new("bob");
    [
        Case {
            name: "none",
            identity: None,
            reason: Reason::NoCertificate,
            detail: "no certificate",
            alert: [Alert::HandshakeFailure, Alert::CertificateRequired],
        },
        Case {
            name: "stranger",
            identity: Some(stranger.client(&spec())),
            reason: Reason::UnknownIssuer,
            detail: "issued by CN=Strangers: CN=Strangers is no anchor (the anchors are CN=Clients)",
            alert: [Alert::UnknownCA; 2],
        },
        Case {
            name: "missing intermediate",
            identity: Some(below.client(&spec()).leaf_only()),
            reason: Reason::UnknownIssuer,
            detail: "send leaf + intermediate",
            alert: [Alert::UnknownCA; 2],
        },
        Case {
            name: "expired",
            identity: Some(clients.client(&spec().expired())),
            reason: Reason::CertificateExpired,
            detail: "issued by CN=Clients: expired 1 day ago",
            alert: [Alert::CertificateExpired; 2],
        },
        Case {
            name: "not yet valid",
            identity: Some(clients.client(&spec().not_yet_valid())),
            reason: Reason::CertificateNotYetValid,
            detail: "is valid only in",
            alert: [Alert::CertificateExpired; 2],
        },
        Case {
            name: "purpose",
            identity: Some(clients.client(&spec().wrong_eku())),
            reason: Reason::CertificatePurpose,
            detail: "CN=bob",
            alert: [Alert::UnsupportedCertificate; 2],
        },
        Case {
            name: "namesake authority",
            identity: Some(Authority::new("Clients").client(&spec())),
            reason: Reason::UnknownIssuer,
            detail: "an anchor is called CN=Clients too, but its key did not sign this chain",
            alert: [Alert::UnknownCA; 2],
        },
    ]
}

#[test]
fn every_bad_certificate_has_its_reason_and_alert() {
    let Pki { servers, clients, server, .. } = pki();
    let mut world = World::new();
    let trust = world.trust(&clients);
    let chain = world.chain("orders", &server, ClientAuth::Require(trust));
    let terms = world.terms(chain);
    for case in bad_certificates(&clients) {
        for (version, alert) in VERSIONS.into_iter().zip(case.alert) {
            let config = client_config(servers.roots(), version, case.identity.as_ref());
            let mut peer = client(&Arc::new(config), NAME);
            let (refusal, seen) = refused(handshake(&terms, &mut peer, NAME));
            let name = format!("{} {version:?}: {refusal:?}", case.name);
            assert_eq!(refusal.reason, case.reason, "{name}");
            assert!(refusal.detail.contains(case.detail), "{name}");
            assert_eq!(seen, Some(Error::AlertReceived(alert)), "{name}");
            assert_eq!(refusal.alert, Some(alert.into()), "{name}");
        }
    }
}

#[test]
fn mismatches_have_their_reason_and_alert() {
    use AlertDescription as Alert;
    let Pki { servers, server, .. } = pki();
    let check = |change: &dyn Fn(&mut World),
                 alpn: &[&[u8]],
                 version: &'static SupportedProtocolVersion,
                 peeked: &str,
                 reason: Reason,
                 alert: Alert| {
        let mut world = World::new();
        let chain = world.chain("open", &server, ClientAuth::None);
        change(&mut world);
        let terms = world.terms(chain);
        let mut config = client_config(servers.roots(), version, None);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut peer = client(&Arc::new(config), NAME);
        let (refusal, seen) = refused(handshake(&terms, &mut peer, peeked));
        assert_eq!(refusal.reason, reason, "{refusal:?}");
        assert_eq!(seen, Some(Error::AlertReceived(alert)), "{refusal:?}");
        assert_eq!(refusal.alert, Some(alert.into()), "{refusal:?}");
    };
    let only = |version| {
        move |world: &mut World| world.plan.downstream_tls[0].crypto.versions = vec![version]
    };
    let (tls12, tls13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    let version = (Reason::VersionMismatch, Alert::ProtocolVersion);
    check(&only(TlsVersion::Tls13), &[], tls12, NAME, version.0, version.1);
    check(&only(TlsVersion::Tls12), &[], tls13, NAME, version.0, version.1);
    let postgres = |world: &mut World| {
        world.plan.downstream_tls[0].alpn = vec!["postgresql".into()];
    };
    let alpn = (Reason::AlpnMismatch, Alert::NoApplicationProtocol);
    check(&postgres, &[b"h2"], tls13, NAME, alpn.0, alpn.1);
    check(&postgres, &[b"h2"], tls12, NAME, alpn.0, alpn.1);
    // threat 6
    let sni = (Reason::SniMismatch, Alert::UnrecognisedName);
    check(&|_| {}, &[], tls13, "other.test", sni.0, sni.1);
    check(&|_| {}, &[], tls12, "other.test", sni.0, sni.1);
}

#[test]
fn no_suite_or_group_in_common_is_a_handshake_failure() {
    use portcullis::config::plan::CipherSuite;
    let Pki { servers, server, .. } = pki();
    for (suite, group, reason, words, hint) in [
        (
            CipherSuite::Tls13Aes256GcmSha384,
            Group::X25519,
            Reason::CipherMismatch,
            "no cipher suite in common: the client offers TLS_AES_128_GCM_SHA256, and takes signatures by ",
            "add TLS_AES_128_GCM_SHA256 to `cipher_suites`",
        ),
        (
            CipherSuite::Tls13Aes128GcmSha256,
            Group::Secp384r1,
            Reason::GroupMismatch,
            "no key-exchange group in common: the client offers x25519; the key-exchange groups of this \
             chain are secp384r1",
            "`groups`",
        ),
    ] {
        let mut world = World::new();
        let chain = world.chain("open", &server, ClientAuth::None);
        let crypto = &mut world.plan.downstream_tls[0].crypto;
        crypto.versions = vec![TlsVersion::Tls13];
        crypto.cipher_suites = vec![suite];
        crypto.groups = vec![group];
        let terms = world.terms(chain);
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites =
            vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(servers.roots())
            .with_no_client_auth();
        let (refusal, seen) =
            refused(handshake(&terms, &mut client(&Arc::new(config), NAME), NAME));
        assert_eq!(refusal.reason, reason, "{refusal:?}");
        assert!(refusal.detail.contains(words), "{refusal}");
        assert!(refusal.hint().contains(hint), "{}", refusal.hint());
        assert_eq!(seen, Some(Error::AlertReceived(AlertDescription::HandshakeFailure)));
        assert_eq!(refusal.alert, Some(40));
    }
}

#[test]
fn a_client_that_takes_no_key_of_the_chain_is_told_with_what_it_would_take() {
    use rustls::crypto::aws_lc_rs::cipher_suite as suites;
    let Pki { servers, server, .. } = pki();
    let rsa = servers.server_with(&[NAME], KeyKind::Rsa2048, Default::default());
    for (identity, suite, has) in [
        (&server, suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "with an RSA key"),
        (&rsa, suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "with an ECDSA key"),
    ] {
        let mut world = World::new();
        let chain = world.chain("open", identity, ClientAuth::None);
        let terms = world.terms(chain);
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![suite];
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(servers.roots())
            .with_no_client_auth();
        let (refusal, _) = refused(handshake(&terms, &mut client(&Arc::new(config), NAME), NAME));
        assert_eq!(refusal.reason, Reason::CipherMismatch, "{refusal:?}");
        let offered = format!("the client offers {:?}, and takes signatures by ", suite.suite());
        assert!(refusal.detail.contains(&offered), "{refusal}");
        assert!(refusal.hint().contains(has), "{}", refusal.hint());
    }
}

#[test]
fn certificate_is_chosen_by_what_the_client_can_verify() {
    let Pki { servers, server, .. } = pki();
    let rsa = servers.server_with(&[NAME], KeyKind::Rsa2048, Default::default());
    let mut world = World::new();
    let chain = world.chain("open", &rsa, ClientAuth::None);
    world.plan.downstream_tls[0].certificates.push(files(&server));
    let terms = world.terms(chain);
    for (version, suite) in [
        (&rustls::version::TLS12, Some("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")),
        (&rustls::version::TLS13, None),
    ] {
        let mut peer = client(&Arc::new(client_config(servers.roots(), version, None)), NAME);
        let facts = handshake(&terms, &mut peer, NAME).map_err(|error| error.0).unwrap().facts;
        assert_eq!(peer.peer_certificates().unwrap()[0], *server.leaf());
        if let Some(suite) = suite {
            assert_eq!(facts.negotiated.suite, suite);
        }
    }
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites =
        vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384];
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(servers.roots())
        .with_no_client_auth();
    let mut peer = client(&Arc::new(config), NAME);
    handshake(&terms, &mut peer, NAME).map_err(|error| error.0).unwrap();
    assert_eq!(peer.peer_certificates().unwrap()[0], *rsa.leaf());
}

#[test]
fn client_that_does_not_trust_us_says_so() {
    let Pki { server, .. } = pki();
    let mut world = World::new();
    let chain = world.chain("open", &server, ClientAuth::None);
    let terms = world.terms(chain);
    for version in VERSIONS {
        let roots = Authority::new("Elsewhere").roots();
        let mut peer = client(&Arc::new(client_config(roots, version, None)), NAME);
        let (refusal, _) = refused(handshake(&terms, &mut peer, NAME));
        assert_eq!(refusal.reason, Reason::ClientAlert, "{refusal:?}");
        assert!(refusal.detail.contains("unknown_ca"), "{refusal:?}");
    }
}

#[test]
fn garbage_is_refused_with_an_alert_and_never_a_panic() {
    let Pki { server, .. } = pki();
    let mut world = World::new();
    let chain = world.chain("open", &server, ClientAuth::None);
    let terms = world.terms(chain);
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[22, 3, 1, 0, 4, 1, 0, 0, 0],
        &[22, 3, 1, 255, 255, 1, 0, 0, 0],
        &[20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut server = terms.start(hello(NAME));
        let (mut input, mut out) = (garbage.to_vec(), Vec::new());
        let advance = server.advance(&mut input, &mut out);
        assert!(matches!(advance.outcome, Outcome::Failed(_)), "{garbage:?}: {advance:?}");
    }
}

#[test]
fn client_without_the_key_of_its_certificate_is_refused() {
    let Pki { servers, clients, server, alice } = pki();
    let mut world = World::new();
    let trust = world.trust(&clients);
    let chain = world.chain("orders", &server, ClientAuth::Require(trust));
    let terms = world.terms(chain);
    let other = clients.client(&ClientSpec::new("other"));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(other.key_der.clone_key()).unwrap();
    let mismatched = CertifiedKey::new(alice.chain_der.clone(), key);
    for version in VERSIONS {
        let mut config = client_config(servers.roots(), version, None);
        config.client_auth_cert_resolver =
            Arc::new(rustls::sign::SingleCertAndKey::from(mismatched.clone()));
        let mut peer = client(&Arc::new(config), NAME);
        let (refusal, seen) = refused(handshake(&terms, &mut peer, NAME));
        assert_eq!(refusal.reason, Reason::CertificateSignature, "{refusal:?}");
        assert!(refusal.detail.contains("CN=alice"), "{refusal:?}");
        assert_eq!(seen, Some(Error::AlertReceived(AlertDescription::DecryptError)));
        assert_eq!(refusal.alert, Some(51));
    }
}

// threat 11
#[test]
fn chain_that_is_too_long_is_refused_before_it_is_parsed() {
    let Pki { servers, clients, server, alice } = pki();
    let mut world = World::new();
    let trust = world.trust(&clients);
    let chain = world.chain("orders", &server, ClientAuth::Require(trust));
    let terms = world.terms(chain);
    let filler = |length: usize| CertificateDer::from(vec![0x30; length]);
    for (extra, length, detail) in
        [(10, 100, "11 certificates, more than 10"), (3, 11_000, "bytes of certificates")]
    {
        let mut sent = alice.chain_der.clone();
        sent.extend((0..extra).map(|_| filler(length)));
        for version in VERSIONS {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let key = provider.key_provider.load_private_key(alice.key_der.clone_key()).unwrap();
            let mut config = client_config(servers.roots(), version, None);
            let long = CertifiedKey::new(sent.clone(), key);
            config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(long));
            let mut peer = client(&Arc::new(config), NAME);
            let (refusal, _) = refused(handshake(&terms, &mut peer, NAME));
            assert_eq!(refusal.reason, Reason::CertificateInvalid, "{refusal:?}");
            assert!(refusal.detail.contains(detail), "{refusal:?}");
            assert_eq!(refusal.alert, Some(42), "{refusal:?}");
        }
    }
}

/// webpki does not look at what it does not need, and has another alert for the rest.
#[test]
fn a_chain_with_an_empty_certificate_or_bytes_behind_the_leaf_is_refused() {
    let Pki { servers, clients, server, alice } = pki();
    let mut world = World::new();
    let trust = world.trust(&clients);
    let chain = world.chain("orders", &server, ClientAuth::Require(trust));
    let terms = world.terms(chain);
    let mut with_empty = alice.chain_der.clone();
    with_empty.push(CertificateDer::from(vec![]));
    let mut longer = alice.chain_der.clone();
    longer[0] = CertificateDer::from([&longer[0][..], &[0]].concat());
    for (sent, detail) in [(with_empty, "without a byte"), (longer, "cannot be parsed")] {
        for version in VERSIONS {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let key = provider.key_provider.load_private_key(alice.key_der.clone_key()).unwrap();
            let mut config = client_config(servers.roots(), version, None);
            let shown = CertifiedKey::new(sent.clone(), key);
            config.client_auth_cert_resolver =
                Arc::new(rustls::sign::SingleCertAndKey::from(shown));
            let mut peer = client(&Arc::new(config), NAME);
            let (refusal, _) = refused(handshake(&terms, &mut peer, NAME));
            assert_eq!(refusal.reason, Reason::CertificateInvalid, "{refusal:?}");
            assert!(refusal.detail.contains(detail), "{refusal:?}");
            assert_eq!(refusal.alert, Some(42), "{refusal:?}");
        }
    }
}

// threat 11
#[test]
fn message_in_a_thousand_pieces_is_refused() {
    let Pki { servers, clients, server, alice } = pki();
    let mut world = World::new();
    let trust = world.trust(&clients);
    let chain = world.chain("orders", &server, ClientAuth::Require(trust));
    let terms = world.terms(chain);
    let mut sent = alice.chain_der.clone();
    sent.push(CertificateDer::from(vec![0x30; 30_000]));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(alice.key_der.clone_key()).unwrap();
    let mut config = client_config(servers.roots(), &rustls::version::TLS12, None);
    config.max_fragment_size = Some(32);
    config.client_auth_cert_resolver =
        Arc::new(rustls::sign::SingleCertAndKey::from(CertifiedKey::new(sent, key)));
    let mut peer = client(&Arc::new(config), NAME);
    let (refusal, _) = refused(handshake(&terms, &mut peer, NAME));
    assert_eq!(refusal.reason, Reason::ProtocolViolation);
    assert!(refusal.detail.contains("more than 512 records"), "{refusal:?}");
}

/// Whatever is altered in what a client sends, nobody gets in by it and nothing panics.
#[test]
fn altered_flights_never_panic() {
    let Pki { servers, clients, server, alice } = pki();
    proptest!(ProptestConfig { cases: 300, ..ProptestConfig::default() }, |(
        tls13 in any::<bool>(),
        flight in 0..3usize,
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
        cut in prop::option::of(any::<prop::sample::Index>()),
        piece in prop_oneof![1..50usize, Just(usize::MAX)],
    )| {
        let mut world = World::new();
        let trust = world.trust(&clients);
        let chain = world.chain("orders", &server, ClientAuth::Require(trust));
        let terms = world.terms(chain);
        let version = VERSIONS[usize::from(tls13)];
        let mut peer =
            client(&Arc::new(client_config(servers.roots(), version, Some(&alice))), NAME);
        let mut ours = terms.start(hello(NAME));
        let mut held = Vec::new();
        'turns: for turn in 0..6 {
            let mut sent = sent_by(&mut peer);
            if turn == flight && !sent.is_empty() {
                let at = at.index(sent.len());
                sent[at] ^= flip;
                if let Some(cut) = cut {
                    let from = cut.index(sent.len());
                    sent.drain(from..(from + 7).min(sent.len()));
                }
            }
            for part in sent.chunks(piece) {
                held.extend_from_slice(part);
                let mut out = Vec::new();
                let advance = ours.advance(&mut held, &mut out);
                prop_assert!(advance.consumed <= held.len());
                held.drain(..advance.consumed);
                let _ = give(&mut peer, &out);
                if !matches!(advance.outcome, Outcome::NeedMore) {
                    break 'turns;
                }
            }
        }
    });
}

#[test]
fn a_finish_too_early_is_refused() {
    let Pki { server, .. } = pki();
    let mut world = World::new();
    let chain = world.chain("open", &server, ClientAuth::None);
    let refusal = world.terms(chain).start(hello(NAME)).finish().unwrap_err();
    assert_eq!(refusal.reason, Reason::Internal);
}

fn refused(result: Result<Established, (Refusal, Option<Error>)>) -> (Refusal, Option<Error>) {
    match result {
        Ok(done) => panic!("the client got in: {:?}", done.facts),
        Err(refused) => refused,
    }
}

/// Proves its key by SHA-1, whatever it is asked for.
#[derive(Debug)]
struct Unasked(Vec<CertificateDer<'static>>);

#[derive(Debug)]
struct BySha1;

impl ResolvesClientCert for Unasked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::new(CertifiedKey::new(self.0.clone(), Arc::new(BySha1))))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl SigningKey for BySha1 {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(BySha1))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for BySha1 {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![7; 64])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_SHA1_Legacy
    }
}

#[test]
fn a_client_that_proves_its_key_by_what_was_not_asked_for_is_told_so() {
    let Pki { servers, clients, server, alice } = pki();
    for version in VERSIONS {
        let mut world = World::new();
        let trust = world.trust(&clients);
        let chain = world.chain("orders", &server, ClientAuth::Require(trust));
        let terms = world.terms(chain);
        let mut config = client_config(servers.roots(), version, Some(&alice));
        config.client_auth_cert_resolver = Arc::new(Unasked(alice.chain_der.clone()));
        let (refusal, seen) =
            refused(handshake(&terms, &mut client(&Arc::new(config), NAME), NAME));
        assert_eq!(refusal.reason, Reason::CertificateSignature, "{refusal:?}");
        assert!(refusal.detail.contains("by ecdsa_sha1, which it was not asked for"), "{refusal}");
        assert!(refusal.hint().contains("was not looked at"), "{}", refusal.hint());
        assert_eq!(seen, Some(Error::AlertReceived(AlertDescription::IllegalParameter)));
        assert_eq!(refusal.alert, Some(47));
    }
}
