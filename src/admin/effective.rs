//! `/config`: the configuration that runs, every default filled in, with the names and shape of the
//! file, as JSON.
//!
//! Files are named and never opened, and what a probe sends is not shown: it may hold a password. Every
//! struct is taken apart whole, so that a key that is added cannot be forgotten here.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::config::plan::{
    AccessLog, AccessLogSink, Admin, AdminAddress, Balance, CertificateFiles, Chain, ChainLimits,
    ClientAuth, Cluster, ClusterLimits, Connect, CryptoPolicy, DownstreamTls, Drain, Endpoint,
    FileRef, Filter, FilterKind, HashBy, HeaderPlace, Health, Limits, Listener, Log, LogFormat,
    LogLevel, OnChange, Plan, Pool, Probe, ProxyField, ProxyHeader, ProxyVersion, Resumption,
    Revocation, RevocationCheck, Runtime, Sandbox, SessionTickets, TicketSource, Timeouts,
    TlsVersion, Trust, Uncertain, UpstreamServerName, UpstreamTls, Workers,
};
use crate::config::{group_name, suite_name};
use crate::core::ejection::EjectionRules;
use crate::core::health::Thresholds;
use crate::core::prelude::Prelude;
use crate::core::route::{Match, Transport};
use crate::core::trust::{Authorize, LeafPolicy};
use crate::worker::Snapshot;

/// The page.
pub(super) fn page(snapshot: &Snapshot) -> String {
    let page = json!({
        "generation": snapshot.generation,
        "digest": hex(&snapshot.plan.digest),
        "config": effective_config(&snapshot.plan),
    });
    format!("{page:#}\n")
}

/// A plan in the shape of its files.
pub fn effective_config(plan: &Plan) -> Value {
    let Plan {
        digest: _,
        runtime,
        limits,
        admin,
        log,
        access_log,
        session_tickets,
        listeners,
        downstream_tls,
        upstream_tls,
        trusts,
        clusters,
    } = plan;
    let Log { level, format } = log;
    json!({
        "runtime": runtime_of(runtime),
        "limits": limits_of(limits),
        "admin": admin.as_ref().map(admin_of),
        "log": { "level": level_name(*level), "format": format_name(*format) },
        "access_log": access_log_of(access_log),
        "session_tickets": tickets_of(session_tickets),
        "listener": named(listeners, |it| (&it.name, listener_of(plan, it))),
        "tls": {
            "downstream": named(downstream_tls, |it| (&it.name, downstream_of(plan, it))),
            "upstream": named(upstream_tls, |it| (&it.name, upstream_of(plan, it))),
        },
        "trust": named(trusts, |it| (&it.name, trust_of(it))),
        "cluster": named(clusters, |it| (&it.name, cluster_of(plan, it))),
    })
}

/// As the configuration writes it.
pub fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

fn named<T>(all: &[T], one: impl Fn(&T) -> (&Arc<str>, Value)) -> Map<String, Value> {
    all.iter().map(one).map(|(name, value)| (name.to_string(), value)).collect()
}

fn runtime_of(runtime: &Runtime) -> Value {
    let Runtime {
        workers,
        io,
        io_at: _,
        watch,
        drain,
        upgrade_deadline,
        resolvers,
        account,
        sandbox,
    } = runtime;
    let Drain { grace, spread, deadline } = drain;
    json!({
        "workers": match workers {
            Workers::Auto => json!("auto"),
            Workers::Count(count) => json!(count),
        },
        "io": io.name(),
        "user": account.as_ref().map(|account| &account.user),
        "group": account.as_ref().and_then(|account| Some(&account.group.as_ref()?.0)),
        "sandbox": match sandbox {
            Sandbox::Auto => "auto",
            Sandbox::Required => "required",
            Sandbox::Off => "off",
        },
        "watch": watch,
        "upgrade_deadline": time(*upgrade_deadline),
        "resolvers": shown(resolvers),
        "drain": { "grace": time(*grace), "spread": time(*spread), "deadline": time(*deadline) },
    })
}

fn limits_of(limits: &Limits) -> Value {
    let Limits { connections, handshakes_in_flight, handshakes_per_second, memory } = limits;
    json!({
        "connections": size(*connections),
        "handshakes_in_flight": size(*handshakes_in_flight),
        "handshakes_per_second": rate(*handshakes_per_second),
        "memory": format!("{}B", memory.map_or(0, NonZeroU64::get)),
    })
}

