//! Which of a chain's certificates a client gets, and the check that rustls saw the name that we saw.
//!
//! `material` loads the certificates; the verifier of the client's own is in `verifier`.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm};

use super::handshake_context::{self, ExpectedName};
use super::shown::Shown;
use crate::core::refusal::{Reason, Refusal};

/// Certificates of one chain; ECDSA and Ed25519 before RSA, whose signatures cost six times as much.
#[derive(Debug)]
pub(super) struct Resolver {
    keys: Vec<(Arc<CertifiedKey>, Shown)>,
}

impl Resolver {
    pub(super) fn new(mut keys: Vec<Arc<CertifiedKey>>) -> Self {
        keys.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
        let keys = keys.into_iter().map(|key| (Arc::clone(&key), Shown::of(&key)));
        Self { keys: keys.collect() }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !name_is_expected(hello.server_name()) {
            return None;
        }
        let fitting = |(key, shown): &(Arc<CertifiedKey>, Shown)| {
            if !suites_allow(hello.cipher_suites(), key.key.algorithm()) {
                return None;
            }
            let signer = key.key.choose_scheme(hello.signature_schemes())?;
            Some((Arc::clone(key), shown.signing_with(signer.scheme())))
        };
        let found = self.keys.iter().find_map(fitting);
        handshake_context::with(|context| match &found {
            Some((_, shown)) => context.shown = Some(*shown),
            None => {
                let detail = "the client takes signatures of none of this chain's certificates";
                context.fail(Refusal::new(Reason::CipherMismatch, detail));
            }
        });
        found.map(|(key, _)| key)
    }
}

/// Threat 6: the chain was chosen by the name that the peek read.
fn name_is_expected(seen: Option<&str>) -> bool {
    let checked = handshake_context::with(|context| {
        let same = match (&context.expected_name, seen) {
            (Some(ExpectedName::Name(expected)), Some(seen)) => expected.eq_ignore_ascii_case(seen),
            (Some(ExpectedName::None), None) => true,
            (Some(ExpectedName::Name(_)), None)
            | (Some(ExpectedName::None), Some(_))
            | (None, _) => false,
        };
        if !same {
            let detail = format!(
                "the peek read {:?}, the handshake {:?}",
                context.expected_name.as_ref().and_then(ExpectedName::as_str),
                seen
            );
            context.fail(Refusal::new(Reason::SniMismatch, detail));
        }
        same
    });
    checked == Some(true)
}

/// Whether a client with these suites can use a key of this kind: in TLS 1.2 the suite names it.
fn suites_allow(suites: &[CipherSuite], algorithm: SignatureAlgorithm) -> bool {
    suites.iter().any(|suite| match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => true,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
            algorithm == SignatureAlgorithm::RSA
        }
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            algorithm != SignatureAlgorithm::RSA
        }
        _ => false,
    })
}

impl ExpectedName {
    fn as_str(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Name(name) => Some(name),
        }
    }
}
