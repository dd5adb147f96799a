//! Listeners and their filter chains.
//!
//! Whether two chains want the same client is for `core::route` to say; this finds the places.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::{Location, Problems};
use super::super::node::{At, Entry};
use super::super::plan::{
    Chain, ChainLimits, ClusterId, DownstreamTlsId, Listener, Plan, Timeouts, UpstreamServerName,
    WeightedCluster,
};
use super::super::raw::{RawChain, RawFile, RawListener, RawMatch, RawWeightedCluster, Table};
use super::{
    Names, WEIGHT_MAX, all, choice, entries, filled, filter, number, port_beyond, positive,
    prelude, process, proxy_protocol, required, shown, tls, unacknowledged,
};
use crate::core::addresses::Taken;
use crate::core::route::{ChainId, Conflict, Match, PrefixError, Router, Transport};
use crate::core::server_name::PatternError;

/// Chains of one listener: a `ChainId` has 16 bits.
const CHAINS_MAX: usize = 1 << 16;
/// After so many conflicts of one listener the rest waits: each costs a new table.
const CONFLICTS_MAX: usize = 32;

pub(super) fn listeners(
    raw: &RawFile,
    whole: &Location,
    names: &Names,
    problems: &mut Problems,
) -> Option<Vec<Listener>> {
    let written = entries(raw.listener.as_ref());
    if written.is_empty() {
        if !problems.is_excused("listener") {
            let help = "write [listener.NAME] with an address and a chain";
            problems.add(whole.clone(), "there is no listener", help);
        }
        return None;
    }
    same_addresses(raw, problems);
    all(written, |entry| listener(entry, names, problems))
}

/// What can only be seen once every part holds: routes that end in a demand that cannot be met.
pub(super) fn cross_check(plan: &Plan, problems: &mut Problems) {
    let chains = plan.listeners.iter().flat_map(|listener| &listener.chains);
    let raw = chains.filter(|chain| chain.is_raw());
    let routes = raw.flat_map(|chain| chain.clusters.iter().map(move |one| (chain, one.cluster)));
    for (chain, cluster) in routes {
        let cluster = plan.cluster(cluster);
        let asks_for_sni = cluster.tls.is_some_and(|tls| {
            plan.upstream_tls(tls).server_name == UpstreamServerName::ClientSni
                && cluster.endpoints.iter().any(|endpoint| endpoint.server_name.is_none())
        });
        if asks_for_sni {
            let message = format!(
                "cluster {:?} takes its server name from the client's SNI, and raw connections \
                 have none",
                cluster.name
            );
            let help = "write a server_name in its [tls.upstream.NAME] or at its endpoints";
            problems.add(chain.at.child("cluster"), message, help);
        }
    }
}

fn listener(
    entry: &Entry<RawListener>,
    names: &Names,
    problems: &mut Problems,
) -> Option<Listener> {
    let raw = &entry.value;
    let example = ("address", "\"0.0.0.0:8443\"");
    let address = required(raw.address.as_ref(), &entry.at, example, problems)
        .and_then(|written| address(written, problems));
    let timeouts = timeouts(raw, problems);
    let limits = raw.limits.as_ref().map(|limits| &limits.value);
    let connections = limits.and_then(|limits| limits.connections.as_ref());
    let prelude = prelude(raw.prelude.as_ref(), problems);
    let proxied_from = proxy_protocol::taken(raw, problems);
    let chains = chains(entry, names, problems);
    if let (Some(written), Some(chains)) = (&raw.prelude, &chains)
        && chains.iter().all(Chain::is_raw)
    {
        let message = "a prelude ends in TLS, and every chain of this listener is raw";
        let help = "leave prelude out, or add a chain that takes TLS";
        problems.add(written.at.clone(), message, help);
    }
    Some(Listener {
        name: Arc::clone(&entry.name),
        at: entry.at.clone(),
        address: address?,
        timeouts: timeouts?,
        connections_max: process::limit(connections, 0),
        connections_per_source: process::rate_limit(
            limits.and_then(|limits| limits.connections_per_source.as_ref()),
        ),
        handshakes_per_second_per_source: process::rate_limit(
            limits.and_then(|limits| limits.handshakes_per_second_per_source.as_ref()),
        ),
        prelude: prelude?,
        defer_accept: raw.defer_accept.as_ref().is_some_and(|written| written.value),
        proxied_from: proxied_from?,
        chains: chains?,
    })
}

