//! The endpoints of a cluster, as control publishes them and all workers see them.
//!
//! A `Directory` lives as long as its cluster is reached in the same way; the list in it is immutable
//! and swapped whole. `upstream::choice` is what a worker makes of it.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

use super::EndpointCounters;
use super::series::{EndpointSeries, Series};
use crate::config::plan::{Balance, Cluster, Endpoint, EndpointAddress, HostPort};
use crate::core::health::{self, Opinion};
use crate::core::maglev::{self, Maglev};
use crate::sys::clock;

/// Where the endpoints of one cluster are looked up.
#[derive(Debug)]
pub struct Directory {
    current: ArcSwap<Endpoints>,
    workers: usize,
}

/// One list of endpoints.
#[derive(Debug)]
pub struct Endpoints {
    pub members: Vec<Member>,
    /// For a cluster that goes by it.
    pub(super) maglev: Option<Maglev>,
}

#[derive(Debug, Clone)]
pub struct Member {
    pub address: SocketAddr,
    /// The name that has the address, where one was asked for.
    pub host: Option<HostPort>,
    pub weight: u32,
    /// Instead of the name of the cluster's TLS terms.
    pub server_name: Option<Arc<str>>,
    /// Stays with the address over reloads.
    pub series: Arc<EndpointSeries>,
    /// As `series`.
    pub health: Arc<EndpointHealth>,
}

/// What probes have found out about an endpoint: written by control, read by all workers.
#[derive(Debug)]
pub struct EndpointHealth {
    epoch: Instant,
    /// `UNKNOWN`, `HEALTHY` and `UNHEALTHY`, or the milliseconds of `epoch`, behind those, at which it
    /// recovered.
    state: AtomicU64,
    probes: AtomicU64,
    failures: AtomicU64,
}

const UNKNOWN: u64 = 0;
const HEALTHY: u64 = 1;
const UNHEALTHY: u64 = 2;

impl EndpointHealth {
    fn new(epoch: Instant) -> Self {
        let zero = || AtomicU64::new(0);
        Self { epoch, state: zero(), probes: zero(), failures: zero() }
    }

    /// Control only.
    pub fn probed(&self, is_good: bool) {
        self.probes.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(!is_good), Ordering::Relaxed);
    }

    /// Control only. One that was unhealthy recovers from `now` on.
    pub fn set(&self, opinion: Opinion, now: Instant) {
        let since = now.saturating_duration_since(self.epoch).as_millis();
        let state = match (opinion, self.opinion()) {
            (Opinion::Unknown, _) => UNKNOWN,
            (Opinion::Unhealthy, _) => UNHEALTHY,
            (Opinion::Healthy, Opinion::Unknown) => HEALTHY,
            (Opinion::Healthy, Opinion::Healthy) => return,
            (Opinion::Healthy, Opinion::Unhealthy) => {
                u64::try_from(since).unwrap_or(u64::MAX).saturating_add(UNHEALTHY + 1)
            }
        };
        self.state.store(state, Ordering::Relaxed);
    }

    pub fn opinion(&self) -> Opinion {
        match self.state.load(Ordering::Relaxed) {
            UNKNOWN => Opinion::Unknown,
            UNHEALTHY => Opinion::Unhealthy,
            HEALTHY.. => Opinion::Healthy,
        }
    }

    /// How much of its weight, in percent, the endpoint has; 0: it is unhealthy.
    pub(super) fn percent(&self, now: Instant, slow_start: Duration) -> u32 {
        match self.state.load(Ordering::Relaxed) {
            UNKNOWN | HEALTHY => health::FULL,
            UNHEALTHY => 0,
            recovered => {
                let at = self.epoch + Duration::from_millis(recovered - UNHEALTHY - 1);
                health::ramp(now.saturating_duration_since(at), slow_start)
            }
        }
    }

    pub fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl Directory {
    /// For `cluster`, with what is known of the same addresses and names from the one that had its
    /// name.
    pub(super) fn new(cluster: &Cluster, workers: usize, before: Option<&Self>) -> Arc<Self> {
        let before = before.map(Self::endpoints);
        let before = before.as_ref().map(|before| &***before);
        let known = |host: &HostPort| before.map_or_else(Vec::new, |before| before.of_host(host));
        let endpoints = Endpoints::new(cluster, workers, before, known);
        Arc::new(Self { current: ArcSwap::from_pointee(endpoints), workers })
    }

    /// Puts another list in the place of this one: the addresses of each name have been found, or are as in this
    /// one. Control only, be it that a reload and who follows the names do it at once, and with the cluster that it
    /// was made for. Workers see it when they look next.
    pub fn publish(&self, cluster: &Cluster, found: impl Fn(&Endpoints, &HostPort) -> Vec<IpAddr>) {
        self.current.rcu(|before| {
            Endpoints::new(cluster, self.workers, Some(before), |host| found(before, host))
        });
    }

    /// The list that holds now.
    pub fn endpoints(&self) -> Guard<Arc<Endpoints>> {
        self.current.load()
    }
}

