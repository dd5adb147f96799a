//! What the workers run on: one immutable picture of configuration, TLS material and routes.
//!
//! Made by control, swapped whole; a connection keeps the snapshot that it began with. `generation`
//! is what a worker adds to it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::endpoints::Directory;
use super::series::{ChainName, CounterTable};
use crate::config::plan::{Cluster, Listener, Plan};
use crate::core::route::{ChainId, Conflict, Router};
use crate::tls::{DownstreamTerms, Material};

/// The sockets of one address. Listeners come, go and change their place in the plan; as long as one
/// listens on the same address, it has the same key and the same sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey(u64);

/// A cluster as it is reached: the same key over reloads as long as nothing about it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClusterKey(u64);

/// One generation of everything that a reload can change.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 at the start, and one more with each reload.
    pub generation: u64,
    pub plan: Plan,
    pub material: Material,
    /// One a listener, in the plan's order.
    pub routers: Vec<Router>,
    pub counters: CounterTable,
    /// Where each listener's chains begin in a flat list of all chains (for counters).
    chain_offsets: Vec<usize>,
    /// One a listener, in the plan's order.
    listener_keys: Vec<ListenerKey>,
    listeners: BTreeMap<ListenerKey, usize>,
    /// One a cluster, in the plan's order.
    cluster_keys: Vec<ClusterKey>,
    /// One a cluster, in the plan's order; the same one as long as its key is the same.
    directories: Vec<Arc<Directory>>,
    /// The next key that no snapshot before had.
    next_key: u64,
}

impl Snapshot {
    /// The first one, for so many workers.
    ///
    /// # Errors
    /// Two chains of a listener match the same client; `config::load` has refused that before.
    pub fn first(plan: Plan, material: Material, workers: usize) -> Result<Arc<Self>, Conflict> {
        Self::build(plan, material, workers, None)
    }

    /// The one that follows this one.
    ///
    /// # Errors
    /// As `first`.
    pub fn next(
        &self,
        plan: Plan,
        material: Material,
        workers: usize,
    ) -> Result<Arc<Self>, Conflict> {
        Self::build(plan, material, workers, Some(self))
    }

    fn build(
        plan: Plan,
        material: Material,
        workers: usize,
        before: Option<&Self>,
    ) -> Result<Arc<Self>, Conflict> {
        let mut routers = Vec::with_capacity(plan.listeners.len());
        let mut chain_offsets = Vec::with_capacity(plan.listeners.len());
        let mut chains = 0;
        for listener in &plan.listeners {
            let matches: Vec<_> = (0..)
                .map(ChainId)
                .zip(listener.chains.iter().map(|chain| chain.matches.clone()))
                .collect();
            routers.push(Router::build(&matches)?);
            chain_offsets.push(chains);
            chains += listener.chains.len();
        }
        let mut next_key = before.map_or(1, |it| it.next_key);
        let listener_keys = listener_keys(&plan, before, &mut next_key);
        let cluster_keys = cluster_keys(&plan, &material, before, &mut next_key);
        let directories = directories(&plan, &cluster_keys, workers, before);
        Ok(Arc::new(Self {
            generation: before.map_or(1, |it| it.generation + 1),
            counters: CounterTable::new(
                &plan,
                material.trusts(),
                workers,
                before.map(|it| &it.counters),
            ),
            listeners: listener_keys.iter().copied().zip(0..).collect(),
            plan,
            material,
            routers,
            chain_offsets,
            listener_keys,
            cluster_keys,
            directories,
            next_key,
        }))
    }

    /// The place of a chain in a flat list of all chains.
    pub fn chain_index(&self, listener: usize, chain: ChainId) -> usize {
        self.chain_offsets[listener] + usize::from(chain.0)
    }

    /// The TLS terms of a chain by its name; `None` where there is no such chain, or it opens nothing.
    pub(super) fn terms(&self, name: &ChainName) -> Option<&Arc<DownstreamTerms>> {
        let listener = self.plan.listeners.iter().position(|one| one.name == name.listener)?;
        // In name order.
        let chains = &self.plan.listeners[listener].chains;
        let chain = chains.binary_search_by(|one| one.name.cmp(&name.chain)).ok()?;
        self.material.downstream(listener, ChainId(u16::try_from(chain).ok()?))
    }

    /// One a listener, in the plan's order.
    pub fn listener_keys(&self) -> &[ListenerKey] {
        &self.listener_keys
    }

    /// The listener that listens with these sockets, by its place in the plan.
    pub fn listener(&self, key: ListenerKey) -> Option<usize> {
        self.listeners.get(&key).copied()
    }

    /// One a cluster, in the plan's order.
    pub(super) fn cluster_keys(&self) -> &[ClusterKey] {
        &self.cluster_keys
    }

    /// The endpoints of each cluster, in the plan's order.
    pub fn directories(&self) -> &[Arc<Directory>] {
        &self.directories
    }
}

/// Listeners that share nothing but port 0 are told apart by their names.
fn socket_of(listener: &Listener) -> (SocketAddr, Option<&str>) {
    let name = (listener.address.port() == 0).then_some(&*listener.name);
    (listener.address, name)
}

fn listener_keys(plan: &Plan, before: Option<&Snapshot>, next_key: &mut u64) -> Vec<ListenerKey> {
    let known: HashMap<_, _> = before.map_or_else(HashMap::new, |before| {
        let keys = before.listener_keys.iter().copied();
        before.plan.listeners.iter().map(socket_of).zip(keys).collect()
    });
    let key = |listener| {
        known.get(&socket_of(listener)).copied().unwrap_or_else(|| ListenerKey(take(next_key)))
    };
    plan.listeners.iter().map(key).collect()
}

fn cluster_keys(
    plan: &Plan,
    material: &Material,
    before: Option<&Snapshot>,
    next_key: &mut u64,
) -> Vec<ClusterKey> {
    let known: HashMap<_, _> = before.map_or_else(HashMap::new, |before| {
        let keys = before.cluster_keys.iter().copied();
        before
            .plan
            .clusters
            .iter()
            .map(|it| &it.name)
            .zip(before.plan.clusters.iter().zip(keys))
            .collect()
    });
    let terms = |cluster: &Cluster, material: &Material| {
        cluster.tls.map(|id| *material.upstream(id).digest())
    };
    let key = |cluster: &Cluster| {
        let same = known.get(&cluster.name).zip(before).filter(|((known, _), before)| {
            known.is_reached_as(cluster)
                && terms(known, &before.material) == terms(cluster, material)
        });
        same.map_or_else(|| ClusterKey(take(next_key)), |((_, key), _)| *key)
    };
    plan.clusters.iter().map(key).collect()
}

fn directories(
    plan: &Plan,
    keys: &[ClusterKey],
    workers: usize,
    before: Option<&Snapshot>,
) -> Vec<Arc<Directory>> {
    let known = before.into_iter().flat_map(|before| {
        let named = before.plan.clusters.iter().map(|it| &it.name);
        named.zip(before.cluster_keys.iter().zip(&before.directories))
    });
    let known: HashMap<_, _> = known.collect();
    let directory = |(cluster, key): (&Cluster, &ClusterKey)| match known.get(&cluster.name) {
        Some((same, directory)) if *same == key => Arc::clone(directory),
        Some((_, before)) => Directory::new(cluster, workers, Some(before)),
        None => Directory::new(cluster, workers, None),
    };
    plan.clusters.iter().zip(keys).map(directory).collect()
}

fn take(next: &mut u64) -> u64 {
    let key = *next;
    *next += 1;
    key
}
