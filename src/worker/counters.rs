//! What one worker counts. Written by its own thread only, read by whoever scrapes.
//!
//! No counter is shared between workers: a scrape sums them. Names and labels are `telemetry`'s.

use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::Histogram;
use crate::core::refusal::Reason;
use crate::tls::Memo;

/// Counts up. One writer, so a plain load and store are enough and no bus lock is paid.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Goes up and down. One writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// What one worker counts whatever the configuration is; `series` holds the rest.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    pub accepted: Counter,
    /// Connections that were handed to a lighter worker before TLS.
    pub handed_off: Counter,
    pub accept_errors: Counter,
    pub panics: Counter,
    /// Access-log records that found the queue full.
    pub reports_dropped: Counter,
    /// Refusals that were left out of the access log, as there were too many.
    pub reports_suppressed: Counter,
    /// Client connections now open, in whatever phase.
    pub open: Gauge,
    pub handshaking: Gauge,
    /// By the number of the stage, see `core::pressure`.
    pub memory_pressure: Gauge,
    /// The thread's id, by which the kernel tells what it has used; 0 before it runs.
    pub thread: Gauge,
    /// Orders to beat that were carried out: one that stays behind shows a worker that hangs.
    pub beats: Counter,
}

/// What a worker counts for one listener.
#[derive(Debug)]
pub struct ListenerCounters {
    /// Connections now open.
    pub open: Gauge,
    /// From the whole hello to the client's Finished.
    pub full_handshake: Histogram,
    pub resumed_handshake: Histogram,
    /// From accept to the end, refused ones included.
    pub life: Histogram,
    /// One a `Reason`, by its index.
    refusals: Box<[Counter]>,
    /// The same for what trusts and filters in audit mode would have refused.
    audits: Box<[Counter]>,
}

/// Handshakes that went through, with clients or with upstreams.
#[derive(Debug, Default)]
pub struct HandshakeCounters {
    pub full: Counter,
    pub resumed: Counter,
    /// Those whose chain was verified from memory, and those whose was not there.
    pub memo_hits: Counter,
    pub memo_misses: Counter,
}

impl HandshakeCounters {
    /// One more. `memo`: `None` where no chain was verified.
    pub(super) fn count(&self, is_resumed: bool, memo: Option<Memo>) {
        match is_resumed {
            true => self.resumed.increment(),
            false => self.full.increment(),
        }
        match memo {
            Some(Memo::Hit) => self.memo_hits.increment(),
            Some(Memo::Miss) => self.memo_misses.increment(),
            None => {}
        }
    }
}

#[derive(Debug, Default)]
pub struct ChainCounters {
    pub handshakes: HandshakeCounters,
    pub sessions: Counter,
    pub open: Gauge,
    /// Payload from clients to upstreams, and back, as it passes.
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
}

#[derive(Debug)]
pub struct ClusterCounters {
    pub dialled: Counter,
    pub dial_failures: Counter,
    pub handshakes: HandshakeCounters,
    /// Upstreams that a trust in audit mode would have refused.
    pub audits: Counter,
    /// Sessions that took a connection made ahead of need by this worker, by another one, and those
    /// that had to dial.
    pub ready_hits: Counter,
    pub ready_stolen: Counter,
    pub ready_misses: Counter,
    /// Ready connections that were found dead, too old or idle too long.
    pub ready_discarded: Counter,
    pub ready: Gauge,
    pub active: Gauge,
    /// Clients that wait for a dial.
    pub pending: Gauge,
    /// From the moment that bytes could flow to the first that the upstream sent.
    pub first_byte: Histogram,
}

/// What a worker counts for one endpoint of a cluster.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    pub dialled: Counter,
    pub dial_failures: Counter,
    /// How often this worker has ejected it, and until when it last did, in Unix seconds.
    pub ejections: Counter,
    pub ejected_until: Gauge,
    /// Open connections, ready ones and dials in flight included.
    pub active: Gauge,
}

/// What a worker counts for one trust anchor.
#[derive(Debug, Default)]
pub struct AnchorCounters {
    /// Handshakes, full and resumed, of whom it vouched for.
    pub uses: Counter,
    /// Unix seconds of the latest; 0 before the first.
    pub used_at: Gauge,
}

impl AnchorCounters {
    pub fn used(&self, now: u64) {
        self.uses.increment();
        self.used_at.set_to(now);
    }
}

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub fn increment(&self) {
        self.add(1);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    pub fn up(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub fn down(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }

    pub fn set(&self, value: usize) {
        self.set_to(value as u64);
    }

    pub fn set_to(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ListenerCounters {
    pub fn refused(&self, reason: Reason) {
        self.refusals[reason.index()].increment();
    }

    pub fn refusals(&self, reason: Reason) -> u64 {
        self.refusals[reason.index()].value()
    }

    pub fn audited(&self, reason: Reason) {
        self.audits[reason.index()].increment();
    }

    pub fn audits(&self, reason: Reason) -> u64 {
        self.audits[reason.index()].value()
    }
}

impl Default for ClusterCounters {
    fn default() -> Self {
        Self {
            dialled: Counter::default(),
            dial_failures: Counter::default(),
            handshakes: HandshakeCounters::default(),
            audits: Counter::default(),
            ready_hits: Counter::default(),
            ready_stolen: Counter::default(),
            ready_misses: Counter::default(),
            ready_discarded: Counter::default(),
            ready: Gauge::default(),
            active: Gauge::default(),
            pending: Gauge::default(),
            first_byte: Histogram::of_waits(),
        }
    }
}

impl Default for ListenerCounters {
    fn default() -> Self {
        let reasons = || Reason::ALL.iter().map(|_| Counter::default()).collect();
        Self {
            open: Gauge::default(),
            full_handshake: Histogram::of_waits(),
            resumed_handshake: Histogram::of_waits(),
            life: Histogram::of_lives(),
            refusals: reasons(),
            audits: reasons(),
        }
    }
}
