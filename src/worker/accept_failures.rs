//! What a worker does when accept(2) fails: clients are closed one by one where something ran out, so
//! that they see a refusal and no time-out; and the operator is told, seldom. `accept` asks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::Worker;
use super::listening::Leave;
use crate::core::refusal::Reason;
use crate::core::seldom::Seldom;
use crate::sys::{clock, shortage, socket};

/// Failures of one listening socket.
#[derive(Debug)]
pub(super) struct Failures {
    /// Given up to be able to accept, and close, a connection when no descriptor is left.
    reserve: Option<OwnedFd>,
    told: Seldom,
}

impl Failures {
    pub(super) fn new() -> Self {
        Self { reserve: reserve_descriptor(), told: Seldom::default() }
    }

    /// Counts and tells of one, and says how long not to accept. A client that left while it waited is
    /// no reason to wait; what may come again at once is: accepting without a pause would only spin.
    pub(super) fn one_more(
        &mut self,
        worker: &Worker,
        leave: &Leave,
        listener: impl AsFd,
        error: &io::Error,
    ) -> Option<Duration> {
        worker.counters.accept_errors.increment();
        if error.kind() == io::ErrorKind::ConnectionAborted {
            tracing::debug!(%error, "a client left before it was accepted");
            return None;
        }
        if let Some(failures) = self.told.one_more(clock::now(), TELLING_PAUSE) {
            let remedy = shortage::remedy_of_accept(error);
            tracing::warn!(%error, failures, "clients are not let in: {remedy}");
        }
        if shortage::remedy(error).is_some() {
            self.shed_one(worker, leave, listener);
        }
        Some(PAUSE)
    }

    /// Takes one connection off the queue and closes it.
    fn shed_one(&mut self, worker: &Worker, leave: &Leave, listener: impl AsFd) {
        self.reserve = None;
        if socket::accept(listener).map(drop).is_ok()
            && let Some(entrance) = leave.entrance(worker)
        {
            entrance.counters().of(worker.index).refused(Reason::LocalResources);
        }
        self.reserve = reserve_descriptor();
    }
}

/// One descriptor and never two: two are not there when it is to be taken back.
fn reserve_descriptor() -> Option<OwnedFd> {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()
}

const PAUSE: Duration = Duration::from_millis(50);
/// Between two lines of the log about one socket.
const TELLING_PAUSE: Duration = Duration::from_secs(10);
