//! The metrics: what workers count, summed at each scrape, in OpenMetrics.
//!
//! Workers share no counter, so nothing is paid for metrics but the stores that they do anyway.
//! Labels carry configured names and our own words only, never what a peer sent. `docs/metrics.md`
//! describes each; a test compares it with what a scrape shows.

mod anchors;
mod certificates;
mod content;
mod encode;
mod endpoints;
mod process;
mod reloads;
#[cfg(test)]
mod tests;
mod times;
mod workers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use self::encode::{Counters, Families, Name};
pub use self::reloads::ReloadCounts;
use super::access_log::AccessLogCounts;
use super::log;
use crate::config::plan::Io;
use crate::core::refusal::Reason;
use crate::sys::clock;
use crate::tls::StekKeys;
use crate::worker::{
    ChainCounters, ClusterCounters, CounterTable, ListenerCounters, Peer, Snapshot, WorkerCounters,
};

/// Everything that a scrape reads. `current` is the snapshot that new connections are served by.
pub fn registry(
    peers: Arc<[Peer]>,
    current: Arc<ArcSwap<Snapshot>>,
    access_log: Arc<AccessLogCounts>,
    reloads: Arc<ReloadCounts>,
    stek: Arc<StekKeys>,
) -> Registry {
    let mut registry = Registry::default();
    let started = clock::wall();
    let gateway = Gateway { peers, current, access_log, reloads, stek, started };
    registry.register_collector(Box::new(gateway));
    registry
}

#[derive(Debug)]
struct Gateway {
    peers: Arc<[Peer]>,
    current: Arc<ArcSwap<Snapshot>>,
    access_log: Arc<AccessLogCounts>,
    reloads: Arc<ReloadCounts>,
    stek: Arc<StekKeys>,
    started: Duration,
}

impl Collector for Gateway {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(&mut encoder);
        let snapshot = self.current.load();
        let counters = &snapshot.counters;
        self.connections(counters, &mut families)?;
        workers::encode(&self.peers, &mut families)?;
        refusals(counters, &mut families)?;
        sessions(counters, &mut families)?;
        upstreams(counters, &mut families)?;
        times::encode(counters, &mut families)?;
        endpoints::encode(&snapshot, &mut families)?;
        anchors::encode(counters, &mut families)?;
        certificates::encode(&snapshot.material, clock::unix_now(), &mut families)?;
        content::encode(&snapshot, &self.stek, &mut families)?;
        self.reloads.encode(snapshot.generation, &mut families)?;
        self.logs(&mut families)?;
        process::encode(self.started, &mut families)
    }
}

impl Gateway {
    fn connections(&self, counters: &CounterTable, families: &mut Families<'_, '_>) -> fmt::Result {
        let accepted = self.sum(|worker| worker.accepted.value());
        families
            .counter("portcullis_connections_accepted", "Connections accepted from clients")?
            .sample(&[], accepted)?;
        let mut open =
            families.gauge("portcullis_connections_open", "Client connections open now")?;
        for series in counters.shown_listeners() {
            let name = Name::new(&series.name);
            let count = series.sum(|counters| counters.open.value());
            open.sample(&[("listener", name.as_str())], count)?;
        }
        let mut workers = families.gauge("portcullis_workers", "Worker threads, by driver")?;
        for io in [Io::Epoll, Io::IoUring] {
            let count = self.peers.iter().filter(|peer| peer.io == io).count();
            if count > 0 {
                workers.sample(&[("io", io.name())], count as u64)?;
            }
        }
        let handshaking = self.sum(|worker| worker.handshaking.value());
        families
            .gauge("portcullis_handshakes_in_flight", "Handshakes with clients that run")?
            .sample(&[], handshaking)?;
        let pressure = self.peers.iter().map(|peer| peer.counters.memory_pressure.value()).max();
        families
            .gauge("portcullis_memory_pressure", "How near memory is to limits.memory, by stage")?
            .sample(&[], pressure.unwrap_or(0))?;
        let handed_off = self.sum(|worker| worker.handed_off.value());
        families
            .counter("portcullis_connections_handed_off", "Connections given to a lighter worker")?
            .sample(&[], handed_off)?;
        let errors = self.sum(|worker| worker.accept_errors.value());
        families
            .counter("portcullis_accept_errors", "Failures of accept(2)")?
            .sample(&[], errors)?;
        let panics = self.sum(|worker| worker.panics.value());
        families.counter("portcullis_panics", "Connections lost to a panic")?.sample(&[], panics)
    }

