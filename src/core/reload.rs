//! When a changed configuration is loaded: once its files are quiet, once at a time, and again a few
//! times where it does not load yet.
//!
//! A certificate and its key are two files, and whoever writes them is between the two for a moment:
//! what fails after a change is no failure until it has failed for a while. What was asked for by a
//! person is loaded at once, and its failure told at once.

use std::time::{Duration, Instant};

/// When to load next. The caller tells what happens and asks `start` whenever `next` has come.
#[derive(Debug, Default)]
pub struct Schedule {
    state: State,
    /// Somebody asked, and no load has begun since.
    asked: bool,
}

/// Why a load begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A person or a program wants it now.
    Asked,
    /// A file has changed.
    Changed,
}

/// What a load's end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Nothing,
    /// It failed, and will be tried again after this pause, or sooner if a file changes.
    Again(Duration),
    /// It failed for good: the next change or request begins anew.
    Failed,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Quiet,
    /// Files change; `failures` counts the loads that failed since all was well.
    Settling {
        change: Change,
        failures: usize,
    },
    /// What changed did not load.
    Pausing {
        until: Instant,
        failures: usize,
    },
    Loading {
        cause: Cause,
        failures: usize,
        change: Option<Change>,
    },
}

/// A burst of changes.
#[derive(Debug, Clone, Copy)]
struct Change {
    first: Instant,
    last: Instant,
}

impl Schedule {
    /// A file has changed.
    pub fn changed(&mut self, now: Instant) {
        self.state = match self.state {
            State::Quiet => State::Settling { change: Change::at(now), failures: 0 },
            State::Settling { change, failures } => {
                State::Settling { change: change.and(now), failures }
            }
            State::Pausing { until: _, failures } => {
                State::Settling { change: Change::at(now), failures }
            }
            State::Loading { cause, failures, change } => {
                let change = change.map_or(Change::at(now), |change| change.and(now));
                State::Loading { cause, failures, change: Some(change) }
            }
        };
    }

    /// Somebody wants it loaded now, or as soon as the load that runs is done.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// Whether somebody has asked, and no load has begun since.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// When to ask `start`, if nothing happens before.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Loading { .. } => None,
            _ if self.asked => Some(now),
            State::Quiet => None,
            State::Settling { change, failures: _ } => Some(change.quiet_at()),
            State::Pausing { until, failures: _ } => Some(until),
        }
    }

    /// Begins a load if it is time for one; `done` tells its end.
    pub fn start(&mut self, now: Instant) -> Option<Cause> {
        if self.next(now).is_none_or(|at| now < at) {
            return None;
        }
        let failures = match self.state {
            State::Settling { failures, .. } | State::Pausing { failures, .. } => failures,
            State::Quiet | State::Loading { .. } => 0,
        };
        let (cause, failures) =
            if self.asked { (Cause::Asked, 0) } else { (Cause::Changed, failures) };
        self.asked = false;
        self.state = State::Loading { cause, failures, change: None };
        Some(cause)
    }

    /// The load that `start` began is over.
    pub fn done(&mut self, is_good: bool, now: Instant) -> Next {
        let State::Loading { cause, failures, change } = self.state else { return Next::Nothing };
        let pause = PAUSES.get(failures).copied();
        let (next, failures) = match (is_good, cause, pause) {
            (true, _, _) => (Next::Nothing, 0),
            (false, Cause::Asked, _) | (false, Cause::Changed, None) => (Next::Failed, 0),
            (false, Cause::Changed, Some(pause)) => (Next::Again(pause), failures + 1),
        };
        self.state = match (change, next) {
            (Some(change), _) => State::Settling { change, failures },
            (None, Next::Again(pause)) => State::Pausing { until: now + pause, failures },
            (None, Next::Nothing | Next::Failed) => State::Quiet,
        };
        next
    }
}

impl Change {
    fn at(now: Instant) -> Self {
        Self { first: now, last: now }
    }

    fn and(self, now: Instant) -> Self {
        Self { last: now, ..self }
    }

    /// When nothing has changed for a while, or something has changed for long.
    fn quiet_at(self) -> Instant {
        (self.last + QUIET).min(self.first + SETTLE_MAX)
    }
}

/// Longer than it takes to write a certificate and its key, shorter than a person waits.
const QUIET: Duration = Duration::from_millis(250);

/// A file that is written all the time is loaded all the same.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Between the loads of what does not load yet; after the last one it is a failure.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

#[cfg(test)]
mod tests {
    use super::*;

    /// A schedule, and a clock that only a test moves.
    struct Fixture(Schedule, Instant);

    impl Fixture {
        #[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
        fn new() -> Self {
            Self(Schedule::default(), Instant::now())
        }

