//! Clusters: where the bytes go.
//!
//! Next: `tls`, whose `upstream` says how it is spoken there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::{Location, Problems};
use super::super::node::{At, Entry};
use super::super::plan::{
    Balance, Cluster, ClusterLimits, Connect, Endpoint, EndpointAddress, HashBy, HostPort, Pool,
    UpstreamTlsId,
};
use super::super::raw::{RawCluster, RawEndpoint};
use super::{
    Names, WEIGHT_MAX, all, choice, filled, health, number, port_beyond, positive, prelude,
    process, proxy_protocol, required, tls, unacknowledged,
};
use crate::core::ejection::EjectionRules;
use crate::core::maglev::ENDPOINTS_MAX;

/// Whether endpoints may be names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Discovery {
    Static,
    Dns,
}

pub(super) fn cluster(
    entry: &Entry<RawCluster>,
    names: &Names,
    problems: &mut Problems,
) -> Option<Cluster> {
    let raw = &entry.value;
    let discoveries = [("static", Discovery::Static), ("dns", Discovery::Dns)];
    let discovery = choice(raw.discovery.as_ref(), Discovery::Static, &discoveries, problems);
    let endpoints = endpoints(entry, discovery, problems);
    let balance = balance(raw, problems);
    let tls = match &raw.tls {
        None => Some(None),
        Some(written) => names.upstream.find(written, problems).map(|id| Some(UpstreamTlsId(id))),
    };
    let prelude = prelude(raw.prelude.as_ref(), problems);
    if let (Some(written), None) = (&raw.prelude, &raw.tls) {
        let message = "a prelude asks for TLS, and this cluster has no `tls`";
        let help = "write tls = \"NAME\" of a [tls.upstream.NAME], or leave prelude out";
        problems.add(written.at.clone(), message, help);
    }
    let connect = connect(raw, problems);
    let pool = pool(raw, balance, problems);
    let limits = limits(raw);
    let ejection = ejection(raw, problems);
    let health = health::health(raw, problems);
    let proxy_header = proxy_protocol::sent(raw, problems);
    let sources = sources(raw, endpoints.as_deref(), problems);
    Some(Cluster {
        name: Arc::clone(&entry.name),
        at: entry.at.clone(),
        endpoints: endpoints?,
        balance: balance?,
        tls: tls?,
        prelude: prelude?,
        connect: connect?,
        pool: pool?,
        proxy_header: proxy_header?,
        limits,
        ejection: ejection?,
        health: health?,
        sources: sources?,
    })
}

fn balance(raw: &RawCluster, problems: &mut Problems) -> Option<Balance> {
    let hashes = [
        ("source", HashBy::Source),
        ("client", HashBy::Client),
        ("server_name", HashBy::ServerName),
    ];
    let hash_by = choice(raw.hash_by.as_ref(), HashBy::Source, &hashes, problems);
    let balances = [
        ("round_robin", Balance::RoundRobin),
        ("least_connections", Balance::LeastConnections),
        ("random", Balance::Random),
        ("maglev", Balance::Maglev(hash_by.unwrap_or(HashBy::Source))),
    ];
    let balance = choice(raw.balance.as_ref(), Balance::RoundRobin, &balances, problems)?;
    hash_by.and(Some(balance))
}

/// `None`: what was written of it is a mistake, and host names are none.
fn endpoints(
    entry: &Entry<RawCluster>,
    discovery: Option<Discovery>,
    problems: &mut Problems,
) -> Option<Vec<Endpoint>> {
    let written = entry.value.endpoints.as_ref();
    let example = ("endpoints", "[\"127.0.0.1:6432\"]");
    let written = required(written, &entry.at, example, problems)?;
    let written = filled(written, example, problems)?;
    let discovery = discovery?;
    let endpoints = all(written, |element| endpoint(element, discovery, problems))?;
    if let Some(beyond) = written.get(ENDPOINTS_MAX) {
        let message = format!("a cluster has at most {ENDPOINTS_MAX} endpoints");
        problems.add(beyond.at.clone(), message, "spread them over several clusters");
        return None;
    }
    let mut seen = BTreeSet::new();
    for (endpoint, element) in endpoints.iter().zip(written) {
        if !seen.insert(&endpoint.address) {
            let message = format!("{} is in this list already", endpoint.address);
            problems.add(element.at.clone(), message, "");
        }
    }
    Some(endpoints)
}

