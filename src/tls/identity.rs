//! Reads a certificate into the words of `core::identity`, and digests.
//!
//! Decides nothing: `verifier` has verified the chain, or says why not, before anyone reads this.
//! `leaf` reads what rules are matched against.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::name;
use crate::core::identity::Identity;

/// What a certificate says; `None` when it is none. Texts are capped; they come from the peer.
pub fn identify(certificate: &[u8]) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(Identity {
        subject: name_text(parsed.subject()),
        sans: sans(&parsed).filter_map(shown).map(capped).collect(),
        issuer: name_text(parsed.issuer()),
        serial: hex(parsed.raw_serial()),
        fingerprint_sha256: sha256(certificate),
        not_before: seconds(parsed.validity().not_before.timestamp()),
        not_after: seconds(parsed.validity().not_after.timestamp()),
    })
}

/// A digest of what a certificate calls its holder, the same in one that renews it, whole and as it is encoded: the
/// first SAN that `identify` shows, or the subject where there is none.
pub(super) fn lasting_name(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let first = sans(&parsed).find_map(|name| match name {
        GeneralName::Invalid(Tag(6), octets) => Some([b"uri:", *octets].concat()),
        other => san(other).map(String::into_bytes),
    });
    let name = first.unwrap_or_else(|| [b"subject:", parsed.subject().as_raw()].concat());
    Some(sha256(&name))
}

/// When a certificate is valid, in Unix seconds, both ends included.
pub(super) fn validity(certificate: &[u8]) -> Option<(u64, u64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(validity_of(&parsed))
}

/// The same of one that is parsed.
pub(super) fn validity_of(certificate: &X509Certificate<'_>) -> (u64, u64) {
    let validity = certificate.validity();
    (seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp()))
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

/// The first of its SANs.
fn sans<'a>(certificate: &'a X509Certificate<'a>) -> impl Iterator<Item = &'a GeneralName<'a>> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| &names.value.general_names[..]).unwrap_or_default();
    names.iter().take(SANS_MAX)
}

/// A distinguished name for people; nothing is decided by it.
pub(super) fn name_text(name: &X509Name<'_>) -> String {
    let text = name::text(name);
    if text.is_empty() { "(no name)".to_owned() } else { capped(text) }
}

/// `san`, and a URI that cannot be read: beside it a SPIFFE ID is not the only URI.
fn shown(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::Invalid(Tag(6), _) => Some("uri:(not ASCII)".to_owned()),
        other => san(other),
    }
}

/// A name with its kind, as `dns:host`; `None` of kinds that nobody asks for.
pub(super) fn san(name: &GeneralName<'_>) -> Option<String> {
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
    use portcullis_kit::{Authority, ClientSpec};

    use super::*;

    #[test] // threat 42
    fn whom_a_certificate_names_is_told_by_the_whole_name() {
        let ca = Authority::new("Test Root");
        let named = |spec: ClientSpec| lasting_name(ca.client(&spec).leaf()).unwrap();
        let service = |last: u32| format!("spiffe://test/{}/{last}", "x".repeat(600));
        let of_uri = |last| named(ClientSpec::new("any").uri(&service(last)));
        let of_subject = |last: u32| named(ClientSpec::new(&format!("{}{last}", "x".repeat(60))));
        for name in [&of_uri as &dyn Fn(u32) -> [u8; 32], &of_subject] {
            assert_eq!(name(1), name(1), "another key and serial number");
            assert_ne!(name(1), name(2));
        }
        let (both, first) = (service(1), "spiffe://test/first");
        let of_both = named(ClientSpec::new("any").uri(first).uri(&both));
        assert_eq!(of_both, named(ClientSpec::new("other").uri(first)));
    }

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
