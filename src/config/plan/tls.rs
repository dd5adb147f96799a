//! TLS towards either side: certificates, what is negotiated, and who is trusted.

use std::sync::Arc;

use super::{FileRef, TrustId};
use crate::config::error::Location;
use crate::core::trust::{LeafPolicy, Mode};

/// A certificate chain (PEM, leaf first) and its private key (PEM).
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    pub chain: FileRef,
    pub key: FileRef,
    /// An OCSP response in DER, to be stapled.
    pub ocsp: Option<FileRef>,
}

impl CertificateFiles {
    pub(super) fn files(&self) -> impl Iterator<Item = &FileRef> {
        [&self.chain, &self.key].into_iter().chain(&self.ocsp)
    }
}

#[derive(Debug, Clone)]
pub struct DownstreamTls {
    pub name: Arc<str>,
    pub at: Location,
    /// Empty only where `certificate_dir` is set.
    pub certificates: Vec<CertificateFiles>,
    /// A directory of pairs, chosen by the client's SNI.
    pub certificate_dir: Option<FileRef>,
    pub client_auth: ClientAuth,
    /// In the server's order of preference; empty: ALPN is not negotiated.
    pub alpn: Vec<Arc<str>>,
    pub crypto: CryptoPolicy,
    pub resumption: Resumption,
    /// TLS 1.3 tickets after a handshake; 0 with `Resumption::Off`.
    pub tickets_sent: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    Optional(TrustId),
    Require(TrustId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    Off,
    Tickets,
}

/// What is negotiated, each list in order of preference and never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CryptoPolicy {
    pub versions: Vec<TlsVersion>,
    pub cipher_suites: Vec<CipherSuite>,
    pub groups: Vec<Group>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// AEAD suites only. The names in the file are IANA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherSuite {
    Tls13Aes128GcmSha256,
    Tls13Aes256GcmSha384,
    Tls13Chacha20Poly1305Sha256,
    EcdheEcdsaAes128GcmSha256,
    EcdheEcdsaAes256GcmSha384,
    EcdheEcdsaChacha20Poly1305Sha256,
    EcdheRsaAes128GcmSha256,
    EcdheRsaAes256GcmSha384,
    EcdheRsaChacha20Poly1305Sha256,
}

/// Key-exchange groups; in the file: "x25519mlkem768", "x25519", "secp256r1", "secp384r1".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    X25519MlKem768,
    X25519,
    Secp256r1,
    Secp384r1,
}

#[derive(Debug, Clone)]
pub struct UpstreamTls {
    pub name: Arc<str>,
    pub at: Location,
    pub server_name: UpstreamServerName,
    pub trust: TrustId,
    pub certificate: Option<CertificateFiles>,
    pub alpn: Vec<Arc<str>>,
    pub crypto: CryptoPolicy,
    pub resumption: Resumption,
}

/// The name sent in the SNI and checked in the upstream's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamServerName {
    /// A DNS name, or an IP address (then no SNI is sent, RFC 6066 §3).
    Fixed(Arc<str>),
    /// `"$sni"`: the name that the client asked for.
    ClientSni,
}

/// Whom to believe.
#[derive(Debug, Clone)]
pub struct Trust {
    pub name: Arc<str>,
    pub at: Location,
    /// PEM bundles of CA certificates. Not empty.
    pub anchors: Vec<FileRef>,
    /// Revocation lists, PEM or DER.
    pub crls: Vec<FileRef>,
    pub revocation: Revocation,
    /// Intermediates between leaf and anchor, at most.
    pub depth_max: u8,
    /// What is asked of a leaf beyond its path. Key rules are for clients.
    pub leaf: LeafPolicy,
    pub mode: Mode,
    pub on_change: OnChange,
}

/// How revocation lists are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    pub check: RevocationCheck,
    /// When no list covers a certificate.
    pub unknown: Uncertain,
    /// When the list that covers a certificate is past its next update, or has not begun.
    pub stale: Uncertain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationCheck {
    Off,
    Leaf,
    Chain,
}

/// What to do where revocation cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncertain {
    Refuse,
    Accept,
}

/// What becomes of live sessions that a new CRL, CA or policy refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    Keep,
    /// Closed at their next idle moment, spread as `runtime.drain.spread` says.
    Drain,
    /// Reset at once.
    Close,
}
