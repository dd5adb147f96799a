//! `/listeners`: each listener and its filter chains, where it really listens, and what it has counted,
//! as JSON.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::stats;
use crate::config::plan::{Chain, Plan};
use crate::core::refusal::Reason;
use crate::core::route::ChainId;
use crate::worker::{ChainSeries, ListenerCounters, ListenerKey, ListenerSeries, Snapshot};

/// The page; `bound` is where each listener really listens.
pub(super) fn page(snapshot: &Snapshot, bound: &[(ListenerKey, SocketAddr)]) -> String {
    let plan = &snapshot.plan;
    let keys = snapshot.listener_keys();
    let listeners = plan.listeners.iter().zip(keys).zip(&snapshot.counters.listeners).enumerate();
    let listeners: Vec<Value> = listeners
        .map(|(at, ((listener, key), series))| {
            let address = bound.iter().find(|(held, _)| held == key).map(|(_, address)| *address);
            let chains = (0..).map(ChainId).zip(&listener.chains).map(|(id, chain)| {
                chain_of(plan, chain, &snapshot.counters.chains[snapshot.chain_index(at, id)])
            });
            json!({
                "name": &*listener.name,
                "address": address.unwrap_or(listener.address).to_string(),
                "connections_open": series.sum(|it| it.open.value()),
                "connections_max": listener.connections_max,
                "refusals": refusals(series, ListenerCounters::refusals),
                "audits": refusals(series, ListenerCounters::audits),
                "chains": chains.collect::<Vec<_>>(),
            })
        })
        .collect();
    let page = json!({ "generation": snapshot.generation, "listeners": listeners });
    format!("{page:#}\n")
}

/// By reason, those that have occurred.
pub(super) fn refusals(
    series: &ListenerSeries,
    count: fn(&ListenerCounters, Reason) -> u64,
) -> Map<String, Value> {
    let counts = Reason::ALL
        .iter()
        .map(|reason| (reason.code().to_owned(), series.sum(|counters| count(counters, *reason))));
    counts.filter(|(_, count)| *count > 0).map(|(code, count)| (code, count.into())).collect()
}

fn chain_of(plan: &Plan, chain: &Chain, series: &ChainSeries) -> Value {
    let mut shown = stats::chain(series);
    let clusters: Vec<Value> = chain
        .clusters
        .iter()
        .map(|one| json!({ "cluster": &*plan.cluster(one.cluster).name, "weight": one.weight }))
        .collect();
    let names = chain.matches.server_names.iter();
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("listener");
        fields.insert("is_default".to_owned(), chain.matches.is_default().into());
        fields.insert("server_name_count".to_owned(), names.len().into());
        let some: Vec<String> = names.take(NAMES_MAX).map(ToString::to_string).collect();
        fields.insert("server_names".to_owned(), some.into());
        let tls = chain.tls.map(|id| plan.downstream_tls(id).name.to_string());
        fields.insert("tls".to_owned(), tls.into());
        fields.insert("clusters".to_owned(), clusters.into());
    }
    shown
}

/// A chain may have a hundred thousand; `/config` shows all.
const NAMES_MAX: usize = 20;
