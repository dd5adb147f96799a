//! What clients are told by which nonce the key of a ticket is derived, and that they derive the same key.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use portcullis::config::plan::ClientAuth;
use portcullis_kit::{Authority, ClientSpec};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::hmac::Tag;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use rustls::{ClientConfig, HandshakeKind, SupportedCipherSuite, Tls13CipherSuite};

use crate::support::*;

thread_local! {
    /// The length of each nonce by which this thread's clients have derived a key.
    static SEEN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A key schedule that notes what it derives the keys of tickets by.
struct Spy(&'static dyn Hkdf);

struct Expander(Box<dyn HkdfExpander>);

impl Hkdf for Spy {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        Box::new(Expander(self.0.extract_from_zero_ikm(salt)))
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        Box::new(Expander(self.0.extract_from_secret(salt, secret)))
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        Box::new(Expander(self.0.expander_for_okm(okm)))
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        self.0.hmac_sign(key, message)
    }
}

impl HkdfExpander for Expander {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        self.0.expand_slice(info, output)
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        if info.contains(&&b"resumption"[..]) {
            let nonce = info.last().unwrap().len();
            SEEN.with_borrow_mut(|seen| seen.push(nonce));
        }
        self.0.expand_block(info)
    }

    fn hash_len(&self) -> usize {
        self.0.hash_len()
    }
}

/// Of each hash.
static SUITES: LazyLock<[Tls13CipherSuite; 2]> = LazyLock::new(|| {
    [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384].map(|suite| {
        let Tls13CipherSuite { common, aead_alg, quic, hkdf_provider } = suite.tls13().unwrap();
        let rustls::crypto::CipherSuiteCommon { suite, hash_provider, confidentiality_limit } =
            *common;
        let common =
            rustls::crypto::CipherSuiteCommon { suite, hash_provider, confidentiality_limit };
        let hkdf_provider = Box::leak(Box::new(Spy(*hkdf_provider)));
        Tls13CipherSuite { common, hkdf_provider, aead_alg: *aead_alg, quic: *quic }
    })
});

#[test]
fn the_first_ticket_of_a_handshake_has_a_nonce_that_every_client_takes() {
    let (servers, clients) = (Authority::new("Servers"), Authority::new("Clients"));
    let alice = clients.client(&ClientSpec::new("alice"));
    for (suite, tickets) in SUITES.iter().zip([1, 3]) {
        let mut world = World::new();
        let trust = world.trust(&clients);
        let chain = world.chain("edge", &servers.server(&[NAME]), ClientAuth::Require(trust));
        world.plan.downstream_tls[0].tickets_sent = tickets;
        let terms = world.terms(chain);
        let provider = CryptoProvider {
            cipher_suites: vec![SupportedCipherSuite::Tls13(suite)],
            ..default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(servers.roots())
            .with_client_auth_cert(alice.chain_der.clone(), alice.key_der.clone_key())
            .unwrap();
        config.resumption = Resumption::in_memory_sessions(32);
        let config = Arc::new(config);
        let connected = || {
            SEEN.with_borrow_mut(Vec::clear);
            let mut peer = client(&config, NAME);
            handshake(&terms, &mut peer, NAME).map_err(|error| error.0).unwrap();
            let expected: Vec<_> = (0..tickets).map(|at| if at == 0 { 8 } else { 32 }).collect();
            assert_eq!(SEEN.with_borrow(Vec::clone), expected);
            peer.handshake_kind().unwrap()
        };
        assert_eq!(connected(), HandshakeKind::Full);
        for _ in 0..2 * tickets {
            assert_eq!(connected(), HandshakeKind::Resumed);
        }
    }
}
