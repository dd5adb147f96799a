//! Kinds of private keys, as the command line names them.

use aws_lc_rs::signature::Ed25519KeyPair;
use clap::ValueEnum;
use rcgen::{KeyPair, RsaKeySize};
use zeroize::Zeroizing;

use super::PkiError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyKind {
    #[value(alias = "ecdsa")]
    EcdsaP256,
    EcdsaP384,
    Ed25519,
    #[value(name = "rsa-2048")]
    Rsa2048,
    #[value(name = "rsa-3072")]
    Rsa3072,
    #[value(name = "rsa-4096")]
    Rsa4096,
    /// RSA of a length that suits its use: `or_rsa` settles it.
    #[value(hide = true)]
    Rsa,
}

impl KeyKind {
    /// What plain `rsa` means.
    pub(super) fn or_rsa(self, suitable: Self) -> Self {
        if self == Self::Rsa { suitable } else { self }
    }

    pub(super) fn generate(self) -> Result<KeyPair, PkiError> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        Ok(match self {
            Self::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
            Self::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
            Self::Ed25519 => ed25519()?,
            Self::Rsa | Self::Rsa2048 => rsa(RsaKeySize::_2048)?,
            Self::Rsa3072 => rsa(RsaKeySize::_3072)?,
            Self::Rsa4096 => rsa(RsaKeySize::_4096)?,
        })
    }

    /// For people.
    pub(super) fn described(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa | Self::Rsa2048 => "RSA 2048",
            Self::Rsa3072 => "RSA 3072",
            Self::Rsa4096 => "RSA 4096",
        }
    }
}

/// In version 1 of PKCS #8: rcgen makes version 2 with the public key in it (RFC 5958), which OpenSSL
/// does not read.
fn ed25519() -> Result<KeyPair, PkiError> {
    let pkcs8 = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1());
    let pkcs8 = pkcs8.map_err(|_unspecified| PkiError::NoRandomness)?;
    let der = Zeroizing::new(pkcs8.as_ref().to_vec());
    Ok(KeyPair::try_from(&der[..])?)
}
