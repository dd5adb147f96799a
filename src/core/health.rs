//! Whether an endpoint is healthy, by what its probes found, and how fast one that recovered is loaded.
//!
//! Sans-I/O: results and times go in. `probe_script` says what a service is asked; `app::upkeep` asks.

use std::time::Duration;

/// How many results in a row change an opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub healthy: u32,
    pub unhealthy: u32,
}

/// The opinion on one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// No probe has ended yet: it is used, and the first result decides.
    Unknown,
    Healthy,
    Unhealthy,
}

/// The probes of one endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Checks {
    thresholds: Thresholds,
    opinion: Opinion,
    /// Results in a row against the opinion.
    against: u32,
}

impl Checks {
    pub fn new(thresholds: Thresholds, opinion: Opinion) -> Self {
        Self { thresholds, opinion, against: 0 }
    }

    /// A probe ended. The new opinion, if it changed.
    pub fn observe(&mut self, is_good: bool) -> Option<Opinion> {
        let (found, needed) = match is_good {
            true => (Opinion::Healthy, self.thresholds.healthy),
            false => (Opinion::Unhealthy, self.thresholds.unhealthy),
        };
        if found == self.opinion {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < needed && self.opinion != Opinion::Unknown {
            return None;
        }
        (self.opinion, self.against) = (found, 0);
        Some(found)
    }
}

/// The share of its weight, in percent, that an endpoint has so long after it recovered: from a tenth
/// to all of it, in a straight line. A cold cache or an empty pool behind it is not overrun.
pub fn ramp(since: Duration, slow_start: Duration) -> u32 {
    if since >= slow_start {
        return FULL;
    }
    let passed = since.as_millis() * u128::from(FULL) / slow_start.as_millis().max(1);
    u32::try_from(passed).unwrap_or(FULL).clamp(FULL / 10, FULL)
}

/// All of a weight.
pub const FULL: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn opinions(from: Opinion, results: &str) -> String {
        let mut checks = Checks::new(Thresholds { healthy: 2, unhealthy: 3 }, from);
        let change = |result| match checks.observe(result == '+') {
            None => '.',
            Some(Opinion::Healthy) => 'h',
            Some(Opinion::Unhealthy) => 'u',
            Some(Opinion::Unknown) => '?',
        };
        results.chars().map(change).collect()
    }

    #[test]
    fn the_first_result_decides_and_then_only_so_many_in_a_row() {
        for (from, results, changes) in [
            (Opinion::Unknown, "+", "h"),
            (Opinion::Unknown, "-", "u"),
            (Opinion::Unknown, "-++---", "u.h..u"),
            (Opinion::Healthy, "--+--+---", "........u"),
            (Opinion::Unhealthy, "+-+-++", ".....h"),
            (Opinion::Healthy, "+++", "..."),
            (Opinion::Unhealthy, "---", "..."),
        ] {
            assert_eq!(opinions(from, results), changes, "{from:?} {results}");
        }
    }

    #[test]
    fn a_ramp_goes_from_a_tenth_to_all_and_never_back() {
        let slow_start = Duration::from_secs(10);
        let at = |seconds| ramp(Duration::from_millis(seconds), slow_start);
        assert_eq!([at(0), at(500), at(2_500), at(9_999), at(10_000)], [10, 10, 25, 99, 100]);
        assert_eq!(at(u64::MAX), 100);
        assert_eq!(ramp(Duration::ZERO, Duration::ZERO), 100);
        assert_eq!(ramp(Duration::ZERO, Duration::MAX), 10);
        let steps: Vec<_> = (0..10_000).map(at).collect();
        assert!(steps.is_sorted());
    }
}
