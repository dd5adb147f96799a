//! One revocation list: parsed, indexed for look-ups, its signature checked once for each key.
//!
//! webpki says whether the list is one that can be used at all (no delta, no indirect list) and reads
//! its entries; aws-lc checks the signature over a digest that was made when the list was loaded, so
//! that a list of 100 MiB costs a worker no more than a short one. `revocation` asks.

use arc_swap::ArcSwap;
use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_parser::asn1_rs::{Any, FromDer, Tag};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::ASN1Time;
use x509_parser::x509::{AlgorithmIdentifier, X509Name};

use super::identity::{name_text, sha256};
use super::signature::Signature;
use super::standing::{CertificateKey, SerialKeys};

/// A list, without the DER that it was read from.
#[derive(Debug)]
pub(super) struct RevocationList {
    /// As webpki shows the name in certificates.
    pub issuer: Box<[u8]>,
    pub issuer_text: String,
    /// Unix seconds.
    pub this_update: u64,
    /// Unix seconds.
    pub next_update: u64,
    pub scope: Scope,
    /// The identifier of the issuer's key, as the list gives it (RFC 5280 §5.2.1); nobody has checked it.
    pub authority_key: Option<Box<[u8]>>,
    /// SHA-256 of the whole list.
    pub digest: [u8; 32],
    /// Sorted.
    revoked: Box<[u128]>,
    signature: Signature,
    /// SHA-256 of each SubjectPublicKeyInfo that is known to have signed it.
    signers: ArcSwap<Vec<[u8; 32]>>,
}

/// Which certificates of its issuer a list speaks for (RFC 5280 §5.2.5).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    pub users_only: bool,
    pub authorities_only: bool,
    /// Names of its distribution point; `None`: it has none, and covers all.
    pub points: Option<Vec<PointName>>,
}

/// A full name of a distribution point: a URI, or a directory name in DER.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PointName(u8, Box<[u8]>);

impl RevocationList {
    /// Whether it is the issuer's word of `now`: begun, and not past its next update.
    pub(super) fn is_current(&self, now: u64) -> bool {
        self.this_update <= now + CLOCKS_APART && now <= self.next_update
    }

    /// Reads a list in DER.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator.
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        let list = BorrowedCertRevocationList::from_der(der).map_err(|error| {
            // webpki has one word for these and for garbage, and OpenSSL makes the first unless told.
            missing(der).map_or_else(|| unusable(error), str::to_owned)
        })?;
        let outline = Outline::parse(der).ok_or("it is not sound DER")?;
        let signature = outline
            .signature
            .ok_or("it is signed with an algorithm that is not accepted here, as DSA or SHA-1")?;
        let list = CertRevocationList::from(list);
        let CertRevocationList::Borrowed(entries) = &list else {
            return Err("it was copied".to_owned());
        };
        let revoked = revoked(list.issuer(), entries)?;
        Ok(Self {
            issuer: list.issuer().into(),
            issuer_text: outline.issuer,
            this_update: outline.this_update,
            next_update: outline.next_update,
            scope: outline.extensions.scope,
            authority_key: outline.extensions.authority_key,
            digest: sha256(der),
            revoked,
            signature,
            signers: ArcSwap::default(),
        })
    }

    /// How many certificates it revokes.
    pub(super) fn len(&self) -> usize {
        self.revoked.len()
    }

    pub(super) fn revokes(&self, certificate: CertificateKey) -> bool {
        self.revoked.binary_search(&certificate.serial).is_ok()
    }

    /// Whether the key in this SubjectPublicKeyInfo (DER) signed the list. Checked once a key.
    pub(super) fn is_signed_by(&self, spki: &[u8]) -> bool {
        let digest = sha256(spki);
        if self.signers.load().contains(&digest) {
            return true;
        }
        if self.signature.is_of(spki) != Some(true) {
            return false;
        }
        self.signers.rcu(|known| {
            let mut known = Vec::clone(known);
            // A CA has one key for its lists, two while it changes it.
            known.truncate(SIGNERS_MAX - 1);
            known.push(digest);
            known
        });
        true
    }
}

