//! Owns the search for the highest rate that meets an objective: widen until the rate is
//! bracketed, halve the bracket, then try the lower end once more. Pure: rates go out, verdicts
//! come in. Read `find.rs` for who runs the trials.

use std::ops::RangeInclusive;

/// What a trial at a rate showed.
#[derive(Debug, Clone, PartialEq)]
pub enum Trial {
    /// Every objective was met.
    Met,
    /// One was not; why.
    Missed(String),
}

/// The state of a search.
#[derive(Debug, Clone)]
pub struct Search {
    start: f64,
    rate_min: f64,
    rate_max: f64,
    width: f64,
    trials_max: u32,
    /// Rates that met the objective and were not refuted, ascending.
    met: Vec<f64>,
    upper: Option<(f64, String)>,
    confirmed: Option<f64>,
    trials: u32,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The highest rate that met the objective, twice.
    pub lower: Option<f64>,
    /// The lowest rate above it that did not, and why.
    pub upper: Option<(f64, String)>,
    /// Trials made.
    pub trials: u32,
    /// Whether the bracket is as narrow as was asked.
    pub settled: bool,
}

impl Search {
    /// Begins at `start` and never leaves `rates`, but for a start below them; ends when the bracket is
    /// narrower than the share `width` of its lower end, or after `trials_max`.
    #[must_use]
    pub fn new(start: f64, rates: RangeInclusive<f64>, width: f64, trials_max: u32) -> Self {
        let (rate_min, rate_max) = rates.into_inner();
        Self {
            start: start.min(rate_max),
            rate_min,
            rate_max,
            width,
            trials_max,
            met: Vec::new(),
            upper: None,
            confirmed: None,
            trials: 0,
        }
    }

    /// The rate to try next, or `None` when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        if self.trials >= self.trials_max {
            return None;
        }
        let lower = self.met.last().copied();
        match (lower, &self.upper) {
            (None, None) => Some(self.start),
            (Some(lower), None) if lower < self.rate_max => Some((lower * 2.0).min(self.rate_max)),
            (Some(lower), None) => self.confirm(lower),
            (None, Some((upper, _))) if *upper > self.rate_min => {
                Some((upper / 2.0).max(self.rate_min))
            }
            (None, Some(_)) => None,
            (Some(lower), Some((upper, _))) => {
                if (upper - lower) / lower <= self.width {
                    self.confirm(lower)
                } else {
                    // Rates are compared by ratio, so the middle is the geometric one.
                    Some((lower * upper).sqrt())
                }
            }
        }
    }

    fn confirm(&self, lower: f64) -> Option<f64> {
        (self.confirmed != Some(lower)).then_some(lower)
    }

    /// Takes the verdict on `rate`, which `next` named.
    pub fn record(&mut self, rate: f64, trial: Trial) {
        self.trials += 1;
        match trial {
            Trial::Met if self.met.last() == Some(&rate) => self.confirmed = Some(rate),
            Trial::Met => self.met.push(rate),
            Trial::Missed(why) => {
                // A rate that met before and now does not was luck: it becomes the upper end.
                self.met.retain(|met| *met < rate);
                self.upper = Some((rate, why));
            }
        }
    }

    /// What is known.
    #[must_use]
    pub fn found(&self) -> Found {
        let lower = self.met.last().copied();
        Found {
            lower,
            upper: self.upper.clone(),
            trials: self.trials,
            settled: lower.is_some() && self.confirmed == lower,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::arrivals::{Arrivals, Rate, Spread};
    use crate::tally::histogram;

    /// The 99th percentile of time in a queue with one server, on a virtual clock.
    fn queue_p99(rate: f64, service: Duration, seed: u64) -> Duration {
        let arrivals =
            Arrivals::new(Rate::Constant(rate), Spread::Poisson, Duration::ZERO, 0, 1, seed);
        let mut free_at = Duration::ZERO;
        let mut times = histogram();
        for due in arrivals.take(40_000) {
            let begin = due.max(free_at);
            free_at = begin + service;
            times.saturating_record(crate::quantity::micros(free_at - due));
        }
        Duration::from_micros(times.value_at_quantile(0.99))
    }

    fn search(mut judge: impl FnMut(f64) -> bool) -> Found {
        let mut search = Search::new(10.0, 0.5..=1e6, 0.02, 100);
        while let Some(rate) = search.next() {
            let trial = if judge(rate) { Trial::Met } else { Trial::Missed("too slow".to_owned()) };
            search.record(rate, trial);
        }
        search.found()
    }

    #[test]
    fn a_sharp_edge_is_found_within_the_width() {
        for edge in [3.0, 10.0, 777.0, 123_456.0] {
            let found = search(|rate| rate <= edge);
            let (lower, upper) = (found.lower.unwrap(), found.upper.unwrap().0);
            assert!(
                lower <= edge && edge < upper && upper / lower <= 1.021,
                "{edge}: {lower}..{upper}"
            );
            assert!(found.settled && found.trials < 40);
        }
    }

    #[test]
    fn the_knee_of_a_queue_lies_where_theory_puts_it() {
        // M/D/1 with 1 ms of service: the 99th percentile of the time in the system is 10 ms near
        // 80 % load (Erlang 1909; Crommelin's formula gives 0.79–0.81).
        let found =
            search(|rate| queue_p99(rate, Duration::from_millis(1), 7) < Duration::from_millis(10));
        let lower = found.lower.unwrap();
        assert!((740.0..=860.0).contains(&lower), "{lower}");
    }

    #[test]
    fn a_lucky_trial_is_refuted_by_the_confirmation() {
        let mut lucky = true;
        let found = search(|rate| {
            if rate > 100.0 && rate < 170.0 {
                return std::mem::take(&mut lucky);
            }
            rate <= 100.0
        });
        assert!(found.lower.unwrap() <= 100.0, "{found:?}");
        assert!(found.settled);
    }

    #[test]
    fn searches_end_when_nothing_or_everything_meets() {
        let none = search(|_| false);
        assert_eq!((none.lower, none.upper), (None, Some((0.5, "too slow".to_owned()))));
        let below = Search::new(0.1, 0.5..=1e6, 0.02, 100);
        assert_eq!(below.next(), Some(0.1), "who asks for a rate gets it");
        let all = search(|_| true);
        assert_eq!((all.lower, all.upper), (Some(1e6), None));
    }
}
