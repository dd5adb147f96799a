//! Who takes leave in a handshake of TLS 1.2 once its records are sealed: a close_notify where its Finished
//! should be.

use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use portcullis::config::plan::ClientAuth;
use portcullis::core::refusal::{Reason, Refusal};
use portcullis::tls::downstream::{DownstreamTerms, ServerHandshake};
use portcullis::tls::handshake::Outcome;
use portcullis_kit::{Authority, ClientSpec};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::{ClientConfig, ServerConfig, ServerConnection, SupportedCipherSuite};

use crate::support::*;

const CLOSE: [u8; 2] = [1, 0];
const USER_CANCELED: [u8; 2] = [1, 90];

/// The secrets of the last handshake: the client's random and the master secret.
#[derive(Debug, Default)]
struct Secrets(Mutex<(Vec<u8>, Vec<u8>)>);

impl rustls::KeyLog for Secrets {
    fn log(&self, _label: &str, client_random: &[u8], secret: &[u8]) {
        *self.0.lock().unwrap() = (client_random.to_vec(), secret.to_vec());
    }
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

/// What seals the records of one side as its Finished would be.
struct Sealer {
    key: LessSafeKey,
    salt: [u8; 4],
    sequence: u64,
}

impl Sealer {
    /// RFC 5246 §6.3, RFC 5288 §3. `hello` is the server's, in its record.
    fn new(secrets: &Secrets, hello: &[u8], side: Side) -> Self {
        let (client_random, master) = secrets.0.lock().unwrap().clone();
        let seed = [&hello[11..43], &client_random].concat();
        let mut block = [0; 2 * (16 + 4)];
        let suite = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        let SupportedCipherSuite::Tls12(suite) = suite else { panic!("a suite of TLS 1.2") };
        suite.prf_provider.for_secret(&mut block, &master, b"key expansion", &seed);
        let (key, salt) = match side {
            Side::Client => (&block[..16], &block[32..36]),
            Side::Server => (&block[16..32], &block[36..40]),
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).unwrap());
        Self { key, salt: salt.try_into().unwrap(), sequence: 0 }
    }

    fn alert(&mut self, alert: [u8; 2]) -> Vec<u8> {
        let explicit = self.sequence.to_be_bytes();
        let aad = Aad::from([&explicit[..], &[21, 3, 3, 0, 2]].concat());
        let nonce = [&self.salt[..], &explicit].concat();
        let nonce = Nonce::try_assume_unique_for_key(&nonce).unwrap();
        let mut sealed = alert.to_vec();
        self.key.seal_in_place_append_tag(nonce, aad, &mut sealed).unwrap();
        self.sequence += 1;
        [&[21, 3, 3, 0, 26][..], &explicit, &sealed].concat()
    }
}

/// `flight` without its Finished, which is behind the change_cipher_spec.
fn without_finished(flight: &[u8]) -> Vec<u8> {
    let ccs = [20, 3, 3, 0, 1, 1];
    let at = flight.windows(ccs.len()).rposition(|window| window == ccs).unwrap();
    flight[..at + ccs.len()].to_vec()
}

fn only_suite() -> Arc<rustls::crypto::CryptoProvider> {
    let cipher_suites = vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    Arc::new(rustls::crypto::CryptoProvider { cipher_suites, ..default_provider() })
}

/// A gateway that asks for a certificate, and a client that has one.
struct Site {
    terms: Arc<DownstreamTerms>,
    config: Arc<ClientConfig>,
    secrets: Arc<Secrets>,
}

impl Site {
    fn new() -> Self {
        let (servers, clients) = (Authority::new("Servers"), Authority::new("Clients"));
        let mut world = World::new();
        let trust = world.trust(&clients);
        let chain = world.chain("open", &servers.server(&[NAME]), ClientAuth::Require(trust));
        let identity = clients.client(&ClientSpec::new("client"));
        let mut config = client_config(servers.roots(), &rustls::version::TLS12, Some(&identity));
        let secrets = Arc::new(Secrets::default());
        config.key_log = Arc::<Secrets>::clone(&secrets);
        Self { terms: world.terms(chain), config: Arc::new(config), secrets }
    }

