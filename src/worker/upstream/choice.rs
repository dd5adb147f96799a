//! Which endpoint of a cluster a worker dials next: the published list, and what the worker knows of
//! each.
//!
//! The rules are `core::balance` and `core::maglev`; this keeps their state.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::EndpointTls;
use crate::config::plan::Balance;
use crate::core::balance::{Candidate, LeastConnections, RoundRobin, at_random};
use crate::worker::EndpointCounters;
use crate::worker::endpoints::{Directory, Endpoints, Member};
use crate::worker::series::EndpointSeries;

/// The endpoints of one cluster on one worker.
#[derive(Debug)]
pub(super) struct Chooser {
    published: Arc<Endpoints>,
    /// In the order of `published`.
    endpoints: Vec<Rc<Endpoint>>,
    balancer: Balancer,
    /// Filled for each choice; kept for its memory.
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<EndpointTls>,
    /// Among them the open connections of this worker to it, ready ones and dials in flight included;
    /// those of a cluster of the same name before a reload, too.
    series: Arc<EndpointSeries>,
    worker: usize,
}

#[derive(Debug)]
enum Balancer {
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
    Random,
    Maglev,
}

impl Chooser {
    /// It begins its turns with the endpoint that the worker's number says, so that all workers do not
    /// begin with the same one.
    pub(super) fn new(
        worker: usize,
        balance: Balance,
        directory: &Directory,
        tls: impl Fn(&Member) -> Option<EndpointTls>,
    ) -> Self {
        let published = Arc::clone(&directory.endpoints());
        let endpoints = published.members.iter().map(|it| Rc::new(Endpoint::new(it, worker, &tls)));
        Self {
            endpoints: endpoints.collect(),
            balancer: Balancer::new(balance, worker),
            candidates: Vec::with_capacity(published.members.len()),
            published,
        }
    }

    /// An endpoint that is not in `tried`, and adds it there. Once all were tried it begins again.
    /// `hash` is the client's, where the balance goes by it. `None` without endpoints.
    pub(super) fn choose(
        &mut self,
        hash: Option<u64>,
        random: u64,
        tried: &mut Vec<SocketAddr>,
    ) -> Option<Rc<Endpoint>> {
        let mut chosen = self.balanced(hash, random, tried);
        if chosen.is_none() && !tried.is_empty() {
            // Every endpoint had its chance: what attempts are left begin again.
            tried.clear();
            chosen = self.balanced(hash, random, tried);
        }
        let endpoint = &self.endpoints[chosen?];
        tried.push(endpoint.address);
        Some(Rc::clone(endpoint))
    }

    fn balanced(&mut self, hash: Option<u64>, random: u64, tried: &[SocketAddr]) -> Option<usize> {
        self.candidates.clear();
        for (member, endpoint) in self.published.members.iter().zip(&self.endpoints) {
            let weight = if tried.contains(&member.address) { 0 } else { member.weight };
            let active = endpoint.active();
            self.candidates.push(Candidate { weight, active });
        }
        let candidates = &self.candidates;
        match &mut self.balancer {
            Balancer::RoundRobin(turns) => turns.choose(candidates),
            Balancer::LeastConnections(least) => least.choose(candidates, random),
            Balancer::Random => at_random(candidates, random),
            Balancer::Maglev => {
                let table = self.published.maglev.as_ref()?;
                table.choose(hash.unwrap_or(random), |at| candidates[at].weight > 0)
            }
        }
    }
}

impl Endpoint {
    fn new(member: &Member, worker: usize, tls: impl Fn(&Member) -> Option<EndpointTls>) -> Self {
        let series = Arc::clone(&member.series);
        Self { address: member.address, tls: tls(member), series, worker }
    }

    pub(super) fn counters(&self) -> &EndpointCounters {
        self.series.of(self.worker)
    }

    fn active(&self) -> u32 {
        u32::try_from(self.counters().active.value()).unwrap_or(u32::MAX)
    }
}

impl Balancer {
    fn new(balance: Balance, worker: usize) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin(RoundRobin::new(worker)),
            Balance::LeastConnections => Self::LeastConnections(LeastConnections::new(worker)),
            Balance::Random => Self::Random,
            Balance::Maglev(_) => Self::Maglev,
        }
    }
}
