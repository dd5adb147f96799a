//! What a worker lets go of as memory presses (`core::pressure`).

use std::rc::Rc;
use std::time::Instant;

use super::scratch::{
    RECEIVE_BYTES_LEAN, RECEIVE_BYTES_MAX, RECEIVE_BYTES_MIN, RECEIVE_BYTES_SLOW,
};
use super::{Worker, review};
use crate::core::pressure::{Pressure, Stage};
use crate::core::refusal::{Reason, Refusal};

/// Goes by `pressure` from here on.
pub(super) fn press(worker: &Rc<Worker>, pressure: Pressure) {
    worker.pressure.set(pressure);
    worker.counters.memory_pressure.set(pressure.stage as usize);
    if pressure.stage >= Stage::Lean {
        worker.spares.empty();
        worker.generation().clusters().iter().for_each(|cluster| cluster.discard_all_ready());
    }
    if pressure.stage >= Stage::Closed {
        // Each looks for itself whether it has been idle too long.
        tokio::task::spawn_local(review::all(Rc::clone(worker)));
    }
}

impl Worker {
    /// Whether connections may be made ahead of need.
    pub(super) fn has_memory_to_spare(&self) -> bool {
        self.pressure.get().stage < Stage::Lean
    }

    /// Why no client can be taken now, if so.
    pub(super) fn over_memory(&self) -> Option<Refusal> {
        let is_closed = self.pressure.get().stage >= Stage::Closed;
        is_closed.then(|| Refusal::new(Reason::MemoryLimit, self.memory_in_words()))
    }

    /// What there is and what there may be, for logs.
    pub(super) fn memory_in_words(&self) -> String {
        let Pressure { resident, limit, .. } = self.pressure.get();
        format!("{} MiB are used of limits.memory = {} MiB", resident >> 20, limit >> 20)
    }

    /// Whether a session that last moved something at `moved`, and for which so many bytes are kept, is
    /// to make room.
    pub(super) fn sheds(&self, moved: Instant, kept: usize, now: Instant) -> bool {
        let Pressure { stage, patience, heaviest, .. } = self.pressure.get();
        stage >= Stage::Closed
            && (now.saturating_duration_since(moved) >= patience
                || heaviest.is_some_and(|bytes| kept > bytes))
    }

    /// Bytes that one session may move in one poll. What is received may have to be kept.
    pub(super) fn share(&self) -> usize {
        let most = match self.pressure.get().stage {
            Stage::Calm => RECEIVE_BYTES_MAX,
            Stage::Lean => RECEIVE_BYTES_LEAN,
            Stage::Closed => RECEIVE_BYTES_SLOW,
            Stage::Shedding => RECEIVE_BYTES_MIN,
        };
        self.turns.share().min(most)
    }
}