fn address(written: &At<String>, problems: &mut Problems) -> Option<SocketAddr> {
    let address = written.value.parse();
    if address.is_err() {
        let (message, help) = port_beyond(&written.value).unwrap_or_else(|| {
            let message = format!("{:?} is not \"IP:port\"", written.value);
            (message, "write an address such as \"0.0.0.0:8443\" or \"[::]:8443\"")
        });
        problems.add(written.at.clone(), message, help);
    }
    address.ok()
}

/// Two listeners, or a listener and the admin pages, on one address, or one on all addresses and another on
/// one of these. Port 0 is a new one each time.
fn same_addresses(raw: &RawFile, problems: &mut Problems) {
    let listeners = entries(raw.listener.as_ref()).iter().filter_map(|entry| {
        Some((format!("listener {}", entry.name), entry.value.address.as_ref()?))
    });
    let admin = raw.admin.as_ref().and_then(|admin| admin.value.listen.as_ref());
    let admin = admin.map(|listen| ("the admin pages".to_owned(), listen));
    let mut taken = Taken::default();
    let mut owners = Vec::<(SocketAddr, String, &Location)>::new();
    for (owner, written) in listeners.chain(admin) {
        let Ok(address) = written.value.parse::<SocketAddr>() else { continue };
        if let Err(number) = taken.take(address) {
            let (other, first, at) = &owners[number];
            let message = match other.ip() == address.ip() {
                true => format!("{address} is already the address of {first}, at {at}"),
                false => format!("{address} overlaps with the address of {first}, at {at}"),
            };
            problems.add(written.at.clone(), message, "write another address or port");
            continue;
        }
        owners.push((address, owner, &written.at));
    }
}

fn timeouts(raw: &RawListener, problems: &mut Problems) -> Option<Timeouts> {
    let table = raw.timeouts.as_ref().map(|timeouts| &timeouts.value);
    let hello_at = table.and_then(|timeouts| timeouts.hello.as_ref());
    let handshake_at = table.and_then(|timeouts| timeouts.handshake.as_ref());
    let idle_at = table.and_then(|timeouts| timeouts.idle.as_ref());
    let half_closed_at = table.and_then(|timeouts| timeouts.half_closed.as_ref());
    let hello = positive(hello_at, Duration::from_secs(5), problems);
    let handshake = positive(handshake_at, Duration::from_secs(10), problems);
    let idle = positive(idle_at, Duration::from_secs(60 * 60), problems);
    let half_closed = positive(half_closed_at, Duration::from_secs(60), problems);
    let unacknowledged_at = table.and_then(|timeouts| timeouts.unacknowledged.as_ref());
    let unacknowledged = unacknowledged(unacknowledged_at, problems);
    let timeouts = Timeouts {
        hello: hello?,
        handshake: handshake?,
        idle: idle?,
        half_closed: half_closed?,
        unacknowledged: unacknowledged?,
    };
    // Both count from accept.
    if timeouts.handshake < timeouts.hello
        && let Some(written) = handshake_at.or(hello_at)
    {
        let message = format!(
            "the handshake would end, at {}, before its hello, at {}",
            shown(timeouts.handshake),
            shown(timeouts.hello)
        );
        let help = "both count from accept: make handshake at least as long as hello";
        problems.add(written.at.clone(), message, help);
        return None;
    }
    Some(timeouts)
}