impl Endpoints {
    fn new(
        cluster: &Cluster,
        workers: usize,
        before: Option<&Self>,
        found: impl Fn(&HostPort) -> Vec<IpAddr>,
    ) -> Self {
        let known = before.into_iter().flat_map(|before| &before.members);
        let known: HashMap<_, _> = known.map(|member| (member.address, member)).collect();
        let epoch = clock::now();
        let member = |address: SocketAddr, host: Option<HostPort>, endpoint: &Endpoint| {
            let known = known.get(&address);
            // What nobody probes any more is not unhealthy for ever.
            let health = known.filter(|_| cluster.health.is_some());
            Member {
                address,
                host,
                weight: endpoint.weight,
                server_name: endpoint.server_name.clone(),
                series: known.map_or_else(
                    || Series::<_, EndpointCounters>::new(address, workers),
                    |known| Arc::clone(&known.series),
                ),
                health: health.map_or_else(
                    || Arc::new(EndpointHealth::new(epoch)),
                    |known| Arc::clone(&known.health),
                ),
            }
        };
        let mut members = Vec::with_capacity(cluster.endpoints.len());
        for endpoint in &cluster.endpoints {
            match &endpoint.address {
                EndpointAddress::Ip(address) => members.push(member(*address, None, endpoint)),
                EndpointAddress::Host(host) => members.extend(found(host).into_iter().map(|ip| {
                    member(SocketAddr::new(ip, host.port), Some(host.clone()), endpoint)
                })),
            }
        }
        // An address of a name that no source can reach is none of ours.
        let can_reach = |address: &SocketAddr| {
            cluster.sources.is_empty()
                || cluster.sources.iter().any(|source| source.is_ipv4() == address.is_ipv4())
        };
        members.retain(|member| can_reach(&member.address));
        // Two names may have one address; the first has it.
        let mut seen = HashSet::new();
        members.retain(|member| seen.insert(member.address));
        members.truncate(maglev::ENDPOINTS_MAX);
        let maglev = match cluster.balance {
            Balance::RoundRobin | Balance::LeastConnections | Balance::Random => None,
            Balance::Maglev(_) => {
                let place = |member: &Member| maglev::Place {
                    id: maglev::hash(member.address.to_string().as_bytes()),
                    weight: member.weight,
                };
                Maglev::build(&members.iter().map(place).collect::<Vec<_>>())
            }
        };
        Self { members, maglev }
    }

    /// The addresses that a name has in this list.
    pub fn of_host(&self, host: &HostPort) -> Vec<IpAddr> {
        let members = self.members.iter().filter(|member| member.host.as_ref() == Some(host));
        members.map(|member| member.address.ip()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_that_recovers_starts_slowly() {
        let now = clock::now();
        let slow_start = Duration::from_secs(10);
        let health = EndpointHealth::new(now);
        let after = |seconds| now + Duration::from_secs(seconds);
        let percent = |seconds| health.percent(after(seconds), slow_start);
        assert_eq!((health.opinion(), percent(0)), (Opinion::Unknown, 100));
        health.set(Opinion::Healthy, after(1));
        assert_eq!((health.opinion(), percent(1)), (Opinion::Healthy, 100));
        health.set(Opinion::Unhealthy, after(2));
        assert_eq!((health.opinion(), percent(3)), (Opinion::Unhealthy, 0));
        health.set(Opinion::Healthy, after(4));
        assert_eq!(health.opinion(), Opinion::Healthy);
        assert_eq!([4, 9, 14].map(percent), [10, 50, 100]);
        health.set(Opinion::Healthy, after(9));
        assert_eq!(percent(9), 50, "it is healthy since then");
    }
}
