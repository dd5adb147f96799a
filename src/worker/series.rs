//! What is counted under a configured name: one series a listener, chain and cluster, with a place
//! for each worker.
//!
//! Control makes the tables, one a snapshot. What keeps its name keeps its series over reloads, so
//! that no counter goes back; what a plan no longer names stays as long as somebody uses it. A
//! connection holds the series that it began with.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::utils::CachePadded;

use super::counters::{
    AnchorCounters, ChainCounters, ClusterCounters, EndpointCounters, ListenerCounters,
};
use crate::config::plan::Plan;
use crate::tls::{AnchorPlace, TrustStore};

/// Counters of one name. Each worker writes its own and no two share a cache line.
#[derive(Debug)]
pub struct Series<N, C> {
    pub name: N,
    workers: Box<[CachePadded<C>]>,
}

pub type ListenerSeries = Series<Arc<str>, ListenerCounters>;
pub type ChainSeries = Series<ChainName, ChainCounters>;
pub type ClusterSeries = Series<Arc<str>, ClusterCounters>;
pub type EndpointSeries = Series<SocketAddr, EndpointCounters>;
pub type AnchorSeries = Series<AnchorName, AnchorCounters>;

/// A trust anchor is told from the others of its trust by its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AnchorName {
    pub trust: Arc<str>,
    /// SHA-256 of the certificate in DER.
    pub fingerprint: [u8; 32],
}

/// Chains are named within their listener.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName {
    pub listener: Arc<str>,
    pub chain: Arc<str>,
}

/// All series of one snapshot.
#[derive(Debug)]
pub struct CounterTable {
    /// In the plan's order.
    pub listeners: Vec<Arc<ListenerSeries>>,
    /// In the flat order of `Snapshot::chain_index`.
    pub chains: Vec<Arc<ChainSeries>>,
    /// In the plan's order.
    pub clusters: Vec<Arc<ClusterSeries>>,
    /// By trust in the plan's order, then by anchor in the order of its files. One that is gone is
    /// forgotten with what was counted of it.
    pub anchors: Vec<Vec<Arc<AnchorSeries>>>,
    former: Former,
}

/// Series that the plan no longer names and that connections still used when the table was made.
#[derive(Debug, Default)]
struct Former {
    listeners: Vec<Arc<ListenerSeries>>,
    chains: Vec<Arc<ChainSeries>>,
    clusters: Vec<Arc<ClusterSeries>>,
}

impl<N, C> Series<N, C> {
    /// The counters of one worker.
    pub fn of(&self, worker: usize) -> &C {
        &self.workers[worker]
    }

    /// Over all workers.
    pub fn sum(&self, value: impl Fn(&C) -> u64) -> u64 {
        // A gauge may go down on another worker than it went up on, so that one worker's wraps; the
        // sum wraps back.
        self.workers.iter().fold(0, |sum, counters| sum.wrapping_add(value(counters)))
    }
}

impl<N, C> Series<N, C> {
    /// One worker's after the other's.
    pub fn each(&self) -> impl Iterator<Item = &C> {
        self.workers.iter().map(|counters| &**counters)
    }

    /// The greatest of all workers'.
    pub fn max(&self, value: impl Fn(&C) -> u64) -> u64 {
        self.workers.iter().map(|counters| value(counters)).max().unwrap_or(0)
    }
}

impl<N, C: Default> Series<N, C> {
    pub(super) fn new(name: N, workers: usize) -> Arc<Self> {
        let workers = (0..workers).map(|_| CachePadded::default()).collect();
        Arc::new(Self { name, workers })
    }
}

impl CounterTable {
    /// A table for `plan`, with what is named as in the one `before`.
    pub(super) fn new(
        plan: &Plan,
        trusts: &[Arc<TrustStore>],
        workers: usize,
        before: Option<&Self>,
    ) -> Self {
        let listeners = plan.listeners.iter().map(|listener| Arc::clone(&listener.name));
        let chains = plan.listeners.iter().flat_map(|listener| {
            listener.chains.iter().map(|chain| ChainName {
                listener: Arc::clone(&listener.name),
                chain: Arc::clone(&chain.name),
            })
        });
        let clusters = plan.clusters.iter().map(|cluster| Arc::clone(&cluster.name));
        let known = before.map(|it| Known::new(&it.listeners, &it.former.listeners));
        let (listeners, former_listeners) = named(known, listeners, workers, listener_is_used);
        let known = before.map(|it| Known::new(&it.chains, &it.former.chains));
        let (chains, former_chains) = named(known, chains, workers, chain_is_used);
        let known = before.map(|it| Known::new(&it.clusters, &it.former.clusters));
        let (clusters, former_clusters) = named(known, clusters, workers, cluster_is_used);
        let former = Former {
            listeners: former_listeners,
            chains: former_chains,
            clusters: former_clusters,
        };
        let anchors = anchors(trusts, workers, before);
        Self { listeners, chains, clusters, anchors, former }
    }

    /// Counts a handshake of somebody whom this anchor vouched for.
    pub(super) fn vouched(&self, place: AnchorPlace, worker: usize, now: u64) {
        if let Some(series) = self.anchors.get(place.trust).and_then(|all| all.get(place.anchor)) {
            series.of(worker).used(now);
        }
    }

    /// Those of the plan, then those that are only still used.
    pub fn shown_listeners(&self) -> impl Iterator<Item = &ListenerSeries> {
        shown(&self.listeners, &self.former.listeners, listener_is_used)
    }