fn admin_of(admin: &Admin) -> Value {
    let Admin { at: _, address } = admin;
    let listen = match address {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    };
    json!({ "listen": listen })
}

fn access_log_of(log: &AccessLog) -> Value {
    let AccessLog { at: _, sink, format, refusals_per_second } = log;
    let path = match sink {
        AccessLogSink::Off => "off".to_owned(),
        AccessLogSink::Stdout => "stdout".to_owned(),
        AccessLogSink::File(path) => path.display().to_string(),
    };
    json!({
        "path": path,
        "format": format_name(*format),
        "refusals_per_second": rate(*refusals_per_second),
    })
}

fn tickets_of(tickets: &SessionTickets) -> Value {
    let SessionTickets { source, rotate, lifetime } = tickets;
    let source = match source {
        TicketSource::Auto => json!("auto"),
        TicketSource::Root(file) => json!({ "root": path(file) }),
        TicketSource::Keys(files) => json!({ "keys": files.iter().map(path).collect::<Vec<_>>() }),
    };
    json!({ "source": source, "rotate": time(*rotate), "lifetime": time(*lifetime) })
}

fn listener_of(plan: &Plan, listener: &Listener) -> Value {
    let Listener {
        name: _,
        at: _,
        address,
        timeouts,
        connections_max,
        connections_per_source,
        handshakes_per_second_per_source,
        prelude,
        defer_accept,
        proxied_from,
        chains,
    } = listener;
    let Timeouts { hello, handshake, idle, half_closed, unacknowledged } = timeouts;
    json!({
        "address": address.to_string(),
        "timeouts": {
            "hello": time(*hello),
            "handshake": time(*handshake),
            "idle": time(*idle),
            "half_closed": time(*half_closed),
            "unacknowledged": time(unacknowledged.unwrap_or_default()),
        },
        "limits": {
            "connections": size(*connections_max),
            "connections_per_source": rate(*connections_per_source),
            "handshakes_per_second_per_source": rate(*handshakes_per_second_per_source),
        },
        "prelude": prelude.map(prelude_name),
        "defer_accept": defer_accept,
        "proxy_protocol": { "from": shown(proxied_from) },
        "chain": named(chains, |it| (&it.name, chain_of(plan, it))),
    })
}

fn chain_of(plan: &Plan, chain: &Chain) -> Value {
    let Chain { name: _, at: _, matches, tls, clusters, limits, filters } = chain;
    let Match { server_names, alpn, sources, transport } = matches;
    let ChainLimits { handshakes_per_second } = limits;
    let clusters: Vec<Value> = clusters
        .iter()
        .map(|it| json!({ "cluster": &*plan.cluster(it.cluster).name, "weight": it.weight }))
        .collect();
    json!({
        "match": {
            "server_names": shown(server_names),
            "alpn": shown(alpn),
            "sources": shown(sources),
            "transport": match transport { Transport::Tls => "tls", Transport::Raw => "raw" },
        },
        "tls": tls.map(|id| plan.downstream_tls(id).name.to_string()),
        "clusters": clusters,
        "limits": { "handshakes_per_second": rate(*handshakes_per_second) },
        "filters": filters.iter().map(filter_of).collect::<Vec<_>>(),
    })
}

fn filter_of(filter: &Filter) -> Value {
    let Filter { at: _, kind } = filter;
    match kind {
        FilterKind::ConnectionLimit(connections) => {
            json!({ "type": kind.name(), "connections": connections })
        }
        FilterKind::RateLimit { by, rate } => {
            json!({ "type": kind.name(), "by": by.as_str(), "rate": rate.to_string() })
        }
        FilterKind::Authorize(Authorize { allow, deny, mode }) => json!({
            "type": kind.name(),
            "allow": shown(allow),
            "deny": shown(deny),
            "mode": mode.to_string(),
        }),
    }
}

