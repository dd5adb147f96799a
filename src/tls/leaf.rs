//! What trust rules are matched against, read out of a leaf certificate: its names by kind, its key,
//! its digests. Complete and uncapped, unlike `identity`: a rule must see every name.
//!
//! Decides nothing; `core::trust` does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::identity::{self, sha256};
use crate::core::trust::{KeyKind, LeafFacts, Names};

/// A parsed leaf; `facts` borrows from it.
#[derive(Debug)]
pub(super) struct Leaf<'a> {
    parsed: X509Certificate<'a>,
    der: &'a [u8],
}

/// What a leaf may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeafPurpose {
    Server,
    Client,
}

impl<'a> Leaf<'a> {
    /// `None` when this is no certificate, has bytes behind it, or says two things about its names.
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let (behind, parsed) = X509Certificate::from_der(der).ok()?;
        if !behind.is_empty() {
            return None;
        }
        parsed.subject_alternative_name().ok()?;
        Some(Self { parsed, der })
    }

    /// The kind of the key, which is asked before anything is verified.
    pub(super) fn key(&self) -> KeyKind {
        key_kind(self.parsed.public_key())
    }

    /// What the key may be used for, where signing is not among it: then it proves nobody's identity in a
    /// handshake (RFC 5246 §7.4.6, RFC 8446 §4.4.2.2). Extended key usage says nothing about that:
    /// a certificate must be good by both (RFC 5280 §4.2.1.12).
    pub(super) fn uses_without_signing(&self) -> Option<Vec<&'static str>> {
        let usage = match self.parsed.key_usage() {
            Ok(None) => return None,
            Ok(Some(usage)) => usage.value,
            Err(_) => return Some(Vec::new()),
        };
        let uses = [
            (usage.non_repudiation(), "nonRepudiation"),
            (usage.key_encipherment(), "keyEncipherment"),
            (usage.data_encipherment(), "dataEncipherment"),
            (usage.key_agreement(), "keyAgreement"),
            (usage.key_cert_sign(), "keyCertSign"),
            (usage.crl_sign(), "cRLSign"),
        ];
        let uses = uses.into_iter().filter_map(|(may, name)| may.then_some(name));
        (!usage.digital_signature()).then(|| uses.collect())
    }

    /// Whether its extended key usage leaves this out; without one it may be used for anything
    /// (RFC 5280 §4.2.1.12).
    pub(super) fn is_not_for(&self, purpose: LeafPurpose) -> bool {
        let Ok(Some(usage)) = self.parsed.extended_key_usage() else { return false };
        match purpose {
            LeafPurpose::Server => !usage.value.server_auth,
            LeafPurpose::Client => !usage.value.client_auth,
        }
    }

    /// Whether it has any subject alternative name.
    pub(super) fn has_names(&self) -> bool {
        let names = self.parsed.subject_alternative_name().ok().flatten();
        names.is_some_and(|names| !names.value.general_names.is_empty())
    }

    pub(super) fn facts(&self) -> LeafFacts<'_> {
        LeafFacts {
            names: self.names(),
            key: self.key(),
            fingerprint: sha256(self.der),
            spki: sha256(self.parsed.public_key().raw),
            serial: self.parsed.raw_serial(),
        }
    }

    /// When it is valid, in Unix seconds, both ends included.
    pub(super) fn validity(&self) -> (u64, u64) {
        identity::validity_of(&self.parsed)
    }

    /// The common name, where there is one and no other that could be meant.
    pub(super) fn only_common_name(&self) -> Option<String> {
        let mut names = self.parsed.subject().iter_common_name();
        match (names.next(), names.next()) {
            (Some(only), None) => only.as_str().ok().map(str::to_owned),
            _ => None,
        }
    }

    /// The SPIFFE ID as it is, else the first subject alternative name with its kind, as in
    /// "dns:host": no name of one kind can pass for one of another. `None` of a SPIFFE ID beside another
    /// URI, of which nobody can say whose it is (X.509-SVID §2).
    pub(super) fn first_name(&self) -> Option<String> {
        let uris = self.names().uris;
        let is_spiffe = |uri: &&str| uri.starts_with("spiffe://");
        match uris.as_slice() {
            [only] if is_spiffe(only) => Some((*only).to_owned()),
            several if several.iter().any(is_spiffe) => None,
            _ => {
                let names = self.parsed.subject_alternative_name().ok().flatten();
                names.as_ref()?.value.general_names.iter().find_map(identity::san)
            }
        }
    }

    /// Names that are not what their type allows (a DNS name that is not ASCII) are in no list, and
    /// so match nothing. Such a URI is there as an empty one, which matches nothing either: beside it
    /// a SPIFFE ID is not the only URI.
    fn names(&self) -> Names<'_> {
        let mut names = Names::default();
        let subject = self.parsed.subject();
        names.common_names.extend(subject.iter_common_name().filter_map(|cn| cn.as_str().ok()));
        let Ok(Some(sans)) = self.parsed.subject_alternative_name() else { return names };
        for san in &sans.value.general_names {
            match san {
                GeneralName::DNSName(name) => names.dns.push(name),
                GeneralName::URI(uri) => names.uris.push(uri),
                GeneralName::RFC822Name(address) => names.emails.push(address),
                GeneralName::IPAddress(octets) => names.ips.extend(ip(octets)),
                GeneralName::Invalid(URI, _) => names.uris.push(""),
                _ => {}
            }
        }
        names
    }
}

