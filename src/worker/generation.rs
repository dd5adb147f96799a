//! A snapshot as one worker runs it: with the clusters that it has open connections to.
//!
//! Next: `reload`, which puts one in the place of another; `upstream`, what a cluster is.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::series::ListenerSeries;
use super::snapshot::{ClusterKey, Snapshot};
use super::upstream::Cluster;
use crate::config::plan::{ClusterId, Listener};
use crate::core::route::Router;

/// One snapshot on one worker.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) snapshot: Arc<Snapshot>,
    /// In the plan's order.
    clusters: Vec<Rc<Cluster>>,
}

/// Where a client came in: a listener of one generation, by its place in the plan.
#[derive(Debug, Clone)]
pub(super) struct Entrance {
    pub(super) generation: Rc<Generation>,
    pub(super) listener: usize,
}

impl Generation {
    /// `first` differs from worker to worker, so that all do not begin with the same endpoint.
    pub(super) fn first(snapshot: Arc<Snapshot>, first: usize) -> Self {
        let clusters = 0..snapshot.plan.clusters.len();
        let clusters = clusters.map(|at| Rc::new(Cluster::new(at, &snapshot, first)));
        Self { clusters: clusters.collect(), snapshot }
    }

    /// `snapshot` with this generation's clusters, as far as they are the same there.
    pub(super) fn with(&self, snapshot: Arc<Snapshot>, first: usize) -> Self {
        let keys = self.snapshot.cluster_keys().iter();
        let same: HashMap<_, _> = keys.zip(&self.clusters).collect();
        let mut clusters = Vec::with_capacity(snapshot.plan.clusters.len());
        for (at, key) in snapshot.cluster_keys().iter().enumerate() {
            clusters.push(match same.get(key) {
                Some(cluster) => Rc::clone(cluster),
                None => Rc::new(Cluster::new(at, &snapshot, first)),
            });
        }
        Self { clusters, snapshot }
    }

    pub(super) fn cluster(&self, id: ClusterId) -> &Rc<Cluster> {
        &self.clusters[usize::from(id.0)]
    }

    /// The cluster with this key, if it is of this generation.
    pub(super) fn cluster_of(&self, key: ClusterKey) -> Option<&Rc<Cluster>> {
        let place = self.snapshot.cluster_keys().iter().position(|it| *it == key)?;
        self.clusters.get(place)
    }

    pub(super) fn clusters(&self) -> &[Rc<Cluster>] {
        &self.clusters
    }

    /// The clusters that `other` has not.
    pub(super) fn clusters_beside<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = &'a Rc<Cluster>> {
        let known: std::collections::HashSet<_> = other.clusters.iter().map(Rc::as_ptr).collect();
        self.clusters.iter().filter(move |cluster| !known.contains(&Rc::as_ptr(cluster)))
    }
}

impl Entrance {
    pub(super) fn plan(&self) -> &Listener {
        &self.generation.snapshot.plan.listeners[self.listener]
    }

    pub(super) fn router(&self) -> &Router {
        &self.generation.snapshot.routers[self.listener]
    }

    pub(super) fn counters(&self) -> &Arc<ListenerSeries> {
        &self.generation.snapshot.counters.listeners[self.listener]
    }
}
