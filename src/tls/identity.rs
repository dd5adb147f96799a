//! A certificate in words: who it is for, who issued it, until when. For logs and refusals.
//!
//! Decides nothing: `verifier` has verified the chain, or says why not, before anyone reads this.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// The leaf certificate of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub subject: String,
    /// As `dns:host`, `uri:spiffe://…`, `email:…`, `ip:…`.
    pub sans: Vec<String>,
    pub issuer: String,
    /// Hexadecimal, two digits a byte.
    pub serial: String,
    /// Of the whole certificate in DER.
    pub fingerprint_sha256: [u8; 32],
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds.
    pub not_after: u64,
}

impl Identity {
    /// `None` when this is not a certificate. Texts are capped; they come from the peer.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let sans = names.map(|names| &names.value.general_names[..]).unwrap_or_default();
        Some(Self {
            subject: name(parsed.subject()),
            sans: sans.iter().take(SANS_MAX).filter_map(san).map(capped).collect(),
            issuer: name(parsed.issuer()),
            serial: hex(parsed.raw_serial()),
            fingerprint_sha256: sha256(certificate),
            not_before: seconds(parsed.validity().not_before.timestamp()),
            not_after: seconds(parsed.validity().not_after.timestamp()),
        })
    }

    /// `certificate CN=…, serial …, issued by CN=…`.
    pub fn sentence(&self) -> String {
        let Self { subject, serial, issuer, .. } = self;
        format!("certificate {subject}, serial {serial}, issued by {issuer}")
    }
}

/// Whether others can have been issued by this certificate, or it is its own anchor.
pub(super) fn can_be_anchor(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.is_ca() || parsed.subject() == parsed.issuer())
}

/// When a certificate is valid, in Unix seconds, both ends included.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some((seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp())))
}

/// SHA-256 of bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use aws_lc_rs::digest::{SHA256, digest};
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// `3 days`, `2 hours`, `5 seconds`: the two largest units are more than anyone needs.
pub(super) fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn name(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    if text.is_empty() { "(no name)".to_owned() } else { capped(text) }
}

fn san(name: &GeneralName<'_>) -> Option<String> {
    Some(match name {
        GeneralName::DNSName(name) => format!("dns:{name}"),
        GeneralName::URI(uri) => format!("uri:{uri}"),
        GeneralName::RFC822Name(address) => format!("email:{address}"),
        GeneralName::IPAddress(octets) => match **octets {
            [a, b, c, d] => format!("ip:{}", Ipv4Addr::new(a, b, c, d)),
            _ => format!("ip:{}", Ipv6Addr::from(<[u8; 16]>::try_from(*octets).ok()?)),
        },
        _ => return None,
    })
}

fn capped(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(SERIAL_BYTES_MAX).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

/// A log line names the client, not the whole fleet.
const SANS_MAX: usize = 16;
const TEXT_BYTES_MAX: usize = 256;
/// RFC 5280 §4.1.2.2 allows 20.
const SERIAL_BYTES_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        assert_eq!(span(1), "1 second");
        assert_eq!(span(3 * 86_400 + 5), "3 days");
        assert_eq!(span(7_300), "2 hours");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(capped("é".repeat(200)).chars().filter(|c| *c == 'é').count(), 128);
    }
}
