//! Moments as logs and answers write them: RFC 3339, UTC, milliseconds.
//!
//! Reads no clock: the moment comes in as time since 1970.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A moment since 1970 that shows itself as `2026-11-22T06:04:22.123Z`; the years end at 9999, the
/// last that RFC 3339 can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(Duration);

/// Year, month and day in the Gregorian calendar.
#[derive(Debug, PartialEq, Eq)]
struct Date {
    year: u64,
    month: u64,
    day: u64,
}

impl Timestamp {
    pub fn new(since_1970: Duration) -> Self {
        Self(since_1970.min(LAST))
    }

    pub fn from_seconds(since_1970: u64) -> Self {
        Self::new(Duration::from_secs(since_1970))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let Date { year, month, day } = date(seconds / DAY);
        let (hour, minute, second) = (seconds % DAY / 3_600, seconds / 60 % 60, seconds % 60);
        let millisecond = self.0.subsec_millis();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z"
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The date of a day, counted from 1970-01-01. Years are taken to begin in March, so that the leap
/// day is the last of its year, and counted from 1 March of the year 0 in cycles of 400 years (Howard
/// Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(days_since_1970: u64) -> Date {
    let days = days_since_1970 + DAYS_BEFORE_1970;
    let (cycle, day_of_cycle) = (days / DAYS_PER_CYCLE, days % DAYS_PER_CYCLE);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524
        - day_of_cycle / 146_096)
        / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    Date { year, month, day }
}

const DAY: u64 = 86_400;

/// Of 400 Gregorian years.
const DAYS_PER_CYCLE: u64 = 146_097;

/// From 0000-03-01.
const DAYS_BEFORE_1970: u64 = 719_468;

/// 9999-12-31T23:59:59.999Z.
const LAST: Duration = Duration::from_millis(253_402_300_799_999);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_as_rfc_3339() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (1_795_327_462_123, "2026-11-22T06:04:22.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            let moment = Timestamp::new(Duration::from_millis(milliseconds));
            assert_eq!(moment.to_string(), text);
        }
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_day_before() {
        let mut last = date(0);
        for day in 1..292_194 {
            let next = date(day);
            let is_leap = last.year.is_multiple_of(4)
                && (!last.year.is_multiple_of(100) || last.year.is_multiple_of(400));
            let month_days = match last.month {
                2 => 28 + u64::from(is_leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let expected = if last.day < month_days {
                Date { day: last.day + 1, ..last }
            } else if last.month < 12 {
                Date { day: 1, month: last.month + 1, ..last }
            } else {
                Date { day: 1, month: 1, year: last.year + 1 }
            };
            assert_eq!(next, expected, "day {day}");
            last = next;
        }
    }
}
