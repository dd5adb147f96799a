//! Which endpoints of a cluster are left alone, as their dials or sessions have failed again and again.
//!
//! Sans-I/O: ends of dials and sessions, and times, go in. It dials nothing and chooses nothing: `balance` skips whom
//! this has ejected. What one worker has seen; each finds out for itself.

use std::time::{Duration, Instant};

/// When endpoints are ejected, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectionRules {
    /// Dials in a row that fail, or sessions that are turned away.
    pub failures: u32,
    /// The first ejection; the nth lasts n times as long, up to [`TIMES_MAX`].
    pub base: Duration,
    /// Of the endpoints that may be ejected at a time, rounded down.
    pub percent_max: u8,
}

/// What is known of one endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conduct {
    /// Dials in a row that failed.
    failures: u32,
    /// Sessions in a row that it turned away.
    rejections: u32,
    /// Ejections that are not forgiven yet.
    times: u32,
    /// The end of the latest ejection.
    until: Option<Instant>,
}

/// The endpoints of one cluster, by their places in its list.
#[derive(Debug)]
pub struct Ejection {
    rules: EjectionRules,
    endpoints: Vec<Conduct>,
}

impl Ejection {
    /// For endpoints with this record, each blank where nothing is known.
    pub fn new(rules: EjectionRules, endpoints: Vec<Conduct>) -> Self {
        Self { rules, endpoints }
    }

    /// The list is another one.
    pub fn replace(&mut self, endpoints: Vec<Conduct>) {
        self.endpoints = endpoints;
    }

    /// A dial ended well.
    pub fn succeeded(&mut self, endpoint: usize) {
        if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
            endpoint.failures = 0;
        }
    }

    /// A session got bytes of the endpoint. A dial that ended well says nothing of that: over TLS 1.3 a
    /// server refuses a client's certificate behind the handshake (RFC 8446 §4.4.2.4).
    pub fn served(&mut self, endpoint: usize) {
        if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
            endpoint.rejections = 0;
        }
    }

    /// A dial failed. Until when the endpoint is ejected, where this was one too many. One that is back
    /// from an ejection has a single try: whoever fails again is not up again.
    pub fn failed(&mut self, endpoint: usize, now: Instant) -> Option<Instant> {
        self.count(endpoint, |conduct| &mut conduct.failures, now)
    }

    /// As `failed`, for a session that was turned away before its first byte.
    pub fn rejected(&mut self, endpoint: usize, now: Instant) -> Option<Instant> {
        self.count(endpoint, |conduct| &mut conduct.rejections, now)
    }

    fn count(
        &mut self,
        endpoint: usize,
        row: fn(&mut Conduct) -> &mut u32,
        now: Instant,
    ) -> Option<Instant> {
        let may_eject = self.ejected(now) < self.ejected_max();
        let conduct = self.endpoints.get_mut(endpoint)?;
        let row = row(conduct);
        *row = row.saturating_add(1);
        let is_enough = *row >= self.rules.failures;
        if !is_enough || conduct.is_ejected(now) || !may_eject {
            return None;
        }
        conduct.times = conduct.times.saturating_sub(forgiven(conduct, self.rules.base, now)) + 1;
        let until = now + self.rules.base.min(BASE_MAX) * conduct.times.min(TIMES_MAX);
        conduct.until = Some(until);
        Some(until)
    }

    pub fn is_ejected(&self, endpoint: usize, now: Instant) -> bool {
        self.endpoints.get(endpoint).is_some_and(|endpoint| endpoint.is_ejected(now))
    }

    /// What is known of an endpoint, to be kept when the list changes.
    pub fn conduct(&self, endpoint: usize) -> Conduct {
        self.endpoints.get(endpoint).copied().unwrap_or_default()
    }

    fn ejected(&self, now: Instant) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.is_ejected(now)).count()
    }

    fn ejected_max(&self) -> usize {
        self.endpoints.len() * usize::from(self.rules.percent_max) / 100
    }
}

