//! How many refusals of one reason the access log is told of in a second: a flood of refused clients
//! must not fill a disk, nor push the records of served ones out of the queue.
//!
//! Metrics count every refusal; only lines are left out, and the next line says how many. Each worker
//! has one of these for its share.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::refusal::Reason;

/// A token bucket for each reason, that holds a second's worth.
#[derive(Debug)]
pub struct ReportLimit {
    /// `None`: everything is told.
    interval: Option<Duration>,
    burst: u32,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u32,
    /// Up to when tokens were added.
    filled_at: Instant,
    suppressed: u64,
}

/// What to do with one refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// Write it down; so many like it were left out since the last.
    Told {
        suppressed: u64,
    },
    Suppressed,
}

impl ReportLimit {
    /// `rate` a second for each reason; `None`: no limit.
    pub fn new(rate: Option<NonZeroU32>, now: Instant) -> Self {
        let burst = rate.map_or(0, NonZeroU32::get);
        let full = Bucket { tokens: burst, filled_at: now, suppressed: 0 };
        Self {
            interval: rate.map(|rate| Duration::from_secs(1) / rate.get()),
            burst,
            buckets: vec![full; Reason::ALL.len()],
        }
    }

    /// Asks for one refusal.
    pub fn tell(&mut self, reason: Reason, now: Instant) -> Telling {
        let Some(interval) = self.interval else { return Telling::Told { suppressed: 0 } };
        let bucket = &mut self.buckets[reason.index()];
        let passed = now.saturating_duration_since(bucket.filled_at);
        let earned = passed.as_nanos() / interval.as_nanos().max(1);
        match u32::try_from(earned) {
            Ok(earned) if earned < self.burst - bucket.tokens => {
                bucket.tokens += earned;
                bucket.filled_at += interval * earned;
            }
            _ => {
                bucket.tokens = self.burst;
                bucket.filled_at = now;
            }
        }
        match bucket.tokens.checked_sub(1) {
            Some(left) => {
                bucket.tokens = left;
                Telling::Told { suppressed: std::mem::take(&mut bucket.suppressed) }
            }
            None => {
                bucket.suppressed += 1;
                Telling::Suppressed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
        Instant::now()
    }

    #[test]
    fn a_flood_is_cut_and_the_next_line_says_by_how_much() {
        let now = start();
        let mut limit = ReportLimit::new(NonZeroU32::new(10), now);
        for _ in 0..10 {
            let told = limit.tell(Reason::NotTls, now);
            assert_eq!(told, Telling::Told { suppressed: 0 });
        }
        for _ in 0..90 {
            assert_eq!(limit.tell(Reason::NotTls, now), Telling::Suppressed);
        }
        // Another reason has tokens of its own.
        assert_eq!(limit.tell(Reason::Probe, now), Telling::Told { suppressed: 0 });
        let later = now + Duration::from_millis(100);
        assert_eq!(limit.tell(Reason::NotTls, later), Telling::Told { suppressed: 90 });
        assert_eq!(limit.tell(Reason::NotTls, later), Telling::Suppressed);
    }

    #[test]
    fn without_a_rate_everything_is_told() {
        let now = start();
        let mut limit = ReportLimit::new(None, now);
        for _ in 0..10_000 {
            assert_eq!(limit.tell(Reason::NotTls, now), Telling::Told { suppressed: 0 });
        }
    }

    proptest! {
        #[test]
        fn no_refusal_is_lost_and_no_second_has_more_than_twice_the_rate(
            rate in 1_u32..1_000,
            steps in prop::collection::vec(0_u64..50_000, 1..2_000),
        ) {
            let now = start();
            let mut limit = ReportLimit::new(NonZeroU32::new(rate), now);
            let (mut at, mut told, mut suppressed, mut left) = (now, 0_u64, 0_u64, 0_u64);
            for step in &steps {
                at += Duration::from_micros(*step);
                match limit.tell(Reason::Probe, at) {
                    Telling::Told { suppressed: more } => { told += 1; suppressed += more; left = 0; }
                    Telling::Suppressed => left += 1,
                }
            }
            prop_assert_eq!(told + suppressed + left, steps.len() as u64);
            let seconds = (at - now).as_secs_f64();
            prop_assert!(told as f64 <= f64::from(rate) * (seconds + 1.0) + 1.0);
        }
    }
}
