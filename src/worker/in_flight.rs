//! The handshakes that this worker has begun and not ended, in the order in which they began: where there are
//! as many as may be, who has waited for its client the longest gives its place to who comes.
//!
//! A client that begins and never goes on would otherwise keep others out until its deadline, at the price
//! of one hello.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Worker;
use crate::sys::clock;

#[derive(Debug, Default)]
pub(super) struct InFlight {
    running: RefCell<BTreeMap<u64, Running>>,
    begun: Cell<u64>,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    is_over: Rc<Notify>,
}

/// One handshake, in the count of those that run.
#[derive(Debug)]
pub(super) struct Handshaking {
    worker: Rc<Worker>,
    number: u64,
    is_over: Rc<Notify>,
}

impl InFlight {
    /// Ends the handshake that has waited the longest, if it has waited for long.
    pub(super) fn make_room(&self, now: Instant) -> bool {
        let mut running = self.running.borrow_mut();
        let Some(oldest) = running.first_entry() else { return false };
        if now.saturating_duration_since(oldest.get().since) < PATIENCE {
            return false;
        }
        oldest.remove().is_over.notify_one();
        true
    }
}

impl Handshaking {
    pub(super) fn new(worker: &Rc<Worker>) -> Self {
        let InFlight { running, begun } = &worker.in_flight;
        let (number, is_over) = (begun.get(), Rc::default());
        begun.set(number + 1);
        let since = clock::now();
        running.borrow_mut().insert(number, Running { since, is_over: Rc::clone(&is_over) });
        worker.counters.handshaking.up();
        Self { worker: Rc::clone(worker), number, is_over }
    }

    /// Returns once another has taken its place.
    pub(super) fn given_up(&self) -> impl Future<Output = ()> + use<> {
        let is_over = Rc::clone(&self.is_over);
        async move { is_over.notified().await }
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.worker.in_flight.running.borrow_mut().remove(&self.number);
        self.worker.counters.handshaking.down();
    }
}

/// Who is still there needs a round trip or two and a signature.
const PATIENCE: Duration = Duration::from_secs(1);