impl Scope {
    fn of(extension: &X509Extension<'_>) -> Option<Self> {
        let ParsedExtension::IssuingDistributionPoint(point) = extension.parsed_extension() else {
            return None;
        };
        let points = point.distribution_point.as_ref().map(|point| match point {
            DistributionPointName::FullName(names) => point_names(names),
            DistributionPointName::NameRelativeToCRLIssuer(_) => Vec::new(),
        });
        Some(Self {
            users_only: point.only_contains_user_certs,
            authorities_only: point.only_contains_ca_certs,
            points,
        })
    }
}

/// The point at which an issuer's own lists are, for certificates that name none (RFC 5280 §6.3.3).
pub(super) fn point_of(issuer: &X509Name<'_>) -> PointName {
    PointName(DIRECTORY, issuer.as_raw().into())
}

/// The names by which distribution points are compared.
pub(super) fn point_names(names: &[GeneralName<'_>]) -> Vec<PointName> {
    let names = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(PointName(URI, uri.as_bytes().into())),
        GeneralName::DirectoryName(name) => Some(PointName(DIRECTORY, name.as_raw().into())),
        _ => None,
    });
    names.collect()
}

/// What webpki does not show of a list that it has found sound: x509-parser would read every entry
/// into an object of its own, a gigabyte for a list of 100 MiB.
struct Outline {
    issuer: String,
    this_update: u64,
    next_update: u64,
    extensions: Extensions,
    /// `None`: by an algorithm that is not accepted.
    signature: Option<Signature>,
}

impl Outline {
    /// RFC 5280 §5.1, field by field.
    fn parse(der: &[u8]) -> Option<Self> {
        let (_, whole) = Any::from_der(der).ok()?;
        let (after, body) = Any::from_der(whole.data).ok()?;
        let signed = &whole.data[..whole.data.len() - after.len()];
        let (after, algorithm) = AlgorithmIdentifier::from_der(after).ok()?;
        let (_, bits) = Any::from_der(after).ok()?;
        let (_unused_bits, signature) = bits.data.split_first()?;

        let (rest, _version) = Any::from_der(body.data).ok()?;
        let (rest, _algorithm) = Any::from_der(rest).ok()?;
        let (rest, issuer) = X509Name::from_der(rest).ok()?;
        let (rest, this_update) = ASN1Time::from_der(rest).ok()?;
        let (mut rest, next_update) = ASN1Time::from_der(rest).ok()?;
        let mut extensions = Extensions::default();
        while let Ok((after, field)) = Any::from_der(rest) {
            rest = after;
            if field.tag() == Tag(0) {
                extensions = Extensions::parse(field.data)?;
            }
        }
        Some(Self {
            issuer: name_text(&issuer),
            this_update: u64::try_from(this_update.timestamp()).ok()?,
            next_update: u64::try_from(next_update.timestamp()).ok()?,
            extensions,
            signature: Signature::of(&algorithm, signed, signature),
        })
    }
}

/// Of a list's extensions those that matter here.
#[derive(Default)]
struct Extensions {
    scope: Scope,
    authority_key: Option<Box<[u8]>>,
}

impl Extensions {
    fn parse(extensions: &[u8]) -> Option<Self> {
        let (_, all) = Any::from_der(extensions).ok()?;
        let mut rest = all.data;
        let mut found = Self::default();
        while !rest.is_empty() {
            let (after, extension) = X509Extension::from_der(rest).ok()?;
            rest = after;
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    found.authority_key = authority.key_identifier.as_ref().map(|id| id.0.into());
                }
                _ if extension.oid.to_id_string() == ISSUING_DISTRIBUTION_POINT => {
                    found.scope = Scope::of(&extension)?;
                }
                _ => {}
            }
        }
        Some(found)
    }
}

fn revoked(issuer: &[u8], list: &BorrowedCertRevocationList<'_>) -> Result<Box<[u128]>, String> {
    let keys = SerialKeys::of(issuer);
    let mut revoked = Vec::new();
    for entry in list {
        let entry = entry.map_err(unusable)?;
        revoked.push(keys.key(entry.serial_number));
    }
    revoked.sort_unstable();
    Ok(revoked.into())
}

