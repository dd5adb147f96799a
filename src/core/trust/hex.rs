//! Bytes as people copy them from a certificate: hexadecimal, with colons between the bytes or none.
//!
//! Next: `authorize`, for serial numbers; `pin`, for digests.

/// Why a text is not hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    #[error("it is empty")]
    Empty,
    #[error("'{character}' is not a hexadecimal digit")]
    Character { character: char },
    #[error("colons must stand between all bytes, of two digits each, or nowhere")]
    Colons,
}

/// An odd number of digits has a zero before the first.
pub(super) fn parse(text: &str) -> Result<Vec<u8>, HexError> {
    if text.is_empty() {
        return Err(HexError::Empty);
    }
    if let Some(character) = text.chars().find(|c| !c.is_ascii_hexdigit() && *c != ':') {
        return Err(HexError::Character { character });
    }
    if text.contains(':') && text.split(':').any(|byte| byte.len() != 2) {
        return Err(HexError::Colons);
    }
    // Each digit is below 16, so a byte holds two.
    let mut digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').map(value).collect();
    if !digits.len().is_multiple_of(2) {
        digits.insert(0, 0);
    }
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// Lower case, without colons.
pub(super) fn show(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colons_stand_between_all_bytes_or_nowhere() {
        assert_eq!(parse("0a:1B:2c"), Ok(vec![0x0a, 0x1b, 0x2c]));
        assert_eq!(parse("a1B"), Ok(vec![0x0a, 0x1b]));
        assert_eq!(parse("7"), Ok(vec![7]));
        assert_eq!(parse(""), Err(HexError::Empty));
        assert_eq!(parse("0x1"), Err(HexError::Character { character: 'x' }));
        assert_eq!(parse("-1"), Err(HexError::Character { character: '-' }));
        assert_eq!(parse("ä"), Err(HexError::Character { character: 'ä' }));
        for text in ["a:1b", "0a::1b", ":", "0a:", ":0a", "0a:1b2c"] {
            assert_eq!(parse(text), Err(HexError::Colons), "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back_with_colons_and_without(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
            prop_assert_eq!(parse(&show(&bytes)), Ok(bytes.clone()));
            let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            prop_assert_eq!(parse(&pairs.join(":")), Ok(bytes));
        }
    }
}
