//! The endpoints of a cluster, as control publishes them and all workers see them.
//!
//! A `Directory` lives as long as its cluster is reached in the same way; the list in it is immutable
//! and swapped whole. `upstream::choice` is what a worker makes of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::EndpointCounters;
use super::series::{EndpointSeries, Series};
use crate::config::plan::{Balance, Cluster};
use crate::core::maglev::{self, Maglev};

/// Where the endpoints of one cluster are looked up.
#[derive(Debug)]
pub struct Directory {
    current: ArcSwap<Endpoints>,
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
    pub weight: u32,
    /// Instead of the name of the cluster's TLS terms.
    pub(super) server_name: Option<Arc<str>>,
    /// Stays with the address over reloads.
    pub series: Arc<EndpointSeries>,
}

impl Directory {
    /// For `cluster`, with what is known of the same addresses from the one that had its name.
    pub(super) fn new(cluster: &Cluster, workers: usize, before: Option<&Self>) -> Arc<Self> {
        let before = before.map(Self::endpoints);
        let known = before.iter().flat_map(|before| &before.members);
        let known: HashMap<_, _> = known.map(|member| (member.address, member)).collect();
        let member = |endpoint: &crate::config::plan::Endpoint| Member {
            address: endpoint.address,
            weight: endpoint.weight,
            server_name: endpoint.server_name.clone(),
            series: known.get(&endpoint.address).map_or_else(
                || Series::<_, EndpointCounters>::new(endpoint.address, workers),
                |known| Arc::clone(&known.series),
            ),
        };
        let members = cluster.endpoints.iter().map(member).collect();
        let endpoints = Endpoints::new(members, cluster.balance);
        Arc::new(Self { current: ArcSwap::from_pointee(endpoints) })
    }

    /// The list that holds now.
    pub fn endpoints(&self) -> Guard<Arc<Endpoints>> {
        self.current.load()
    }
}

impl Endpoints {
    fn new(members: Vec<Member>, balance: Balance) -> Self {
        let maglev = match balance {
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
}
