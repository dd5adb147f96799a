//! What one worker counts. Written by its own thread only, read by whoever scrapes.
//!
//! No counter is shared between workers: a scrape sums them. Names and labels are `telemetry`'s.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::refusal::Reason;

/// Counts up. One writer, so a plain load and store are enough and no bus lock is paid.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Goes up and down. One writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// Everything that one worker counts.
#[derive(Debug)]
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
    /// One a listener: connections now open.
    pub listeners: Vec<Gauge>,
    /// One a `Reason`, by its index, for each listener.
    pub refusals: Vec<Vec<Counter>>,
    /// The same for what trusts and filters in audit mode would have refused.
    pub audits: Vec<Vec<Counter>>,
    /// One a chain, in the flat order of `Snapshot::chain_index`.
    pub chains: Vec<ChainCounters>,
    /// One a cluster.
    pub clusters: Vec<ClusterCounters>,
}

#[derive(Debug, Default)]
pub struct ChainCounters {
    pub handshakes_full: Counter,
    pub handshakes_resumed: Counter,
    /// Full handshakes whose chain was verified from memory, and those whose was not there.
    pub chain_memo_hits: Counter,
    pub chain_memo_misses: Counter,
    pub sessions: Counter,
    pub open: Gauge,
    /// Payload from clients to upstreams, and back.
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
}

#[derive(Debug, Default)]
pub struct ClusterCounters {
    pub dialled: Counter,
    pub dial_failures: Counter,
    pub handshakes_full: Counter,
    pub handshakes_resumed: Counter,
    /// Handshakes whose chain was verified from memory, and those whose was not there.
    pub chain_memo_hits: Counter,
    pub chain_memo_misses: Counter,
    /// Upstreams that a trust in audit mode would have refused.
    pub audits: Counter,
    /// Sessions that took a connection made ahead of need, and those that had to dial.
    pub ready_hits: Counter,
    pub ready_misses: Counter,
    /// Ready connections that were found dead, too old or idle too long.
    pub ready_discarded: Counter,
    pub ready: Gauge,
    pub active: Gauge,
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
        self.0.store(value as u64, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl WorkerCounters {
    pub fn new(listeners: usize, chains: usize, clusters: usize) -> Self {
        let reasons = || Reason::ALL.iter().map(|_| Counter::default()).collect();
        Self {
            accepted: Counter::default(),
            handed_off: Counter::default(),
            accept_errors: Counter::default(),
            panics: Counter::default(),
            reports_dropped: Counter::default(),
            reports_suppressed: Counter::default(),
            open: Gauge::default(),
            handshaking: Gauge::default(),
            listeners: (0..listeners).map(|_| Gauge::default()).collect(),
            refusals: (0..listeners).map(|_| reasons()).collect(),
            audits: (0..listeners).map(|_| reasons()).collect(),
            chains: (0..chains).map(|_| ChainCounters::default()).collect(),
            clusters: (0..clusters).map(|_| ClusterCounters::default()).collect(),
        }
    }

    pub fn refused(&self, listener: usize, reason: Reason) {
        self.refusals[listener][reason.index()].increment();
    }

    pub fn audited(&self, listener: usize, reason: Reason) {
        self.audits[listener][reason.index()].increment();
    }
}
