//! How long things took, counted by length: fixed buckets that one worker writes and a scrape sums.
//!
//! Two sets of bounds for everything, so that a page can add them up.

use std::time::Duration;

use super::Counter;

/// One histogram of one worker.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one for what is longer than all.
    counts: Box<[Counter]>,
    /// Microseconds.
    sum: Counter,
}

impl Histogram {
    /// For what a person waits for.
    pub(super) fn of_waits() -> Self {
        Self::new(&WAITS)
    }

    /// For how long connections live.
    pub(super) fn of_lives() -> Self {
        Self::new(&LIVES)
    }

    fn new(bounds: &'static [Duration]) -> Self {
        let counts = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self { bounds, counts, sum: Counter::default() }
    }

    pub fn observe(&self, time: Duration) {
        let at = self.bounds.iter().position(|bound| time <= *bound).unwrap_or(self.bounds.len());
        self.counts[at].increment();
        self.sum.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The longest time of each bucket but the last, which has no end.
    pub fn bounds(&self) -> &'static [Duration] {
        self.bounds
    }

    /// One for each bucket; not added up.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(Counter::value)
    }

    /// Of all times.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum.value())
    }
}

/// From a resumption in the next rack to a handshake over a satellite with a lost packet.
const WAITS: [Duration; 14] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// From a probe to a session of a week.
const LIVES: [Duration; 9] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(6 * 3_600),
    Duration::from_secs(24 * 3_600),
    Duration::from_secs(7 * 24 * 3_600),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::of_waits();
        let times = [0, 500, 501, 10_000_000, 10_000_001, 99_000_000].map(Duration::from_micros);
        times.iter().for_each(|time| histogram.observe(*time));
        let counts: Vec<u64> = histogram.counts().collect();
        assert_eq!(counts.len(), WAITS.len() + 1);
        assert_eq!((counts[0], counts[1], counts[13], counts[14]), (2, 1, 1, 2), "{counts:?}");
        assert_eq!(counts.iter().sum::<u64>(), 6);
        assert_eq!(histogram.sum(), times.iter().sum::<Duration>());
    }

    #[test]
    fn bounds_rise() {
        assert!(WAITS.is_sorted() && LIVES.is_sorted());
    }
}