/// The serial number of a certificate, as DER has it.
pub(super) fn serial(der: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.raw_serial().to_vec())
}

/// The tag of a URI among names (RFC 5280 §4.2.1.6).
const URI: Tag = Tag(6);

fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into())
}

pub(super) fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_SIG_ED25519 {
        return KeyKind::Ed25519;
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 => KeyKind::EcdsaP256,
            Some(curve) if curve == OID_NIST_EC_P384 => KeyKind::EcdsaP384,
            Some(curve) if curve == OID_NIST_EC_P521 => KeyKind::EcdsaP521,
            _ => KeyKind::Other,
        };
    }
    if *algorithm == OID_PKCS1_RSAENCRYPTION
        && let Ok(PublicKey::RSA(rsa)) = key.parsed()
    {
        return KeyKind::Rsa(bits(rsa.modulus));
    }
    KeyKind::Other
}

/// Length of a big-endian number; x509-parser's own counts whole bytes and always drops the first.
fn bits(number: &[u8]) -> u32 {
    let leading = number.iter().take_while(|byte| **byte == 0).count();
    let Some((first, rest)) = number[leading..].split_first() else { return 0 };
    let rest = u32::try_from(rest.len()).unwrap_or(u32::MAX / 8);
    rest.saturating_mul(8).saturating_add(8 - first.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::trust::{NameKind, NameRule};

    fn with_names(names: &[(u8, &[u8])]) -> rcgen::Certificate {
        let tlv = |(tag, data): &(u8, &[u8])| {
            let length = u8::try_from(data.len()).unwrap();
            assert!(length < 0x80, "the long form is not needed here");
            [&[*tag, length], *data].concat()
        };
        let names: Vec<u8> = names.iter().flat_map(tlv).collect();
        let mut params = rcgen::CertificateParams::default();
        let names = tlv(&(0x30, &names));
        params.custom_extensions =
            vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], names)];
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_spiffe_id_beside_any_other_uri_is_nobodys() {
        const ID: &[u8] = b"spiffe://example.org/a";
        let rule = NameRule::parse(NameKind::Uri, "spiffe://example.org/**").unwrap();
        for (others, is_its) in [
            (&[][..], true),
            (&[(0x82, &b"a.test"[..]), (0x81, b"\xff")], true),
            (&[(0x86, b"https://a.test/")], false),
            (&[(0x86, ID)], false),
            // Not ASCII, and so no URI to x509-parser.
            (&[(0x86, b"\xff")], false),
            (&[(0x86, b"")], false),
        ] {
            for at in [0, others.len()] {
                let mut names = others.to_vec();
                names.insert(at, (0x86, ID));
                let certificate = with_names(&names);
                let leaf = Leaf::parse(certificate.der()).unwrap();
                assert_eq!(rule.matches(&leaf.facts().names), is_its, "{names:?}");
                let name = is_its.then(|| "spiffe://example.org/a".to_owned());
                assert_eq!(leaf.first_name(), name, "{names:?}");
            }
        }
        let https = with_names(&[(0x86, b"https://a.test/"), (0x86, b"\xff")]);
        let name = Leaf::parse(https.der()).unwrap().first_name();
        assert_eq!(name.as_deref(), Some("uri:https://a.test/"));
        let told = identity::identify(https.der()).unwrap().sans;
        assert_eq!(told, ["uri:https://a.test/", "uri:(not ASCII)"]);
    }

    #[test]
    fn a_modulus_is_as_long_as_its_highest_bit_says() {
        for (number, expected) in [
            (&[][..], 0),
            (&[0][..], 0),
            (&[1][..], 1),
            (&[0, 0x80][..], 8),
            (&[0x80, 0][..], 16),
            (&[0, 1, 0][..], 9),
        ] {
            assert_eq!(bits(number), expected, "{number:?}");
        }
        assert_eq!(bits(&[0xff; 256]), 2048);
    }
}
