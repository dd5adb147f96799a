//! Where bytes go: clusters, their endpoints, and how these are chosen, watched and dialled.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::UpstreamTlsId;
use crate::config::error::Location;
use crate::core::ejection::EjectionRules;
use crate::core::health::Thresholds;
use crate::core::prelude::Prelude;
use crate::core::probe_script::ProbeScript;

#[derive(Debug, Clone)]
pub struct Cluster {
    pub name: Arc<str>,
    pub at: Location,
    /// Not empty.
    pub endpoints: Vec<Endpoint>,
    pub balance: Balance,
    /// `None`: plain TCP.
    pub tls: Option<UpstreamTlsId>,
    /// How endpoints are asked for TLS; with `tls` only.
    pub prelude: Option<Prelude>,
    pub connect: Connect,
    pub pool: Pool,
    /// What every endpoint is told of each client.
    pub proxy_header: Option<ProxyHeader>,
    pub limits: ClusterLimits,
    /// `None`: no endpoint is ejected.
    pub ejection: Option<EjectionRules>,
    /// `None`: no endpoint is probed.
    pub health: Option<Health>,
    /// Local addresses to dial from, in turn; empty: whichever the kernel takes.
    pub sources: Vec<IpAddr>,
}

/// The PROXY header that goes to an upstream before a client's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    pub version: ProxyVersion,
    pub place: HeaderPlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text, addresses only.
    One,
    Two(Vec<ProxyField>),
}

/// What version 2 says beside the addresses. The names in the file are these in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyField {
    Alpn,
    Authority,
    UniqueId,
    Ssl,
    /// Within `Ssl`, which is then there too.
    ClientCert,
    Identity,
    Crc32c,
}

/// Where the header goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderPlace {
    /// Ahead of the TLS handshake: the connection cannot be made before its client is known.
    BeforeTls,
    /// The first bytes of the stream that the client's go on with, in TLS where it is spoken.
    FirstBytes,
}

/// How endpoints are probed.
#[derive(Debug, Clone)]
pub struct Health {
    pub at: Location,
    pub probe: Probe,
    pub interval: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
    /// How long an endpoint that recovers takes to its whole weight; zero is "at once".
    pub slow_start: Duration,
}

/// What shows that an endpoint is healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It takes a connection.
    Tcp,
    /// It shakes hands by the terms of the cluster.
    Tls,
    /// It answers, inside TLS where the cluster speaks it.
    Script(ProbeScript),
}

impl Health {
    fn is_same(&self, other: &Self) -> bool {
        let Self { at: _, probe, interval, timeout, thresholds, slow_start } = self;
        (probe, interval, timeout, thresholds, slow_start)
            == (&other.probe, &other.interval, &other.timeout, &other.thresholds, &other.slow_start)
    }
}

/// Over all workers; `None` is "off".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterLimits {
    /// Open connections to the cluster, ready ones and dials in flight included.
    pub connections: Option<NonZeroUsize>,
    /// Clients that wait for a dial.
    pub pending: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: EndpointAddress,
    /// Its share of the sum of all.
    pub weight: u32,
    /// Overrides `UpstreamTls::server_name` for this endpoint.
    pub server_name: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointAddress {
    Ip(SocketAddr),
    /// Every address of the name is an endpoint.
    Host(HostPort),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// In lower case.
    pub host: Arc<str>,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastConnections,
    Random,
    Maglev(HashBy),
}

/// What keeps a client with its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashBy {
    /// Its address, without the port.
    Source,
    /// The name in its verified certificate; its address where there is none.
    Client,
    /// The name that it asks for; its address where it asks for none.
    ServerName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect {
    /// For TCP and TLS together, each attempt.
    pub timeout: Duration,
    /// Attempts in all, each on the next endpoint that the balancer gives.
    pub attempts: u8,
    /// As `Timeouts::unacknowledged`, of upstreams.
    pub unacknowledged: Option<Duration>,
}

/// Ready upstream connections of one worker to this cluster: dialled and handshaken ahead of need,
/// each used once. `ready_max = 0` turns them off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    pub ready_min: u16,
    pub ready_max: u16,
    pub idle: Duration,
    pub age: Duration,
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Host(HostPort { host, port }) => write!(f, "{host}:{port}"),
        }
    }
}

impl Cluster {
    /// The host names among the endpoints.
    pub fn hosts(&self) -> impl Iterator<Item = &HostPort> {
        self.endpoints.iter().filter_map(|endpoint| match &endpoint.address {
            EndpointAddress::Ip(_) => None,
            EndpointAddress::Host(host) => Some(host),
        })
    }

    /// Whether both are reached in the same way, as far as the plan says: where it is written and
    /// the number of its TLS terms may differ, and what the terms are is their digest's to say.
    pub fn is_reached_as(&self, other: &Self) -> bool {
        let Self { name, at: _, endpoints, balance, tls, prelude, connect, pool, .. } = self;
        let Self { proxy_header, limits, ejection, health, sources, .. } = self;
        let health = match (health, &other.health) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        (name, endpoints, balance, connect, pool, proxy_header, limits, ejection, sources)
            == (
                &other.name,
                &other.endpoints,
                &other.balance,
                &other.connect,
                &other.pool,
                &other.proxy_header,
                &other.limits,
                &other.ejection,
                &other.sources,
            )
            && health
            && tls.is_some() == other.tls.is_some()
            && *prelude == other.prelude
    }
}
