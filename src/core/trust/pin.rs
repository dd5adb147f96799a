//! Digests that a trust may pin: of a whole certificate, or of its public key.
//!
//! Next: `policy`, which asks for them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::hex::{self, HexError};

/// SHA-256 of a whole certificate or of its SubjectPublicKeyInfo: either will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

/// Why a text is not a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    #[error("a SHA-256 digest has 64 hexadecimal digits, this has {digits}")]
    Digits { digits: usize },
    #[error(transparent)]
    Hex(#[from] HexError),
    #[error("what follows \"sha256/\" is not the base64 of 32 bytes")]
    Base64,
}

impl FromStr for Pin {
    type Err = PinError;

    /// 64 hexadecimal digits, with colons between the bytes or without, or `sha256/` and base64, as
    /// in RFC 7469.
    fn from_str(text: &str) -> Result<Self, PinError> {
        let bytes = match text.strip_prefix("sha256/") {
            // Both ways to fail are one mistake to whoever copied the text.
            Some(encoded) => STANDARD.decode(encoded).map_err(|_refused| PinError::Base64)?,
            None => {
                let bytes = hex::parse(text)?;
                let digits = text.bytes().filter(|byte| *byte != b':').count();
                if digits != 64 {
                    return Err(PinError::Digits { digits });
                }
                bytes
            }
        };
        bytes.try_into().map(Self).map_err(|_bytes| PinError::Base64)
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::show(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_digest_is_refused_with_the_reason() {
        let error = |text: &str| text.parse::<Pin>().expect_err(text);
        assert_eq!(error(""), PinError::Hex(HexError::Empty));
        assert_eq!(error("00"), PinError::Digits { digits: 2 });
        assert_eq!(error(&"0".repeat(63)), PinError::Digits { digits: 63 });
        assert_eq!(error(&"0".repeat(65)), PinError::Digits { digits: 65 });
        assert_eq!(error(&"0".repeat(40)), PinError::Digits { digits: 40 });
        assert_eq!(error("sha256:00"), PinError::Hex(HexError::Character { character: 's' }));
        assert_eq!(error("sha256/"), PinError::Base64);
        assert_eq!(error("sha256/AAAA"), PinError::Base64);
        // Without its padding, and with bits that are left over.
        assert_eq!(error("sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), PinError::Base64);
        assert_eq!(error("sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB="), PinError::Base64);
    }

    proptest! {
        #[test]
        fn a_digest_is_the_same_in_every_form(digest in any::<[u8; 32]>()) {
            let pin = Pin(digest);
            prop_assert_eq!(pin.to_string().parse(), Ok(pin));
            let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
            prop_assert_eq!(pairs.join(":").parse(), Ok(pin));
            prop_assert_eq!(format!("sha256/{}", STANDARD.encode(digest)).parse(), Ok(pin));
        }

        #[test]
        fn any_text_is_a_pin_or_refused(text in "(sha256/)?[0-9a-fA-F:=+/]{0,70}|(?s).{0,70}") {
            if let Ok(pin) = text.parse::<Pin>() {
                prop_assert_eq!(pin.to_string().parse(), Ok(pin));
            }
        }
    }
}