impl Conduct {
    fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// One ejection for each `base` that an endpoint has been back.
fn forgiven(conduct: &Conduct, base: Duration, now: Instant) -> u32 {
    let back = conduct.until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
    let times = back.as_millis() / base.as_millis().max(1);
    u32::try_from(times).unwrap_or(u32::MAX)
}

/// An ejection lasts at most so many times the base: with the default of 30 s, five minutes.
pub const TIMES_MAX: u32 = 10;
/// No time that is added to an `Instant` comes near its end.
const BASE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: EjectionRules =
        EjectionRules { failures: 3, base: Duration::from_secs(30), percent_max: 50 };

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
        Instant::now()
    }

    fn ejection(endpoints: usize, rules: EjectionRules) -> Ejection {
        Ejection::new(rules, vec![Conduct::default(); endpoints])
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let (now, mut ejection) = (start(), ejection(2, RULES));
        assert_eq!([0; 2].map(|_| ejection.failed(0, now)), [None, None]);
        ejection.succeeded(0);
        assert_eq!([0; 2].map(|_| ejection.failed(0, now)), [None, None]);
        assert_eq!(ejection.failed(0, now), Some(now + seconds(30)));
        assert!(ejection.is_ejected(0, now + seconds(29)) && !ejection.is_ejected(1, now));
        assert!(!ejection.is_ejected(0, now + seconds(30)));
    }

    #[test]
    fn dials_that_end_well_do_not_excuse_sessions_that_are_turned_away() {
        let (now, mut ejection) = (start(), ejection(2, RULES));
        let session = |ejection: &mut Ejection| {
            ejection.succeeded(0);
            ejection.rejected(0, now)
        };
        assert_eq!([0; 2].map(|_| session(&mut ejection)), [None, None]);
        ejection.served(0);
        assert_eq!([0; 2].map(|_| session(&mut ejection)), [None, None]);
        // The two rows are not added up.
        assert_eq!(ejection.failed(0, now), None);
        assert_eq!(session(&mut ejection), Some(now + seconds(30)));
        assert_eq!(ejection.rejected(0, now + seconds(30)), Some(now + seconds(90)));
    }

    #[test]
    fn each_ejection_is_longer_up_to_a_cap_and_needs_one_failure_only() {
        let (mut now, mut ejection) = (start(), ejection(2, RULES));
        ejection.failed(0, now);
        ejection.failed(0, now);
        for times in 1..=15 {
            let until = ejection.failed(0, now).expect("an ejection");
            assert_eq!(until - now, seconds(30 * times.min(10)));
            now = until;
        }
    }

    #[test]
    fn time_without_ejections_is_forgiveness() {
        let (now, mut ejection) = (start(), ejection(2, RULES));
        let mut at = now;
        for _ in 0..3 {
            (0..2).for_each(|_| {
                ejection.failed(0, at);
            });
            at = ejection.failed(0, at).unwrap_or(at + seconds(90));
        }
        ejection.succeeded(0);
        at += seconds(600);
        (0..2).for_each(|_| assert_eq!(ejection.failed(0, at), None));
        assert_eq!(ejection.failed(0, at), Some(at + seconds(30)));
    }

    #[test]
    fn no_more_are_ejected_than_the_share_allows_and_the_next_gets_its_place() {
        let now = start();
        for (endpoints, percent_max, most) in
            [(1, 50, 0), (1, 100, 1), (2, 50, 1), (3, 50, 1), (4, 50, 2), (10, 0, 0), (3, 100, 3)]
        {
            let mut ejection = ejection(endpoints, EjectionRules { percent_max, ..RULES });
            for endpoint in (0..endpoints).flat_map(|at| [at; 3]) {
                ejection.failed(endpoint, now);
            }
            assert_eq!(ejection.ejected(now), most, "{endpoints} at {percent_max} %");
        }
        let mut ejection = ejection(2, RULES);
        for endpoint in [0, 0, 0, 1, 1, 1] {
            ejection.failed(endpoint, now);
        }
        assert!(!ejection.is_ejected(1, now));
        let later = now + seconds(31);
        assert_eq!(ejection.failed(1, later), Some(later + seconds(30)));
    }

    #[test]
    fn a_record_goes_with_its_endpoint_to_another_list() {
        let (now, mut first) = (start(), ejection(2, RULES));
        (0..3).for_each(|_| {
            first.failed(1, now);
        });
        let mut second = ejection(1, RULES);
        second.replace(vec![first.conduct(1), Conduct::default()]);
        assert!(second.is_ejected(0, now) && !second.is_ejected(1, now));
    }

    proptest! {
        #[test]
        fn the_share_holds_whatever_happens(
            events in prop::collection::vec((0..6usize, any::<bool>(), 0..40u64), 0..300),
            percent_max in 0..=100u8,
        ) {
            let (mut now, mut ejection) =
                (start(), ejection(5, EjectionRules { percent_max, ..RULES }));
            for (endpoint, fails, pause) in events {
                now += seconds(pause);
                if fails {
                    let was = ejection.is_ejected(endpoint, now);
                    let ejected = ejection.failed(endpoint, now);
                    prop_assert!(ejected.is_none_or(|until| until > now && !was));
                } else {
                    ejection.succeeded(endpoint);
                }
                prop_assert!(ejection.ejected(now) * 100 <= 5 * usize::from(percent_max));
            }
        }
    }
}