/// What an otherwise sound list lacks that RFC 5280 §5.1.2 demands.
fn missing(der: &[u8]) -> Option<&'static str> {
    let (_, whole) = Any::from_der(der).ok()?;
    let (_, body) = Any::from_der(whole.data).ok()?;
    let (rest, first) = Any::from_der(body.data).ok()?;
    if first.tag() == Tag::Sequence {
        return Some(
            "it is of version 1, which has no number: have version 2 issued (`crlnumber` in the \
             configuration of `openssl ca`)",
        );
    }
    let (rest, _algorithm) = Any::from_der(rest).ok()?;
    let (rest, _issuer) = X509Name::from_der(rest).ok()?;
    let (rest, _this_update) = ASN1Time::from_der(rest).ok()?;
    let lacks_next = rest.is_empty() || ASN1Time::from_der(rest).is_err();
    lacks_next.then_some("it does not say when the next one is due (nextUpdate)")
}

fn unusable(error: webpki::Error) -> String {
    match error {
        webpki::Error::UnsupportedDeltaCrl => {
            "it is a delta list, which only adds to another: use the complete list".to_owned()
        }
        webpki::Error::UnsupportedIndirectCrl => {
            "it is an indirect list, which speaks for other issuers than its own".to_owned()
        }
        webpki::Error::UnsupportedRevocationReasonsPartitioning => {
            "it covers some reasons of revocation only: use the complete list".to_owned()
        }
        webpki::Error::UnsupportedCrlIssuingDistributionPoint => {
            "its issuing distribution point has no full name: use the complete list".to_owned()
        }
        webpki::Error::UnsupportedCriticalExtension => {
            "it has a critical extension that is not understood here".to_owned()
        }
        webpki::Error::UnsupportedRevocationReason => {
            "one of its entries has a reason that RFC 5280 §5.3.1 does not know".to_owned()
        }
        other => format!("webpki finds {other:?}"),
    }
}

const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";

/// Tags of GeneralName (RFC 5280 §4.2.1.6).
const URI: u8 = 6;
const DIRECTORY: u8 = 4;