    fn logs(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        families
            .counter("portcullis_access_log_written", "Records written to the access log")?
            .sample(&[], self.access_log.written())?;
        let mut dropped =
            families.counter("portcullis_access_log_dropped", "Records the access log lost")?;
        let queue_full = self.sum(|worker| worker.reports_dropped.value());
        dropped.sample(&[("cause", "queue_full")], queue_full)?;
        let suppressed = self.sum(|worker| worker.reports_suppressed.value());
        dropped.sample(&[("cause", "refusal_rate")], suppressed)?;
        dropped.sample(&[("cause", "sink_failed")], self.access_log.lost())?;
        families
            .counter("portcullis_log_dropped", "Log lines that standard error did not take")?
            .sample(&[], log::dropped())
    }

    fn sum(&self, value: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.peers.iter().fold(0, |sum, peer| sum.wrapping_add(value(&peer.counters)))
    }
}

fn refusals(counters: &CounterTable, families: &mut Families<'_, '_>) -> fmt::Result {
    let refusals = families.counter(
        "portcullis_refusals",
        "Connections refused, or served and ended badly, by reason",
    )?;
    by_reason(counters, refusals, ListenerCounters::refusals)?;
    let audits = families.counter(
        "portcullis_audits",
        "Clients let in that a trust or filter in audit mode would have refused, by reason",
    )?;
    by_reason(counters, audits, ListenerCounters::audits)
}

/// Only reasons that have occurred: all of them for every listener would be a lot of zeros.
fn by_reason(
    counters: &CounterTable,
    mut family: Counters<'_>,
    count: fn(&ListenerCounters, Reason) -> u64,
) -> fmt::Result {
    for series in counters.shown_listeners() {
        let name = Name::new(&series.name);
        for reason in Reason::ALL {
            let count = series.sum(|counters| count(counters, *reason));
            if count > 0 {
                let labels = [("listener", name.as_str()), ("reason", reason.code())];
                family.sample(&labels, count)?;
            }
        }
    }
    Ok(())
}

fn sessions(counters: &CounterTable, families: &mut Families<'_, '_>) -> fmt::Result {
    let mut handshakes =
        families.counter("portcullis_handshakes", "TLS handshakes done with clients")?;
    by_chain(counters, |chain, sum| {
        handshakes.sample(&chain.with("resumed", "false"), sum(|c| c.handshakes.full.value()))?;
        handshakes.sample(&chain.with("resumed", "true"), sum(|c| c.handshakes.resumed.value()))
    })?;
    let mut memo = families.counter(
        "portcullis_chain_memo",
        "Full handshakes by whether the client's chain was verified from memory",
    )?;
    by_chain(counters, |chain, sum| {
        memo.sample(&chain.with("found", "true"), sum(|c| c.handshakes.memo_hits.value()))?;
        memo.sample(&chain.with("found", "false"), sum(|c| c.handshakes.memo_misses.value()))
    })?;
    let mut sessions =
        families.counter("portcullis_sessions", "Sessions begun: clients joined to an upstream")?;
    by_chain(counters, |chain, sum| sessions.sample(&chain.labels(), sum(|c| c.sessions.value())))?;
    let mut open = families.gauge("portcullis_sessions_open", "Sessions open now")?;
    by_chain(counters, |chain, sum| open.sample(&chain.labels(), sum(|c| c.open.value())))?;
    let mut bytes = families.counter("portcullis_bytes", "Payload bytes, as clients see them")?;
    by_chain(counters, |chain, sum| {
        bytes.sample(&chain.with("direction", "received"), sum(|c| c.bytes_received.value()))?;
        bytes.sample(&chain.with("direction", "sent"), sum(|c| c.bytes_sent.value()))
    })
}

