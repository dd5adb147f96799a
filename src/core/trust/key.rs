//! Kinds of public keys, and which of them a trust takes.

use std::fmt;

/// The kind of a certificate's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Ed25519,
    /// With the length of the modulus in bits.
    Rsa(u32),
    Other,
}

/// One element of `trust.NAME.client_keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Ed25519,
    /// Modulus lengths in bits, both ends included.
    Rsa {
        min: u32,
        max: u32,
    },
}

impl KeyRule {
    /// What a trust takes that says nothing about keys (threat 12).
    pub const DEFAULT: [Self; 4] =
        [Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519, Self::Rsa { min: 2048, max: 4096 }];

    pub fn takes(self, kind: KeyKind) -> bool {
        match (self, kind) {
            (Self::EcdsaP256, KeyKind::EcdsaP256)
            | (Self::EcdsaP384, KeyKind::EcdsaP384)
            | (Self::EcdsaP521, KeyKind::EcdsaP521)
            | (Self::Ed25519, KeyKind::Ed25519) => true,
            (Self::Rsa { min, max }, KeyKind::Rsa(bits)) => (min..=max).contains(&bits),
            _ => false,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcdsaP256 => f.write_str("ecdsa-p256"),
            Self::EcdsaP384 => f.write_str("ecdsa-p384"),
            Self::EcdsaP521 => f.write_str("ecdsa-p521"),
            Self::Ed25519 => f.write_str("ed25519"),
            Self::Rsa(bits) => write!(f, "rsa-{bits}"),
            Self::Other => f.write_str("unknown"),
        }
    }
}

/// As the configuration writes it.
impl fmt::Display for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcdsaP256 => f.write_str("ecdsa-p256"),
            Self::EcdsaP384 => f.write_str("ecdsa-p384"),
            Self::EcdsaP521 => f.write_str("ecdsa-p521"),
            Self::Ed25519 => f.write_str("ed25519"),
            Self::Rsa { min, max } => write!(f, "rsa-{min}-{max}"),
        }
    }
}
