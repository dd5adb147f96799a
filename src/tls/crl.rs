//! One revocation list: parsed, indexed for look-ups, its signature checked once for each key.
//!
//! webpki says whether the list is one that can be used at all (no delta, no indirect list) and reads
//! its entries; aws-lc checks the signature over a digest that was made when the list was loaded, so
//! that a list of 100 MiB costs a worker no more than a short one. `revocation` asks.

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_parser::asn1_rs::{Any, FromDer, Tag};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::ASN1Time;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name};

use super::identity::sha256;
use super::standing::CertificateKey;
use crate::core::trust::KeyKind;
use crate::tls::leaf::key_kind;

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

/// What the signature stands for.
enum Signature {
    /// Algorithms that sign a digest.
    OfDigest { hash: Hash, pss: bool, digest: Digest, signature: Box<[u8]> },
    /// Ed25519 signs the list itself.
    OfWhole { signed: Box<[u8]>, signature: Box<[u8]> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl RevocationList {
    /// Reads a list in DER.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator.
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        let list = BorrowedCertRevocationList::from_der(der).map_err(unusable)?;
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
            scope: outline.scope,
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

impl Signature {
    fn of(algorithm: &AlgorithmIdentifier<'_>, signed: &[u8], signature: &[u8]) -> Option<Self> {
        let (hash, pss) = match SignatureAlgorithm::try_from(algorithm).ok()? {
            SignatureAlgorithm::ED25519 => {
                return Some(Self::OfWhole { signed: signed.into(), signature: signature.into() });
            }
            SignatureAlgorithm::RSASSA_PSS(parameters) => {
                (Hash::named(&parameters.hash_algorithm_oid().to_id_string())?, true)
            }
            SignatureAlgorithm::RSA | SignatureAlgorithm::ECDSA => {
                (Hash::named(&algorithm.algorithm.to_id_string())?, false)
            }
            _ => return None,
        };
        let digest = digest::digest(hash.algorithm(), signed);
        Some(Self::OfDigest { hash, pss, digest, signature: signature.into() })
    }

    /// `None`: the key is of a kind that this algorithm does not go with.
    fn is_of(&self, spki: &[u8]) -> Option<bool> {
        let (_, key) = SubjectPublicKeyInfo::from_der(spki).ok()?;
        let bytes = key.subject_public_key.data.as_ref();
        match self {
            Self::OfWhole { signed, signature } => {
                if key_kind(&key) != KeyKind::Ed25519 {
                    return None;
                }
                let key = UnparsedPublicKey::new(&signature::ED25519, bytes);
                Some(key.verify(signed, signature).is_ok())
            }
            Self::OfDigest { hash, pss, digest, signature } => {
                let algorithm = verification(key_kind(&key), *hash, *pss)?;
                let key = UnparsedPublicKey::new(algorithm, bytes);
                Some(key.verify_digest(digest, signature).is_ok())
            }
        }
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signature")
    }
}

fn verification(key: KeyKind, hash: Hash, pss: bool) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (key, hash, pss) {
        (KeyKind::EcdsaP256, Hash::Sha256, false) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyKind::EcdsaP256, Hash::Sha384, false) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyKind::EcdsaP256, Hash::Sha512, false) => &signature::ECDSA_P256_SHA512_ASN1,
        (KeyKind::EcdsaP384, Hash::Sha256, false) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyKind::EcdsaP384, Hash::Sha384, false) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyKind::EcdsaP384, Hash::Sha512, false) => &signature::ECDSA_P384_SHA512_ASN1,
        (KeyKind::EcdsaP521, Hash::Sha256, false) => &signature::ECDSA_P521_SHA256_ASN1,
        (KeyKind::EcdsaP521, Hash::Sha384, false) => &signature::ECDSA_P521_SHA384_ASN1,
        (KeyKind::EcdsaP521, Hash::Sha512, false) => &signature::ECDSA_P521_SHA512_ASN1,
        (KeyKind::Rsa(_), Hash::Sha256, false) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa(_), Hash::Sha384, false) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa(_), Hash::Sha512, false) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (KeyKind::Rsa(_), Hash::Sha256, true) => &signature::RSA_PSS_2048_8192_SHA256,
        (KeyKind::Rsa(_), Hash::Sha384, true) => &signature::RSA_PSS_2048_8192_SHA384,
        (KeyKind::Rsa(_), Hash::Sha512, true) => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

impl Hash {
    /// By the identifier of a hash, or of a signature algorithm that uses it (RFC 4055, RFC 5758).
    fn named(identifier: &str) -> Option<Self> {
        Some(match identifier {
            "2.16.840.1.101.3.4.2.1" | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => {
                Self::Sha256
            }
            "2.16.840.1.101.3.4.2.2" | "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => {
                Self::Sha384
            }
            "2.16.840.1.101.3.4.2.3" | "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => {
                Self::Sha512
            }
            _ => return None,
        })
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// What webpki does not show of a list that it has found sound: x509-parser would read every entry
/// into an object of its own, a gigabyte for a list of 100 MiB.
struct Outline {
    issuer: String,
    this_update: u64,
    next_update: u64,
    scope: Scope,
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
        let mut scope = Scope::default();
        while let Ok((after, field)) = Any::from_der(rest) {
            rest = after;
            if field.tag() == Tag(0) {
                scope = scope_of(field.data)?;
            }
        }
        Some(Self {
            issuer: issuer.to_string(),
            this_update: u64::try_from(this_update.timestamp()).ok()?,
            next_update: u64::try_from(next_update.timestamp()).ok()?,
            scope,
            signature: Signature::of(&algorithm, signed, signature),
        })
    }
}

/// Out of the extensions of a list.
fn scope_of(extensions: &[u8]) -> Option<Scope> {
    let (_, all) = Any::from_der(extensions).ok()?;
    let mut rest = all.data;
    let mut scope = Scope::default();
    while !rest.is_empty() {
        let (after, extension) = X509Extension::from_der(rest).ok()?;
        rest = after;
        if extension.oid.to_id_string() == ISSUING_DISTRIBUTION_POINT {
            scope = Scope::of(&extension)?;
        }
    }
    Some(scope)
}

fn revoked(issuer: &[u8], list: &BorrowedCertRevocationList<'_>) -> Result<Box<[u128]>, String> {
    let mut revoked = Vec::new();
    for entry in list {
        let entry = entry.map_err(unusable)?;
        revoked.push(CertificateKey::new(issuer, entry.serial_number).serial);
    }
    revoked.sort_unstable();
    Ok(revoked.into())
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
        other => format!("webpki finds {other:?}"),
    }
}

const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";

/// Tags of GeneralName (RFC 5280 §4.2.1.6).
const URI: u8 = 6;
const DIRECTORY: u8 = 4;

const SIGNERS_MAX: usize = 8;
