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
        /// From whom PROXY protocol headers are required. Left out: from nobody, and none is read.
        proxy_protocol: RawProxyProtocolIn,
        /// What clients say before the TLS hello: "postgres" answers SSLRequest, and takes TLS from the
        /// first byte as well. Left out: nothing.
        prelude: String,
        /// Whether the kernel accepts a client only once its first bytes are there (TCP_DEFER_ACCEPT), so that
        /// a worker is woken for it once instead of twice. Who says nothing is accepted after a second, and
        /// counts from then on; who resets the connection before is not seen. Not for protocols in which the
        /// server speaks first. Default: false.
        defer_accept: bool,
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
        /// Open connections from one source address, of IPv6 from one /64. Default: 0, off.
        connections_per_source: u64,
        /// Handshakes in a second from one source address, of IPv6 from one /64; so many at once, too.
        /// Default: 0, off.
        handshakes_per_second_per_source: u64,
    }

    /// `listener.NAME.proxy_protocol`
    RawProxyProtocolIn {
        /// Networks of the balancers in front, as "10.0.0.0/8". Whoever connects from there must begin
        /// with a header of version 1 or 2, and is then who it says; from all others a header is
        /// refused, for it is not TLS. Must be written.
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
        /// What this chain may take before it is refused, so that it leaves room for the others.
        limits: RawChainLimits,
        /// Network filters, asked in order: after the handshake, and before any byte goes to the
        /// upstream. Default: [].
        filters: List<RawFilter>,
    }

    /// `listener.NAME.chain.NAME.limits`
    RawChainLimits {
        /// Handshakes in a second, before any cryptography, resumed ones first; so many at once, too.
        /// Default: 0, off.
        handshakes_per_second: u64,
    }

    /// `listener.NAME.chain.NAME.match`
    RawMatch {
        /// Names in the SNI: "orders.example.com", or "*.example.com" for every name below it, at any depth, and not for example.com itself.
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
        /// For "connection_limit": open connections of the chain that have passed it, at least 1. Must
        /// be written there.
        connections: u64,
        /// For "rate_limit", whose connections are counted together: "chain", all; "source", those of
        /// one address, of IPv6 of one /64; "client", those of one verified identity, which is its first
        /// SAN, or its subject without one. Default: "chain".
        by: String,
        /// For "rate_limit": connections in a time, as "500/s", "30/m" or "1000/h". Must be written
        /// there.
        rate: String,
        /// For "rate_limit": how many may come at once. Default: those of one second.
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
