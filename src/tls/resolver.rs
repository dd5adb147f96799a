//! Which certificate a client gets, and the check that rustls saw the name that we saw.
//!
//! `material` loads the certificates, `certificate_dir` those of a directory; the verifier of the
//! client's own is in `verifier`.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm};

use super::UnixClock;
use super::handshake_context::{self, ExpectedName};
use super::served::Served;
use crate::core::refusal::{Reason, Refusal};

/// Where the certificates of one chain come from.
#[derive(Debug)]
pub(super) struct Resolver {
    source: Source,
    clock: UnixClock,
}

#[derive(Debug)]
enum Source {
    /// ECDSA and Ed25519 before RSA, whose signatures cost six times as much.
    Listed(Vec<Arc<Served>>),
    /// The handshake brings the one that was found for the client's name.
    Named,
}

impl Resolver {
    /// One of these.
    pub(super) fn listed(mut keys: Vec<Arc<Served>>, clock: UnixClock) -> Self {
        keys.sort_by_key(|key| key.algorithm() == SignatureAlgorithm::RSA);
        Self { source: Source::Listed(keys), clock }
    }

    /// That of the handshake.
    pub(super) fn named(clock: UnixClock) -> Self {
        Self { source: Source::Named, clock }
    }

    /// The certificate for a client, among those that it can verify one that is for the name it asks
    /// for, if there is one.
    fn choose(&self, hello: &ClientHello<'_>) -> Result<Arc<CertifiedKey>, Refusal> {
        let brought;
        let candidates = match &self.source {
            Source::Listed(keys) => keys.as_slice(),
            Source::Named => {
                let found = handshake_context::with(|context| context.certificate.clone());
                let missing = || Refusal::new(Reason::Internal, "no certificate was looked for");
                brought = [found.flatten().ok_or_else(missing)??];
                &brought
            }
        };
        let fits = |key: &&Arc<Served>| {
            suites_allow(hello.cipher_suites(), key.algorithm())
                && key.bare().key.choose_scheme(hello.signature_schemes()).is_some()
        };
        // One alone is shown whatever it is for: clients may know it by other means.
        let found = match candidates {
            [_, _, ..] => {
                let name = handshake_context::with(|context| context.expected_name.clone());
                let name = name.flatten();
                let name = name.as_ref().and_then(ExpectedName::as_str);
                let is_for = |key: &&Arc<Served>| name.is_some_and(|name| key.is_for(name));
                candidates.iter().filter(fits).find(is_for)
            }
            [_] | [] => None,
        };
        match found.or_else(|| candidates.iter().find(fits)) {
            Some(found) => {
                let signer = found.bare().key.choose_scheme(hello.signature_schemes());
                let shown = found.shown(signer.map(|signer| signer.scheme()));
                handshake_context::with(|context| context.shown = Some(shown));
                Ok(Arc::clone(found.key((self.clock)())))
            }
            None => {
                let detail = "the client takes signatures of none of this chain's certificates";
                Err(Refusal::new(Reason::CipherMismatch, detail))
            }
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !name_is_expected(hello.server_name()) {
            return None;
        }
        match self.choose(&hello) {
            Ok(found) => Some(found),
            Err(refusal) => {
                handshake_context::with(|context| context.fail(refusal));
                None
            }
        }
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
