//! Where clients come in: listeners, their filter chains, and what a chain demands before TLS.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use super::{ClusterId, DownstreamTlsId};
use crate::config::error::Location;
use crate::core::prelude::Prelude;
use crate::core::rate::Rate;
use crate::core::route::{Match, Prefix, Transport};
use crate::core::trust::Authorize;

#[derive(Debug, Clone)]
pub struct Listener {
    pub name: Arc<str>,
    pub at: Location,
    pub address: SocketAddr,
    pub timeouts: Timeouts,
    /// Open connections of this listener over all workers; `None` is "off".
    pub connections_max: Option<NonZeroUsize>,
    /// Open connections of one address (IPv6: of one /64).
    pub connections_per_source: Option<NonZeroU32>,
    pub handshakes_per_second_per_source: Option<NonZeroU32>,
    /// What clients may say before the hello.
    pub prelude: Option<Prelude>,
    /// Clients are accepted with their first bytes.
    pub defer_accept: bool,
    /// Sources that must begin with a PROXY header; empty: nobody may.
    pub proxied_from: Vec<Prefix>,
    /// In name order; `core::route::ChainId` indexes it. No two match the same client.
    pub chains: Vec<Chain>,
}

impl Listener {
    /// Nothing a client says is looked at: it may wait for the upstream to speak first.
    pub fn is_raw_only(&self) -> bool {
        self.chains.iter().all(Chain::is_raw)
    }
}

/// `hello` and `handshake` count from accept and are not moved by progress.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub hello: Duration,
    pub handshake: Duration,
    pub idle: Duration,
    pub half_closed: Duration,
    /// How long the kernel lets bytes stay unacknowledged, or unsent as the peer does not read
    /// (TCP_USER_TIMEOUT); `None`: as long as it does by itself.
    pub unacknowledged: Option<Duration>,
}

/// One filter chain: who it is for, how TLS is spoken with them, where the bytes go.
#[derive(Debug, Clone)]
pub struct Chain {
    pub name: Arc<str>,
    pub at: Location,
    /// A chain without a `match` table is the default chain: `Match::default_chain()`.
    pub matches: Match,
    /// `None`: the bytes go through unopened (or, for a raw chain, are plain text).
    pub tls: Option<DownstreamTlsId>,
    /// One of them for each connection, by weight. Not empty.
    pub clusters: Vec<WeightedCluster>,
    pub limits: ChainLimits,
    /// Asked in order, after the handshake and before any byte to the upstream.
    pub filters: Vec<Filter>,
}

/// What one chain may take of the cores before it is refused; `None` is "off".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainLimits {
    pub handshakes_per_second: Option<NonZeroU32>,
}

impl Chain {
    /// For plain text, and for nothing else.
    pub fn is_raw(&self) -> bool {
        self.matches.transport == Transport::Raw
    }
}

/// A cluster and its share of a chain's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightedCluster {
    pub cluster: ClusterId,
    /// Its share of the sum of all.
    pub weight: u32,
}

/// A network filter of a chain, and where it is written.
#[derive(Debug, Clone)]
pub struct Filter {
    pub at: Location,
    pub kind: FilterKind,
}

#[derive(Debug, Clone)]
pub enum FilterKind {
    /// Open connections that have passed it.
    ConnectionLimit(NonZeroU32),
    RateLimit {
        by: RateBy,
        rate: Rate,
    },
    Authorize(Authorize),
}

impl FilterKind {
    /// As the configuration names it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConnectionLimit(_) => "connection_limit",
            Self::RateLimit { .. } => "rate_limit",
            Self::Authorize(_) => "authorize",
        }
    }
}

/// Whose connections a rate counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateBy {
    /// All of the chain.
    Chain,
    /// Those of one address (IPv6: of one /64).
    Source,
    /// Those of one verified identity.
    Client,
}

impl RateBy {
    /// As the configuration writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Source => "source",
            Self::Client => "client",
        }
    }
}
