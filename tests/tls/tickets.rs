//! Resumption: what a ticket is good for, for how long, and where it is worth nothing.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis::config::plan::{CipherSuite, ClientAuth, Group, TlsVersion};
use portcullis::core::refusal::Reason;
use portcullis::core::route::ChainId;
use portcullis::tls::downstream::DownstreamTerms;
use portcullis::tls::handshake::Outcome;
use portcullis::tls::material::Material;
use portcullis_kit::{Authority, ClientSpec, Identity, Validity};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, HandshakeKind, ServerConfig, ServerConnection};

use crate::support::*;

struct Tenants {
    servers: Authority,
    server: Identity,
    first: Authority,
    second: Authority,
    alice: Identity,
}

fn tenants() -> Tenants {
    let servers = Authority::new("Servers");
    let server = servers.server(&[NAME, "other.test"]);
    let (first, second) = (Authority::new("First"), Authority::new("Second"));
    let alice = first.client(&ClientSpec::new("alice"));
    Tenants { servers, server, first, second, alice }
}

fn resumed(terms: &Arc<DownstreamTerms>, config: &Arc<ClientConfig>) -> bool {
    let mut peer = client(config, NAME);
    let done = handshake(terms, &mut peer, NAME).map_err(|error| error.0).unwrap();
    let resumed = done.facts.negotiated.resumed;
    assert_eq!(peer.handshake_kind() == Some(HandshakeKind::Resumed), resumed);
    resumed
}

