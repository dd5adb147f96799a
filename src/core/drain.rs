//! When each session ends once the process was told to: a schedule that is known at the signal.
//!
//! New connections are taken for `grace`, while balancers notice; then sessions are asked to close
//! at moments spread over `spread`, so that their clients do not all come back to the next node at
//! once; at `deadline` what is left is reset. Owns the moments only: `session` closes and resets,
//! and is to be read next.

use std::time::{Duration, Instant};

/// The schedule of a drain. The phases never overlap and none goes beyond the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    accept_until: Instant,
    spread: Duration,
    reset_at: Instant,
}

/// What a drain asks of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionDrain {
    /// From here on: close at the next moment when no byte is in flight in either direction.
    pub close_at: Instant,
    /// Here: reset both sides, so that nobody takes the cut for an end (never before `close_at`).
    pub reset_at: Instant,
}

/// What a session has to do at some moment of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing yet; ask again then.
    Stay {
        until: Instant,
    },
    /// Close when idle; ask again then.
    CloseWhenIdle {
        until: Instant,
    },
    Reset,
}

impl Drain {
    /// The drain that a signal at `signal_at` sets off. All three count from there, `spread` from
    /// the end of `grace`; what would go beyond `deadline` ends with it.
    pub fn new(signal_at: Instant, grace: Duration, spread: Duration, deadline: Duration) -> Drain {
        let deadline = deadline.min(DEADLINE_MAX);
        let grace = grace.min(deadline);
        Drain {
            accept_until: signal_at + grace,
            spread: spread.min(deadline - grace),
            reset_at: signal_at + deadline,
        }
    }

    /// The second signal: what is open at `now` is reset then.
    pub fn cut_short(self, now: Instant) -> Drain {
        let reset_at = self.reset_at.min(now);
        Drain { accept_until: self.accept_until.min(now), spread: Duration::ZERO, reset_at }
    }

    /// Whether a connection that comes at `now` is still taken.
    pub fn accepts(&self, now: Instant) -> bool {
        now < self.accept_until
    }

    /// When listeners close.
    pub fn accept_until(&self) -> Instant {
        self.accept_until
    }

    /// When no session is left, and the process ends whatever happens.
    pub fn over_at(&self) -> Instant {
        self.reset_at
    }

    /// The moments of one session. `random` (uniform, drawn once a session) places it in the
    /// spread.
    pub fn session(&self, random: u64) -> SessionDrain {
        let spread = self.spread.as_nanos();
        // The upper half of a 64 × 64 bit product: uniform over the spread, never its end.
        let after = u64::try_from((spread * u128::from(random)) >> 64).unwrap_or(u64::MAX);
        let close_at = self.accept_until + Duration::from_nanos(after);
        SessionDrain { close_at: close_at.min(self.reset_at), reset_at: self.reset_at }
    }
}

impl SessionDrain {
    /// When an idle session is closed. One whose client spoke last may wait for an answer, and nobody
    /// knows how long a query takes: it has half of the time that its turn leaves until the deadline. Only
    /// half, for who polls for ever is to go in its turn as well, and not at the deadline with all others.
    pub fn turn(&self, awaits_answer: bool) -> Instant {
        let left = self.reset_at.saturating_duration_since(self.close_at);
        self.close_at + if awaits_answer { left / 2 } else { Duration::ZERO }
    }

    pub fn wish(&self, now: Instant) -> Wish {
        if now >= self.reset_at {
            Wish::Reset
        } else if now >= self.close_at {
            Wish::CloseWhenIdle { until: self.reset_at }
        } else {
            Wish::Stay { until: self.close_at }
        }
    }
}

/// Longer drains are a mistake; the bound keeps sums of instants in range.
const DEADLINE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
        Instant::now()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn accepting_closing_and_resetting_follow_each_other() {
        let signal = start();
        let drain = Drain::new(signal, seconds(5), seconds(10), seconds(30));
        assert!(drain.accepts(signal) && drain.accepts(signal + seconds(4)));
        assert!(!drain.accepts(signal + seconds(5)));
        let session = drain.session(1 << 63);
        let (close_at, reset_at) = (signal + seconds(10), signal + seconds(30));
        for (at, wish) in [
            (0, Wish::Stay { until: close_at }),
            (9, Wish::Stay { until: close_at }),
            (10, Wish::CloseWhenIdle { until: reset_at }),
            (29, Wish::CloseWhenIdle { until: reset_at }),
            (30, Wish::Reset),
            (300, Wish::Reset),
        ] {
            assert_eq!(session.wish(signal + seconds(at)), wish, "{at} s");
        }
    }

    // threat 37
    #[test]
    fn who_waits_for_an_answer_has_half_of_the_time_that_is_left() {
        let signal = start();
        let drain = Drain::new(signal, seconds(0), seconds(10), seconds(30));
        for (random, idle, awaiting) in [(0, 0, 15_000), (1 << 63, 5_000, 17_500)] {
            let turns = [false, true].map(|awaits| drain.session(random).turn(awaits));
            let after = turns.map(|turn| turn.duration_since(signal).as_millis());
            assert_eq!(after, [idle, awaiting]);
        }
    }

    #[test]
    fn sessions_are_spread_evenly() {
        let signal = start();
        let drain = Drain::new(signal, seconds(0), seconds(10), seconds(30));
        let mut each_second = [0; 10];
        for session in 0..1000u64 {
            let close_at = drain.session(session * (u64::MAX / 1000)).close_at;
            each_second[usize::try_from((close_at - signal).as_secs()).unwrap()] += 1;
        }
        assert!(each_second.iter().all(|closed| (99..=101).contains(closed)), "{each_second:?}");
    }

    #[test]
    fn without_grace_and_spread_all_close_at_the_signal() {
        let signal = start();
        let drain = Drain::new(signal, seconds(0), seconds(0), seconds(30));
        assert!(!drain.accepts(signal));
        let until = signal + seconds(30);
        assert_eq!(drain.session(u64::MAX).wish(signal), Wish::CloseWhenIdle { until });
    }

    #[test]
    fn a_second_signal_resets_at_once() {
        let signal = start();
        let now = signal + seconds(3);
        let drain = Drain::new(signal, seconds(5), seconds(10), seconds(30)).cut_short(now);
        assert!(!drain.accepts(now));
        assert_eq!((drain.over_at(), drain.session(9).wish(now)), (now, Wish::Reset));
        assert_eq!(drain.cut_short(now + seconds(9)).over_at(), now);
    }

    proptest! {
        #[test]
        fn no_moment_is_beyond_the_deadline_or_out_of_order(
            grace: Duration, spread: Duration, deadline: Duration, random: u64,
        ) {
            let signal = start();
            let drain = Drain::new(signal, grace, spread, deadline);
            let session = drain.session(random);
            prop_assert!(signal <= drain.accept_until());
            prop_assert!(drain.accept_until() <= session.close_at);
            prop_assert!(session.close_at <= session.turn(true));
            prop_assert!(session.turn(true) <= session.reset_at);
            prop_assert!(session.reset_at <= signal + deadline.min(DEADLINE_MAX));
        }
    }
}
