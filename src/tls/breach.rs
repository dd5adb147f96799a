//! What webpki has against a chain, in words: which certificate of it breaks which rule, and what to do.
//!
//! webpki names a rule and never the certificate; the first that was sent and breaks it is as good as
//! always the one. `diagnosis` asks, `sent` holds the chain.

use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::ServerName;
use x509_parser::asn1_rs::{Any, Oid, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension};
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::{AlgorithmIdentifier, X509Version};

use super::diagnosis::{Finding, listed, unspecified};
use super::leaf::key_kind;
use super::sent::Sent;
use crate::core::refusal::Reason;
use crate::core::trust::KeyKind;

/// What `error` says about the chain; without a certificate that it fits, about the leaf.
pub(super) fn finding(error: &webpki::Error, sent: &Sent<'_>, roots: &RootCertStore) -> Finding {
    use webpki::Error as Webpki;
    match error {
        Webpki::RequiredEkuNotFoundContext(context) => {
            purpose(&oid_of(&context.required.oid_values().collect::<Vec<_>>()), sent)
        }
        Webpki::EmptyEkuExtension => {
            let is_empty = |one: &X509Certificate<'_>| {
                usage(one).filter(|usage| used_for(usage).is_empty()).map(|_| ())
            };
            let depth = sent.first(is_empty).map_or(0, |(depth, ())| depth);
            let alert = CertificateError::InvalidPurpose;
            Finding::new(Reason::CertificatePurpose, alert, "its extended key usage is empty")
                .depth(depth)
        }
        Webpki::CertNotValidForName(names) => not_for(&names.expected, sent),
        Webpki::MaximumPathDepthExceeded => {
            let what = "no anchor is reached over 6 intermediates, and no longer path is tried";
            Finding::new(Reason::ChainTooDeep, unspecified("too deep"), what)
                .rule("depth_max")
                .hint("issue the certificate closer to the anchor, or put an intermediate into anchors")
        }
        Webpki::CaUsedAsEndEntity => invalid(CA_AS_LEAF).hint(CA_AS_LEAF_HINT),
        other => {
            let found = match other {
                Webpki::UnsupportedCertVersion => sent.first(version),
                Webpki::UnsupportedCriticalExtension => sent.first(critical),
                Webpki::UnsupportedSignatureAlgorithmContext(context) => {
                    sent.first(|one| signed_with(one, &context.signature_algorithm_id))
                }
                Webpki::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
                    unfit(&context.signature_algorithm_id, &context.public_key_algorithm_id, sent)
                }
                Webpki::NameConstraintViolation => {
                    constrained(sent, roots).or_else(|| beside_the_leafs(sent))
                }
                Webpki::SignatureAlgorithmMismatch => sent.first(two_algorithms),
                Webpki::ExtensionValueInvalid => sent.first(twice),
                Webpki::EndEntityUsedAsCa => no_authority(sent),
                _ => None,
            };
            match found {
                Some((depth, what)) => invalid(what).depth(depth),
                None => invalid(rule_of(other)),
            }
        }
    }
}

fn invalid(what: impl Into<String>) -> Finding {
    Finding::new(Reason::CertificateInvalid, unspecified("path"), what)
}

/// The rules of RFC 5280 that people do break, and webpki's own word for the others.
fn rule_of(error: &webpki::Error) -> String {
    use webpki::Error as Webpki;
    let text = match error {
        Webpki::UnsupportedCertVersion => VERSION_1,
        Webpki::NameConstraintViolation => {
            "a name in it is outside what a CA above may issue for (name constraints)"
        }
        Webpki::PathLenConstraintViolated => {
            "more CAs stand between it and one above than that one allows (pathLenConstraint)"
        }
        Webpki::EndEntityUsedAsCa => "a certificate above it is not a CA's (basicConstraints)",
        Webpki::UnsupportedCriticalExtension => {
            "it has a critical extension that is not understood here"
        }
        Webpki::UnsupportedSignatureAlgorithmContext(_)
        | Webpki::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "it is signed with an algorithm that is not accepted here"
        }
        Webpki::MalformedNameConstraint | Webpki::InvalidNetworkMaskConstraint => {
            "the name constraints of a CA above it, or of the anchor, cannot be read"
        }
        Webpki::InvalidCertValidity => "it ends before it begins",
        Webpki::MaximumSignatureChecksExceeded
        | Webpki::MaximumPathBuildCallsExceeded
        | Webpki::MaximumNameConstraintComparisonsExceeded => {
            return format!("the search for a path took too long and was given up ({error:?})");
        }
        other => return format!("it breaks a rule of X.509 ({other:?})"),
    };
    text.to_owned()
}

