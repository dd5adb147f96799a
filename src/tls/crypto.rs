//! A `CryptoPolicy` as rustls' provider, and the names of what was negotiated.
//!
//! The cryptography is aws-lc's, but for the hashes of TLS 1.3 (`key_schedule`); this file only chooses and
//! orders. Which group a client gets is chosen in `key_exchange`.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{NamedGroup, SupportedCipherSuite, SupportedProtocolVersion, version};

use super::downstream::Offers;
use super::key_budget::counted_here;
use super::key_exchange::choosable;
use super::key_schedule::by_ring;
use super::random::Random;
use super::signature_algorithms;
use crate::config::plan::{CipherSuite, CryptoPolicy, Group, TlsVersion};

/// Which suites go first where the server's order decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SuiteOrder {
    /// As the policy lists them.
    Policy,
    /// ChaCha20 first, then as the policy lists them: for clients without AES hardware.
    ChachaFirst,
}

/// A provider that knows nothing but what `policy` allows.
pub(super) fn provider(policy: &CryptoPolicy, order: SuiteOrder) -> Arc<CryptoProvider> {
    let mut cipher_suites: Vec<_> = policy.cipher_suites.iter().copied().map(suite).collect();
    if order == SuiteOrder::ChachaFirst {
        cipher_suites.sort_by_key(|suite| !is_chacha(suite));
    }
    let kx_groups = policy.groups.iter().copied().map(choosable).collect();
    Arc::new(CryptoProvider {
        cipher_suites,
        kx_groups,
        signature_verification_algorithms: signature_algorithms::all(),
        secure_random: &Random,
        ..aws_lc_rs::default_provider()
    })
}

/// The versions of `policy`; rustls sets their order.
pub(super) fn versions(policy: &CryptoPolicy) -> Vec<&'static SupportedProtocolVersion> {
    let one = |version: &TlsVersion| match version {
        TlsVersion::Tls12 => &version::TLS12,
        TlsVersion::Tls13 => &version::TLS13,
    };
    policy.versions.iter().map(one).collect()
}

/// What a policy and a list of protocols have to offer, in words.
pub(super) fn offers(policy: &CryptoPolicy, alpn: &[Arc<str>]) -> Offers {
    let versions = policy.versions.iter().map(|version| match version {
        TlsVersion::Tls12 => "1.2",
        TlsVersion::Tls13 => "1.3",
    });
    let suites = policy.cipher_suites.iter().map(|one| suite_name(suite(*one)));
    let groups = policy.groups.iter().map(|one| group_name(group(*one).name()));
    Offers {
        versions: versions.collect::<Vec<_>>().join(", "),
        has_tls13: policy.versions.contains(&TlsVersion::Tls13),
        suites: suites.collect::<Vec<_>>().join(", "),
        groups: groups.collect::<Vec<_>>().join(", "),
        alpn: alpn.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "),
    }
}

/// IANA's name of a suite.
pub(super) fn suite_name(suite: SupportedCipherSuite) -> &'static str {
    use rustls::CipherSuite as Id;
    match suite.suite() {
        Id::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        Id::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        Id::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        Id::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        Id::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        Id::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
        }
        Id::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        Id::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        Id::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
        }
        _ => "unknown",
    }
}

/// The configuration's name of a group.
pub(super) fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519MLKEM768 => "x25519mlkem768",
        NamedGroup::X25519 => "x25519",
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        _ => "unknown",
    }
}

fn is_chacha(suite: &SupportedCipherSuite) -> bool {
    suite_name(*suite).contains("CHACHA20")
}

fn suite(suite: CipherSuite) -> SupportedCipherSuite {
    use cipher_suite as known;
    let suite = match suite {
        CipherSuite::Tls13Aes128GcmSha256 => known::TLS13_AES_128_GCM_SHA256,
        CipherSuite::Tls13Aes256GcmSha384 => known::TLS13_AES_256_GCM_SHA384,
        CipherSuite::Tls13Chacha20Poly1305Sha256 => known::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdheEcdsaAes128GcmSha256 => known::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheEcdsaAes256GcmSha384 => known::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheEcdsaChacha20Poly1305Sha256 => {
            known::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        CipherSuite::EcdheRsaAes128GcmSha256 => known::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheRsaAes256GcmSha384 => known::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheRsaChacha20Poly1305Sha256 => {
            known::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
    };
    // Each leaves alone what is not its own.
    counted_here(by_ring(suite))
}

/// As aws-lc has it.
pub(super) fn group(group: Group) -> &'static dyn SupportedKxGroup {
    match group {
        Group::X25519MlKem768 => kx_group::X25519MLKEM768,
        Group::X25519 => kx_group::X25519,
        Group::Secp256r1 => kx_group::SECP256R1,
        Group::Secp384r1 => kx_group::SECP384R1,
    }
}