fn endpoint(
    element: &At<RawEndpoint>,
    discovery: Discovery,
    problems: &mut Problems,
) -> Option<Endpoint> {
    match &element.value {
        RawEndpoint::Address(text) => {
            let address = address(text, &element.at, discovery, problems)?;
            Some(Endpoint { address, weight: 1, server_name: None })
        }
        RawEndpoint::Table(table) => {
            let example = ("address", "\"127.0.0.1:6432\"");
            let written = required(table.address.as_ref(), &element.at, example, problems);
            let address = written.and_then(|at| address(&at.value, &at.at, discovery, problems));
            let server_name = match &table.server_name {
                None => Some(None),
                Some(written) => tls::fixed_name(written, problems).map(Some),
            };
            let weight = number(table.weight.as_ref(), 1, 1..=WEIGHT_MAX, problems);
            Some(Endpoint { address: address?, weight: weight?, server_name: server_name? })
        }
    }
}

fn address(
    text: &str,
    at: &Location,
    discovery: Discovery,
    problems: &mut Problems,
) -> Option<EndpointAddress> {
    let found = match (text.parse(), discovery) {
        (Ok(address), _) => Some(EndpointAddress::Ip(address)),
        (Err(_), Discovery::Dns) => host_port(text).map(EndpointAddress::Host),
        (Err(_), Discovery::Static) => None,
    };
    let Some(found) = found else {
        let (message, help) = explain_address(text, discovery);
        problems.add(at.clone(), message, help);
        return None;
    };
    let port = match &found {
        EndpointAddress::Ip(address) => address.port(),
        EndpointAddress::Host(host) => host.port,
    };
    if port == 0 {
        problems.add(at.clone(), format!("{text:?} has port 0"), "write a port from 1 to 65535");
        return None;
    }
    Some(found)
}

/// A name that can be asked for. Underscores are allowed: services of containers are called so.
fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let is_digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_digits)?;
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    let is_name = host.len() <= 253
        && labels.split('.').all(is_label)
        // What looks like an address is one that is mistyped.
        && labels.rsplit('.').next()?.bytes().any(|byte| !byte.is_ascii_digit());
    is_name.then(|| HostPort { host: host.to_ascii_lowercase().into(), port })
}

fn explain_address(text: &str, discovery: Discovery) -> (String, String) {
    if let Some((message, help)) = port_beyond(text) {
        return (message, help.to_owned());
    }
    if discovery == Discovery::Dns {
        let message = format!("{text:?} is neither \"HOST:port\" nor \"IP:port\"");
        return (message, "write an address such as \"db.internal:6432\"".to_owned());
    }
    let message = format!("{text:?} is not \"IP:port\"");
    let example = "write an address such as \"127.0.0.1:6432\" or \"[::1]:6432\"";
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let is_host_name = host.bytes().any(|byte| byte.is_ascii_alphabetic()) && !host.contains(':');
    if is_host_name {
        return (message, format!("write discovery = \"dns\" for host names, or {example}"));
    }
    (message, example.to_owned())
}

fn connect(raw: &RawCluster, problems: &mut Problems) -> Option<Connect> {
    let table = raw.connect.as_ref().map(|table| &table.value);
    let timeout = table.and_then(|table| table.timeout.as_ref());
    let attempts = table.and_then(|table| table.attempts.as_ref());
    let timeout = positive(timeout, Duration::from_secs(2), problems);
    let attempts = number(attempts, 3, 1..=16, problems);
    let unacknowledged_at = table.and_then(|table| table.unacknowledged.as_ref());
    let unacknowledged = unacknowledged(unacknowledged_at, problems);
    Some(Connect { timeout: timeout?, attempts: attempts?, unacknowledged: unacknowledged? })
}