fn purpose(required: &str, sent: &Sent<'_>) -> Finding {
    let lacks = |one: &X509Certificate<'_>| {
        let uses = used_for(&usage(one)?);
        (!uses.iter().any(|one| one == required)).then_some(uses)
    };
    let (depth, uses) = sent.first(lacks).unwrap_or_default();
    let what = format!("may be used for {}, not for {required}", listed(&uses, "nothing"));
    let finding = Finding::new(Reason::CertificatePurpose, CertificateError::InvalidPurpose, what)
        .depth(depth);
    match depth {
        0 if uses.iter().any(|one| one == ANY_USE) => finding.hint(format!(
            "issue it with {required}: {ANY_USE} does not stand for it here"
        )),
        0 => finding,
        _ => finding.hint(format!(
            "the extended key usage of a CA holds for those below it: have the CA's certificate issued \
             with {required}, or without that extension"
        )),
    }
}

fn usage<'a>(certificate: &'a X509Certificate<'_>) -> Option<ExtendedKeyUsage<'a>> {
    Some(certificate.extended_key_usage().ok()??.value.clone())
}

fn used_for(usage: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (usage.any, ANY_USE),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let known = known.iter().filter(|(has, _)| *has).map(|(_, name)| (*name).to_owned());
    known.chain(usage.other.iter().map(Oid::to_id_string)).collect()
}

/// In the words of `used_for`.
fn oid_of(values: &[usize]) -> String {
    match values {
        [1, 3, 6, 1, 5, 5, 7, 3, 1] => "serverAuth".to_owned(),
        [1, 3, 6, 1, 5, 5, 7, 3, 2] => "clientAuth".to_owned(),
        other => other.iter().map(ToString::to_string).collect::<Vec<_>>().join("."),
    }
}

fn not_for(expected: &ServerName<'_>, sent: &Sent<'_>) -> Finding {
    let names = sent.leaf.as_ref().map(|leaf| &leaf.sans[..]).unwrap_or_default();
    let kind = if matches!(expected, ServerName::IpAddress(_)) { "ip" } else { "dns" };
    let what = format!(
        "is for {}, not for {kind}:{}",
        listed(names, "no name at all (a common name does not count)"),
        expected.to_str()
    );
    Finding::new(Reason::CertificateInvalid, CertificateError::NotValidForName, what)
}

fn version(certificate: &X509Certificate<'_>) -> Option<String> {
    unlike_version_3(certificate.version())
}

fn two_algorithms(certificate: &X509Certificate<'_>) -> Option<String> {
    let (inner, outer) = (&certificate.tbs_certificate.signature, &certificate.signature_algorithm);
    (inner != outer).then(|| {
        let (inner, outer) = (named(&inner.algorithm), named(&outer.algorithm));
        format!("it says inside that it is signed with {inner}, and outside with {outer}")
    })
}

/// RFC 5280 §4.2: no extension comes twice.
fn twice(certificate: &X509Certificate<'_>) -> Option<String> {
    let all = certificate.extensions();
    let is_again = |at: usize| all[..at].iter().any(|one| one.oid == all[at].oid);
    let at = (0..all.len()).find(|at| is_again(*at))?;
    Some(format!("it has the extension {} twice", named(&all[at].oid)))
}

/// A certificate that has issued another and is no CA's.
fn no_authority(sent: &Sent<'_>) -> Option<(u8, String)> {
    let path: Vec<_> = sent.path().collect();
    let depth = path.iter().skip(1).position(|one| one.as_ref().is_some_and(|one| !one.is_ca()))?;
    let what = "it is not a CA's (basicConstraints), and may have issued nothing";
    Some((u8::try_from(depth + 1).ok()?, what.to_owned()))
}

/// Names outside of constraints may be an intermediate's own, where one has any.
fn beside_the_leafs(sent: &Sent<'_>) -> Option<(u8, String)> {
    let has_names =
        |one: &X509Certificate<'_>| one.subject_alternative_name().ok().flatten().is_some();
    let path: Vec<_> = sent.path().collect();
    let depth = path.iter().skip(1).position(|one| one.as_ref().is_some_and(has_names))?;
    let also = &sent.at(u8::try_from(depth + 1).ok()?)?.subject;
    let what = format!(
        "a name in it, or in the certificate of {also} above it, is outside what a CA may issue for (name \
         constraints)"
    );
    Some((0, what))
}