    /// A handshake at the point where nothing but the client's Finished is missing, and what seals it.
    fn almost_done(&self) -> (ServerHandshake, Sealer) {
        let mut peer = client(&self.config, NAME);
        let mut held = sent_by(&mut peer);
        let mut server = begin_for(&self.terms, &held);
        let mut out = Vec::new();
        let advance = server.advance(&mut held, &mut out);
        assert!(matches!(advance.outcome, Outcome::NeedMore), "{:?}", advance.outcome);
        held.drain(..advance.consumed);
        give(&mut peer, &out).unwrap();
        held.extend_from_slice(&without_finished(&sent_by(&mut peer)));
        let sealer = Sealer::new(&self.secrets, &out, Side::Client);
        out.clear();
        let advance = server.advance(&mut held, &mut out);
        assert!(matches!(advance.outcome, Outcome::NeedMore), "{:?}", advance.outcome);
        assert_eq!((advance.consumed, out.len()), (held.len(), 0));
        (server, sealer)
    }
}

/// The refusal that these bytes lead to, and what is sent of it.
fn refused(server: &mut ServerHandshake, input: &[u8]) -> (Refusal, Vec<u8>) {
    let (mut held, mut out) = (input.to_vec(), Vec::new());
    match server.advance(&mut held, &mut out).outcome {
        Outcome::Failed(refusal) => (refusal, out),
        other => panic!("{other:?}"),
    }
}

/// RFC 5246 §7.2.1. Where our own Finished is still to come the answer can be sent, in the clear; in a resumed
/// handshake rustls has the keys for it to itself.
#[test]
fn a_sealed_close_in_the_place_of_finished_ends_the_handshake() {
    let site = Site::new();
    let (mut server, mut sealer) = site.almost_done();
    let (refusal, out) = refused(&mut server, &sealer.alert(CLOSE));
    assert_eq!((refusal.reason, refusal.alert), (Reason::ClientClosed, None), "{refusal:?}");
    assert!(refusal.detail.contains("close_notify"), "{refusal:?}");
    assert_eq!(out, [21, 3, 3, 0, 2, 1, 0]);

    handshake(&site.terms, &mut client(&site.config, NAME), NAME).map_err(|it| it.0).unwrap();
    assert!(offers_a_ticket(&site.config, NAME));
    let (mut server, mut sealer) = site.almost_done();
    let (refusal, out) = refused(&mut server, &sealer.alert(CLOSE));
    assert_eq!(refusal.reason, Reason::ClientClosed, "{refusal:?}");
    assert_eq!(out, [0; 0]);
}

/// A client that gives up may say so first. That alone ends nothing.
#[test]
fn a_sealed_warning_in_the_place_of_finished_is_no_close() {
    let (mut server, mut sealer) = Site::new().almost_done();
    let (mut held, mut out) = (sealer.alert(USER_CANCELED), Vec::new());
    let advance = server.advance(&mut held, &mut out);
    assert!(matches!(advance.outcome, Outcome::NeedMore), "{:?}", advance.outcome);
    assert_eq!(advance.consumed, held.len());
    assert_eq!(refused(&mut server, &sealer.alert(CLOSE)).0.reason, Reason::ClientClosed);
}

#[test]
fn an_upstream_that_closes_in_the_place_of_finished_has_failed() {
    let upstreams = Authority::new("Upstreams");
    let mut world = World::new();
    let trust = world.trust(&upstreams);
    let id = world.upstream(trust, None);
    let identity = upstreams.server(&[NAME]);
    let mut config = ServerConfig::builder_with_provider(only_suite())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain_der.clone(), identity.key_der.clone_key())
        .unwrap();
    let secrets = Arc::new(Secrets::default());
    config.key_log = Arc::<Secrets>::clone(&secrets);
    let mut ours = world.load().upstream(id).dialler().start(NAME).unwrap();
    let mut peer = ServerConnection::new(Arc::new(config)).unwrap();
    let (mut held, mut hello) = (Vec::new(), None);
    let refusal = loop {
        let mut out = Vec::new();
        let advance = ours.advance(&mut held, &mut out);
        held.drain(..advance.consumed);
        if let Outcome::Failed(refusal) = advance.outcome {
            break refusal;
        }
        assert!(!out.is_empty(), "it waits");
        peer.read_tls(&mut &out[..]).unwrap();
        peer.process_new_packets().unwrap();
        let mut sent = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut sent).unwrap();
        }
        match &hello {
            None => hello = Some(sent.clone()),
            Some(hello) => {
                sent = without_finished(&sent);
                sent.extend(Sealer::new(&secrets, hello, Side::Server).alert(CLOSE));
            }
        }
        held.extend_from_slice(&sent);
    };
    assert_eq!(refusal.reason, Reason::UpstreamTls, "{refusal:?}");
    assert!(refusal.detail.contains("close_notify"), "{refusal:?}");
}