        fn pass(&mut self, milliseconds: u64) {
            self.1 += Duration::from_millis(milliseconds);
        }

        fn change(&mut self) {
            self.0.changed(self.1);
        }

        fn start(&mut self) -> Option<Cause> {
            self.0.start(self.1)
        }

        fn done(&mut self, is_good: bool) -> Next {
            self.0.done(is_good, self.1)
        }

        /// How long until `start` begins something.
        fn wait(&self) -> Option<Duration> {
            self.0.next(self.1).map(|at| at.saturating_duration_since(self.1))
        }
    }

    #[test]
    fn a_burst_of_changes_is_one_load_once_it_is_quiet() {
        let mut fixture = Fixture::new();
        assert_eq!((fixture.start(), fixture.wait()), (None, None));
        for _ in 0..5 {
            fixture.change();
            fixture.pass(100);
            assert_eq!(fixture.start(), None);
        }
        assert_eq!(fixture.wait(), Some(Duration::from_millis(150)));
        fixture.pass(150);
        assert_eq!(fixture.start(), Some(Cause::Changed));
        assert_eq!(fixture.start(), None, "one at a time");
        assert_eq!(fixture.done(true), Next::Nothing);
        assert_eq!(fixture.wait(), None);
    }

    #[test]
    fn changes_without_end_are_loaded_after_two_seconds() {
        let mut fixture = Fixture::new();
        for _ in 0..20 {
            assert_eq!(fixture.start(), None);
            fixture.change();
            fixture.pass(100);
        }
        assert_eq!(fixture.start(), Some(Cause::Changed));
    }

    #[test]
    fn what_is_asked_for_is_loaded_at_once_and_fails_at_once() {
        let mut fixture = Fixture::new();
        fixture.change();
        fixture.0.ask();
        assert_eq!(fixture.start(), Some(Cause::Asked));
        assert_eq!(fixture.done(false), Next::Failed);
        assert_eq!(fixture.wait(), None, "the change is in what was asked for");
    }

    #[test]
    fn requests_during_a_load_are_one_more_load() {
        let mut fixture = Fixture::new();
        fixture.0.ask();
        assert_eq!(fixture.start(), Some(Cause::Asked));
        for _ in 0..100 {
            fixture.0.ask();
        }
        assert_eq!((fixture.start(), fixture.wait()), (None, None));
        assert_eq!(fixture.done(true), Next::Nothing);
        assert_eq!(fixture.start(), Some(Cause::Asked));
        fixture.done(true);
        assert_eq!(fixture.wait(), None);
    }

    #[test]
    fn what_does_not_load_yet_is_tried_again_with_growing_pauses_and_then_failed() {
        let mut fixture = Fixture::new();
        fixture.change();
        fixture.pass(250);
        for pause in [500, 1_000, 2_000] {
            assert_eq!(fixture.start(), Some(Cause::Changed));
            assert_eq!(fixture.done(false), Next::Again(Duration::from_millis(pause)));
            fixture.pass(pause - 1);
            assert_eq!(fixture.start(), None);
            fixture.pass(1);
        }
        assert_eq!(fixture.start(), Some(Cause::Changed));
        assert_eq!(fixture.done(false), Next::Failed);
        assert_eq!(fixture.wait(), None, "until something changes");
        fixture.change();
        fixture.pass(250);
        assert_eq!(fixture.start(), Some(Cause::Changed));
        assert_eq!(fixture.done(false), Next::Again(Duration::from_millis(500)), "all anew");
    }

    #[test]
    fn a_change_in_a_pause_is_loaded_before_its_end() {
        let mut fixture = Fixture::new();
        fixture.change();
        fixture.pass(250);
        fixture.start();
        fixture.done(false);
        fixture.pass(10);
        fixture.change();
        assert_eq!(fixture.wait(), Some(Duration::from_millis(250)));
        fixture.pass(250);
        assert_eq!(fixture.start(), Some(Cause::Changed));
        assert_eq!(fixture.done(true), Next::Nothing);
    }

    #[test]
    fn bad_changes_without_end_are_told_as_a_failure() {
        let mut fixture = Fixture::new();
        let mut failed = 0;
        for _ in 0..100 {
            fixture.change();
            fixture.pass(250);
            assert_eq!(fixture.start(), Some(Cause::Changed));
            failed += usize::from(fixture.done(false) == Next::Failed);
        }
        assert_eq!(failed, 25, "each fourth");
    }

    #[test]
    fn a_change_during_a_load_is_loaded_after_it() {
        let mut fixture = Fixture::new();
        fixture.0.ask();
        fixture.start();
        fixture.change();
        fixture.pass(1_000);
        assert_eq!(fixture.done(true), Next::Nothing);
        assert_eq!(fixture.start(), Some(Cause::Changed));
    }
}
