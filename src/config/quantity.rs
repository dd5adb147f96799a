//! Durations ("250ms", "5s", "1m", "2h", "1d") and sizes ("0B", "64KiB", "1MiB") as a file writes them.
//!
//! Pure text to value; `node` turns a failure into a problem with a place.

use std::time::Duration;

/// The longest duration that a file may ask for: far beyond any use, and `Instant + DURATION_MAX`
/// cannot overflow.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// Why a text is not a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuantityError {
    /// No digits, or something else before them (a sign, a space, a fraction).
    Number,
    UnitMissing,
    UnitUnknown,
    TooLarge,
}

pub(crate) fn duration(text: &str) -> Result<Duration, QuantityError> {
    let unit_millis = |unit: &str| match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let duration = Duration::from_millis(scaled(text, unit_millis)?);
    if duration > DURATION_MAX { Err(QuantityError::TooLarge) } else { Ok(duration) }
}

pub(super) fn size(text: &str) -> Result<Size, QuantityError> {
    let unit_bytes = |unit: &str| match unit {
        "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    scaled(text, unit_bytes).map(Size)
}

fn scaled(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Result<u64, QuantityError> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, name) = text.split_at(digits_end);
    if digits.is_empty() {
        return Err(QuantityError::Number);
    }
    if name.is_empty() {
        return Err(QuantityError::UnitMissing);
    }
    let factor = unit(name).ok_or(QuantityError::UnitUnknown)?;
    let number: Option<u64> = digits.parse().ok();
    number.and_then(|number| number.checked_mul(factor)).ok_or(QuantityError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(duration("365d"), Ok(DURATION_MAX));
        assert_eq!(duration("366d"), Err(QuantityError::TooLarge));
        assert_eq!(duration("99999999999999999999s"), Err(QuantityError::TooLarge));
        assert_eq!(duration("18446744073709551615d"), Err(QuantityError::TooLarge));
        assert_eq!(duration("5"), Err(QuantityError::UnitMissing));
        assert_eq!(duration("5 s"), Err(QuantityError::UnitUnknown));
        assert_eq!(duration("1h30m"), Err(QuantityError::UnitUnknown));
        assert_eq!(duration("-5s"), Err(QuantityError::Number));
        assert_eq!(duration(""), Err(QuantityError::Number));
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("0B"), Ok(Size(0)));
        assert_eq!(size("64KiB"), Ok(Size(65_536)));
        assert_eq!(size("1MiB"), Ok(Size(1_048_576)));
        assert_eq!(size("64KB"), Err(QuantityError::UnitUnknown));
        assert_eq!(size("18446744073709551615GiB"), Err(QuantityError::TooLarge));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = duration(&text);
            let _ = size(&text);
        }

        #[test]
        fn whole_seconds_come_back(seconds in 0..=DURATION_MAX.as_secs()) {
            prop_assert_eq!(duration(&format!("{seconds}s")), Ok(Duration::from_secs(seconds)));
        }
    }
}