fn chains(
    entry: &Entry<RawListener>,
    names: &Names,
    problems: &mut Problems,
) -> Option<Vec<Chain>> {
    let written = entries(entry.value.chain.as_ref());
    if written.is_empty() {
        let at = entry.at.child("chain");
        if !problems.is_excused(&at.key) {
            let help = format!("write [listener.{}.chain.NAME] with a cluster", entry.name);
            problems.add(at, "a listener needs at least one chain", help);
        }
        return None;
    }
    if let Some(beyond) = written.get(CHAINS_MAX) {
        let message = format!("a listener has at most {CHAINS_MAX} chains");
        problems.add(beyond.at.clone(), message, "let one chain match many server_names");
        return None;
    }
    let matches: Vec<Option<Match>> =
        written.iter().map(|chain| matches(chain.value.matches.as_ref(), problems)).collect();
    let ids = (0..=u16::MAX).map(ChainId);
    let table = ids.zip(&matches).filter_map(|(id, matches)| Some((id, matches.clone()?)));
    conflicts(table.collect(), written, problems);
    all(written.iter().zip(matches), |(raw, matches)| chain(raw, matches, names, problems))
}

fn chain(
    entry: &Entry<RawChain>,
    matches: Option<Match>,
    names: &Names,
    problems: &mut Problems,
) -> Option<Chain> {
    let raw = &entry.value;
    let tls = match &raw.tls {
        None => Some(None),
        Some(written) => {
            names.downstream.find(written, problems).map(|id| Some(DownstreamTlsId(id)))
        }
    };
    if let (Some(written), Some(Transport::Raw)) =
        (&raw.tls, matches.as_ref().map(|matches| matches.transport))
    {
        let help = "leave tls out, or leave transport out of the match";
        problems.add(written.at.clone(), "raw connections do not begin with TLS", help);
    }
    let clusters = clusters(entry, names, problems);
    let filters = filter::filters(raw.filters.as_ref(), problems);
    let limits = raw.limits.as_ref().map(|limits| &limits.value);
    Some(Chain {
        name: Arc::clone(&entry.name),
        at: entry.at.clone(),
        matches: matches?,
        tls: tls?,
        clusters: clusters?,
        limits: ChainLimits {
            handshakes_per_second: process::rate_limit(
                limits.and_then(|limits| limits.handshakes_per_second.as_ref()),
            ),
        },
        filters: filters?,
    })
}

/// Where a chain's connections go: exactly one of `cluster` and `clusters` says it.
fn clusters(
    entry: &Entry<RawChain>,
    names: &Names,
    problems: &mut Problems,
) -> Option<Vec<WeightedCluster>> {
    let raw = &entry.value;
    let Some(written) = &raw.clusters else {
        let example = ("cluster", "\"NAME\"");
        let written = required(raw.cluster.as_ref(), &entry.at, example, problems)?;
        let cluster = ClusterId(names.cluster.find(written, problems)?);
        return Some(vec![WeightedCluster { cluster, weight: 1 }]);
    };
    if raw.cluster.is_some() {
        let help =
            "leave one of them out: all connections go to one cluster, or are shared by weight";
        problems.add(written.at.clone(), "cluster and clusters are both written", help);
        return None;
    }
    let example = ("clusters", "[{ cluster = \"NAME\", weight = 1 }]");
    let elements = filled(written, example, problems)?;
    let clusters = all(elements, |element| weighted(element, names, problems))?;
    for (index, (one, element)) in clusters.iter().zip(elements).enumerate() {
        if clusters[..index].iter().any(|before| before.cluster == one.cluster) {
            let help = "write each cluster once, with the sum of its weights";
            problems.add(element.at.clone(), "this cluster is in the list already", help);
        }
    }
    if clusters.iter().all(|one| one.weight == 0) {
        let help = "give at least one cluster a weight of 1 or more";
        problems.add(written.at.clone(), "all weights are 0", help);
        return None;
    }
    Some(clusters)
}

fn weighted(
    element: &At<RawWeightedCluster>,
    names: &Names,
    problems: &mut Problems,
) -> Option<WeightedCluster> {
    let table = &element.value;
    let cluster = required(table.cluster.as_ref(), &element.at, ("cluster", "\"NAME\""), problems)
        .and_then(|written| names.cluster.find(written, problems));
    let weight = number(table.weight.as_ref(), 1, 0..=WEIGHT_MAX, problems);
    Some(WeightedCluster { cluster: ClusterId(cluster?), weight: weight? })
}

