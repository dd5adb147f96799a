//! Kinds of public keys, and which of them a trust takes.

use std::fmt;
use std::str::FromStr;

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

/// Why a text is not a rule about keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRuleError {
    #[error("not a kind of key")]
    Unknown,
    #[error("RSA keys are written with their shortest and longest length in bits")]
    RsaForm,
    #[error("the shortest length, {min}, is more than the longest, {max}")]
    RsaUpsideDown { min: u32, max: u32 },
    #[error("{bits} bits: RSA keys have {RSA_BITS_MIN} to {RSA_BITS_MAX}")]
    RsaBits { bits: u32 },
}

impl KeyKind {
    /// Whether a signature by such a key is verified at all: aws-lc takes RSA of some lengths only.
    pub fn is_verified(self) -> bool {
        match self {
            Self::Rsa(bits) => (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits),
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 | Self::Ed25519 | Self::Other => {
                true
            }
        }
    }
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

impl FromStr for KeyRule {
    type Err = KeyRuleError;

    fn from_str(text: &str) -> Result<Self, KeyRuleError> {
        match text {
            "ecdsa-p256" => return Ok(Self::EcdsaP256),
            "ecdsa-p384" => return Ok(Self::EcdsaP384),
            "ecdsa-p521" => return Ok(Self::EcdsaP521),
            "ed25519" => return Ok(Self::Ed25519),
            "rsa" => return Err(KeyRuleError::RsaForm),
            _ => {}
        }
        let lengths = text.strip_prefix("rsa-").ok_or(KeyRuleError::Unknown)?;
        let (min, max) = lengths.split_once('-').ok_or(KeyRuleError::RsaForm)?;
        let (min, max) = (bits(min)?, bits(max)?);
        if min > max {
            return Err(KeyRuleError::RsaUpsideDown { min, max });
        }
        Ok(Self::Rsa { min, max })
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
            Self::Other => {
                f.write_str("of a kind that is not taken here (as RSA-PSS, Ed448 or DSA)")
            }
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

fn bits(text: &str) -> Result<u32, KeyRuleError> {
    let is_number = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let bits = text.parse().ok().filter(|_| is_number).ok_or(KeyRuleError::RsaForm)?;
    match (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        true => Ok(bits),
        false => Err(KeyRuleError::RsaBits { bits }),
    }
}

/// What webpki's algorithms over aws-lc-rs verify at all.
const RSA_BITS_MIN: u32 = 2048;
const RSA_BITS_MAX: u32 = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rule_takes_its_own_kind_and_no_other() {
        let rules = [
            KeyRule::EcdsaP256,
            KeyRule::EcdsaP384,
            KeyRule::EcdsaP521,
            KeyRule::Ed25519,
            KeyRule::Rsa { min: 2048, max: 4096 },
        ];
        let kinds = [
            KeyKind::EcdsaP256,
            KeyKind::EcdsaP384,
            KeyKind::EcdsaP521,
            KeyKind::Ed25519,
            KeyKind::Rsa(3072),
        ];
        for (i, rule) in rules.into_iter().enumerate() {
            for (j, kind) in kinds.into_iter().enumerate() {
                assert_eq!(rule.takes(kind), i == j, "{rule} on {kind}");
            }
            assert!(!rule.takes(KeyKind::Other), "{rule}");
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn rsa_is_verified_between_2048_and_8192_bits() {
        for (bits, is_verified) in [(0, false), (2047, false), (2048, true), (8192, true)] {
            assert_eq!(KeyKind::Rsa(bits).is_verified(), is_verified, "{bits}");
        }
        assert!(!KeyKind::Rsa(8193).is_verified() && KeyKind::Ed25519.is_verified());
    }

    #[test]
    fn both_ends_of_a_range_are_in_it() {
        let rule = KeyRule::Rsa { min: 2048, max: 4096 };
        for (bits, taken) in [(2047, false), (2048, true), (4096, true), (4097, false)] {
            assert_eq!(rule.takes(KeyKind::Rsa(bits)), taken, "{bits}");
        }
    }

    #[test]
    fn by_default_nothing_weak_or_exotic_is_taken() {
        let taken = |kind| KeyRule::DEFAULT.iter().any(|rule| rule.takes(kind));
        for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519, KeyKind::Rsa(2048)] {
            assert!(taken(kind), "{kind}");
        }
        let others = [KeyKind::EcdsaP521, KeyKind::Other, KeyKind::Rsa(1024), KeyKind::Rsa(8192)];
        for kind in others {
            assert!(!taken(kind), "{kind}");
        }
    }

    #[test]
    fn texts_that_are_no_rules_are_refused_with_the_reason() {
        for (text, error) in [
            ("", KeyRuleError::Unknown),
            ("ecdsa", KeyRuleError::Unknown),
            ("ECDSA-P256", KeyRuleError::Unknown),
            ("ed448", KeyRuleError::Unknown),
            ("rsa", KeyRuleError::RsaForm),
            ("rsa-", KeyRuleError::RsaForm),
            ("rsa-2048", KeyRuleError::RsaForm),
            ("rsa-2048-", KeyRuleError::RsaForm),
            ("rsa-+2048-4096", KeyRuleError::RsaForm),
            ("rsa-02048-4096", KeyRuleError::RsaForm),
            ("rsa-2048-4096-8192", KeyRuleError::RsaForm),
            ("rsa-2048-99999999999", KeyRuleError::RsaForm),
            ("rsa-1024-4096", KeyRuleError::RsaBits { bits: 1024 }),
            ("rsa-2048-16384", KeyRuleError::RsaBits { bits: 16384 }),
            ("rsa-4096-2048", KeyRuleError::RsaUpsideDown { min: 4096, max: 2048 }),
        ] {
            assert_eq!(text.parse::<KeyRule>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_that_shows_itself_or_refused(text in "rsa-[0-9]{1,5}-[0-9]{1,5}|(?s).{0,20}") {
            if let Ok(rule) = text.parse::<KeyRule>() {
                prop_assert_eq!(rule.to_string(), text);
            }
        }
    }
}
