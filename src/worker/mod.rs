//! One worker a core: a pinned thread with its own runtime, listening sockets, upstream connections,
//! timers, counters and scratch. Nothing here is shared with another worker on the data path;
//! `sources` is, where a connection or a handshake begins.
//!
//! `connection` is one client from accept to close; `relay` the part in which bytes flow.

mod accept;
mod accept_failures;
mod announce;
mod census;
mod connection;
mod counters;
mod crowd;
mod departure;
mod endpoints;
mod filters;
mod flow;
mod gather;
mod generation;
mod handshake;
mod hello;
mod histogram;
mod in_flight;
mod limits;
mod listening;
mod mailbox;
mod memory;
#[cfg(test)]
pub(crate) mod panic_hook;
mod parting;
mod prelude;
mod proxied;
mod relay;
mod reload;
mod report;
mod review;
mod ring;
mod roster;
mod scratch;
mod series;
mod snapshot;
mod socket;
pub mod sources;
mod spliced;
mod stream;
mod tally;
mod thread;
mod timers;
mod turns;
mod upstream;
mod vital;

pub use self::census::{Listed, Listing, Phase, Row};
pub use self::counters::{
    AnchorCounters, ChainCounters, ClusterCounters, Counter, EndpointCounters, Gauge,
    HandshakeCounters, ListenerCounters, WorkerCounters,
};
pub use self::endpoints::{Directory, EndpointHealth, Endpoints, Member};
pub use self::histogram::Histogram;
pub use self::mailbox::{Ask, Handed, Mail, Mailbox, Order};
pub use self::report::{Ending, Report, UpstreamReport};
pub use self::series::{
    AnchorName, AnchorSeries, ChainName, ChainSeries, ClusterSeries, CounterTable, EndpointSeries,
    ListenerSeries, Series,
};
pub use self::snapshot::{ListenerKey, Snapshot};

pub use self::thread::{Ended, Spawn, spawn};

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::Sender;

use self::census::Census;
use self::crowd::Crowd;
use self::generation::Generation;
use self::in_flight::InFlight;
use self::listening::Listening;
use self::roster::Roster;
use self::scratch::{Scratch, Spares};
use self::sources::Sources;
use self::timers::Timers;
use self::turns::Turns;
use crate::config::plan::Io;
use crate::core::client_hello::HelloBuffer;
use crate::core::drain::{Drain, SessionDrain};
use crate::core::handoff::Handoff;
use crate::core::pressure::Pressure;
use crate::core::refusal::Reason;
use crate::core::report_limit::{ReportLimit, Telling};
use crate::sys::clock;
use crate::sys::splice::PipePool;

/// What every worker shows to the others.
#[derive(Debug, Clone)]
pub struct Peer {
    /// How its sockets are driven.
    pub io: Io,
    pub counters: Arc<WorkerCounters>,
    pub mailbox: Arc<Mailbox>,
}

/// Everything that the connections of one thread share.
#[derive(Debug)]
pub(crate) struct Worker {
    index: usize,
    /// How its sockets are driven, as long as it lives.
    io: Io,
    /// What whoever comes now is served by; swapped whole by `reload`.
    generation: RefCell<Rc<Generation>>,
    listening: Listening,
    /// All workers, this one included.
    peers: Arc<[Peer]>,
    counters: Arc<WorkerCounters>,
    /// Of the process: see there.
    sources: Arc<Sources>,
    reports: Option<Sender<Report>>,
    report_limit: RefCell<ReportLimit>,
    scratch: RefCell<Scratch>,
    hello: RefCell<Box<HelloBuffer>>,
    spares: Spares,
    pipes: PipePool,
    timers: Rc<Timers>,
    turns: Rc<Turns>,
    in_flight: InFlight,
    crowd: Crowd,
    roster: Rc<Roster>,
    census: Census,
    pressure: Cell<Pressure>,
    drain: Cell<Option<Drain>>,
    handoff: Cell<Handoff>,
    /// State of a small generator (xorshift): balancing and jitter, nothing secret.
    random: Cell<u64>,
    connections: Cell<u64>,
}

impl Worker {
    /// What whoever comes now is served by.
    fn generation(&self) -> Rc<Generation> {
        Rc::clone(&self.generation.borrow())
    }

    /// A number for balancing and jitter; never for secrets.
    fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state
    }

    /// When a session's turn in the running drain comes.
    fn drain_of_session(&self, now: Instant) -> SessionDrain {
        let at_once = SessionDrain { close_at: now, reset_at: now };
        self.drain.get().map_or(at_once, |drain| drain.session(self.random()))
    }

    /// The id of the next connection.
    fn next_id(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        ((self.index as u64) << 48) | self.connections.get()
    }

    /// Hands a connection's report to the access log; a full queue costs the record, not the worker,
    /// and too many refusals of one reason are counted and not written.
    fn report(&self, refused: Option<Reason>, report: impl FnOnce() -> Report) {
        let Some(reports) = &self.reports else { return };
        let telling = match refused {
            Some(reason) => self.report_limit.borrow_mut().tell(reason, clock::now()),
            None => Telling::Told { suppressed: 0 },
        };
        match telling {
            Telling::Told { suppressed } => {
                if reports.try_send(Report { suppressed, ..report() }).is_err() {
                    self.counters.reports_dropped.increment();
                }
            }
            Telling::Suppressed => self.counters.reports_suppressed.increment(),
        }
    }
}