    /// As `shown_listeners`.
    pub fn shown_chains(&self) -> impl Iterator<Item = &ChainSeries> {
        shown(&self.chains, &self.former.chains, chain_is_used)
    }

    /// As `shown_listeners`.
    pub fn shown_clusters(&self) -> impl Iterator<Item = &ClusterSeries> {
        shown(&self.clusters, &self.former.clusters, cluster_is_used)
    }
}

fn anchors(
    trusts: &[Arc<TrustStore>],
    workers: usize,
    before: Option<&CounterTable>,
) -> Vec<Vec<Arc<AnchorSeries>>> {
    let known = before.into_iter().flat_map(|before| before.anchors.iter().flatten());
    let known: HashMap<_, _> = known.map(|series| (&series.name, series)).collect();
    let of_trust = |trust: &Arc<TrustStore>| {
        let series = trust.anchors().iter().map(|anchor| {
            let fingerprint = anchor.identity.fingerprint_sha256;
            let name = AnchorName { trust: Arc::clone(&trust.name), fingerprint };
            known.get(&name).map_or_else(|| Series::new(name, workers), |same| Arc::clone(same))
        });
        series.collect()
    };
    trusts.iter().map(of_trust).collect()
}

fn listener_is_used(series: &ListenerSeries) -> bool {
    series.sum(|counters| counters.open.value()) > 0
}

fn chain_is_used(series: &ChainSeries) -> bool {
    series.sum(|counters| counters.open.value()) > 0
}

fn cluster_is_used(series: &ClusterSeries) -> bool {
    series.sum(|counters| counters.active.value()) > 0
}

fn shown<'a, N, C>(
    named: &'a [Arc<Series<N, C>>],
    former: &'a [Arc<Series<N, C>>],
    is_used: fn(&Series<N, C>) -> bool,
) -> impl Iterator<Item = &'a Series<N, C>> {
    let used = former.iter().filter(move |series| is_used(series));
    named.iter().chain(used).map(|series| &**series)
}

type List<N, C> = Vec<Arc<Series<N, C>>>;

/// The series of the table before, by name.
struct Known<N, C>(HashMap<N, Arc<Series<N, C>>>);

impl<N: Clone + Eq + Hash, C> Known<N, C> {
    fn new(named: &[Arc<Series<N, C>>], former: &[Arc<Series<N, C>>]) -> Self {
        let all = former.iter().chain(named);
        Self(all.map(|series| (series.name.clone(), Arc::clone(series))).collect())
    }
}

/// A series for each of `names`, and what of the known ones no name took and somebody uses.
fn named<N: Clone + Eq + Hash + Ord, C: Default>(
    known: Option<Known<N, C>>,
    names: impl Iterator<Item = N>,
    workers: usize,
    is_used: fn(&Series<N, C>) -> bool,
) -> (List<N, C>, List<N, C>) {
    let mut known = known.map(|known| known.0).unwrap_or_default();
    let taken = names
        .map(|name| known.remove(&name).unwrap_or_else(|| Series::new(name, workers)))
        .collect();
    let mut left: Vec<_> = known.into_values().filter(|series| is_used(series)).collect();
    left.sort_by(|one, other| one.name.cmp(&other.name));
    (taken, left)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    /// A table for listeners with these names, each with a chain `default`.
    fn table(listeners: &[&str], before: Option<&CounterTable>) -> CounterTable {
        let mut text = "[cluster.app]\nendpoints = [\"127.0.0.1:7000\"]\n".to_owned();
        for name in listeners {
            let address = "address = \"127.0.0.1:0\"";
            let chain = "chain.default = { cluster = \"app\" }";
            text.push_str(&format!("[listener.{name}]\n{address}\n{chain}\n"));
        }
        let plan = config::load_text(&text, Path::new("/portcullis.toml")).expect("a plan");
        CounterTable::new(&plan, &[], 2, before)
    }

    fn names(table: &CounterTable) -> Vec<&str> {
        table.shown_listeners().map(|series| &*series.name).collect()
    }

    #[test]
    fn a_name_keeps_its_counters_wherever_it_stands() {
        let first = table(&["edge"], None);
        first.chains[0].of(1).sessions.add(7);
        let second = table(&["a", "edge"], Some(&first));
        assert_eq!(second.chains[1].sum(|counters| counters.sessions.value()), 7);
        assert_eq!(second.chains[0].sum(|counters| counters.sessions.value()), 0);
        assert!(Arc::ptr_eq(&first.clusters[0], &second.clusters[0]));
    }

    #[test]
    fn what_is_removed_is_shown_until_nobody_uses_it_and_then_forgotten() {
        let first = table(&["edge", "side"], None);
        first.listeners[1].of(0).open.up();
        let second = table(&["edge"], Some(&first));
        assert_eq!(names(&second), ["edge", "side"]);
        let third = table(&["edge"], Some(&second));
        assert_eq!(names(&third), ["edge", "side"], "over one more reload");
        let back = table(&["edge", "side"], Some(&third));
        assert!(Arc::ptr_eq(&back.listeners[1], &first.listeners[1]), "it was still in use");
        // Another worker may be the one that sees the end.
        first.listeners[1].of(1).open.down();
        assert_eq!(names(&third), ["edge"]);
        let fourth = table(&["edge"], Some(&third));
        assert!(fourth.former.listeners.is_empty());
    }
}