const SIGNERS_MAX: usize = 8;
/// Seconds by which a CA's clock may be ahead of this machine's.
const CLOCKS_APART: u64 = 300;

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
        CrlIssuingDistributionPoint, CrlScope, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
        RevocationReason, RevokedCertParams, RsaKeySize, SerialNumber,
    };

    use super::*;

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        spki: Vec<u8>,
    }

    fn authority(key: KeyPair) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "Lists");
        let certificate = params.self_signed(&key).unwrap();
        let (_, parsed) =
            x509_parser::certificate::X509Certificate::from_der(certificate.der()).unwrap();
        let spki = parsed.public_key().raw.to_vec();
        Authority { issuer: Issuer::new(params, key), spki }
    }

    fn list(
        authority: &Authority,
        serials: &[&[u8]],
        point: Option<CrlIssuingDistributionPoint>,
    ) -> Vec<u8> {
        let day = |day| rcgen::date_time_ymd(2026, 1, day);
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from(serial.to_vec()),
            revocation_time: day(1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: day(2),
            next_update: day(3),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: point,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&authority.issuer).unwrap().der().to_vec()
    }

    fn p256() -> Authority {
        authority(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
    }

    #[test]
    fn a_list_is_known_by_the_key_that_signed_it_whatever_its_kind() {
        let keys = [
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
            KeyPair::generate_for(&rcgen::PKCS_ED25519),
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA512, RsaKeySize::_2048),
        ];
        let authorities: Vec<_> = keys.into_iter().map(|key| authority(key.unwrap())).collect();
        for (at, signer) in authorities.iter().enumerate() {
            let list = RevocationList::parse(&list(signer, &[&[7]], None)).unwrap();
            for (of, other) in authorities.iter().enumerate() {
                // Twice: the second time from memory.
                for _ in 0..2 {
                    assert_eq!(list.is_signed_by(&other.spki), at == of, "{at} {of}");
                }
            }
        }
    }

    #[test]
    fn a_list_that_is_altered_anywhere_is_no_list_or_has_no_signer() {
        let authority = p256();
        let good = list(&authority, &[&[7]], None);
        for at in 0..good.len() {
            let mut altered = good.clone();
            altered[at] ^= 1;
            if let Ok(list) = RevocationList::parse(&altered) {
                assert!(!list.is_signed_by(&authority.spki), "byte {at}");
            }
            assert!(RevocationList::parse(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_list_is_current_from_its_beginning_to_its_next_update() {
        let list = RevocationList::parse(&list(&p256(), &[], None)).unwrap();
        let (begin, end) = (list.this_update, list.next_update);
        for (now, is_current) in [
            (begin - CLOCKS_APART - 1, false),
            (begin - CLOCKS_APART, true),
            (begin, true),
            (end, true),
            (end + 1, false),
        ] {
            assert_eq!(list.is_current(now), is_current, "{now} of {begin} to {end}");
        }
    }

    #[test]
    fn what_a_list_lacks_is_told_in_words() {
        // Long enough for two bytes of length.
        let good = list(&p256(), &[&[7_u8; 19][..]; 16], None);
        let (_, whole) = Any::from_der(&good).unwrap();
        let (signed, body) = Any::from_der(whole.data).unwrap();
        let (after_version, _) = Any::from_der(body.data).unwrap();
        let sequence = |inside: &[u8]| {
            let length = u16::try_from(inside.len()).unwrap().to_be_bytes();
            [&[0x30, 0x82], &length[..], inside].concat()
        };
        let of_body = |body: &[u8]| sequence(&[&sequence(body), signed].concat());
        let told = |der: &[u8]| RevocationList::parse(der).unwrap_err();
        assert!(RevocationList::parse(&of_body(body.data)).is_ok());
        let first = told(&of_body(after_version));
        assert!(first.starts_with("it is of version 1"), "{first}");
        let mut rest = body.data;
        for _ in 0..4 {
            (rest, _) = Any::from_der(rest).unwrap();
        }
        let before = &body.data[..body.data.len() - rest.len()];
        let (after_next, _) = Any::from_der(rest).unwrap();
        let told_without = told(&of_body(&[before, after_next].concat()));
        assert!(told_without.contains("nextUpdate"), "{told_without}");
        assert!(told(&good[..good.len() / 2]).starts_with("webpki finds"));
    }

    #[test]
    fn a_reason_that_does_not_exist_is_told() {
        let authority = authority(KeyPair::generate().unwrap());
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 2),
            next_update: rcgen::date_time_ymd(2026, 1, 3),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(7),
                revocation_time: rcgen::date_time_ymd(2026, 1, 1),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let mut der = params.signed_by(&authority.issuer).unwrap().der().to_vec();
        assert!(RevocationList::parse(&der).is_ok());
        // ENUMERATED 1 becomes 7, the one number that RFC 5280 leaves out.
        let reason = der.windows(5).position(|at| at == [0x04, 3, 0x0a, 1, 1]).unwrap();
        der[reason + 4] = 7;
        let told = RevocationList::parse(&der).unwrap_err();
        assert!(told.contains("has a reason that RFC 5280"), "{told}");
    }

    #[test]
    fn what_is_revoked_is_found_and_leading_zeros_do_not_count() {
        let authority = p256();
        let list = RevocationList::parse(&list(&authority, &[&[0x41], &[0x7f, 1]], None)).unwrap();
        let revokes =
            |issuer: &[u8], serial: &[u8]| list.revokes(CertificateKey::new(issuer, serial));
        assert_eq!(list.len(), 2);
        assert!(revokes(&list.issuer, &[0x41]) && revokes(&list.issuer, &[0, 0x7f, 1]));
        assert!(!revokes(&list.issuer, &[0x42]) && !revokes(b"another issuer", &[0x41]));
        assert!(!revokes(&list.issuer, &[0x41, 0]));
    }

    #[test]
    fn the_scope_of_a_list_is_read() {
        let authority = p256();
        let of = |scope| {
            let uris = vec!["http://ca.test/users.crl".to_owned()];
            let distribution_point = CrlDistributionPoint { uris };
            let point = CrlIssuingDistributionPoint { distribution_point, scope };
            RevocationList::parse(&list(&authority, &[], Some(point))).unwrap().scope
        };
        let points = || Some(vec![PointName(URI, (*b"http://ca.test/users.crl").into())]);
        let all = Scope { points: points(), ..Scope::default() };
        assert_eq!(of(None), all);
        let users = Scope { users_only: true, points: points(), ..Scope::default() };
        assert_eq!(of(Some(CrlScope::UserCertsOnly)), users);
        let authorities = Scope { authorities_only: true, points: points(), ..Scope::default() };
        assert_eq!(of(Some(CrlScope::CaCertsOnly)), authorities);
        let plain = RevocationList::parse(&list(&authority, &[], None)).unwrap();
        assert_eq!(plain.scope, Scope::default());
        assert_eq!((plain.this_update, plain.next_update), (1_767_312_000, 1_767_398_400));
        assert_eq!(plain.issuer_text, "CN=Lists");
    }
}