fn upstreams(counters: &CounterTable, families: &mut Families<'_, '_>) -> fmt::Result {
    for (name, help, value) in CLUSTER_COUNTERS {
        let mut family = families.counter(name, help)?;
        by_cluster(counters, |cluster, sum| family.sample(&[cluster], sum(*value)))?;
    }
    let mut handshakes =
        families.counter("portcullis_upstream_handshakes", "TLS handshakes done with upstreams")?;
    by_cluster(counters, |cluster, sum| {
        let full = sum(|c| c.handshakes.full.value());
        handshakes.sample(&[cluster, ("resumed", "false")], full)?;
        let resumed = sum(|c| c.handshakes.resumed.value());
        handshakes.sample(&[cluster, ("resumed", "true")], resumed)
    })?;
    let mut memo = families.counter(
        "portcullis_upstream_chain_memo",
        "Handshakes by whether the upstream's chain was verified from memory",
    )?;
    by_cluster(counters, |cluster, sum| {
        memo.sample(&[cluster, ("found", "true")], sum(|c| c.handshakes.memo_hits.value()))?;
        memo.sample(&[cluster, ("found", "false")], sum(|c| c.handshakes.memo_misses.value()))
    })?;
    for (name, help, value) in CLUSTER_GAUGES {
        let mut family = families.gauge(name, help)?;
        by_cluster(counters, |cluster, sum| family.sample(&[cluster], sum(*value)))?;
    }
    Ok(())
}

/// The labels of a chain.
#[derive(Debug)]
struct Chain {
    listener: Name,
    name: Name,
}

fn by_chain(
    counters: &CounterTable,
    mut show: impl FnMut(&Chain, &dyn Fn(fn(&ChainCounters) -> u64) -> u64) -> fmt::Result,
) -> fmt::Result {
    counters.shown_chains().try_for_each(|series| {
        let listener = Name::new(&series.name.listener);
        let chain = Chain { listener, name: Name::new(&series.name.chain) };
        show(&chain, &|value| series.sum(value))
    })
}

fn by_cluster(
    counters: &CounterTable,
    mut show: impl FnMut((&str, &str), &dyn Fn(fn(&ClusterCounters) -> u64) -> u64) -> fmt::Result,
) -> fmt::Result {
    counters.shown_clusters().try_for_each(|series| {
        let name = Name::new(&series.name);
        show(("cluster", name.as_str()), &|value| series.sum(value))
    })
}

impl Chain {
    fn labels(&self) -> [(&str, &str); 2] {
        [("listener", self.listener.as_str()), ("chain", self.name.as_str())]
    }

    fn with<'a>(&'a self, key: &'a str, value: &'a str) -> [(&'a str, &'a str); 3] {
        let [listener, chain] = self.labels();
        [listener, chain, (key, value)]
    }
}

type ClusterFamily = (&'static str, &'static str, fn(&ClusterCounters) -> u64);

const CLUSTER_COUNTERS: &[ClusterFamily] = &[
    ("portcullis_upstream_dials", "Upstream connections tried", |c| c.dialled.value()),
    ("portcullis_upstream_dial_failures", "Upstream connections tried in vain", |c| {
        c.dial_failures.value()
    }),
    ("portcullis_upstream_ready_hits", "Sessions that got a ready upstream connection", |c| {
        c.ready_hits.value()
    }),
    (
        "portcullis_upstream_audits",
        "Upstreams that a trust in audit mode would have refused",
        |c| c.audits.value(),
    ),
    (
        "portcullis_upstream_ready_stolen",
        "Sessions that got a ready upstream connection of another worker",
        |c| c.ready_stolen.value(),
    ),
    ("portcullis_upstream_ready_misses", "Sessions that had to dial", |c| c.ready_misses.value()),
    ("portcullis_upstream_ready_discarded", "Ready connections found dead or too old", |c| {
        c.ready_discarded.value()
    }),
];

const CLUSTER_GAUGES: &[ClusterFamily] = &[
    ("portcullis_upstream_ready", "Upstream connections that wait for a session", |c| {
        c.ready.value()
    }),
    (
        "portcullis_upstream_active",
        "Upstream connections open: carrying a session, ready, or being dialled",
        |c| c.active.value(),
    ),
    ("portcullis_upstream_pending", "Clients that wait for a dial", |c| c.pending.value()),
];
