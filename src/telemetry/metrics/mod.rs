//! The metrics: what workers count, summed at each scrape, in OpenMetrics.
//!
//! Workers share no counter, so nothing is paid for metrics but the stores that they do anyway.
//! Labels carry configured names and our own words only, never what a peer sent. `docs/metrics.md`
//! describes each; a test compares it with what a scrape shows.

mod certificates;
mod encode;
mod process;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use self::encode::{Families, Name};
use super::access_log::AccessLogCounts;
use super::log;
use crate::core::refusal::Reason;
use crate::core::route::ChainId;
use crate::sys::clock;
use crate::worker::{ChainCounters, ClusterCounters, Peer, Snapshot, WorkerCounters};

/// Everything that a scrape reads.
pub fn registry(
    peers: Arc<[Peer]>,
    current: Arc<ArcSwap<Snapshot>>,
    access_log: Arc<AccessLogCounts>,
) -> Registry {
    let mut registry = Registry::default();
    let names = Names::of(&current.load());
    let started = clock::wall();
    registry.register_collector(Box::new(Gateway { peers, current, names, access_log, started }));
    registry
}

#[derive(Debug)]
struct Gateway {
    peers: Arc<[Peer]>,
    current: Arc<ArcSwap<Snapshot>>,
    names: Names,
    access_log: Arc<AccessLogCounts>,
    started: Duration,
}

/// What the indexes of counters are called.
#[derive(Debug)]
struct Names {
    listeners: Vec<Name>,
    chains: Vec<Chain>,
    clusters: Vec<Name>,
}

/// A chain at its place in the flat order of `Snapshot::chain_index`.
#[derive(Debug)]
struct Chain {
    listener: Name,
    name: Name,
}

impl Names {
    fn of(snapshot: &Snapshot) -> Self {
        let plan = &snapshot.plan;
        let chains = plan.listeners.iter().enumerate().flat_map(|(at, listener)| {
            (0..).map(ChainId).zip(&listener.chains).map(move |(id, chain)| {
                let chain =
                    Chain { listener: Name::new(&listener.name), name: Name::new(&chain.name) };
                (snapshot.chain_index(at, id), chain)
            })
        });
        let mut chains: Vec<_> = chains.collect();
        chains.sort_by_key(|(index, _)| *index);
        Self {
            listeners: plan.listeners.iter().map(|one| Name::new(&one.name)).collect(),
            chains: chains.into_iter().map(|(_, chain)| chain).collect(),
            clusters: plan.clusters.iter().map(|one| Name::new(&one.name)).collect(),
        }
    }
}

impl Collector for Gateway {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(&mut encoder);
        self.connections(&mut families)?;
        self.refusals(&mut families)?;
        self.audits(&mut families)?;
        self.sessions(&mut families)?;
        self.upstreams(&mut families)?;
        let material = &self.current.load().material;
        certificates::encode(material, clock::unix_now(), &mut families)?;
        self.logs(&mut families)?;
        process::encode(self.started, &mut families)
    }
}