fn unlike_version_3(version: X509Version) -> Option<String> {
    match version {
        X509Version::V3 => None,
        X509Version::V1 => Some(VERSION_1.to_owned()),
        X509Version(number) => {
            Some(format!("is of X.509 version {}, and only 3 is taken", u64::from(number) + 1))
        }
    }
}

/// An extension that a certificate demands to be understood and is not.
pub(super) fn critical(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut strange = certificate
        .extensions()
        .iter()
        .filter(|one| one.critical && !UNDERSTOOD.contains(&one.oid.to_id_string().as_str()));
    let strange = named(&strange.next()?.oid);
    Some(format!("it has the critical extension {strange}, which is not understood here"))
}

fn signed_with(certificate: &X509Certificate<'_>, algorithm: &[u8]) -> Option<String> {
    let of_it = &certificate.signature_algorithm;
    // The identifier without its tag; parameters come after the OID.
    let (_, oid) = Any::from_der(algorithm).ok()?;
    if oid.data != of_it.algorithm.as_bytes() {
        return None;
    }
    Some(format!("it is signed with {}", unaccepted(of_it)))
}

fn unaccepted(algorithm: &AlgorithmIdentifier<'_>) -> String {
    match SignatureAlgorithm::try_from(algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(pss)) => format!(
            "RSASSA-PSS ({}, a salt of {} bytes), which is taken with SHA-256, SHA-384 or SHA-512 and a \
             salt of the same length only (`-sigopt rsa_pss_saltlen:digest`)",
            named(pss.hash_algorithm_oid()),
            pss.salt_length()
        ),
        _ => format!("{}, which is not accepted here", named(&algorithm.algorithm)),
    }
}

/// What was signed by a key that does not go with the signature: the one below it, or if it is an
/// anchor's, the last.
fn unfit(signature: &[u8], key: &[u8], sent: &Sent<'_>) -> Option<(u8, String)> {
    let has_key = |one: &X509Certificate<'_>| {
        let (_, spki) = Any::from_der(one.public_key().raw).ok()?;
        (values(spki.data).next()?.data == key).then_some(())
    };
    let path: Vec<_> = sent.path().collect();
    let issuer =
        path.iter().skip(1).position(|one| one.as_ref().is_some_and(|one| has_key(one).is_some()));
    let depth = u8::try_from(issuer.unwrap_or(path.len() - 1)).ok()?;
    let (signature, key) = (algorithm_of(signature), algorithm_of(key));
    let what = format!(
        "it is signed with {signature} by a key of {key}, which are not accepted together here"
    );
    Some((depth, what))
}

/// The content of an AlgorithmIdentifier: what it is, and a curve if it is on one.
fn algorithm_of(identifier: &[u8]) -> String {
    let oids = values(identifier).filter(|value| value.tag() == Tag::Oid);
    let oids = oids.filter_map(|value| value.oid().ok());
    oids.map(|oid| named(&oid)).collect::<Vec<_>>().join(", ")
}

/// By the name that people know, where there is one.
fn named(oid: &Oid<'_>) -> String {
    let digits = oid.to_id_string();
    match oid2sn(oid, oid_registry()) {
        Ok(name) => format!("{name} ({digits})"),
        Err(_) if digits == ECDSA_WITH_SHA1 => format!("ecdsa-with-SHA1 ({digits})"),
        Err(_) => digits,
    }
}

/// Constraints that webpki does not compare, and therefore refuses what they are about.
fn constrained(sent: &Sent<'_>, roots: &RootCertStore) -> Option<(u8, String)> {
    let top = sent.top_issuer()?;
    let mut bases: Vec<u32> = roots
        .roots
        .iter()
        .filter(|root| super::diagnosis::text_of(&root.subject).is_some_and(|name| name == top))
        .filter_map(|root| root.name_constraints.as_deref())
        .flat_map(bases_of)
        .collect();
    // From the anchor's side down: what is said there holds for all below.
    let parsed: Vec<_> = sent.path().collect();
    for (depth, certificate) in parsed.iter().enumerate().rev() {
        let certificate = certificate.as_ref()?;
        let kinds = kinds_of(certificate);
        let beyond = UNCOMPARED.iter().find(|(tag, _)| {
            bases.contains(tag) && (*tag == DIRECTORY_NAME || kinds.contains(tag))
        });
        if let Some((_, kind)) = beyond {
            let what = format!(
                "a CA above has name constraints about {kind}, which are not compared here: whatever below \
                 it has any is refused"
            );
            return Some((u8::try_from(depth).ok()?, what));
        }
        bases.extend(own_bases(certificate));
    }
    None
}

