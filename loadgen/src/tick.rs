//! Owns what happened in one second on one thread, and the sending of it: the live view, the CSV
//! and the pictures over time are made from ticks. Read `run.rs` for who adds them up.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls::HandshakeKind;

use crate::outcome::Failure;
use crate::quantity;
use crate::session::Stamps;
use crate::tally::{Kind, simple_kind};

/// One second.
#[derive(Debug, Clone)]
pub struct Tick {
    /// Seconds since the start.
    pub second: u32,
    /// The thread it comes from.
    pub thread: u32,
    /// Attempts, dropped ones included.
    pub attempted: u64,
    /// Confirmed full handshakes.
    pub full: u64,
    /// Confirmed resumed ones.
    pub resumed: u64,
    /// Refused as expected.
    pub refused: u64,
    /// Let in although it should not.
    pub wrongly_accepted: u64,
    /// Failures by class.
    pub failures: BTreeMap<Failure, u64>,
    /// Attempts in progress at its end.
    pub in_flight: u32,
    /// Worst start delay, microseconds.
    pub lag_max: u64,
    /// Time to confirmation from the intended start, microseconds: full and resumed.
    pub confirmed: [Histogram<u64>; 2],
}

impl Tick {
    fn new(second: u32, thread: u32) -> Self {
        Self {
            second,
            thread,
            attempted: 0,
            full: 0,
            resumed: 0,
            refused: 0,
            wrongly_accepted: 0,
            failures: BTreeMap::new(),
            in_flight: 0,
            lag_max: 0,
            confirmed: [small_histogram(), small_histogram()],
        }
    }

    /// Counts a failure.
    pub fn failed(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    /// Notes how late a start was.
    pub fn started(&mut self, stamps: &Stamps) {
        let lag = stamps.started.saturating_duration_since(stamps.intended);
        self.lag_max = self.lag_max.max(quantity::micros(lag));
    }

    /// Counts a confirmation.
    pub fn confirmed(&mut self, kind: HandshakeKind, stamps: &Stamps) {
        let kind = simple_kind(kind);
        match kind {
            Kind::Full => self.full += 1,
            Kind::Resumed => self.resumed += 1,
        }
        if let Some(end) = stamps.confirmed {
            let span = quantity::micros(end.saturating_duration_since(stamps.intended));
            self.confirmed[kind as usize].saturating_record(span.max(1));
        }
    }

    /// Adds another thread's account of the same second.
    pub fn add(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.full += other.full;
        self.resumed += other.resumed;
        self.refused += other.refused;
        self.wrongly_accepted += other.wrongly_accepted;
        self.in_flight += other.in_flight;
        self.lag_max = self.lag_max.max(other.lag_max);
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
        for (mine, theirs) in self.confirmed.iter_mut().zip(&other.confirmed) {
            // Cannot fail: both have the same bounds.
            let _ = mine.add(theirs);
        }
    }

    /// Failures of which the server may have had a connection.
    #[must_use]
    pub fn failures_on_the_wire(&self) -> u64 {
        let unseen = [Failure::Dropped, Failure::Local, Failure::Refused];
        let seen = self.failures.iter().filter(|(failure, _)| !unseen.contains(failure));
        seen.map(|(_, count)| count).sum()
    }

    /// Failures of all classes.
    #[must_use]
    pub fn failures_total(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// Cuts a thread's time into ticks.
#[derive(Debug)]
pub struct Ticker {
    /// The second at hand.
    pub tick: Tick,
    start: Instant,
    sender: Sender<Tick>,
}

impl Ticker {
    /// Seconds count from `start`.
    #[must_use]
    pub fn new(thread: u32, start: Instant, sender: Sender<Tick>) -> Self {
        Self { tick: Tick::new(0, thread), start, sender }
    }

    /// When the second at hand ends.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.start + Duration::from_secs(u64::from(self.tick.second) + 1)
    }

    /// Sends every second that is over.
    pub fn beat(&mut self, now: Instant, in_flight: u32) {
        while now >= self.next() {
            self.finish(in_flight);
        }
    }

    /// Sends the second at hand, over or not.
    pub fn finish(&mut self, in_flight: u32) {
        self.tick.in_flight = in_flight;
        let next = Tick::new(self.tick.second + 1, self.tick.thread);
        // The coordinator may have gone after an interrupt; then nobody wants ticks.
        let _ = self.sender.send(std::mem::replace(&mut self.tick, next));
    }
}

/// 1 µs to 60 s at two digits: 20 KiB, made twice a second.
#[expect(clippy::expect_used, reason = "the bounds are constants that hdrhistogram accepts")]
fn small_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 2).expect("1 is not 0, and the top is above twice 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_reached_the_server_explains_no_difference_of_counts() {
        let mut tick = Tick::new(0, 0);
        for failure in [Failure::Dropped, Failure::Local, Failure::Refused, Failure::Timeout] {
            tick.failed(failure);
        }
        assert_eq!((tick.failures_total(), tick.failures_on_the_wire()), (4, 1));
    }
}
