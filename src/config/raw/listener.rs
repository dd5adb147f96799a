//! Listeners, their filter chains and filters, as a file says them. Next: `trust`, for the rules that
//! filters hold.

use std::time::Duration;

use super::super::error::{Location, Problems};
use super::super::node::{At, FromNode, Key, Named, Node, join};
use super::trust::RawIdentity;
use super::{List, Table};

tables! {
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
        /// How long bytes to a client may stay unacknowledged, or unsent because it does not read, until
        /// its connection is reset; as `connect.unacknowledged` of a cluster. Default: "0s".
        unacknowledged: Duration,
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
        /// A `[cluster.NAME]`. It or `clusters` must be written.
        cluster: String,
        /// Several clusters, instead of `cluster`: each connection goes to one of them at random, each
        /// as often as its weight says.
        clusters: List<RawWeightedCluster>,
        /// Network filters, asked in order: after the handshake, and before any byte goes to the
        /// upstream. Default: [].
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
        /// A `[cluster.NAME]`. Must be written.
        cluster: String,
        /// Its share of the sum of all weights, up to 10000; 0: none. Default: 1.
        weight: u64,
    }

    /// `listener.NAME.chain.NAME.filters[]`
    RawFilter {
        /// "connection_limit", "rate_limit" or "authorize". Must be written.
        kind as "type": String,
        /// For "connection_limit": open connections.
        connections: u64,
        /// For "rate_limit": "chain", "source" or "client".
        by: String,
        /// For "rate_limit": as "500/s".
        rate: String,
        /// For "rate_limit": how many may come at once.
        burst: u64,
        /// For "authorize": clients that are let in, if any one element matches. Left out: all that
        /// are not denied. One of `allow` and `deny` must be written, and the chain's `tls` must ask
        /// for certificates; a client without one matches nothing.
        allow: List<RawIdentity>,
        /// For "authorize": clients that are refused, whatever `allow` says. A name that is not in
        /// plain form (see `uri`) is not on a list: to be sure, write whom to allow.
        deny: List<RawIdentity>,
        /// For "authorize": "enforce", or "audit", which lets in, logs and counts whom it would
        /// refuse. Default: "enforce".
        mode: String,
    }
}
