//! Waiting with an end: for a thread, for a channel, for a condition. No test waits without one.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::monotonic_now;

/// How long the kit waits for anything before it calls it hung: long enough for a debug build on
/// two busy cores, short enough for a person.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A moment after which a wait has failed.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

/// Runs `work` on a thread of its own and returns what it returns; panics when it takes longer than
/// `limit` (the thread is left behind) or panics itself.
pub fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(limit) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("{what} took longer than {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => panic!("{what} ended without a result"),
        },
    }
}

/// Asks until `probe` answers; panics when it has not within `limit`. For what has no event to
/// wait on, such as a gauge behind an HTTP request; each turn costs what the probe costs.
pub fn eventually<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(!deadline.is_over(), "{what} did not come within {limit:?}");
        thread::park_timeout(POLL);
    }
}

impl Deadline {
    pub fn after(limit: Duration) -> Self {
        Self(monotonic_now() + limit)
    }

    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(monotonic_now())
    }

    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// The next message; panics when the deadline comes first, `None` when there are no senders.
    pub fn receive<T>(&self, receiver: &Receiver<T>, what: &str) -> Option<T> {
        match receiver.recv_timeout(self.left()) {
            Ok(value) => Some(value),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{what} did not come in time"),
        }
    }
}

/// Between two probes: short beside a connection, long beside a system call.
pub(crate) const POLL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_ends_is_returned_and_its_panic_is_ours() {
        assert_eq!(within(PATIENCE, "a sum", || 1 + 1), 2);
        let panic = std::panic::catch_unwind(|| within(PATIENCE, "a panic", || panic!("inside")));
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"inside"));
    }

    #[test]
    fn work_that_hangs_is_named() {
        let (_kept, receiver) = mpsc::channel::<()>();
        let hung = move || within(Duration::from_millis(1), "the wait", move || receiver.recv());
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(hung)).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().starts_with("the wait took longer"));
    }

    #[test]
    fn a_probe_is_asked_until_it_answers() {
        let mut turns = 0;
        let answer = eventually(PATIENCE, "the third turn", || {
            turns += 1;
            (turns == 3).then_some(turns)
        });
        assert_eq!(answer, 3);
    }
}
