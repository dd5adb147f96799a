//! Clusters and their endpoints, as a file says them.

use std::time::Duration;

use toml::de::DeValue;

use super::super::error::{Location, Problems};
use super::super::node::{At, FromNode, Key, Node, join};
use super::{List, Table};

tables! {
    /// `[cluster.NAME]`
    RawCluster {
        /// "IP:port", or `{ address = "IP:port", server_name = "NAME" }`. At least one must be
        /// written, and at most 1024.
        endpoints: List<RawEndpoint>,
        /// "static", or "dns": endpoints may be "HOST:port" as well, and every address that the name
        /// has is one. Asked again when an answer's time to live is over, at least a second and at most
        /// five minutes. Default: "static".
        discovery: String,
        /// "round_robin", "least_connections", "random" or "maglev", each by the weights of the
        /// endpoints. Default: "round_robin".
        balance: String,
        /// For "maglev", what keeps a client with its endpoint: "source", its address; "client", the
        /// first SAN of its verified certificate, or the subject of one without; "server_name", the
        /// name in its SNI. The address counts where the client has no such name. Changes nothing with
        /// another balance. Default: "source".
        hash_by: String,
        /// A `[tls.upstream.NAME]`. Left out: plain TCP.
        tls: String,
        /// What endpoints are asked before TLS: "postgres" sends SSLRequest. Needs `tls`. Left out:
        /// nothing.
        prelude: String,
        /// How endpoints are dialled.
        connect: RawConnect,
        /// Ready connections. Default: on with `tls`, off without and with "maglev".
        pool: RawPool,
        /// Limits of this cluster, over all workers; 0 is off.
        limits: RawClusterLimits,
        /// How endpoints are probed. Left out: not at all.
        health: RawHealth,
        /// When an endpoint that fails is left alone for a while. Left out: never.
        ejection: RawEjection,
        /// The PROXY protocol header that endpoints are sent, before each client's bytes. Left out: none.
        proxy_protocol: RawProxyProtocolOut,
        /// Local addresses to dial from, in turn: "10.0.0.5". Each has the local ports of
        /// net.ipv4.ip_local_port_range once for each endpoint; one that has none left is passed over.
        /// Default: [], whichever the kernel takes.
        sources: List<String>,
    }

    /// `cluster.NAME.endpoints[]`
    RawEndpointTable {
        /// "IP:port", or "HOST:port" with `discovery = "dns"`. Must be written.
        address: String,
        /// Its share of the sum of all weights, from 1 to 10000. Default: 1.
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
        /// How long bytes to an endpoint may stay unacknowledged, or unsent because it does not read,
        /// until the connection is reset; from "1s" to "1d", and "0s" for as long as the kernel tries by
        /// itself, about 15 minutes, and for ever where the endpoint is there and does not read.
        /// Default: "0s".
        unacknowledged: Duration,
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
        /// Open connections to its endpoints: sessions, ready ones and dials in flight. A client that
        /// needs one more is refused; ready ones are made up to half of it. Default: 0.
        connections: u64,
        /// Clients that wait for a dial. One more is refused. Default: 0.
        pending: u64,
    }

    /// `cluster.NAME.health`
    RawHealth {
        /// What shows that an endpoint is healthy: "tcp", it takes a connection; "tls", it shakes hands
        /// by the `tls` of the cluster; "script", it answers as it should, inside TLS where the cluster
        /// speaks it. Must be written.
        kind as "type": String,
        /// Time between probes, shortened by up to a quarter at random. Default: "5s".
        interval: Duration,
        /// For each probe. Default: "1s".
        timeout: Duration,
        /// Good probes in a row that make an endpoint healthy, from 1 to 100. Default: 2.
        healthy: u64,
        /// Bad probes in a row that make it unhealthy, from 1 to 100. Default: 3.
        unhealthy: u64,
        /// How long an endpoint that was unhealthy takes from a tenth of its weight to all of it.
        /// Default: "10s".
        slow_start: Duration,
        /// For "script": a ready-made exchange, "postgres", "redis", "mqtt" or "smtp".
        script: String,
        /// For "script", instead of a ready-made one: what is sent. Left out: the service speaks first.
        send: String,
        /// For "script", instead of a ready-made one: what the answer must begin with.
        expect: String,
    }

    /// `cluster.NAME.ejection`
    RawEjection {
        /// Dials in a row that fail, in TCP, in TLS or by `connect.timeout`, until a worker ejects the
        /// endpoint, or sessions in a row that it ends by a TLS alert before their first byte; from 1 to
        /// 1000. Default: 5.
        failures: u64,
        /// How long the first ejection lasts. The next one lasts twice as long, the third three times,
        /// up to ten times. Default: "30s".
        base: Duration,
        /// How much of the cluster may be ejected at a time, in percent of its endpoints, rounded
        /// down; from 0 to 100. Default: 50.
        percent_max: u64,
    }

    /// `cluster.NAME.proxy_protocol`
    RawProxyProtocolOut {
        /// 1 or 2. Default: 2.
        version: u64,
        /// What version 2 says beside the addresses: "alpn", "authority" (the SNI), "unique_id" (the
        /// connection's, as logged), "ssl" (how the client's TLS was agreed and whether its certificate
        /// was verified), "client_cert" (the whole certificate, within "ssl"), "identity" (SPIFFE ID or
        /// first name of a verified certificate, type 0xE0) and "crc32c". Default: [].
        tlvs: List<String>,
        /// Whether the header is the first data inside the cluster's `tls`, where nobody on the way can
        /// read or change it, or goes before the handshake, as most servers expect it. Then there are no
        /// ready connections, for the header names a client. Default: false.
        inside_tls: bool,
    }
}

/// An element of `cluster.NAME.endpoints`.
#[derive(Debug)]
pub(in crate::config) enum RawEndpoint {
    Address(String),
    Table(RawEndpointTable),
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