fn matches(written: Option<&At<RawMatch>>, problems: &mut Problems) -> Option<Match> {
    let Some(At { value: raw, .. }) = written else { return Some(Match::default_chain()) };
    let names = raw.server_names.as_ref();
    let server_names = parsed(names, ("server_names", "[\"example.com\"]"), explain_name, problems);
    if let Some(alpn) = &raw.alpn {
        filled(alpn, ("alpn", "[\"postgresql\"]"), problems);
    }
    let alpn = tls::alpn(raw.alpn.as_ref(), problems);
    let sources = raw.sources.as_ref();
    let sources = parsed(sources, ("sources", "[\"10.0.0.0/8\"]"), explain_prefix, problems);
    let transports = [("tls", Transport::Tls), ("raw", Transport::Raw)];
    let transport = choice(raw.transport.as_ref(), Transport::Tls, &transports, problems);
    Some(Match {
        server_names: server_names?,
        alpn: alpn?,
        sources: sources?,
        transport: transport?,
    })
}

/// A list of texts that `T` parses. Empty is refused: it would take everyone, and read as no one.
pub(super) fn parsed<T: FromStr>(
    written: Option<&At<Vec<At<String>>>>,
    example: (&str, &str),
    explain: fn(&str, &T::Err) -> (String, String),
    problems: &mut Problems,
) -> Option<Vec<T>> {
    let Some(written) = written else { return Some(Vec::new()) };
    all(filled(written, example, problems)?, |element| match element.value.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            let (message, help) = explain(&element.value, &error);
            problems.add(element.at.clone(), message, help);
            None
        }
    })
}

fn explain_name(text: &str, error: &PatternError) -> (String, String) {
    let help = match error {
        PatternError::Everything => "",
        PatternError::Wildcard { .. } | PatternError::Name(_) => {
            "write a name such as \"orders.example.com\" or \"*.example.com\""
        }
    };
    (format!("{text:?}: {error}"), help.to_owned())
}

pub(super) fn explain_prefix(text: &str, error: &PrefixError) -> (String, String) {
    let help = match error {
        PrefixError::HostBits { block } => format!("did you mean \"{block}\"?"),
        PrefixError::Address | PrefixError::Length { .. } => {
            "write a network such as \"10.0.0.0/8\" or \"2001:db8::/32\"".to_owned()
        }
    };
    (format!("{text:?}: {error}"), help)
}

/// Notes every pair of chains that want the same client, at the second of them.
fn conflicts(
    mut table: Vec<(ChainId, Match)>,
    written: &[Entry<RawChain>],
    problems: &mut Problems,
) {
    for _ in 0..CONFLICTS_MAX {
        let Err(conflict) = Router::build(&table) else { return };
        let culprit = match &conflict {
            Conflict::SameClient { first, second, on } => {
                let (first, second) = in_file_order(*first, *second, written);
                let Some((first, entry)) = at(written, first).zip(at(written, second)) else {
                    return;
                };
                let message = format!("matches {on}, as chain {} does at {}", first.name, first.at);
                let help = "every client must have one chain: tell them apart by server_names, \
                            alpn or sources";
                problems.add(entry.at.clone(), message, help);
                second
            }
            Conflict::RawWith { chain, criterion } => {
                let Some(entry) = at(written, *chain) else { return };
                let message = format!("raw connections have no {criterion}");
                let help = format!("leave {criterion} out, or transport");
                let matches = entry.value.matches.as_ref();
                let at = matches
                    .map_or(&entry.at, |matches| matches.value.place_of(criterion, &matches.at));
                problems.add(at.clone(), message, help);
                *chain
            }
            Conflict::NamesTooLong => {
                let Some(entry) = written.first() else { return };
                problems.add(
                    entry.at.clone(),
                    conflict.to_string(),
                    "spread the names over several listeners",
                );
                return;
            }
        };
        table.retain(|(id, _)| *id != culprit);
    }
}

fn at(written: &[Entry<RawChain>], id: ChainId) -> Option<&Entry<RawChain>> {
    written.get(usize::from(id.0))
}

/// Chains are numbered in name order, and read from top to bottom.
fn in_file_order(a: ChainId, b: ChainId, written: &[Entry<RawChain>]) -> (ChainId, ChainId) {
    let place = |id| at(written, id).map(|entry: &Entry<RawChain>| &entry.at);
    if place(a) <= place(b) { (a, b) } else { (b, a) }
}
