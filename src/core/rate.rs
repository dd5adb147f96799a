//! A rate with a burst, as one number that is moved on: the theoretical arrival time of the generic cell
//! rate algorithm (ITU-T I.371). A key that is idle has no state that matters, so tables may forget it.
//!
//! Pure: the time comes in, the new number goes out. `worker::sources` keeps the numbers.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// So many in a time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    per: Per,
    burst: NonZeroU32,
}

/// The time that a rate counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    Second,
    Minute,
    Hour,
}

/// Why a text is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    #[error("a rate is a whole number and a time, as \"500/s\"")]
    Form,
    #[error("a rate is at least 1 and at most 4294967295")]
    Number,
    #[error("a rate counts in \"s\", \"m\" or \"h\"")]
    Unit,
}

impl Rate {
    pub const fn new(count: NonZeroU32, per: Per, burst: NonZeroU32) -> Self {
        Self { count, per, burst }
    }

    /// So many a second, all of them at once if need be.
    pub const fn per_second(count: NonZeroU32) -> Self {
        Self { count, per: Per::Second, burst: count }
    }

    #[must_use]
    pub const fn with_burst(self, burst: NonZeroU32) -> Self {
        Self { burst, ..self }
    }

    /// Asks for one at `now`, both times in nanoseconds from the same moment. `kept` of the burst are
    /// left for others who come at the same rate. The arrival time to keep, if it may pass.
    pub fn admit(self, arrival: u64, now: u64, kept: u32) -> Option<u64> {
        let interval = (self.per.nanoseconds() / u64::from(self.count.get())).max(1);
        let burst = u64::from(self.burst.get().saturating_sub(kept).max(1));
        let next = arrival.max(now).saturating_add(interval);
        let ahead = next - now;
        (ahead <= interval.saturating_mul(burst)).then_some(next)
    }

    pub const fn burst(self) -> NonZeroU32 {
        self.burst
    }
}

impl Per {
    const fn nanoseconds(self) -> u64 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Hour => 3_600_000_000_000,
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }
}

/// The burst is that of one second, and at least one.
impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (number, unit) = text.split_once('/').ok_or(RateError::Form)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RateError::Form);
        }
        let count: u32 = number.parse().map_err(|_beyond| RateError::Number)?;
        let count = NonZeroU32::new(count).ok_or(RateError::Number)?;
        let (per, burst) = match unit {
            "s" => (Per::Second, count.get()),
            "m" => (Per::Minute, count.get() / 60),
            "h" => (Per::Hour, count.get() / 3_600),
            _ => return Err(RateError::Unit),
        };
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        Ok(Self { count, per, burst })
    }
}

/// As the configuration writes it.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_after_each_interval() {
        let rate = rate("10/s").with_burst(NonZeroU32::new(3).expect("not zero"));
        let (mut arrival, now) = (0, 5_000_000_000);
        for _ in 0..3 {
            arrival = rate.admit(arrival, now, 0).expect("within the burst");
        }
        assert_eq!(rate.admit(arrival, now, 0), None);
        assert_eq!(rate.admit(arrival, now + 99_999_999, 0), None);
        arrival = rate.admit(arrival, now + 100_000_000, 0).expect("after an interval");
        assert_eq!(rate.admit(arrival, now + 100_000_000, 0), None);
    }

    #[test]
    fn what_is_kept_of_the_burst_is_there_for_those_who_may_have_it() {
        let rate = rate("100/s");
        let mut arrival = 0;
        let mut passed = 0;
        while let Some(next) = rate.admit(arrival, 1, 20) {
            (arrival, passed) = (next, passed + 1);
        }
        assert_eq!(passed, 80);
        assert!(rate.admit(arrival, 1, 0).is_some());
    }

    #[test]
    fn rates_are_written_as_number_and_time() {
        for text in ["500/s", "30/m", "1/h"] {
            assert_eq!(rate(text).to_string(), text);
        }
        assert_eq!(rate("600/m").burst().get(), 10);
        for (text, error) in [
            ("500", RateError::Form),
            ("/s", RateError::Form),
            ("+5/s", RateError::Form),
            ("5 /s", RateError::Form),
            ("0/s", RateError::Number),
            ("4294967296/s", RateError::Number),
            ("5/sec", RateError::Unit),
            ("5/d", RateError::Unit),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_has_more_than_its_rate_and_a_burst(
            count in 1_u32..2_000,
            burst in 1_u32..500,
            steps in prop::collection::vec(0_u64..20_000_000, 1..1_000),
        ) {
            let (count, burst) = (NonZeroU32::new(count), NonZeroU32::new(burst));
            let rate = Rate::per_second(count.expect("not zero")).with_burst(burst.expect("not zero"));
            let (mut arrival, mut now, mut passed) = (0, 0_u64, 0_u64);
            for step in steps {
                now += step;
                if let Some(next) = rate.admit(arrival, now, 0) {
                    (arrival, passed) = (next, passed + 1);
                }
            }
            let interval = 1_000_000_000 / u64::from(rate.count.get());
            prop_assert!(passed <= now / interval + u64::from(rate.burst.get()));
        }

        #[test]
        fn an_idle_key_is_as_one_that_was_never_seen(
            arrival in 0_u64..1_000_000_000, later in 0_u64..1_000_000_000,
        ) {
            let rate = rate("7/s");
            let now = arrival + later;
            prop_assert_eq!(rate.admit(arrival, now, 0), rate.admit(0, now, 0));
        }
    }
}
