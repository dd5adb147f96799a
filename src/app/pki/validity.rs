//! When certificates and revocation lists are valid, on purpose wrong ones included.
//!
//! Pure: `now` comes in as an argument. `leaf` and `crl` take the options, `issue` the `Window`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::PkiError;
use crate::config::quantity::{self, QuantityError};

/// From when until when, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// How long a leaf is valid, or how it is not.
#[derive(Debug, Clone, Args)]
pub(super) struct Lifetime {
    /// Days until the certificate expires, but never later than the CA
    #[arg(
        long,
        default_value_t = 397,
        value_parser = clap::value_parser!(u32).range(1..=36_500),
        conflicts_with = "valid_for"
    )]
    days: u32,
    /// Time until it expires, in place of days: `90s`, `12h`, `30d`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    valid_for: Option<Duration>,
    /// To test refusals: make one that expired a day ago
    #[arg(long, conflicts_with = "not_yet_valid")]
    expired: bool,
    /// To test refusals: make one that becomes valid in a day
    #[arg(long)]
    not_yet_valid: bool,
}

impl Lifetime {
    /// What was asked for, whatever the CA's.
    pub(super) fn window(&self, now: u64) -> Window {
        let lasting = self.valid_for.map_or(u64::from(self.days) * DAY, |time| time.as_secs());
        if self.expired {
            Window::expired(now, lasting)
        } else if self.not_yet_valid {
            Window { from: now + DAY, until: now + DAY + lasting }
        } else {
            Window::lasting(now, lasting)
        }
    }
}

impl Window {
    /// From an hour ago, for machines whose clocks are behind.
    pub(super) fn lasting(now: u64, seconds: u64) -> Self {
        Self { from: now.saturating_sub(HOUR), until: now + seconds }
    }

    /// Ended a day ago.
    pub(super) fn expired(now: u64, seconds: u64) -> Self {
        let until = now.saturating_sub(DAY);
        Self { from: until.saturating_sub(seconds), until }
    }

    pub(super) fn days(now: u64, days: u32) -> Self {
        Self::lasting(now, u64::from(days) * DAY)
    }

    /// No longer than the CA. Nothing when that leaves no moment.
    pub(super) fn within(self, end: u64) -> Option<Self> {
        let until = self.until.min(end);
        (self.from < until).then_some(Self { until, ..self })
    }

    /// `until 2027-02-02`; what is shorter than two days is told to the second.
    pub(super) fn described(self, now: u64) -> String {
        if self.until <= now {
            format!("expired on {}", date(self.until))
        } else if self.from > now {
            format!("from {} until {}", date(self.from), date(self.until))
        } else if self.until - now < 2 * DAY {
            format!("until {}", moment(self.until))
        } else {
            format!("until {}", date(self.until))
        }
    }
}

/// A duration as the configuration writes it, of a second or more.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match quantity::duration(text) {
        Ok(duration) if duration < Duration::from_secs(1) => {
            Err("certificates count in seconds: at least \"1s\"".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(QuantityError::TooLarge) => Err("the longest is \"365d\"".to_owned()),
        Err(QuantityError::Number | QuantityError::UnitMissing | QuantityError::UnitUnknown) => {
            Err("write a number and a unit, as in \"90s\", \"12h\" or \"30d\"".to_owned())
        }
    }
}

/// Seconds since 1970.
pub(super) fn seconds(now: SystemTime) -> Result<u64, PkiError> {
    Ok(now.duration_since(UNIX_EPOCH).map_err(|_before| PkiError::Clock)?.as_secs())
}

/// `2026-01-01`.
pub(super) fn date(at: u64) -> String {
    (rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at)).date().to_string()
}

/// `2026-01-01 12:00:00 UTC`.
pub(super) fn moment(at: u64) -> String {
    let (hour, minute, second) = (at / HOUR % 24, at / 60 % 60, at % 60);
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", date(at))
}

/// `3 days`, `2 hours`.
pub(super) fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..HOUR => (seconds / 60, "minute"),
        HOUR..DAY => (seconds / HOUR, "hour"),
        DAY.. => (seconds / DAY, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

const HOUR: u64 = 3600;
pub(super) const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600;

    #[test]
    fn windows_are_told_as_what_they_are() {
        let long = Window::days(NOW, 397);
        assert_eq!(long.described(NOW), "until 2027-02-02");
        assert_eq!(Window::lasting(NOW, 90).described(NOW), "until 2026-01-01 00:01:30 UTC");
        assert_eq!(Window::expired(NOW, DAY).described(NOW), "expired on 2025-12-31");
        let later = Window { from: NOW + DAY, until: NOW + 2 * DAY };
        assert_eq!(later.described(NOW), "from 2026-01-02 until 2026-01-03");
    }

    #[test]
    fn nothing_is_left_of_a_window_that_begins_after_the_ca() {
        let later = Window { from: NOW + DAY, until: NOW + 3 * DAY };
        assert_eq!(later.within(NOW + DAY), None);
        assert_eq!(later.within(NOW + 2 * DAY), Some(Window { until: NOW + 2 * DAY, ..later }));
        assert_eq!(later.within(u64::MAX), Some(later));
    }

    #[test]
    fn times_have_a_unit_and_count_in_seconds() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * DAY)));
        for wrong in ["", "30", "30 d", "999ms", "0s", "366d", "-1s"] {
            duration(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn spans_read_well() {
        assert_eq!(span(1), "1 second");
        assert_eq!(span(7_300), "2 hours");
        assert_eq!(span(3 * DAY + 5), "3 days");
    }
}
