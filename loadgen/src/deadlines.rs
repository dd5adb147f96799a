//! Owns deadlines that all lie equally far ahead: then a queue is sorted by itself, and setting or
//! expiring one costs nothing. Cancelled ones stay until they are due and are ignored by their
//! owner. Never reads a clock. Read `worker.rs` next.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Deadlines `span` after they are set.
#[derive(Debug)]
pub struct Deadlines<T> {
    span: Duration,
    queue: VecDeque<(Instant, T)>,
}

impl<T> Deadlines<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self { span, queue: VecDeque::new() }
    }

    /// `item` is due `span` after `now`; `now` must not go backwards between calls.
    pub fn set(&mut self, now: Instant, item: T) {
        self.queue.push_back((now + self.span, item));
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }

    /// Takes one that is due.
    pub fn expire(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop_front().map(|(_, item)| item)
    }
}