/// Clusters with `tls` keep ready connections unless told otherwise (or their clients choose their
/// endpoint): a handshake costs a round trip
/// and 0.3 ms of a core, a plain connection next to nothing.
fn pool(raw: &RawCluster, balance: Option<Balance>, problems: &mut Problems) -> Option<Pool> {
    let table = raw.pool.as_ref();
    let by_hash = matches!(balance, Some(Balance::Maglev(_)));
    let keep = (table.is_some() || raw.tls.is_some()) && !by_hash;
    let table = table.map(|table| &table.value);
    let max_at = table.and_then(|table| table.ready_max.as_ref());
    let min_at = table.and_then(|table| table.ready_min.as_ref());
    let ready_max = number(max_at, if keep { 64 } else { 0 }, 0..=u16::MAX, problems);
    let ready_min = number(min_at, ready_max.unwrap_or(1).min(1), 0..=u16::MAX, problems);
    let idle = table.and_then(|table| table.idle.as_ref());
    let age = table.and_then(|table| table.age.as_ref());
    let idle = positive(idle, Duration::from_secs(60), problems);
    let age = positive(age, Duration::from_secs(10 * 60), problems);
    let pool = Pool { ready_min: ready_min?, ready_max: ready_max?, idle: idle?, age: age? };
    if let (true, 1.., Some(table)) = (by_hash, pool.ready_max, &raw.pool) {
        let message = "with balance = \"maglev\" the client says which endpoint it goes to, and none \
                       can be dialled ahead of it";
        problems.add(table.at.clone(), message, "leave pool out, or write ready_max = 0");
        return None;
    }
    if let Some(min_at) = min_at
        && pool.ready_min > pool.ready_max
    {
        let message =
            format!("ready_min, {}, is more than ready_max, {}", pool.ready_min, pool.ready_max);
        let help = format!("write ready_max = {} or more", pool.ready_min);
        problems.add(min_at.at.clone(), message, help);
        return None;
    }
    Some(pool)
}

fn limits(raw: &RawCluster) -> ClusterLimits {
    let table = raw.limits.as_ref().map(|table| &table.value);
    let connections = table.and_then(|table| table.connections.as_ref());
    let pending = table.and_then(|table| table.pending.as_ref());
    ClusterLimits {
        connections: process::limit(connections, 0),
        pending: process::limit(pending, 0),
    }
}

fn ejection(raw: &RawCluster, problems: &mut Problems) -> Option<Option<EjectionRules>> {
    let Some(table) = raw.ejection.as_ref().map(|table| &table.value) else { return Some(None) };
    let failures = number(table.failures.as_ref(), 5, 1..=1_000, problems);
    let base = positive(table.base.as_ref(), Duration::from_secs(30), problems);
    let percent_max = number(table.percent_max.as_ref(), 50, 0..=100, problems);
    let rules = EjectionRules { failures: failures?, base: base?, percent_max: percent_max? };
    Some(Some(rules))
}

/// Each endpoint that is an address needs one of its own family.
fn sources(
    raw: &RawCluster,
    endpoints: Option<&[Endpoint]>,
    problems: &mut Problems,
) -> Option<Vec<IpAddr>> {
    let Some(written) = &raw.sources else { return Some(Vec::new()) };
    let sources = all(&written.value, |element| {
        let source: Option<IpAddr> = element.value.parse().ok();
        let is_local = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
        let source = source.filter(is_local);
        if source.is_none() {
            let message = format!("{:?} is no address to dial from", element.value);
            problems.add(
                element.at.clone(),
                message,
                "write an address of this machine, without a port",
            );
        }
        source
    })?;
    for (index, (source, element)) in sources.iter().zip(&written.value).enumerate() {
        if sources[..index].contains(source) {
            let message = format!("{source} is in this list already");
            problems.add(element.at.clone(), message, "");
        }
    }
    for endpoint in endpoints.unwrap_or_default() {
        if let EndpointAddress::Ip(address) = &endpoint.address
            && !sources.is_empty()
            && !sources.iter().any(|source| source.is_ipv4() == address.is_ipv4())
        {
            let message = format!("none of them can reach the endpoint {address}");
            let help = "add an address of the same kind, IPv4 or IPv6";
            problems.add(written.at.clone(), message, help);
            return None;
        }
    }
    Some(sources)
}
