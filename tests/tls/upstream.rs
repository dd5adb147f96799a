//! Handshakes with upstreams: whom we believe, whom we resume with, and what we say about the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis::config::plan::{RevocationCheck, UpstreamTlsId};
use portcullis::core::refusal::{Reason, Refusal};
use portcullis::tls::handshake::{Outcome, Version};
use portcullis::tls::material::Material;
use portcullis::tls::upstream::{ClientHandshake, Dialler, UpstreamFacts};
use portcullis::tls::wire::{OUT_BYTES_MIN, Scratch, Wire, transfer};
use portcullis_kit::{Authority, ClientSpec, Identity, KeyKind, Validity, monotonic_now};
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::support::*;

/// A server that shows `identity` and, given `clients`, asks for a client certificate.
fn server(
    identity: &Identity,
    version: &'static SupportedProtocolVersion,
    clients: Option<&Authority>,
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap();
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(clients.roots(), provider).build().unwrap(),
        ),
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(identity.chain_der.clone(), identity.key_der.clone_key()).unwrap();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    Arc::new(config)
}

fn world(trusted: &Authority, certificate: Option<&Identity>) -> (World, UpstreamTlsId) {
    let mut world = World::new();
    let trust = world.trust(trusted);
    let id = world.upstream(trust, certificate);
    (world, id)
}

fn connect(
    dialler: &Dialler,
    name: &str,
    config: &Arc<ServerConfig>,
) -> Result<(Wire, UpstreamFacts), Refusal> {
    connected(dialler.start(name).unwrap(), config)
}

fn connected(
    handshake: ClientHandshake,
    config: &Arc<ServerConfig>,
) -> Result<(Wire, UpstreamFacts), Refusal> {
    let mut peer = ServerConnection::new(Arc::clone(config)).unwrap();
    let (mut wire, facts, mut left) = dial(handshake, &mut peer)?;
    // Tickets of TLS 1.3 come after the handshake.
    while peer.wants_write() {
        peer.write_tls(&mut left).unwrap();
    }
    let (mut out, mut scratch) = (vec![0; OUT_BYTES_MIN], Scratch::default());
    let now = monotonic_now();
    let done = transfer(&mut wire, &mut Wire::Plain, &mut left, &mut out, &mut scratch, now);
    assert_eq!((done.consumed, done.produced), (left.len(), 0), "{done:?}");
    Ok((wire, facts))
}

#[test]
fn upstreams_are_resumed_by_the_dialler_that_knows_them_and_by_no_other() {
    let (servers, clients) = (Authority::new("Backends"), Authority::new("Gateways"));
    let identity = servers.server(&[NAME]);
    let gateway = clients.client(&ClientSpec::new("gateway"));
    for version in VERSIONS {
        let (world, id) = world(&servers, Some(&gateway));
        let config = server(&identity, version, Some(&clients));
        let terms = Arc::clone(world.load().upstream(id));
        let dialler = terms.dialler();
        for resumed in [false, true, true] {
            let (_, facts) = connect(&dialler, NAME, &config).unwrap();
            assert_eq!(facts.negotiated.resumed, resumed, "{version:?}");
            assert_eq!(facts.identity().unwrap().subject, format!("CN={NAME}"));
        }
        let (_, facts) = connect(&terms.dialler(), NAME, &config).unwrap();
        assert!(!facts.negotiated.resumed, "{version:?}");
    }
}

/// As clients come in a burst.
#[test]
fn upstreams_are_resumed_by_many_dials_at_once() {
    let servers = Authority::new("Backends");
    let identity = servers.server(&[NAME]);
    let (world, id) = world(&servers, None);
    let config = server(&identity, &rustls::version::TLS13, None);
    let dialler = world.load().upstream(id).dialler();
    let resumed = |dials: Vec<ClientHandshake>| {
        let dial = |handshake| connected(handshake, &config).unwrap().1.negotiated.resumed;
        dials.into_iter().map(dial).filter(|resumed| *resumed).count()
    };
    let start = || (0..20).map(|_| dialler.start(NAME).unwrap()).collect();
    assert_eq!((resumed(start()), resumed(start())), (0, 20));
}

/// Tickets that are as long as a server likes.
#[derive(Debug)]
struct Padded {
    sealed: Arc<dyn ProducesTickets>,
    bytes: usize,
}