impl Gateway {
    fn connections(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let accepted = self.sum(|worker| worker.accepted.value());
        families
            .counter("portcullis_connections_accepted", "Connections accepted from clients")?
            .sample(&[], accepted)?;
        let mut open =
            families.gauge("portcullis_connections_open", "Client connections open now")?;
        for (at, listener) in self.names.listeners.iter().enumerate() {
            let count = self.sum(|worker| worker.listeners[at].value());
            open.sample(&[("listener", listener.as_str())], count)?;
        }
        let mut open = families.gauge(
            "portcullis_worker_connections_open",
            "Client connections open now, by worker",
        )?;
        for (at, peer) in self.peers.iter().enumerate() {
            open.sample(&[("worker", &at.to_string())], peer.counters.open.value())?;
        }
        let handshaking = self.sum(|worker| worker.handshaking.value());
        families
            .gauge("portcullis_handshakes_in_flight", "Handshakes with clients that run")?
            .sample(&[], handshaking)?;
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

    /// Only reasons that have occurred: all of them for every listener would be a lot of zeros.
    fn refusals(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let mut refusals = families.counter(
            "portcullis_refusals",
            "Connections refused, or served and ended badly, by reason",
        )?;
        for (at, listener) in self.names.listeners.iter().enumerate() {
            for reason in Reason::ALL {
                let count = self.sum(|worker| worker.refusals[at][reason.index()].value());
                if count > 0 {
                    let labels = [("listener", listener.as_str()), ("reason", reason.code())];
                    refusals.sample(&labels, count)?;
                }
            }
        }
        Ok(())
    }

    fn audits(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let mut audits = families.counter(
            "portcullis_audits",
            "Clients let in that a trust or filter in audit mode would have refused, by reason",
        )?;
        for (at, listener) in self.names.listeners.iter().enumerate() {
            for reason in Reason::ALL {
                let count = self.sum(|worker| worker.audits[at][reason.index()].value());
                if count > 0 {
                    let labels = [("listener", listener.as_str()), ("reason", reason.code())];
                    audits.sample(&labels, count)?;
                }
            }
        }
        Ok(())
    }

    fn sessions(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let mut handshakes =
            families.counter("portcullis_handshakes", "TLS handshakes done with clients")?;
        self.by_chain(|chain, sum| {
            handshakes
                .sample(&chain.with("resumed", "false"), sum(|c| c.handshakes_full.value()))?;
            handshakes.sample(&chain.with("resumed", "true"), sum(|c| c.handshakes_resumed.value()))
        })?;
        let mut memo = families.counter(
            "portcullis_chain_memo",
            "Full handshakes by whether the client's chain was verified from memory",
        )?;
        self.by_chain(|chain, sum| {
            memo.sample(&chain.with("found", "true"), sum(|c| c.chain_memo_hits.value()))?;
            memo.sample(&chain.with("found", "false"), sum(|c| c.chain_memo_misses.value()))
        })?;
        let mut sessions = families
            .counter("portcullis_sessions", "Sessions begun: clients joined to an upstream")?;
        self.by_chain(|chain, sum| sessions.sample(&chain.labels(), sum(|c| c.sessions.value())))?;
        let mut open = families.gauge("portcullis_sessions_open", "Sessions open now")?;
        self.by_chain(|chain, sum| open.sample(&chain.labels(), sum(|c| c.open.value())))?;
        let mut bytes = families
            .counter("portcullis_bytes", "Payload bytes of ended sessions, as clients see them")?;
        self.by_chain(|chain, sum| {
            bytes
                .sample(&chain.with("direction", "received"), sum(|c| c.bytes_received.value()))?;
            bytes.sample(&chain.with("direction", "sent"), sum(|c| c.bytes_sent.value()))
        })
    }

    fn upstreams(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        for (name, help, value) in CLUSTER_COUNTERS {
            let mut family = families.counter(name, help)?;
            self.by_cluster(|cluster, sum| family.sample(&[cluster], sum(*value)))?;
        }
        let mut handshakes = families
            .counter("portcullis_upstream_handshakes", "TLS handshakes done with upstreams")?;
        self.by_cluster(|cluster, sum| {
            let full = sum(|c| c.handshakes_full.value());
            handshakes.sample(&[cluster, ("resumed", "false")], full)?;
            let resumed = sum(|c| c.handshakes_resumed.value());
            handshakes.sample(&[cluster, ("resumed", "true")], resumed)
        })?;
        let mut memo = families.counter(
            "portcullis_upstream_chain_memo",
            "Handshakes by whether the upstream's chain was verified from memory",
        )?;
        self.by_cluster(|cluster, sum| {
            memo.sample(&[cluster, ("found", "true")], sum(|c| c.chain_memo_hits.value()))?;
            memo.sample(&[cluster, ("found", "false")], sum(|c| c.chain_memo_misses.value()))
        })?;
        for (name, help, value) in CLUSTER_GAUGES {
            let mut family = families.gauge(name, help)?;
            self.by_cluster(|cluster, sum| family.sample(&[cluster], sum(*value)))?;
        }
        Ok(())
    }

    fn logs(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        families
            .counter("portcullis_access_log_written", "Records written to the access log")?
            .sample(&[], self.access_log.written())?;
        let mut dropped =
            families.counter("portcullis_access_log_dropped", "Records the access log lost")?;
        let queue_full = self.sum(|worker| worker.reports_dropped.value());
        dropped.sample(&[("cause", "queue_full")], queue_full)?;
        dropped.sample(&[("cause", "sink_failed")], self.access_log.lost())?;
        families
            .counter("portcullis_log_dropped", "Log lines that standard error did not take")?
            .sample(&[], log::dropped())
    }

    fn sum(&self, value: impl Fn(&WorkerCounters) -> u64) -> u64 {
        // A gauge may go down on another worker than it went up on, so that one worker's wraps; the
        // sum wraps back.
        self.peers.iter().fold(0, |sum, peer| sum.wrapping_add(value(&peer.counters)))
    }

    fn by_chain(
        &self,
        mut show: impl FnMut(&Chain, &dyn Fn(fn(&ChainCounters) -> u64) -> u64) -> fmt::Result,
    ) -> fmt::Result {
        self.names.chains.iter().enumerate().try_for_each(|(at, chain)| {
            show(chain, &|value| self.sum(|worker| value(&worker.chains[at])))
        })
    }

    fn by_cluster(
        &self,
        mut show: impl FnMut((&str, &str), &dyn Fn(fn(&ClusterCounters) -> u64) -> u64) -> fmt::Result,
    ) -> fmt::Result {
        self.names.clusters.iter().enumerate().try_for_each(|(at, cluster)| {
            let label = ("cluster", cluster.as_str());
            show(label, &|value| self.sum(|worker| value(&worker.clusters[at])))
        })
    }
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
];
