//! What a session is looked at for in time, beside the bytes it moves: its limits, a drain, its client's
//! trust, its age, rest, and peers that nobody reads.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Session;
use crate::core::drain::Wish as Leave;
use crate::core::refusal::Reason;
use crate::core::relay::{Outcome, Side, Wish};
use crate::sys::socket;
use crate::worker::flow::Legs;
use crate::worker::roster::DrainPhase;

/// A session that moved nothing for this long is at an idle moment, good for closing it in a drain.
const IDLE_MOMENT: Duration = Duration::from_millis(100);

/// A session that moved nothing for this long rests.
const REST_FROM: Duration = Duration::from_millis(200);

/// How often a peer that is not read, for the other takes nothing, is asked whether it is still there.
const UNREAD_LOOK: Duration = Duration::from_secs(5);

impl Session<'_> {
    /// Nothing moves: look at the limits in time, and sleep.
    pub(super) fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let now = self.now;
        self.busy = None;
        self.legs.up.acknowledge();
        self.let_gather(cx);
        self.look_at_memory(now);
        let mut at = self.relay.deadline();
        let turns = [
            self.look_at_drain(now),
            self.look_at_review(now),
            self.look_at_age(now),
            self.look_at_rest(now),
            self.look_at_unread(now),
        ];
        for turn in turns.into_iter().flatten() {
            at = at.min(turn);
        }
        if self.relay.outcome().is_none() && self.alarm.poll(at, cx).is_ready() {
            self.relay.deadline_passed(now);
            if self.relay.outcome().is_none() {
                // The drain's turn, or a deadline that moved: look again.
                cx.waker().wake_by_ref();
            }
        }
        match self.relay.outcome() {
            Some(outcome) => Poll::Ready(Some(outcome)),
            None => Poll::Pending,
        }
    }

    /// Bounds the time for which bytes may gather in the sockets.
    fn let_gather(&mut self, cx: &mut Context<'_>) {
        for from in [Side::Downstream, Side::Upstream] {
            let is_wanted = matches!(self.relay.wish(from), Wish::Read | Wish::Discard);
            let (source, _) = self.legs.along(from);
            self.gathers.hold(from, &source.stream, is_wanted, cx);
        }
    }

    /// Resets the session where nothing it has on its way can keep it any longer.
    pub(super) fn look_at_force(&mut self, now: Instant) {
        if self.place.phase() == DrainPhase::Forced {
            self.relay.drain(true);
        }
        if self.review.wish(now) == Some(Leave::Reset) {
            self.relay.end(true, Reason::TrustChanged);
        }
    }

    /// Ends the session at an idle moment where its client is not trusted any more; else says when to
    /// look again.
    fn look_at_review(&mut self, now: Instant) -> Option<Instant> {
        match self.review.wish(now)? {
            Leave::Reset => {
                self.relay.end(true, Reason::TrustChanged);
                None
            }
            Leave::Stay { until } => Some(until),
            Leave::CloseWhenIdle { until } => {
                let quiet = self.last_moved + IDLE_MOMENT;
                if now < quiet {
                    return Some(quiet.min(until));
                }
                self.relay.end(false, Reason::TrustChanged);
                Some(until)
            }
        }
    }

    /// Ends the session where its turn in a drain has come; else says when to look again.
    fn look_at_drain(&mut self, now: Instant) -> Option<Instant> {
        match self.place.phase() {
            DrainPhase::Serving => None,
            DrainPhase::Forced => {
                self.relay.drain(true);
                None
            }
            DrainPhase::Draining => {
                let drain = *self.drain.get_or_insert_with(|| self.worker.drain_of_session(now));
                let turn = drain.turn(self.last_from == Side::Downstream);
                let quiet = self.last_moved + IDLE_MOMENT;
                if now < turn.max(quiet) {
                    return Some(turn.max(quiet));
                }
                self.relay.drain(false);
                None
            }
        }
    }

    /// Has the upstream's socket kept alive once the session is no short one; else says when.
    fn look_at_age(&mut self, now: Instant) -> Option<Instant> {
        let at = self.keep_alive_at?;
        if now < at {
            return Some(at);
        }
        self.keep_alive_at = None;
        // One that cannot take the option is gone, which its next read tells.
        drop(socket::keep_alive(&self.legs.up.stream));
        None
    }

    /// Gives up what an idle session can do without; else says when.
    fn look_at_rest(&mut self, now: Instant) -> Option<Instant> {
        let Legs { down, up } = &mut self.legs;
        if !down.wire.is_expanded() && !up.wire.is_expanded() {
            return None;
        }
        let at = self.last_moved + REST_FROM;
        if now < at {
            return Some(at);
        }
        down.wire.fold();
        up.wire.fold();
        None
    }

    /// Ends a session that nothing moves in, and whose peer was reset while it was not read; else says when
    /// to look again. A reset tells nobody who does not receive.
    fn look_at_unread(&mut self, now: Instant) -> Option<Instant> {
        let looks = now.duration_since(self.last_moved).as_secs() / UNREAD_LOOK.as_secs();
        let next = u32::try_from(looks + 1).unwrap_or(u32::MAX);
        let mut at = None;
        for side in [Side::Downstream, Side::Upstream] {
            if self.relay.wish(side) != Wish::Write {
                continue;
            }
            at = Some(self.last_moved + UNREAD_LOOK * next);
            if looks > 0
                && let Err(error) = socket::take_error(&self.legs.on(side).stream)
            {
                self.broken(side, &error);
            }
        }
        at
    }

    /// Ends a session that has been idle for longer than there is memory for, or that takes more of it
    /// than there is. Where bytes are kept the cut is to be seen.
    fn look_at_memory(&mut self, now: Instant) {
        let kept = self.legs.down.kept() + self.legs.up.kept();
        if self.worker.sheds(self.last_moved, kept, now) {
            self.relay.end(self.relay.queued() > 0, Reason::MemoryLimit);
        }
    }
}