impl ProducesTickets for Padded {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.sealed.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.sealed.encrypt(plain)?;
        let mut ticket = u16::try_from(sealed.len()).ok()?.to_be_bytes().to_vec();
        ticket.extend_from_slice(&sealed);
        ticket.resize(self.bytes, 0);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (length, sealed) = ticket.split_first_chunk()?;
        self.sealed.decrypt(sealed.get(..u16::from_be_bytes(*length).into())?)
    }
}

// threat 15
#[test]
fn tickets_that_are_huge_are_not_kept() {
    let servers = Authority::new("Backends");
    let identity = servers.server(&[NAME]);
    let (world, id) = world(&servers, None);
    for (bytes, is_kept) in [(15_000, true), (17_000, false), (60_000, false)] {
        let mut config = (*server(&identity, &rustls::version::TLS13, None)).clone();
        config.ticketer = Arc::new(Padded { sealed: config.ticketer, bytes });
        let (config, dialler) = (Arc::new(config), world.load().upstream(id).dialler());
        for resumed in [false, is_kept] {
            let (_, facts) = connect(&dialler, NAME, &config).unwrap();
            assert_eq!(facts.negotiated.resumed, resumed, "{bytes}");
        }
    }
}

// threat 20
#[test]
fn upstream_whose_certificate_is_not_good_any_more_is_not_resumed() {
    let servers = Authority::new("Backends");
    let identity = servers.server(&[NAME]);
    for version in VERSIONS {
        let (mut world, id) = world(&servers, None);
        let list =
            |revoked: &[&Identity]| servers.write("list", "crl", &servers.revocation_list(revoked));
        world.plan.trusts[0].crls = vec![file(&list(&[]))];
        world.plan.trusts[0].revocation.check = RevocationCheck::Chain;
        let config = server(&identity, version, None);
        // The sessions of one dialler are lost with the material that it came from, so it is the clock
        // that goes on under it: past the end of the list.
        AHEAD.store(0, Ordering::Relaxed);
        let material = Material::load(&world.plan, &world.stek, 1, ahead, None).unwrap();
        let dialler = material.upstream(id).dialler();
        for resumed in [false, true] {
            let (_, facts) = connect(&dialler, NAME, &config).unwrap();
            assert_eq!(facts.negotiated.resumed, resumed, "{version:?}");
        }
        AHEAD.store(2 * 86_400, Ordering::Relaxed);
        let refusal = connect(&dialler, NAME, &config).unwrap_err();
        assert_eq!(refusal.reason, Reason::UpstreamUntrusted, "{version:?}: {refusal}");
        assert!(refusal.detail.contains("is out of date"), "{version:?}: {refusal}");
        world.plan.trusts[0].crls = vec![file(&list(&[&identity]))];
        let refusal = connect(&world.load().upstream(id).dialler(), NAME, &config).unwrap_err();
        assert!(refusal.detail.contains("it is revoked"), "{version:?}: {refusal}");
    }
}

/// Seconds that the clock of the test above is ahead.
static AHEAD: AtomicU64 = AtomicU64::new(0);

fn ahead() -> u64 {
    unix_now() + AHEAD.load(Ordering::Relaxed)
}

#[test]
fn post_quantum_group_goes_first_and_addresses_are_names_too() {
    let servers = Authority::new("Backends");
    let identity = servers.server(&[NAME, "127.0.0.1"]);
    let (world, id) = world(&servers, None);
    let config = server(&identity, &rustls::version::TLS13, None);
    let dialler = world.load().upstream(id).dialler();
    for name in [NAME, "127.0.0.1"] {
        let (_, facts) = connect(&dialler, name, &config).unwrap();
        assert_eq!(facts.negotiated.version, Version::Tls13);
        assert_eq!(facts.negotiated.group, Some("x25519mlkem768"));
    }
    assert!(dialler.start("not a name").is_err());
}

#[test]
fn upstream_that_is_not_to_be_trusted_is_refused_with_the_reason() {
    let (servers, strangers) = (Authority::new("Backends"), Authority::new("Strangers"));
    let expired = servers.server_with(&[NAME], KeyKind::EcdsaP256, Validity::Expired);
    for version in VERSIONS {
        for (identity, name, detail) in [
            (strangers.server(&[NAME]), NAME, "CN=Strangers is no anchor"),
            (expired.leaf_only(), NAME, "expired 1 day ago"),
            (servers.server(&["a.test"]), NAME, "is for dns:a.test, not for dns:server.test"),
            (servers.server(&[NAME]), "10.1.2.3", "is for dns:server.test, not for ip:10.1.2.3"),
            (servers.server(&[]), NAME, "is for no name at all (a common name does not count)"),
        ] {
            let (world, id) = world(&servers, None);
            let config = server(&identity, version, None);
            let refusal = connect(&world.load().upstream(id).dialler(), name, &config).unwrap_err();
            assert_eq!(refusal.reason, Reason::UpstreamUntrusted, "{refusal}");
            assert!(refusal.detail.contains(detail), "{refusal}");
            assert!(refusal.alert.is_some(), "{refusal}");
        }
    }
}