/// What a certificate's name constraints are about.
fn own_bases(certificate: &X509Certificate<'_>) -> Vec<u32> {
    let own = certificate
        .extensions()
        .iter()
        .find(|one| matches!(one.parsed_extension(), ParsedExtension::NameConstraints(_)));
    // The content of the extension's SEQUENCE, as an anchor has it.
    let own = own.and_then(|one| Any::from_der(one.value).ok());
    own.map(|(_, all)| bases_of(all.data)).unwrap_or_default()
}

/// Why an anchor, whatever it signs, vouches for nobody.
pub(super) fn in_vain(anchor: &X509Certificate<'_>) -> Option<String> {
    if own_bases(anchor).contains(&DIRECTORY_NAME) {
        return Some(
            "has name constraints about directory names, which are not compared here".to_owned(),
        );
    }
    let algorithm = &anchor.public_key().algorithm;
    let is_strange = UNVERIFIED.contains(&algorithm.algorithm.to_id_string().as_str());
    (is_strange && key_kind(anchor.public_key()) == KeyKind::Other).then(|| {
        let curve = algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let what = named(curve.as_ref().unwrap_or(&algorithm.algorithm));
        format!("has a key by which nothing is verified, {what}")
    })
}

/// The tags of the GeneralNames that name constraints are about (RFC 5280 §4.2.1.10).
fn bases_of(constraints: &[u8]) -> Vec<u32> {
    let subtrees = values(constraints).flat_map(|both| values(both.data).collect::<Vec<_>>());
    let bases = subtrees.filter_map(|subtree| values(subtree.data).next());
    bases.map(|base| base.tag().0).collect()
}

fn values(mut der: &[u8]) -> impl Iterator<Item = Any<'_>> {
    std::iter::from_fn(move || {
        let (rest, value) = Any::from_der(der).ok()?;
        der = rest;
        Some(value)
    })
}

fn kinds_of(certificate: &X509Certificate<'_>) -> Vec<u32> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| &names.value.general_names[..]).unwrap_or_default();
    let tag = |name: &GeneralName<'_>| match name {
        GeneralName::OtherName(..) => Some(0),
        GeneralName::RFC822Name(_) => Some(1),
        GeneralName::URI(_) => Some(6),
        GeneralName::RegisteredID(_) => Some(8),
        GeneralName::Invalid(tag, _) => Some(tag.0),
        _ => None,
    };
    names.iter().filter_map(tag).collect()
}

/// Tags of names that webpki does not compare with constraints, and what people call them.
const UNCOMPARED: [(u32, &str); 5] = [
    (DIRECTORY_NAME, "directory names"),
    (1, "mail addresses"),
    (6, "URIs"),
    (0, "other names"),
    (8, "registered ids"),
];
/// The parser's registry has no name for it, and people do meet it.
const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";
/// Keys of these kinds, unless `KeyKind` knows their curve: EC, DSA, RSA for RSASSA-PSS only, Ed448.
const UNVERIFIED: [&str; 4] =
    ["1.2.840.10045.2.1", "1.2.840.10040.4.1", "1.2.840.113549.1.1.10", "1.3.101.113"];
/// Of these every certificate has one: its subject.
const DIRECTORY_NAME: u32 = 4;

/// What webpki reads, by which a certificate may demand to be understood: key usage, names, basic
/// constraints, name constraints, distribution points, extended key usage.
const UNDERSTOOD: [&str; 6] =
    ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.37"];

const ANY_USE: &str = "anyExtendedKeyUsage";
/// `openssl x509 -req` without an extension file makes these, so people do meet it.
const VERSION_1: &str = "is of X.509 version 1, which cannot say what it is for: issue it anew with \
                         extensions (`openssl x509 -req -extfile`, or `portcullis pki`)";
const CA_AS_LEAF: &str = "it is a CA's certificate, and so no client's or server's own";
const CA_AS_LEAF_HINT: &str = "issue a certificate below this CA, or have a self-signed one that is no CA's: \
                               `openssl req -x509 -addext basicConstraints=critical,CA:FALSE`";

