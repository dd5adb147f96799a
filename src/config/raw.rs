//! What a configuration file may say: every table and key, with its meaning and its default.
//!
//! Reads, and judges nothing but names of keys and types of values; `convert` makes values that
//! cannot be wrong of it. The comments on the keys become the reference of the configuration.

use std::time::Duration;

use toml::de::DeValue;

use super::error::{Location, Problems};
use super::node::{At, FromNode, Key, Named, Node, join};
use super::quantity::Size;

/// Declares tables of the file: a struct of optional values, the names of its keys and their docs.
/// `field as "key"` is for keys that are words of Rust.
macro_rules! tables {
    ($(
        $(#[doc = $doc:literal])*
        $table:ident {
            $($(#[doc = $key_doc:literal])* $field:ident $(as $key:literal)?: $type:ty,)*
        }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(super) struct $table {
            $($(#[doc = $key_doc])* pub(super) $field: Option<At<$type>>,)*
        }

        impl $table {
            const KEYS: &[&str] = &[$(tables!(@key $field $($key)?)),*];
        }

        impl Table for $table {
            fn written(&self) -> impl Iterator<Item = (&'static str, &Location)> {
                [$((tables!(@key $field $($key)?), self.$field.as_ref().map(|v| &v.at))),*]
                    .into_iter()
                    .filter_map(|(key, at)| Some((key, at?)))
            }
        }

        impl FromNode for $table {
            fn expected() -> String {
                "a table".to_owned()
            }

            fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
                node.expect_table(Self::KEYS, problems).then(|| Self {
                    $($field: node.read_key(tables!(@key $field $($key)?), problems),)*
                })
            }

            fn keys_below(prefix: &str, keys: &mut Vec<Key>) {
                $(
                    let key = join(prefix, tables!(@key $field $($key)?));
                    let doc = concat!($($key_doc, "\n"),*).trim().to_owned();
                    let expects = <$type>::expected();
                    keys.push(Key { key: key.clone(), expects, doc });
                    <$type>::keys_below(&key, keys);
                )*
            }
        }
    )*};
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}

/// A table of the file.
pub(super) trait Table {
    /// The keys that are written down, and where each has its value.
    fn written(&self) -> impl Iterator<Item = (&'static str, &Location)>;

    /// Where `key` has its value; `table` if it is not written.
    fn place_of<'a>(&'a self, key: &str, table: &'a Location) -> &'a Location {
        self.written().find(|(written, _)| *written == key).map_or(table, |(_, at)| at)
    }
}

type List<T> = Vec<At<T>>;

tables! {
    /// A whole file.
    RawFile {
        /// Files to read as well, relative to this one; `*` may stand in the last part of a path.
        /// Each pattern's files are taken in name order. They may add tables, and chains to a
        /// listener, but never write a table again, and have no `include` of their own.
        include: List<String>,
        /// The process.
        runtime: RawRuntime,
        /// Limits of the whole process; 0 is off.
        limits: RawLimits,
        /// Where the admin pages are served. Left out: nowhere.
        admin: RawAdmin,
        /// What the gateway says about itself, on standard error.
        log: RawLog,
        /// One line a connection, refused ones included.
        access_log: RawAccessLog,
        /// The keys that session tickets are sealed with.
        session_tickets: RawSessionTickets,
        /// Addresses to listen on.
        listener: Named<RawListener>,
        /// How TLS is spoken, with clients and with upstreams.
        tls: RawTls,
        /// Whom to believe.
        trust: Named<RawTrust>,
        /// Upstreams.
        cluster: Named<RawCluster>,
    }

    /// `[runtime]`
    RawRuntime {
        /// Worker threads, each pinned to a core: a number from 1 to 1024, or "auto", one for each
        /// core that this process may use. Default: "auto".
        workers: RawWorkers,
        /// How sockets are driven: "auto", "epoll" or "io_uring". Default: "auto", which is what
        /// measured faster.
        io: String,
        /// Whether the configuration is loaded anew when one of its files changes, or a file that it
        /// names; SIGHUP does so in any case. Default: true.
        watch: bool,
        /// What SIGTERM sets off.
        drain: RawDrain,
    }

    /// `runtime.drain`
    RawDrain {
        /// How long new connections are still taken. Default: "0s".
        grace: Duration,
        /// How long the closing of sessions is spread over, after `grace`. Default: "10s".
        spread: Duration,
        /// When whatever is left is reset, counted from the signal. Default: "30s".
        deadline: Duration,
    }

    /// `[limits]`
    RawLimits {
        /// Open connections. Default: 100000.
        connections: u64,
        /// Handshakes that have begun and not ended. Default: 4096.
        handshakes_in_flight: u64,
        /// Handshakes admitted in a second, resumed ones first. Default: 0.
        handshakes_per_second: u64,
        /// Memory above which connections are shed. Default: "0B".
        memory: Size,
    }

    /// `[admin]`
    RawAdmin {
        /// "IP:port", or "unix:PATH" relative to this file. Must be written.
        listen: String,
        /// Whether an address that is not loopback may be listened on. The admin pages ask for no
        /// password. Default: false.
        allow_remote: bool,
    }

    /// `[log]`
    RawLog {
        /// "error", "warn", "info", "debug" or "trace". Default: "info".
        level: String,
        /// "text" or "json". Default: "text".
        format: String,
    }

    /// `[access_log]`
    RawAccessLog {
        /// "stdout", "off", or a file relative to this one. Default: "stdout".
        path: String,
        /// "text" or "json". Default: "json".
        format: String,
    }

    /// `[session_tickets]`
    RawSessionTickets {
        /// "auto", which is random at start, or `{ root = FILE }` or `{ keys = [FILE] }`.
        /// Default: "auto".
        source: RawTicketSource,
        /// After how long a new key takes over. Default: "1h".
        rotate: Duration,
        /// How long a ticket is accepted, at most "7d" (RFC 8446 §4.6.1). Default: "12h".
        lifetime: Duration,
    }

    /// `session_tickets.source`
    RawTicketFiles {
        /// A file that is the same on every node; all derive the same keys from the clock.
        root: String,
        /// Key files of nginx or HAProxy.
        keys: List<String>,
    }

    /// `[listener.NAME]`
    RawListener {
        /// "IP:port". Must be written.
        address: String,
        /// How long clients may take.
        timeouts: RawTimeouts,
        /// Limits of this listener; 0 is off.
        limits: RawListenerLimits,
        /// From whom PROXY protocol headers are required.
        proxy_protocol: RawProxyProtocolIn,
        /// What is spoken before the TLS hello, as "postgres".
        prelude: String,
        /// Filter chains. At least one must be written.
        chain: Named<RawChain>,
    }

    /// `listener.NAME.timeouts`
    RawTimeouts {
        /// From accept to the whole ClientHello, whatever progress is made. Default: "5s".
        hello: Duration,
        /// From accept to the end of the handshake, whatever progress is made. Default: "10s".
        handshake: Duration,
        /// Without a byte in either direction. Default: "1h".
        idle: Duration,
        /// Without a byte once one side has closed its direction. Default: "1m".
        half_closed: Duration,
    }

    /// `listener.NAME.limits`
    RawListenerLimits {
        /// Open connections of this listener. Default: 0.
        connections: u64,
        /// Open connections from one source address. Default: 0.
        connections_per_source: u64,
        /// Handshakes in a second from one source address. Default: 0.
        handshakes_per_second_per_source: u64,
    }

    /// `listener.NAME.proxy_protocol`
    RawProxyProtocolIn {
        /// Sources that must send a header; from all others it is refused.
        from: List<String>,
    }

    /// `[listener.NAME.chain.NAME]`
    RawChain {
        /// Which clients this chain is for; all that is written must hold. Left out: the default
        /// chain, for whoever no other chain took.
        matches as "match": RawMatch,
        /// A `[tls.downstream.NAME]`. Left out: the bytes go through unopened.
        tls: String,
        /// A `[cluster.NAME]`. Must be written.
        cluster: String,
        /// Several clusters by weight, instead of `cluster`.
        clusters: List<RawWeightedCluster>,
        /// Network filters, in order.
        filters: List<RawFilter>,
    }

    /// `listener.NAME.chain.NAME.match`
    RawMatch {
        /// Names in the SNI: "orders.example.com", or "*.example.com" for every name below it.
        server_names: List<String>,
        /// ALPN protocols, any one of which the client must offer.
        alpn: List<String>,
        /// Networks that the client's address must be in: "10.0.0.0/8".
        sources: List<String>,
        /// "tls", or "raw" for connections that do not begin with TLS. Default: "tls".
        transport: String,
    }

    /// `listener.NAME.chain.NAME.clusters[]`
    RawWeightedCluster {
        /// A `[cluster.NAME]`.
        cluster: String,
        /// Its share of the sum of all weights.
        weight: u64,
    }

    /// `listener.NAME.chain.NAME.filters[]`
    RawFilter {
        /// "connection_limit", "rate_limit" or "authorize".
        kind as "type": String,
        /// For "connection_limit": open connections.
        connections: u64,
        /// For "rate_limit": "chain", "source" or "client".
        by: String,
        /// For "rate_limit": as "500/s".
        rate: String,
        /// For "rate_limit": how many may come at once.
        burst: u64,
        /// For "authorize": clients that are let in.
        allow: List<RawIdentity>,
        /// For "authorize": clients that are refused.
        deny: List<RawIdentity>,
        /// For "authorize": "enforce" or "audit".
        mode: String,
    }

    /// A rule about the identity in a certificate.
    RawIdentity {
        /// URI name; `*` is one segment, `**` any number.
        uri: String,
        /// DNS name.
        dns: String,
        /// Mail address.
        email: String,
        /// IP address.
        ip: String,
        /// Common name of the subject.
        cn: String,
        /// Serial number, in hexadecimal.
        serial: String,
    }

    /// `[tls]`
    RawTls {
        /// TLS with clients.
        downstream: Named<RawDownstreamTls>,
        /// TLS with upstreams.
        upstream: Named<RawUpstreamTls>,
    }

    /// `[tls.downstream.NAME]`
    RawDownstreamTls {
        /// Certificates of the gateway, chosen by the client's SNI and signature algorithms. Must
        /// be written.
        certificates: List<RawCertificate>,
        /// A directory of certificates, instead of `certificates`.
        certificate_dir: String,
        /// "require", "optional" or "none". Default: "require".
        client_auth: String,
        /// A `[trust.NAME]`. Must be written unless `client_auth` is "none".
        trust: String,
        /// ALPN protocols, most preferred first. Default: [], no negotiation.
        alpn: List<String>,
        /// "1.2" and "1.3". Default: both.
        versions: List<String>,
        /// IANA names, most preferred first. Default: the suites of TLS 1.3 and the ECDHE suites of
        /// TLS 1.2, AES-128-GCM first.
        cipher_suites: List<String>,
        /// Key exchange, most preferred first. Default:
        /// ["x25519mlkem768", "x25519", "secp256r1", "secp384r1"].
        groups: List<String>,
        /// "tickets" or "off". Default: "tickets".
        resumption: String,
        /// TLS 1.3 tickets after a handshake, from 1 to 8. Default: 1.
        tickets_sent: u64,
    }

    /// A certificate and its key.
    RawCertificate {
        /// PEM file, leaf first, relative to this file. Must be written.
        chain: String,
        /// PEM file of the private key, relative to this file. Must be written.
        key: String,
        /// File of a stapled OCSP answer.
        ocsp: String,
    }

    /// `[tls.upstream.NAME]`
    RawUpstreamTls {
        /// The name to ask for and to find in the upstream's certificate: a DNS name, an IP
        /// address, or "$sni", the name that the client asked for. Must be written.
        server_name: String,
        /// A `[trust.NAME]`. Must be written.
        trust: String,
        /// What the gateway shows of itself. Left out: no client certificate.
        certificate: RawCertificate,
        /// ALPN protocols to offer, most preferred first. Default: [].
        alpn: List<String>,
        /// "1.2" and "1.3". Default: both.
        versions: List<String>,
        /// IANA names, most preferred first. Default: as for downstream.
        cipher_suites: List<String>,
        /// Key exchange, most preferred first. Default: as for downstream.
        groups: List<String>,
        /// "tickets" or "off". Default: "tickets".
        resumption: String,
    }

    /// `[trust.NAME]`
    RawTrust {
        /// PEM files of CA certificates, relative to this file. At least one must be written.
        anchors: List<String>,
        /// Files of revocation lists.
        crls: List<String>,
        /// How revocation is checked.
        revocation: RawRevocation,
        /// Longest chain that is accepted.
        depth_max: u64,
        /// Kinds of keys that clients may have.
        client_keys: List<String>,
        /// Names of which a certificate must have one.
        san: List<RawIdentity>,
        /// SHA-256 digests of certificates or of their keys.
        pins: List<String>,
        /// "enforce" or "audit". Default: "enforce".
        mode: String,
        /// What becomes of live sessions that a change refuses: "keep", "drain" or "close".
        /// Default: "keep".
        on_change: String,
    }

    /// `trust.NAME.revocation`
    RawRevocation {
        /// "chain", "leaf" or "off". Default: "off".
        check: String,
        /// When no list covers a certificate: "refuse" or "accept".
        unknown: String,
        /// When a list is out of date: "refuse" or "accept".
        stale: String,
    }

    /// `[cluster.NAME]`
    RawCluster {
        /// "IP:port", or `{ address = "IP:port", server_name = "NAME" }`. At least one must be
        /// written.
        endpoints: List<RawEndpoint>,
        /// "static" or "dns". Default: "static".
        discovery: String,
        /// "round_robin", "least_connections", "random" or "maglev". Default: "round_robin".
        balance: String,
        /// For "maglev": "source", "client" or "server_name".
        hash_by: String,
        /// A `[tls.upstream.NAME]`. Left out: plain TCP.
        tls: String,
        /// How endpoints are dialled.
        connect: RawConnect,
        /// Ready connections. Default: on with `tls`, off without.
        pool: RawPool,
        /// Limits of this cluster.
        limits: RawClusterLimits,
        /// How endpoints are probed.
        health: RawHealth,
        /// When an endpoint is left alone for a while.
        ejection: RawEjection,
        /// The PROXY protocol header that endpoints are sent.
        proxy_protocol: RawProxyProtocolOut,
        /// Local addresses to dial from.
        sources: List<String>,
    }

    /// `cluster.NAME.endpoints[]`
    RawEndpointTable {
        /// "IP:port". Must be written.
        address: String,
        /// Its share of the sum of all weights. Default: 1.
        weight: u64,
        /// Instead of the `server_name` of the cluster's `tls`.
        server_name: String,
    }

    /// `cluster.NAME.connect`
    RawConnect {
        /// For TCP and TLS together, each attempt. Default: "2s".
        timeout: Duration,
        /// Attempts in all, from 1 to 16, each on the next endpoint. Default: 3.
        attempts: u64,
    }

    /// `cluster.NAME.pool`: connections of each worker, dialled and handshaken ahead of need.
    RawPool {
        /// Kept ready at all times, up to 65535. Default: 1.
        ready_min: u64,
        /// Kept ready when many clients come, up to 65535; 0 is off. Default: 64.
        ready_max: u64,
        /// Closed after this long in the pool, where there are more than `ready_min`.
        /// Default: "60s".
        idle: Duration,
        /// Closed and replaced after this long in the pool. Default: "10m".
        age: Duration,
    }

    /// `cluster.NAME.limits`
    RawClusterLimits {
        /// Open connections. Default: 0, off.
        connections: u64,
        /// Clients that wait for a connection. Default: 0, off.
        pending: u64,
    }

    /// `cluster.NAME.health`
    RawHealth {
        /// "tcp", "tls" or "script".
        kind as "type": String,
        /// Time between probes.
        interval: Duration,
        /// For each probe.
        timeout: Duration,
        /// Good probes in a row that make an endpoint healthy.
        healthy: u64,
        /// Bad probes in a row that make it unhealthy.
        unhealthy: u64,
    }

    /// `cluster.NAME.ejection`
    RawEjection {
        /// Failures in a row.
        failures: u64,
        /// How long the first ejection lasts.
        base: Duration,
        /// How much of the cluster may be ejected.
        percent_max: u64,
    }

    /// `cluster.NAME.proxy_protocol`
    RawProxyProtocolOut {
        /// 1 or 2.
        version: u64,
        /// Fields to add to version 2.
        tlvs: List<String>,
        /// Inside TLS, not before it.
        inside_tls: bool,
    }
}

/// `runtime.workers`: "auto" or a number.
#[derive(Debug)]
pub(super) enum RawWorkers {
    Auto,
    Count(u64),
}

/// `session_tickets.source`: "auto" or where keys come from.
#[derive(Debug)]
pub(super) enum RawTicketSource {
    Auto,
    /// The files are not kept: nothing reads them yet.
    Files,
}

/// An element of `cluster.NAME.endpoints`.
#[derive(Debug)]
pub(super) enum RawEndpoint {
    Address(String),
    Table(RawEndpointTable),
}

impl FromNode for RawWorkers {
    fn expected() -> String {
        "\"auto\" or a whole number".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match node.value() {
            DeValue::Integer(_) => u64::from_node(node, problems).map(Self::Count),
            value if value.as_str() == Some("auto") => Some(Self::Auto),
            _ => {
                node.wrong_type(&Self::expected(), problems);
                None
            }
        }
    }
}

impl FromNode for RawTicketSource {
    fn expected() -> String {
        "\"auto\", { root = FILE } or { keys = [FILE] }".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match node.value() {
            DeValue::Table(_) => RawTicketFiles::from_node(node, problems).map(|_| Self::Files),
            value if value.as_str() == Some("auto") => Some(Self::Auto),
            _ => {
                node.wrong_type(&Self::expected(), problems);
                None
            }
        }
    }

    fn keys_below(prefix: &str, keys: &mut Vec<Key>) {
        RawTicketFiles::keys_below(prefix, keys);
    }
}

impl FromNode for RawEndpoint {
    fn expected() -> String {
        "\"IP:port\" or { address = \"IP:port\" }".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match node.value() {
            DeValue::Table(_) => RawEndpointTable::from_node(node, problems).map(Self::Table),
            DeValue::String(text) => Some(Self::Address(text.to_string())),
            _ => {
                node.wrong_type(&Self::expected(), problems);
                None
            }
        }
    }

    fn keys_below(prefix: &str, keys: &mut Vec<Key>) {
        RawEndpointTable::keys_below(prefix, keys);
    }
}