fn downstream_of(plan: &Plan, tls: &DownstreamTls) -> Value {
    let DownstreamTls {
        name: _,
        at: _,
        certificates,
        certificate_dir,
        client_auth,
        alpn,
        crypto,
        resumption,
        tickets_sent,
    } = tls;
    let (auth, trust) = match client_auth {
        ClientAuth::None => ("none", None),
        ClientAuth::Optional(id) => ("optional", Some(id)),
        ClientAuth::Require(id) => ("require", Some(id)),
    };
    let mut shown = crypto_of(crypto, *resumption);
    shown.extend([
        ("certificates".to_owned(), certificates.iter().map(certificate_of).collect()),
        ("certificate_dir".to_owned(), certificate_dir.as_ref().map(path).into()),
        ("client_auth".to_owned(), auth.into()),
        ("trust".to_owned(), trust.map(|id| plan.trust(*id).name.to_string()).into()),
        ("alpn".to_owned(), alpn.iter().map(ToString::to_string).collect()),
        ("tickets_sent".to_owned(), (*tickets_sent).into()),
    ]);
    shown.into()
}

fn upstream_of(plan: &Plan, tls: &UpstreamTls) -> Value {
    let UpstreamTls { name: _, at: _, server_name, trust, certificate, alpn, crypto, resumption } =
        tls;
    let server_name = match server_name {
        UpstreamServerName::Fixed(name) => name.to_string(),
        UpstreamServerName::ClientSni => "$sni".to_owned(),
    };
    let mut shown = crypto_of(crypto, *resumption);
    shown.extend([
        ("server_name".to_owned(), server_name.into()),
        ("trust".to_owned(), plan.trust(*trust).name.to_string().into()),
        ("certificate".to_owned(), certificate.as_ref().map(certificate_of).into()),
        ("alpn".to_owned(), alpn.iter().map(ToString::to_string).collect()),
    ]);
    shown.into()
}

fn crypto_of(crypto: &CryptoPolicy, resumption: Resumption) -> Map<String, Value> {
    let CryptoPolicy { versions, cipher_suites, groups } = crypto;
    let versions = versions.iter().map(|version| match version {
        TlsVersion::Tls12 => "1.2",
        TlsVersion::Tls13 => "1.3",
    });
    let resumption = match resumption {
        Resumption::Off => "off",
        Resumption::Tickets => "tickets",
    };
    Map::from_iter([
        ("versions".to_owned(), versions.collect()),
        ("cipher_suites".to_owned(), cipher_suites.iter().map(|it| suite_name(*it)).collect()),
        ("groups".to_owned(), groups.iter().map(|it| group_name(*it)).collect()),
        ("resumption".to_owned(), resumption.into()),
    ])
}

fn certificate_of(files: &CertificateFiles) -> Value {
    let CertificateFiles { chain, key, ocsp } = files;
    json!({ "chain": path(chain), "key": path(key), "ocsp": ocsp.as_ref().map(path) })
}

fn trust_of(trust: &Trust) -> Value {
    let Trust { name: _, at: _, anchors, crls, revocation, depth_max, leaf, mode, on_change } =
        trust;
    let Revocation { check, unknown, stale } = revocation;
    let LeafPolicy { keys, pins, san } = leaf;
    let uncertain = |what: &Uncertain| match what {
        Uncertain::Refuse => "refuse",
        Uncertain::Accept => "accept",
    };
    json!({
        "anchors": anchors.iter().map(path).collect::<Vec<_>>(),
        "crls": crls.iter().map(path).collect::<Vec<_>>(),
        "revocation": {
            "check": match check {
                RevocationCheck::Off => "off",
                RevocationCheck::Leaf => "leaf",
                RevocationCheck::Chain => "chain",
            },
            "unknown": uncertain(unknown),
            "stale": uncertain(stale),
        },
        "depth_max": depth_max,
        "client_keys": shown(keys),
        "san": shown(san),
        "pins": shown(pins),
        "mode": mode.to_string(),
        "on_change": on_change_name(*on_change),
    })
}

/// As the configuration writes it.
pub(super) fn on_change_name(what: OnChange) -> &'static str {
    match what {
        OnChange::Keep => "keep",
        OnChange::Drain => "drain",
        OnChange::Close => "close",
    }
}

