//! Whether an object of X.509, a list or a certificate, is signed by a key. webpki asks it of what it
//! judges; this is for what it does not look at, and for words about what it refuses.
//!
//! Kept without the bytes that were signed where their digest will do. `crl` and `sent` ask.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::leaf::key_kind;
use crate::core::trust::KeyKind;

/// The signature of a list or of a certificate, with what it stands for.
pub(super) struct Signature(Signed);

enum Signed {
    /// Algorithms that sign a digest.
    OfDigest { hash: Hash, pss: bool, digest: Digest, signature: Box<[u8]> },
    /// Ed25519 signs the bytes themselves.
    OfWhole { signed: Box<[u8]>, signature: Box<[u8]> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Signature {
    /// `None`: of an algorithm that is not known here.
    pub(super) fn of(
        algorithm: &AlgorithmIdentifier<'_>,
        signed: &[u8],
        signature: &[u8],
    ) -> Option<Self> {
        let (hash, pss) = match SignatureAlgorithm::try_from(algorithm).ok()? {
            SignatureAlgorithm::ED25519 => {
                let (signed, signature) = (signed.into(), signature.into());
                return Some(Self(Signed::OfWhole { signed, signature }));
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
        Some(Self(Signed::OfDigest { hash, pss, digest, signature: signature.into() }))
    }

    /// `None`: the key is of a kind that this algorithm does not go with.
    pub(super) fn is_of(&self, spki: &[u8]) -> Option<bool> {
        let (_, key) = SubjectPublicKeyInfo::from_der(spki).ok()?;
        let bytes = key.subject_public_key.data.as_ref();
        match &self.0 {
            Signed::OfWhole { signed, signature } => {
                if key_kind(&key) != KeyKind::Ed25519 {
                    return None;
                }
                let key = UnparsedPublicKey::new(&signature::ED25519, bytes);
                Some(key.verify(signed, signature).is_ok())
            }
            Signed::OfDigest { hash, pss, digest, signature } => {
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