// threat 20
#[test]
fn ticket_from_another_chain_never_gives_access() {
    let Tenants { servers, server, first, second, alice } = tenants();
    for version in VERSIONS {
        for mode in ["require", "optional"] {
            let mut world = World::new();
            let (ours, theirs) = (world.trust(&first), world.trust(&second));
            let auth = |trust| match mode {
                "require" => ClientAuth::Require(trust),
                _ => ClientAuth::Optional(trust),
            };
            let a = world.chain("a", &server, auth(ours));
            let b = world.chain("b", &server, auth(theirs));
            world.plan.downstream_tls[0].tickets_sent = 2;
            let config = Arc::new(client_config(servers.roots(), version, Some(&alice)));
            assert!(!resumed(&world.terms(a), &config));
            assert!(resumed(&world.terms(a), &config));
            // The same server name, so the client offers the ticket of A at B.
            assert!(offers_a_ticket(&config, NAME));
            let mut peer = client(&config, NAME);
            let result = handshake(&world.terms(b), &mut peer, NAME);
            let (refusal, _) = result.map(|done| done.facts).unwrap_err();
            assert_eq!(refusal.reason, Reason::UnknownIssuer, "{version:?} {mode}: {refusal}");
            assert_eq!(peer.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

// threat 20
#[test]
fn ticket_of_another_name_never_gives_access() {
    let Tenants { servers, server, first, second, alice } = tenants();
    for version in VERSIONS {
        let mut world = World::new();
        let (ours, theirs) = (world.trust(&first), world.trust(&second));
        let a = world.chain("a", &server, ClientAuth::Require(ours));
        let b = world.chain("b", &server, ClientAuth::Require(theirs));
        world.plan.downstream_tls[0].tickets_sent = 2;
        let mut config = client_config(servers.roots(), version, Some(&alice));
        let store = Arc::new(OneName(rustls::client::ClientSessionMemoryCache::new(8)));
        config.resumption = rustls::client::Resumption::store(store);
        let config = Arc::new(config);
        assert!(!resumed(&world.terms(a), &config));
        assert!(offers_a_ticket(&config, "other.test"));
        let mut peer = client(&config, "other.test");
        let result = handshake(&world.terms(b), &mut peer, "other.test");
        let (refusal, _) = result.map(|done| done.facts).unwrap_err();
        assert_eq!(refusal.reason, Reason::UnknownIssuer, "{version:?}: {refusal}");
        assert_eq!(peer.handshake_kind(), Some(HandshakeKind::Full));
    }
}

/// The control: what is tested above can fail. Plain rustls with one ticketer in two configurations
/// lets the stranger in.
#[test]
fn one_ticketer_for_two_configurations_would_let_the_stranger_in() {
    let Tenants { servers, server, first, second, alice } = tenants();
    let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let plain = |clients: &Authority, version| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(clients.roots(), Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(server.chain_der.clone(), server.key_der.clone_key())
            .unwrap();
        config.ticketer = Arc::clone(&ticketer);
        Arc::new(config)
    };
    for version in VERSIONS {
        let config = Arc::new(client_config(servers.roots(), version, Some(&alice)));
        let a = plain(&first, version);
        assert_eq!(plain_handshake(&a, &config), Some(HandshakeKind::Full));
        let b = plain(&second, version);
        assert_eq!(plain_handshake(&b, &config), Some(HandshakeKind::Resumed));
    }
}

// threat 20
#[test]
fn another_policy_makes_every_ticket_a_full_handshake() {
    let Tenants { servers, server, first, alice, .. } = tenants();
    for version in VERSIONS {
        let changes: [&dyn Fn(&mut World); 4] = [
            &|world| world.plan.trusts[0].depth_max = 1,
            &|world| {
                let ClientAuth::Optional(trust) = world.plan.downstream_tls[0].client_auth else {
                    panic!("optional")
                };
                world.plan.downstream_tls[0].client_auth = ClientAuth::Require(trust);
            },
            &|world| world.plan.downstream_tls[0].alpn = vec!["postgresql".into()],
            &|world| world.plan.listeners[0].name = "another".into(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut world = World::new();
            let trust = world.trust(&first);
            let chain = world.chain("a", &server, ClientAuth::Optional(trust));
            let config = Arc::new(client_config(servers.roots(), version, Some(&alice)));
            assert!(!resumed(&world.terms(chain), &config));
            assert!(resumed(&world.terms(chain), &config));
            change(&mut world);
            assert!(!resumed(&world.terms(chain), &config), "{version:?} change {index}");
        }
    }
}

#[test]
fn another_anchor_beside_the_one_that_vouched_leaves_tickets_good() {
    let Tenants { servers, server, first, second, alice } = tenants();
    for version in VERSIONS {
        let mut world = World::new();
        let trust = world.trust(&first);
        let chain = world.chain("a", &server, ClientAuth::Require(trust));
        let config = Arc::new(client_config(servers.roots(), version, Some(&alice)));
        assert!(!resumed(&world.terms(chain), &config));
        let path = first.write("more", "crt", &(first.ca_pem() + &second.ca_pem()));
        world.plan.trusts[0].anchors = vec![file(&path)];
        assert!(resumed(&world.terms(chain), &config), "{version:?}");
    }
}

/// A clock of the test below, in seconds after now.
static LATER: AtomicU64 = AtomicU64::new(0);

fn later() -> u64 {
    unix_now() + LATER.load(Ordering::Relaxed)
}

#[test]
fn ticket_outlives_neither_its_lifetime_nor_its_certificate() {
    let Tenants { servers, server, first, .. } = tenants();
    let short = ClientSpec::new("short").validity(Validity::For(Duration::from_secs(1000)));
    let (short, long) = (first.client(&short), first.client(&ClientSpec::new("long")));
    for version in VERSIONS {
        for (identity, alive, dead) in [(&short, 900, 1100), (&long, 43_100, 43_300)] {
            LATER.store(0, Ordering::Relaxed);
            let mut world = World::new();
            let trust = world.trust(&first);
            let chain = world.chain("a", &server, ClientAuth::Require(trust));
            let terms = || {
                let material = Material::load(&world.plan, &world.stek, 1, later, None).unwrap();
                Arc::clone(material.downstream(0, chain).unwrap())
            };
            let mut config = client_config(servers.roots(), version, Some(identity));
            config.time_provider = Arc::new(Later);
            let config = Arc::new(config);
            assert!(!resumed(&terms(), &config));
            LATER.store(alive, Ordering::Relaxed);
            world.stek.rotate(later());
            // Renewed here; the new ticket is from now and yet leans on the old authentication.
            assert!(resumed(&terms(), &config), "{version:?} after {alive}");
            LATER.store(dead, Ordering::Relaxed);
            world.stek.rotate(later());
            let result = handshake(&terms(), &mut client(&config, NAME), NAME);
            match result {
                Ok(done) => assert!(!done.facts.negotiated.resumed, "{version:?} after {dead}"),
                Err((refusal, _)) => assert_eq!(refusal.reason, Reason::CertificateExpired),
            }
        }
    }
}

/// Full handshakes of a known client are spared the path validation, and yet not its end.
#[test]
fn client_that_is_remembered_is_refused_once_its_certificate_expires() {
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let clock = || unix_now() + AHEAD.load(Ordering::Relaxed);
    let Tenants { servers, server, first, .. } = tenants();
    let below = first.intermediate("Intermediate");
    let short = ClientSpec::new("short").validity(Validity::For(Duration::from_secs(1000)));
    let short = below.client(&short);
    let mut world = World::new();
    let trust = world.trust(&first);
    let chain = world.chain("a", &server, ClientAuth::Require(trust));
    let material = Material::load(&world.plan, &world.stek, 1, clock, None).unwrap();
    let terms = material.downstream(0, chain).unwrap();
    for version in VERSIONS {
        for (ahead, refused) in [(0, false), (900, false), (1100, true), (0, false)] {
            AHEAD.store(ahead, Ordering::Relaxed);
            let config = Arc::new(client_config(servers.roots(), version, Some(&short)));
            match handshake(terms, &mut client(&config, NAME), NAME) {
                Ok(_) => assert!(!refused, "{version:?} {ahead}"),
                Err((refusal, _)) => {
                    assert!(refused, "{version:?} {ahead}: {refusal}");
                    assert_eq!(refusal.reason, Reason::CertificateExpired);
                }
            }
        }
    }
}

/// To a gateway with other keys every ticket is garbage.
// threat 19
#[test]
fn ticket_that_is_garbage_is_a_full_handshake() {
    let Tenants { servers, server, first, alice, .. } = tenants();
    let mut world = World::new();
    let trust = world.trust(&first);
    let chain = world.chain("a", &server, ClientAuth::Require(trust));
    let config = Arc::new(client_config(servers.roots(), &rustls::version::TLS12, Some(&alice)));
    assert!(!resumed(&world.terms(chain), &config));
    let mut other = World::new();
    other.plan = world.plan.clone();
    assert!(!resumed(&other.terms(chain), &config));
    assert!(resumed(&other.terms(chain), &config));
}

#[test]
fn resumption_that_is_off_sends_no_ticket() {
    let Tenants { servers, server, .. } = tenants();
    for version in VERSIONS {
        let mut world = World::new();
        let chain = world.chain("a", &server, ClientAuth::None);
        world.plan.downstream_tls[0].resumption = portcullis::config::plan::Resumption::Off;
        world.plan.downstream_tls[0].tickets_sent = 0;
        let config = Arc::new(client_config(servers.roots(), version, None));
        for _ in 0..2 {
            assert!(!resumed(&world.terms(chain), &config));
        }
    }
}

/// A server that takes early data.
fn willing(server: &Identity) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(server.chain_der.clone(), server.key_der.clone_key())
        .unwrap();
    config.max_early_data_size = 1 << 20;
    Arc::new(config)
}

// threat 22
#[test]
fn no_ticket_invites_early_data() {
    let Tenants { servers, server, .. } = tenants();
    let mut world = World::new();
    let chain = world.chain("a", &server, ClientAuth::None);
    let mut config = client_config(servers.roots(), &rustls::version::TLS13, None);
    config.enable_early_data = true;
    let config = Arc::new(config);
    assert!(!resumed(&world.terms(chain), &config));
    assert!(offers_a_ticket(&config, NAME));
    assert!(!resumed(&world.terms(chain), &config));
    assert!(client(&config, NAME).early_data().is_none());
    // The control: a server that takes early data does invite it.
    assert!(plain_handshake(&willing(&server), &config).is_some());
    assert!(client(&config, NAME).early_data().is_some());
}

/// A client comes with a ticket for early data of whoever had the name before (RFC 8446 §4.2.10).
#[test]
fn early_data_for_another_server_is_passed_over() {
    let Tenants { servers, server, first, alice, .. } = tenants();
    let former = willing(&server);
    let cases = [
        (1, 1, true),
        (42, 17, true),
        (3, 1_500, true),
        (1, 16_384, true),
        (12, 4_096, true),
        (5, 16_384, false),
        (512, 1, true),
        (1_100, 1, false),
    ];
    for suite in [
        CipherSuite::Tls13Aes128GcmSha256,
        CipherSuite::Tls13Aes256GcmSha384,
        CipherSuite::Tls13Chacha20Poly1305Sha256,
    ] {
        let mut world = World::new();
        let trust = world.trust(&first);
        let chain = world.chain("a", &server, ClientAuth::Require(trust));
        let crypto = &mut world.plan.downstream_tls[0].crypto;
        (crypto.versions, crypto.cipher_suites) = (vec![TlsVersion::Tls13], vec![suite]);
        let terms = world.terms(chain);
        for ((records, bytes, is_let_in), piece) in
            cases.into_iter().flat_map(|case| [(case, usize::MAX), (case, 700)])
        {
            let version = &rustls::version::TLS13;
            let mut config = client_config(servers.roots(), version, Some(&alice));
            config.enable_early_data = true;
            let config = Arc::new(config);
            assert!(plain_handshake(&former, &config).is_some());
            let mut client = client(&config, NAME);
            client.set_buffer_limit(None);
            for _ in 0..records {
                client.early_data().unwrap().write_all(&vec![7; bytes]).unwrap();
            }
            let met = drive(begin(&terms, hello(NAME)), &mut client, piece);
            let refusal = met.err().map(|(refusal, _)| refusal);
            let case = format!("{suite:?}, {records} of {bytes} in pieces of {piece}");
            assert_eq!(refusal.is_none(), is_let_in, "{case}: {refusal:?}");
            let alert = refusal.and_then(|one| one.alert);
            assert!(matches!(alert, None | Some(20)), "{case}: bad_record_mac");
            assert!(!client.is_early_data_accepted(), "{case}");
        }
    }
}

/// RFC 8446 §5.2. Behind our own flight the alert would have to be sealed, and only rustls could.
#[test]
fn early_data_in_a_record_that_is_too_long_is_refused() {
    let Tenants { servers, server, .. } = tenants();
    let former = willing(&server);
    for (groups, alert) in [(crypto().groups, None), (vec![Group::Secp384r1], Some(22))] {
        let mut world = World::new();
        let chain = world.chain("a", &server, ClientAuth::None);
        world.plan.downstream_tls[0].crypto.groups = groups;
        let terms = world.terms(chain);
        for (length, is_taken) in [(16_640, true), (16_641, false), (18_000, false)] {
            let mut config = client_config(servers.roots(), &rustls::version::TLS13, None);
            config.enable_early_data = true;
            let config = Arc::new(config);
            assert!(plain_handshake(&former, &config).is_some());
            let mut client = client(&config, NAME);
            assert!(client.early_data().is_some());
            let sent = sent_by(&mut client);
            let mut server = begin_for(&terms, &sent);
            let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
            let mut held = [&sent[..], &[23, 3, 3, high, low], &vec![7; length]].concat();
            let mut out = Vec::new();
            match server.advance(&mut held, &mut out).outcome {
                Outcome::NeedMore => assert!(is_taken, "{length} bytes"),
                Outcome::Failed(refusal) => {
                    assert!(!is_taken, "{length} bytes: {refusal:?}");
                    assert_eq!((refusal.reason, refusal.alert), (Reason::ProtocolViolation, alert));
                    assert!(refusal.detail.contains("longer than 16640 bytes"), "{refusal:?}");
                    let told = alert.map_or(vec![], |code| vec![21, 3, 3, 0, 2, 2, code]);
                    assert!(out.ends_with(&told), "{length} bytes");
                }
                Outcome::Done => panic!("{length} bytes"),
            }
        }
    }
}

#[test]
fn a_resumed_client_is_known_by_its_first_handshake() {
    let Tenants { servers, server, first, alice, .. } = tenants();
    let mut world = World::new();
    let trust = world.trust(&first);
    let chain: ChainId = world.chain("a", &server, ClientAuth::Require(trust));
    let config = Arc::new(client_config(servers.roots(), &rustls::version::TLS13, Some(&alice)));
    let full = handshake(&world.terms(chain), &mut client(&config, NAME), NAME);
    let full = full.map_err(|error| error.0).unwrap().facts;
    let again = handshake(&world.terms(chain), &mut client(&config, NAME), NAME);
    let again = again.map_err(|error| error.0).unwrap().facts;
    assert!(again.negotiated.resumed);
    assert_eq!(full.identity(), again.identity());
    assert_eq!(full.authenticated_at(), again.authenticated_at());
}

fn plain_handshake(
    server: &Arc<ServerConfig>,
    config: &Arc<ClientConfig>,
) -> Option<HandshakeKind> {
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut peer = client(config, NAME);
    for _ in 0..10 {
        let mut sent = &sent_by(&mut peer)[..];
        while !sent.is_empty() {
            server.read_tls(&mut sent).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        give(&mut peer, &answer).unwrap();
    }
    server.handshake_kind()
}

/// A client that is careless about which server a session is of.
#[derive(Debug)]
struct OneName(rustls::client::ClientSessionMemoryCache);

fn one_name() -> rustls::pki_types::ServerName<'static> {
    "one.test".try_into().unwrap()
}

impl rustls::client::ClientSessionStore for OneName {
    fn set_kx_hint(&self, _: rustls::pki_types::ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(one_name(), group);
    }

    fn kx_hint(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(&one_name())
    }

    fn set_tls12_session(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        value: rustls::client::Tls12ClientSessionValue,
    ) {
        self.0.set_tls12_session(one_name(), value);
    }

    fn tls12_session(
        &self,
        _: &rustls::pki_types::ServerName<'_>,
    ) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.0.tls12_session(&one_name())
    }

    fn remove_tls12_session(&self, _: &rustls::pki_types::ServerName<'static>) {
        self.0.remove_tls12_session(&one_name());
    }

    fn insert_tls13_ticket(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        value: rustls::client::Tls13ClientSessionValue,
    ) {
        self.0.insert_tls13_ticket(one_name(), value);
    }

    fn take_tls13_ticket(
        &self,
        _: &rustls::pki_types::ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&one_name())
    }
}

/// The clock of `later`, for rustls clients.
#[derive(Debug)]
struct Later;

impl rustls::time_provider::TimeProvider for Later {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(later())))
    }
}