#[cfg(test)]
mod tests {
    use portcullis_kit::{Authority, ClientSpec};
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::tls::path::Chain;

    #[test]
    fn a_signature_algorithm_is_named_as_people_know_it() {
        // RSASSA-PSS with SHA-256 and a salt of 222 bytes, as `openssl req` makes it by default.
        let pss = b"\x30\x42\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x35\xa0\x0f\x30\x0d\
            \x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\xa1\x1c\x30\x1a\x06\x09\x2a\x86\
            \x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\
            \x00\xa2\x04\x02\x02\x00\xde";
        let sha1 = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00";
        let ecdsa_sha1 = b"\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x04\x01";
        let ed448 = b"\x30\x05\x06\x03\x2b\x65\x71";
        for (der, expected) in [
            (&pss[..], "RSASSA-PSS (sha256 (2.16.840.1.101.3.4.2.1), a salt of 222 bytes)"),
            (sha1, "sha1WithRSAEncryption (1.2.840.113549.1.1.5), which is not accepted here"),
            (ecdsa_sha1, "ecdsa-with-SHA1 (1.2.840.10045.4.1), which is not accepted here"),
            (ed448, "1.3.101.113"),
        ] {
            let (rest, algorithm) = AlgorithmIdentifier::from_der(der).unwrap();
            assert!(rest.is_empty());
            let named = unaccepted(&algorithm);
            assert!(named.contains(expected), "{expected}: {named}");
        }
    }

    #[test]
    fn a_key_that_does_not_go_with_a_signature_is_told_of_what_it_signed() {
        let root = Authority::new("Root");
        let middle = root.intermediate("Middle");
        let chain = middle.client(&ClientSpec::new("alice")).chain_der;
        let sent = Sent::of(Chain { leaf: &chain[0], intermediates: &chain[1..] });
        let signature = b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
        let p256 = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
        let (depth, what) = unfit(signature, p256, &sent).unwrap();
        assert_eq!(depth, 0, "{what}");
        assert!(what.contains("ecdsa-with-SHA256 (1.2.840.10045.4.3.2) by a key of"), "{what}");
        // The parameters of RSA are NULL.
        let rsa = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
        let (_, what) = unfit(rsa, p256, &sent).unwrap();
        assert!(
            what.contains("sha256WithRSAEncryption (1.2.840.113549.1.1.11) by a key"),
            "{what}"
        );
        // Nobody's that was sent, and so the anchor's.
        let secp256k1 = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x0a";
        let (depth, what) = unfit(signature, secp256k1, &sent).unwrap();
        assert_eq!(depth, 1, "{what}");
        assert!(what.contains("id-ecPublicKey (1.2.840.10045.2.1), 1.3.132.0.10,"), "{what}");
    }

    #[test]
    fn an_anchor_on_a_curve_that_is_not_known_is_in_vain() {
        let pem = include_bytes!("../../tests/data/secp256k1-ca.pem");
        let der = rustls_pki_types::CertificateDer::from_pem_slice(pem).unwrap();
        let (_, strange) = X509Certificate::from_der(&der).unwrap();
        let why = in_vain(&strange).unwrap();
        assert!(why.contains("nothing is verified, 1.3.132.0.10"), "{why}");
        let authority = Authority::new("Root");
        let (_, usual) = X509Certificate::from_der(authority.certificate()).unwrap();
        assert_eq!(in_vain(&usual), None);
    }

    #[test]
    fn a_version_is_counted_from_one() {
        assert_eq!(unlike_version_3(X509Version::V3), None);
        assert_eq!(unlike_version_3(X509Version::V1).as_deref(), Some(VERSION_1));
        let second = unlike_version_3(X509Version::V2).unwrap();
        assert!(second.contains("version 2"), "{second}");
    }

    #[test]
    fn constraints_are_told_by_what_they_are_about() {
        // Permitted: example.com as a host and for mail. Excluded: 10.0.0.0/8.
        let constraints = b"\xa0\x1e\x30\x0d\x82\x0bexample.com\x30\x0d\x81\x0bexample.com\
            \xa1\x0c\x30\x0a\x87\x08\x0a\x00\x00\x00\xff\x00\x00\x00";
        assert_eq!(bases_of(constraints), [2, 1, 7]);
        for end in 0..constraints.len() {
            bases_of(&constraints[..end]);
        }
    }
}
