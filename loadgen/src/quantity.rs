//! Owns the written forms of amounts: durations (`30s`, `5ms`), sizes (`64k`), shares (`1%`), and
//! the conversions between whole and floating numbers. Never touches a clock. Read `arrivals.rs`
//! for rates.

use std::time::Duration;

use anyhow::{Context, Result, bail};

/// `250us`, `20ms`, `30s`, `5m`, `1h`; a bare number means seconds.
pub fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "" | "s" => number,
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => bail!("unknown unit {unit:?} in {text:?}: use us, ms, s, m or h"),
    };
    Duration::try_from_secs_f64(seconds).with_context(|| format!("{text:?} is not a duration"))
}

/// `1500`, `64k`, `64KiB`, `16m`, `1g`; powers of 1024.
pub fn size(text: &str) -> Result<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => bail!("unknown unit {unit:?} in {text:?}: use k, m or g"),
    };
    Ok(whole(number * factor))
}

/// `0.8` or `80%`, between 0 and 1.
pub fn share(text: &str) -> Result<f64> {
    let (number, unit) = split(text)?;
    let value = match unit {
        "" => number,
        "%" => number / 100.0,
        _ => bail!("{text:?} is not a share: write 0.8 or 80%"),
    };
    if !(0.0..=1.0).contains(&value) {
        bail!("{text:?} is not between 0 and 1");
    }
    Ok(value)
}

/// Splits `12.5ms` into `12.5` and `ms`.
pub fn split(text: &str) -> Result<(f64, &str)> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let digits = text[..end].replace('_', "");
    let number: f64 = digits.parse().with_context(|| format!("{text:?} is not a number"))?;
    Ok((number, text[end..].trim()))
}

/// Microseconds, saturating.
#[must_use]
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// The nearest whole number; negative and NaN give 0, too large gives `u64::MAX`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` from f64 saturates, which is what is promised"
)]
#[must_use]
pub fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// A count as a floating number; exact below 2^53.
#[must_use]
pub fn float(value: u64) -> f64 {
    value as f64
}

/// `part / whole`, or 0 where there is nothing to divide by.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

/// Microseconds for people: `850us`, `1.9ms`, `2.31s`.
#[must_use]
pub fn show_micros(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0}us"),
        us if us < 10_000.0 => format!("{:.2}ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.1}ms", us / 1e3),
        us => format!("{:.2}s", us / 1e6),
    }
}

/// Bytes for people, powers of 1024.
#[must_use]
pub fn show_bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_and_shares_are_read() {
        assert_eq!(duration("250us").unwrap(), Duration::from_micros(250));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("2").unwrap(), Duration::from_secs(2));
        assert_eq!(size("64k").unwrap(), 65536);
        assert_eq!(size("1MiB").unwrap(), 1 << 20);
        assert!((share("80%").unwrap() - 0.8).abs() < 1e-12);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "5 parsecs", "-1s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert!(share("120%").is_err());
    }
}