#[test]
fn upstream_that_answers_in_plain_text_is_quoted_and_the_hint_says_what_to_set() {
    let servers = Authority::new("Backends");
    let (world, id) = world(&servers, None);
    let dialler = world.load().upstream(id).dialler();
    for (answer, quoted) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], r#""HTTP/1.1 400 Bad Request""#),
        (b"220 mail.test ESMTP\r\n", r#""220 mail.test ESMTP\r\n""#),
        // A length and a version, as MySQL greets: its first byte is that of a record.
        (&[22, 0, 0, 0, 10, b'8', b'.', b'0'], "8.0"),
    ] {
        let (mut handshake, mut out) = (dialler.start(NAME).unwrap(), Vec::new());
        assert!(matches!(handshake.advance(&mut [], &mut out).outcome, Outcome::NeedMore));
        let Outcome::Failed(refusal) = handshake.advance(&mut answer.to_vec(), &mut out).outcome
        else {
            panic!("{quoted} was taken")
        };
        assert_eq!(refusal.reason, Reason::UpstreamTls, "{refusal}");
        assert!(refusal.detail.starts_with("it answered without TLS, with "), "{refusal}");
        assert!(refusal.detail.contains(quoted), "{refusal}");
        assert!(
            refusal.hint().contains("a port on which the service speaks TLS"),
            "{}",
            refusal.hint()
        );
    }
}

#[test]
fn upstream_that_refuses_us_is_quoted() {
    let (servers, clients) = (Authority::new("Backends"), Authority::new("Gateways"));
    let (world, id) = world(&servers, None);
    let config = server(&servers.server(&[NAME]), &rustls::version::TLS12, Some(&clients));
    let refusal = connect(&world.load().upstream(id).dialler(), NAME, &config).unwrap_err();
    assert_eq!(refusal.reason, Reason::UpstreamAlert, "{refusal}");
    let told = "; it asked for our certificate and there is none to show: write `certificate` of tls.upstream.";
    assert!(refusal.detail.contains("the peer sent the alert"), "{refusal}");
    assert!(refusal.detail.contains(told), "{refusal}");
}

/// How it ends with an upstream that takes clients of `asks` by TLS `version`, and is shown `shown`.
fn met(
    shown: &Identity,
    asks: Option<&Authority>,
    version: &'static SupportedProtocolVersion,
) -> Result<UpstreamFacts, Refusal> {
    let servers = Authority::new("Backends");
    let (world, id) = world(&servers, Some(shown));
    let config = server(&servers.server(&[NAME]), version, asks);
    let handshake = world.load().upstream(id).dialler().start(NAME).unwrap();
    let mut peer = ServerConnection::new(config).unwrap();
    dial(handshake, &mut peer).map(|(_, facts, _)| facts)
}

#[test]
fn what_an_upstream_asked_of_our_certificate_is_told_where_it_may_be_why_it_left() {
    let (ours, theirs) = (Authority::new("Gateways"), Authority::new("Partners"));
    let gateway = ours.client(&ClientSpec::new("gateway"));
    let got = "it asked for our certificate and got CN=gateway, issued by CN=Gateways";
    let named = "it asked for a certificate that is issued by CN=Partners, and got CN=gateway, issued by CN=Gateways: \
                 have `certificate` of tls.upstream.";
    let told = |facts: UpstreamFacts| {
        let mut detail = String::new();
        facts.explain(&mut detail);
        detail
    };
    for version in VERSIONS {
        let facts = met(&gateway, Some(&ours), version).unwrap();
        assert_eq!(facts.asked.as_deref(), Some(got), "{version:?}");
        // In TLS 1.2 it has taken what it got.
        let is_in_doubt = facts.negotiated.version == Version::Tls13;
        assert_eq!(told(facts), if is_in_doubt { got } else { "" }, "{version:?}");
        assert_eq!(told(met(&gateway, None, version).unwrap()), "", "{version:?}");
        let stranger = match met(&gateway, Some(&theirs), version) {
            Ok(facts) => told(facts),
            Err(refusal) => refusal.detail,
        };
        assert!(stranger.contains(named), "{version:?}: {stranger}");
    }
}