fn cluster_of(plan: &Plan, cluster: &Cluster) -> Value {
    let Cluster {
        name: _,
        at: _,
        endpoints,
        balance,
        tls,
        prelude,
        connect,
        pool,
        proxy_header,
        limits,
        ejection,
        health,
        sources,
    } = cluster;
    let Connect { timeout, attempts, unacknowledged } = connect;
    let Pool { ready_min, ready_max, idle, age } = pool;
    let ClusterLimits { connections, pending } = limits;
    let (balance, hash_by) = balance_of(*balance);
    json!({
        "endpoints": endpoints.iter().map(endpoint_of).collect::<Vec<_>>(),
        "balance": balance,
        "hash_by": hash_by,
        "tls": tls.map(|id| plan.upstream_tls(id).name.to_string()),
        "prelude": prelude.map(prelude_name),
        "connect": {
            "timeout": time(*timeout),
            "attempts": attempts,
            "unacknowledged": time(unacknowledged.unwrap_or_default()),
        },
        "pool": {
            "ready_min": ready_min,
            "ready_max": ready_max,
            "idle": time(*idle),
            "age": time(*age),
        },
        "proxy_protocol": proxy_header.as_ref().map(header_of),
        "limits": { "connections": size(*connections), "pending": size(*pending) },
        "ejection": ejection.as_ref().map(ejection_of),
        "health": health.as_ref().map(health_of),
        "sources": shown(sources),
    })
}

fn endpoint_of(endpoint: &Endpoint) -> Value {
    let Endpoint { address, weight, server_name } = endpoint;
    json!({
        "address": address.to_string(),
        "weight": weight,
        "server_name": server_name.as_deref(),
    })
}

fn balance_of(balance: Balance) -> (&'static str, Option<&'static str>) {
    match balance {
        Balance::RoundRobin => ("round_robin", None),
        Balance::LeastConnections => ("least_connections", None),
        Balance::Random => ("random", None),
        Balance::Maglev(HashBy::Source) => ("maglev", Some("source")),
        Balance::Maglev(HashBy::Client) => ("maglev", Some("client")),
        Balance::Maglev(HashBy::ServerName) => ("maglev", Some("server_name")),
    }
}

fn header_of(header: &ProxyHeader) -> Value {
    let ProxyHeader { version, place } = header;
    let field = |field: &ProxyField| match field {
        ProxyField::Alpn => "alpn",
        ProxyField::Authority => "authority",
        ProxyField::UniqueId => "unique_id",
        ProxyField::Ssl => "ssl",
        ProxyField::ClientCert => "client_cert",
        ProxyField::Identity => "identity",
        ProxyField::Crc32c => "crc32c",
    };
    let (number, tlvs) = match version {
        ProxyVersion::One => (1, Vec::new()),
        ProxyVersion::Two(fields) => (2, fields.iter().map(field).collect()),
    };
    json!({ "version": number, "tlvs": tlvs, "inside_tls": *place == HeaderPlace::FirstBytes })
}

fn ejection_of(rules: &EjectionRules) -> Value {
    let EjectionRules { failures, base, percent_max } = rules;
    json!({ "failures": failures, "base": time(*base), "percent_max": percent_max })
}

fn health_of(health: &Health) -> Value {
    let Health { at: _, probe, interval, timeout, thresholds, slow_start } = health;
    let Thresholds { healthy, unhealthy } = thresholds;
    let kind = match probe {
        Probe::Tcp => "tcp",
        Probe::Tls => "tls",
        Probe::Script(_) => "script",
    };
    json!({
        "type": kind,
        "interval": time(*interval),
        "timeout": time(*timeout),
        "healthy": healthy,
        "unhealthy": unhealthy,
        "slow_start": time(*slow_start),
    })
}

fn prelude_name(prelude: Prelude) -> &'static str {
    match prelude {
        Prelude::Postgres => "postgres",
    }
}

fn format_name(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

fn shown<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn path(file: &FileRef) -> String {
    file.path.display().to_string()
}

/// The largest unit in which it is whole, as the configuration writes it.
fn time(time: Duration) -> String {
    let milliseconds = time.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let whole = units.into_iter().find(|(_, unit)| milliseconds.is_multiple_of(*unit));
    match whole {
        _ if milliseconds == 0 => "0s".to_owned(),
        Some((name, unit)) => format!("{}{name}", milliseconds / unit),
        None => format!("{milliseconds}ms"),
    }
}

/// 0 is off.
fn size(limit: Option<NonZeroUsize>) -> usize {
    limit.map_or(0, NonZeroUsize::get)
}

/// 0 is off.
fn rate(limit: Option<NonZeroU32>) -> u32 {
    limit.map_or(0, NonZeroU32::get)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
