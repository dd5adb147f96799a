//! How much of a fast flow gathers in its socket before the worker is woken for it.
//!
//! A worker that is faster than a sender is woken for each piece that comes, and waking costs more than
//! the piece. So a flow that streams gets a low-water mark: as much as comes within two milliseconds. What
//! gathers below the mark is fetched after `HOLD` at the latest. Where it turns out that the other side had
//! waited for that, the flow is trusted less. Sans-I/O: `worker::gather` sets the marks.

use std::time::{Duration, Instant};

/// For about so long bytes gather.
const GATHER: Duration = Duration::from_millis(2);

/// For so long bytes below the mark wait at most.
pub const HOLD: Duration = Duration::from_millis(4);

/// A flow that got nothing for so long has paused; less may be a sender that waits for its core.
const PAUSE: Duration = Duration::from_millis(5);

/// A flow streams once it has not paused for so long; doubled for each step of distrust.
const STEADY: Duration = Duration::from_millis(10);
const DISTRUST_MAX: u32 = 7;

/// So many periods with a mark, and nobody who had to wait, take a step of distrust back.
const CALM_PERIODS: u32 = 32;

/// Bytes: below the least a mark spares too little, above the most it spares no more.
const MARK_MIN: u64 = 128 * 1024;
const MARK_MAX: u64 = 1024 * 1024;

/// The mark of a flow for which nothing is let gather.
pub const NO_MARK: u32 = 1;

/// The mark of one flow.
#[derive(Debug)]
pub struct Coalescing {
    mark: u32,
    /// Since when the flow has not paused, or since when it is measured again; and its bytes from then on.
    since: Instant,
    bytes: u64,
    last: Instant,
    /// Nobody has wanted its bytes since `last`.
    is_held_up: bool,
    /// It was held up at some time since `since`.
    was_held_up: bool,
    suspended: Option<Suspended>,
    distrust: u32,
    calm: u32,
}

/// A mark that was taken away, since what came did not come up to it.
#[derive(Debug, Clone, Copy)]
struct Suspended {
    mark: u32,
    /// What had waited was received.
    is_fetched: bool,
    /// The other side has said something since.
    is_answered: bool,
}

impl Coalescing {
    pub fn new(now: Instant) -> Self {
        Self {
            mark: NO_MARK,
            since: now,
            bytes: 0,
            last: now,
            is_held_up: false,
            was_held_up: false,
            suspended: None,
            distrust: 0,
            calm: 0,
        }
    }

    /// So many bytes came. Returns the mark to set, if it is to be another one.
    pub fn received(&mut self, bytes: u64, now: Instant) -> Option<u32> {
        self.want(now);
        let gap = now.saturating_duration_since(self.last);
        self.last = now;
        if self.suspended.is_some() {
            return self.after_release(bytes, gap, now);
        }
        if self.mark == NO_MARK && gap >= PAUSE {
            self.measure_from(now);
            return None;
        }
        self.bytes += bytes;
        let period = now.saturating_duration_since(self.since);
        if period < self.period() {
            return None;
        }
        let mark = mark_for(self.bytes, period, self.was_held_up);
        self.measure_from(now);
        self.calm_down(mark);
        (mark != std::mem::replace(&mut self.mark, mark)).then_some(mark)
    }

    /// When to call `overdue`, if nothing comes before.
    pub fn deadline(&self) -> Option<Instant> {
        (self.mark != NO_MARK && !self.is_held_up).then(|| self.last + HOLD)
    }

    /// The flow is not read until `want`, for whoever gets its bytes is slow: that is no pause.
    pub fn hold_up(&mut self) {
        self.is_held_up = true;
        self.was_held_up = true;
    }

    /// The flow is read.
    pub fn want(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_held_up) {
            self.last = now;
        }
    }

    /// `deadline` has come: the mark is to be `NO_MARK` now, so that what waits is told.
    pub fn overdue(&mut self, now: Instant) {
        let mark = std::mem::replace(&mut self.mark, NO_MARK);
        self.suspended = Some(Suspended { mark, is_fetched: false, is_answered: false });
        self.measure_from(now);
    }

    /// Bytes went the other way.
    pub fn answer(&mut self) {
        if let Some(suspended) = &mut self.suspended {
            suspended.is_answered = true;
        }
    }

    /// What comes after a mark was taken away: what had waited for it, and then either more of the
    /// same, from a sender that had not had its turn, or something new.
    fn after_release(&mut self, bytes: u64, gap: Duration, now: Instant) -> Option<u32> {
        let suspended = self.suspended.as_mut()?;
        if suspended.is_answered {
            // Who answers had been waiting for the last of it.
            self.distrust = (self.distrust + 1).min(DISTRUST_MAX);
            self.calm = 0;
        } else if !suspended.is_fetched {
            suspended.is_fetched = true;
            return None;
        } else if gap < PAUSE {
            self.mark = suspended.mark;
            self.bytes += bytes;
        }
        self.suspended = None;
        if self.mark != NO_MARK {
            return Some(self.mark);
        }
        self.measure_from(now);
        None
    }

    fn measure_from(&mut self, now: Instant) {
        self.since = now;
        self.bytes = 0;
        self.was_held_up = self.is_held_up;
    }

    /// How long the flow is measured before its mark is set, or set anew.
    fn period(&self) -> Duration {
        if self.mark == NO_MARK { STEADY * (1 << self.distrust) } else { STEADY }
    }

    fn calm_down(&mut self, mark: u32) {
        self.calm = if mark == NO_MARK { 0 } else { self.calm + 1 };
        if self.calm >= CALM_PERIODS {
            self.calm = 0;
            self.distrust = self.distrust.saturating_sub(1);
        }
    }
}

/// What comes within `GATHER` at this rate, as a power of two, so that it seldom changes: within two
/// thirds to four thirds of that time. A flow that was held up comes faster than it goes: more gathers
/// by itself while nobody wants it, and nobody wants to be woken for it either.
fn mark_for(bytes: u64, period: Duration, was_held_up: bool) -> u32 {
    let periods = period.as_nanos().max(1);
    let gathered = u128::from(bytes) * GATHER.as_nanos() / periods;
    let gathered = u64::try_from(gathered).unwrap_or(MARK_MAX);
    if gathered < MARK_MIN {
        return NO_MARK;
    }
    let gathered = if was_held_up { MARK_MAX } else { gathered };
    1 << (gathered + gathered / 2).min(MARK_MAX).ilog2()
}

#[cfg(test)]
mod tests;
