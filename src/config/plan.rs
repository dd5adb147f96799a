//! What a gateway runs on: values that cannot be wrong, read by every layer above.
//!
//! A `Plan` comes only out of `config::load`; `raw` is what the file says, `error` is what is wrong
//! with it. A plan names files and never opens them: `tls::material` does, and reports against the
//! same `Location`s.

mod account;
mod runtime;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::account::{Account, Sandbox};
pub use self::runtime::{Drain, Io, Runtime, Workers};
use super::error::Location;
use crate::core::ejection::EjectionRules;
use crate::core::health::Thresholds;
use crate::core::prelude::Prelude;
use crate::core::probe_script::ProbeScript;
use crate::core::rate::Rate;
use crate::core::route::{Match, Prefix, Transport};
use crate::core::trust::{Authorize, LeafPolicy, Mode};

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
    /// Sources that must begin with a PROXY header; empty: nobody may.
    pub proxied_from: Vec<Prefix>,
    /// In name order; `core::route::ChainId` indexes it. No two match the same client.
    pub chains: Vec<Chain>,
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

/// A file that the configuration names, made absolute, with the place that names it.
#[derive(Debug, Clone)]
pub struct FileRef {
    pub path: PathBuf,
    pub at: Location,
}

/// A certificate chain (PEM, leaf first) and its private key (PEM).
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    pub chain: FileRef,
    pub key: FileRef,
    /// An OCSP response in DER, to be stapled.
    pub ocsp: Option<FileRef>,
}

impl CertificateFiles {
    fn files(&self) -> impl Iterator<Item = &FileRef> {
        [&self.chain, &self.key].into_iter().chain(&self.ocsp)
    }
}

#[derive(Debug, Clone)]
pub struct DownstreamTls {
    pub name: Arc<str>,
    pub at: Location,
    /// Empty only where `certificate_dir` is set.
    pub certificates: Vec<CertificateFiles>,
    /// A directory of pairs, chosen by the client's SNI.
    pub certificate_dir: Option<FileRef>,
    pub client_auth: ClientAuth,
    /// In the server's order of preference; empty: ALPN is not negotiated.
    pub alpn: Vec<Arc<str>>,
    pub crypto: CryptoPolicy,
    pub resumption: Resumption,
    /// TLS 1.3 tickets after a handshake; 0 with `Resumption::Off`.
    pub tickets_sent: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    Optional(TrustId),
    Require(TrustId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    Off,
    Tickets,
}

/// What is negotiated, each list in order of preference and never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CryptoPolicy {
    pub versions: Vec<TlsVersion>,
    pub cipher_suites: Vec<CipherSuite>,
    pub groups: Vec<Group>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// AEAD suites only. The names in the file are IANA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherSuite {
    Tls13Aes128GcmSha256,
    Tls13Aes256GcmSha384,
    Tls13Chacha20Poly1305Sha256,
    EcdheEcdsaAes128GcmSha256,
    EcdheEcdsaAes256GcmSha384,
    EcdheEcdsaChacha20Poly1305Sha256,
    EcdheRsaAes128GcmSha256,
    EcdheRsaAes256GcmSha384,
    EcdheRsaChacha20Poly1305Sha256,
}

/// Key-exchange groups; in the file: "x25519mlkem768", "x25519", "secp256r1", "secp384r1".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    X25519MlKem768,
    X25519,
    Secp256r1,
    Secp384r1,
}

#[derive(Debug, Clone)]
pub struct UpstreamTls {
    pub name: Arc<str>,
    pub at: Location,
    pub server_name: UpstreamServerName,
    pub trust: TrustId,
    pub certificate: Option<CertificateFiles>,
    pub alpn: Vec<Arc<str>>,
    pub crypto: CryptoPolicy,
    pub resumption: Resumption,
}

/// The name sent in the SNI and checked in the upstream's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamServerName {
    /// A DNS name, or an IP address (then no SNI is sent, RFC 6066 §3).
    Fixed(Arc<str>),
    /// `"$sni"`: the name that the client asked for.
    ClientSni,
}

/// Whom to believe.
#[derive(Debug, Clone)]
pub struct Trust {
    pub name: Arc<str>,
    pub at: Location,
    /// PEM bundles of CA certificates. Not empty.
    pub anchors: Vec<FileRef>,
    /// Revocation lists, PEM or DER.
    pub crls: Vec<FileRef>,
    pub revocation: Revocation,
    /// Intermediates between leaf and anchor, at most.
    pub depth_max: u8,
    /// What is asked of a leaf beyond its path. Key rules are for clients.
    pub leaf: LeafPolicy,
    pub mode: Mode,
    pub on_change: OnChange,
}

/// How revocation lists are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    pub check: RevocationCheck,
    /// When no list covers a certificate.
    pub unknown: Uncertain,
    /// When the list that covers a certificate is past its next update.
    pub stale: Uncertain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationCheck {
    Off,
    Leaf,
    Chain,
}

/// What to do where revocation cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncertain {
    Refuse,
    Accept,
}

/// What becomes of live sessions that a new CRL, CA or policy refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    Keep,
    /// Closed at their next idle moment, spread as `runtime.drain.spread` says.
    Drain,
    /// Reset at once.
    Close,
}

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
