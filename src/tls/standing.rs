//! On what a client's being let in rests: the anchor that vouched, the certificates of the path, and
//! until when. Small enough for a ticket and for every live session.
//!
//! Made by a full authentication; whoever resumes or stays on is measured by it again
//! (`trust::TrustStore::reaffirms`) at the cost of look-ups.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

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
    pub fn anonymous(now: u64) -> Self {
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
    /// `issuer` as webpki shows it; `serial` as the content of a DER INTEGER.
    pub(super) fn new(issuer: &[u8], serial: &[u8]) -> Self {
        Self { issuer: issuer_key(issuer), serial: SerialKeys::of(issuer).key(serial) }
    }
}

/// Makes `CertificateKey::serial` of many certificates of one issuer: its name is digested once.
pub(super) struct SerialKeys(Context);

impl SerialKeys {
    pub(super) fn of(issuer: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&(issuer.len() as u64).to_be_bytes());
        context.update(issuer);
        Self(context)
    }

    pub(super) fn key(&self, serial: &[u8]) -> u128 {
        let mut context = self.0.clone();
        context.update(shortest(serial));
        let digest = context.finish();
        digest.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
    }
}

/// A number without zeros in front that say nothing. One before a set bit does: without it the number
/// is negative, and another certificate's.
fn shortest(mut serial: &[u8]) -> &[u8] {
    while let [0, ..=0x7f, ..] = serial {
        serial = &serial[1..];
    }
    serial
}

/// The issuer's name, short.
pub(super) fn issuer_key(issuer: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sha256(issuer);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_the_same_with_zeros_in_front_and_another_with_another_sign() {
        for (one, other, same) in [
            (&[1][..], &[0, 0, 1][..], true),
            (&[0, 0xff], &[0, 0, 0xff], true),
            (&[0], &[0, 0], true),
            (&[0xff], &[0, 0xff], false),
            (&[0], &[], false),
            (&[1], &[1, 0], false),
        ] {
            let [one_key, other_key] =
                [one, other].map(|serial| CertificateKey::new(b"CA", serial));
            assert_eq!(one_key == other_key, same, "{one:?}, {other:?}");
        }
    }
}
