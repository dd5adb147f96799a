//! Where as many connections are open as may be: clients that are waited for, before anything of theirs is
//! served, make room.
//!
//! Silence costs a client nothing. Without this, whoever opens `limits.connections` of them within
//! `timeouts.hello` keeps everybody else out.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Order, Worker};
use crate::core::refusal::{Reason, Refusal};
use crate::sys::clock;

/// The clients of this worker that are waited for: for their hello, in their handshake, or to take leave;
/// at the end of a drain also those whose upstream is dialled.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    waited: Notify,
    /// When this worker last asked all of them for room.
    asked: Cell<Option<Instant>>,
    /// Nobody is waited for any more.
    is_dismissed: Cell<bool>,
    dismissed: Notify,
}

impl Crowd {
    /// Ends those of this worker that have been waited for long enough.
    pub(super) fn make_room(&self) {
        self.waited.notify_waiters();
    }

    /// Ends all of this worker, those too whose upstream is dialled, and who comes from now on.
    pub(super) fn dismiss(&self) {
        self.is_dismissed.set(true);
        self.waited.notify_waiters();
        self.dismissed.notify_waiters();
    }

    /// Returns once a client that is waited for since then has to go.
    pub(super) async fn has_to_go(&self, since: Instant) -> Refusal {
        while !self.is_dismissed.get() {
            self.waited.notified().await;
            if clock::now().saturating_duration_since(since) >= PATIENCE {
                break;
            }
        }
        match self.is_dismissed.get() {
            true => dismissal(),
            false => Refusal::new(Reason::ConnectionLimit, SILENT),
        }
    }

    /// Returns once even a client whose upstream is dialled has to go.
    pub(super) async fn is_dismissed(&self) -> Refusal {
        while !self.is_dismissed.get() {
            self.dismissed.notified().await;
        }
        dismissal()
    }
}

impl Worker {
    /// Has the silent clients of all workers make room for who comes next.
    pub(super) fn ask_for_room(&self, now: Instant) {
        let asked = &self.crowd.asked;
        if asked.get().is_some_and(|asked| now.saturating_duration_since(asked) < PAUSE) {
            return;
        }
        asked.set(Some(now));
        self.peers.iter().for_each(|peer| peer.mailbox.order(Order::MakeRoom));
    }
}

fn dismissal() -> Refusal {
    Refusal::new(Reason::Draining, "the drain was over before the client had reached an upstream")
}

/// Who means to speak has spoken by then; a handshake needs a round trip or two and a signature.
const PATIENCE: Duration = Duration::from_secs(1);

/// All of a worker's silent clients are woken for it: not for each one that comes.
const PAUSE: Duration = Duration::from_millis(250);

const SILENT: &str = "the client was waited for while as many connections were open as may be, and others took \
                      its place";
