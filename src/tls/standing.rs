//! On what a client's being let in rests: the anchor that vouched, the certificates of the path, and
//! until when. Small enough for a ticket and for every live session.
//!
//! Made by a full authentication; whoever resumes or stays on is measured by it again
//! (`trust::TrustStore::reaffirm`) at the cost of look-ups.

use std::sync::Arc;

use super::identity::sha256;

/// A full authentication: when it was, and what it found. Tickets carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Unix seconds of the full handshake.
    pub at: u64,
    pub(super) verified: Arc<Verified>,
}

/// A chain whose path and rules were found good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    /// Unix seconds: when every certificate that was sent is valid, both ends included.
    pub from: u64,
    pub until: u64,
    /// SHA-256 of the leaf certificate; zero for a client without one.
    pub identity: [u8; 32],
    /// The anchor at the end of the path; zero for a client without a certificate.
    pub anchor: AnchorKey,
    /// The certificates of the path, leaf first, the anchor left out.
    pub path: Box<[CertificateKey]>,
}

/// An anchor by its name, key and constraints: the same CA in a renewed certificate is the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AnchorKey(pub [u8; 16]);

/// A certificate by issuer and serial number, as revocation lists name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CertificateKey {
    /// Of the issuer's name.
    pub issuer: u64,
    /// Of the issuer's name and the serial number. 128 bits: no two certificates meet by chance.
    pub serial: u128,
}

impl Standing {
    /// A client that showed no certificate where it need not.
    pub(super) fn anonymous(now: u64) -> Self {
        let verified = Verified {
            from: 0,
            until: u64::MAX,
            identity: [0; 32],
            anchor: AnchorKey::default(),
            path: Box::default(),
        };
        Self { at: now, verified: Arc::new(verified) }
    }
}

impl Verified {
    /// Whether this is a client without a certificate.
    pub(super) fn is_anonymous(&self) -> bool {
        self.path.is_empty()
    }
}

impl CertificateKey {
    /// `issuer` as webpki shows it; leading zeros of the serial number do not count.
    pub(super) fn new(issuer: &[u8], serial: &[u8]) -> Self {
        let leading = serial.iter().take_while(|byte| **byte == 0).count();
        let mut both = Vec::with_capacity(8 + issuer.len() + serial.len());
        both.extend_from_slice(&(issuer.len() as u64).to_be_bytes());
        both.extend_from_slice(issuer);
        both.extend_from_slice(&serial[leading..]);
        Self { issuer: issuer_key(issuer), serial: first(&sha256(&both)) }
    }
}

/// The issuer's name, short.
pub(super) fn issuer_key(issuer: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sha256(issuer);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn first(digest: &[u8; 32]) -> u128 {
    digest.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
}
