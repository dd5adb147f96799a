//! What a gateway runs on: values that cannot be wrong, read by every layer above.
//!
//! A `Plan` comes only out of `config::load`; `raw` is what the file says, `error` is what is wrong
//! with it. A plan names files and never opens them: `tls::material` does, and reports against the
//! same `Location`s. Here are the whole and what concerns the process; `listener`, `tls` and `cluster`
//! have the tables of their names.

mod account;
mod cluster;
mod listener;
mod runtime;
mod tls;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

pub use self::account::{Account, Sandbox};
pub use self::cluster::{
    Balance, Cluster, ClusterLimits, Connect, Endpoint, EndpointAddress, HashBy, HeaderPlace,
    Health, HostPort, Pool, Probe, ProxyField, ProxyHeader, ProxyVersion,
};
pub use self::listener::{
    Chain, ChainLimits, Filter, FilterKind, Listener, RateBy, Timeouts, WeightedCluster,
};
pub use self::runtime::{Drain, Io, Runtime, Workers};
pub use self::tls::{
    CertificateFiles, CipherSuite, ClientAuth, CryptoPolicy, DownstreamTls, Group, OnChange,
    Resumption, Revocation, RevocationCheck, TlsVersion, Trust, Uncertain, UpstreamServerName,
    UpstreamTls,
};
use super::error::Location;

/// A whole configuration. Lists are indexed by the ids below; names are kept for logs and metrics.
#[derive(Debug, Clone)]
pub struct Plan {
    /// SHA-256 over what the files of the configuration say, in their order, wherever they lie.
    pub digest: [u8; 32],
    pub runtime: Runtime,
    pub limits: Limits,
    pub admin: Option<Admin>,
    pub log: Log,
    pub access_log: AccessLog,
    pub session_tickets: SessionTickets,
    pub listeners: Vec<Listener>,
    pub downstream_tls: Vec<DownstreamTls>,
    pub upstream_tls: Vec<UpstreamTls>,
    pub trusts: Vec<Trust>,
    pub clusters: Vec<Cluster>,
}

/// Index into `Plan::downstream_tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DownstreamTlsId(pub u16);

/// Index into `Plan::upstream_tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamTlsId(pub u16);

/// Index into `Plan::trusts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustId(pub u16);

/// Index into `Plan::clusters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u16);

/// Limits of the whole process; `None` is "off".
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections: Option<NonZeroUsize>,
    pub handshakes_in_flight: Option<NonZeroUsize>,
    pub handshakes_per_second: Option<NonZeroU32>,
    /// Bytes in RAM.
    pub memory: Option<NonZeroU64>,
}

/// The admin server, and where its address is written.
#[derive(Debug, Clone)]
pub struct Admin {
    pub at: Location,
    pub address: AdminAddress,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, Clone)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Where its path is written, if it is.
    pub at: Option<Location>,
    pub sink: AccessLogSink,
    pub format: LogFormat,
    /// Lines for refused connections in a second, for each reason; `None`: no limit.
    pub refusals_per_second: Option<NonZeroU32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogSink {
    Off,
    Stdout,
    File(PathBuf),
}

/// Session-ticket encryption keys (STEKs): where they come from, how often they change; a ticket is
/// accepted for `lifetime` since the last full authentication.
#[derive(Debug, Clone)]
pub struct SessionTickets {
    pub source: TicketSource,
    pub rotate: Duration,
    pub lifetime: Duration,
}

/// Where ticket keys come from.
#[derive(Debug, Clone)]
pub enum TicketSource {
    /// A random root at start.
    Auto,
    /// A file with the root that all nodes share; the clock says which key is in use.
    Root(FileRef),
    /// Key files. Not empty; one of them seals, all open.
    Keys(Vec<FileRef>),
}

/// A file that the configuration names, made absolute, with the place that names it.
#[derive(Debug, Clone)]
pub struct FileRef {
    pub path: PathBuf,
    pub at: Location,
}

impl Plan {
    /// Every file, and directory of files, that the plan names beside what is written to.
    pub fn files(&self) -> Vec<&FileRef> {
        let mut files = Vec::new();
        for terms in &self.downstream_tls {
            files.extend(terms.certificates.iter().flat_map(CertificateFiles::files));
            files.extend(&terms.certificate_dir);
        }
        for terms in &self.upstream_tls {
            files.extend(terms.certificate.iter().flat_map(CertificateFiles::files));
        }
        for trust in &self.trusts {
            files.extend(trust.anchors.iter().chain(&trust.crls));
        }
        match &self.session_tickets.source {
            TicketSource::Auto => {}
            TicketSource::Root(file) => files.push(file),
            TicketSource::Keys(keys) => files.extend(keys),
        }
        files
    }

    pub fn cluster(&self, id: ClusterId) -> &Cluster {
        &self.clusters[usize::from(id.0)]
    }

    pub fn downstream_tls(&self, id: DownstreamTlsId) -> &DownstreamTls {
        &self.downstream_tls[usize::from(id.0)]
    }

    pub fn upstream_tls(&self, id: UpstreamTlsId) -> &UpstreamTls {
        &self.upstream_tls[usize::from(id.0)]
    }

    pub fn trust(&self, id: TrustId) -> &Trust {
        &self.trusts[usize::from(id.0)]
    }
}
