//! Watches the memory of the process, and tells the workers how hard it presses.
//!
//! `core::pressure` says what is let go of when.

use std::time::{Duration, Instant};

use super::gateway::Gateway;
use crate::core::pressure::{Pressure, PressureWatch, Stage};
use crate::sys::clock;
use crate::sys::status::Status;
use crate::worker::Order;

/// Nothing is read while there is no limit.
#[derive(Debug)]
pub(super) struct Memory {
    watch: PressureWatch,
    told: Stage,
    next: Instant,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { watch: PressureWatch::new(), told: Stage::Calm, next: clock::now() }
    }

    /// To be called often, in a drain as well: that may last as long as its sessions do.
    pub(super) fn look(&mut self, gateway: &Gateway) {
        let now = clock::now();
        let limit = gateway.current().load().plan.limits.memory;
        if now < self.next || (limit.is_none() && self.told == Stage::Calm) {
            return;
        }
        self.next = now + INTERVAL;
        let resident = Status::read().resident().unwrap_or(0);
        let pressure = self.watch.look(resident, limit);
        if pressure.stage == self.told && pressure.stage == Stage::Calm {
            return;
        }
        if pressure.stage != self.told {
            tell(pressure, self.told);
            self.told = pressure.stage;
        }
        let peers = gateway.peers().iter().enumerate();
        // In a drain some are gone, and nobody reads their mail.
        for (_, peer) in peers.filter(|(worker, _)| !gateway.is_gone(*worker)) {
            peer.mailbox.order(Order::Memory(pressure));
        }
    }
}

fn tell(pressure: Pressure, before: Stage) {
    let Pressure { stage, resident, limit, .. } = pressure;
    let what = match stage {
        Stage::Calm => return tracing::info!(resident, limit, "memory is back below its limit"),
        Stage::Lean => "no ready connections are kept",
        Stage::Closed => {
            "new connections are refused, and sessions that are idle for half a minute closed"
        }
        Stage::Shedding => {
            "idle sessions are closed, those idle longest first, and sessions reset for which much is \
             kept, as their peers do not read, those for which most is kept first"
        }
    };
    let (stage, before) = (stage.as_str(), before.as_str());
    tracing::warn!(
        stage,
        before,
        resident,
        limit,
        "memory is near limits.memory: {what}; raise it, add nodes, or lower limits.connections"
    );
}

const INTERVAL: Duration = Duration::from_millis(250);
