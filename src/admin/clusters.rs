//! `/clusters`: each cluster with its endpoints, their health, and the connections that are ready, as
//! JSON.

use serde_json::{Value, json};

use crate::config::plan::Cluster;
use crate::core::health::Opinion;
use crate::worker::{ClusterSeries, Directory, EndpointCounters, Member, Snapshot};

/// The page, for `now` in Unix seconds.
pub(super) fn page(snapshot: &Snapshot, now: u64) -> String {
    let page =
        json!({ "now": now, "generation": snapshot.generation, "clusters": all(snapshot, now) });
    format!("{page:#}\n")
}

pub(super) fn all(snapshot: &Snapshot, now: u64) -> Vec<Value> {
    let clusters = snapshot.plan.clusters.iter().zip(&snapshot.counters.clusters);
    let clusters = clusters.zip(snapshot.directories());
    clusters.map(|((plan, series), directory)| cluster(plan, series, directory, now)).collect()
}

fn cluster(plan: &Cluster, series: &ClusterSeries, directory: &Directory, now: u64) -> Value {
    let endpoints = directory.endpoints();
    let probed = plan.health.is_some();
    let shown: Vec<Value> = endpoints
        .members
        .iter()
        .take(ENDPOINTS_MAX)
        .map(|member| endpoint(member, probed, now))
        .collect();
    json!({
        "name": &*series.name,
        "tls": plan.tls.is_some(),
        "ready": series.sum(|it| it.ready.value()),
        "ready_max_each_worker": plan.pool.ready_max,
        "ready_hits": series.sum(|it| it.ready_hits.value()),
        "ready_stolen": series.sum(|it| it.ready_stolen.value()),
        "ready_misses": series.sum(|it| it.ready_misses.value()),
        "ready_discarded": series.sum(|it| it.ready_discarded.value()),
        "active": series.sum(|it| it.active.value()),
        "pending": series.sum(|it| it.pending.value()),
        "dials": series.sum(|it| it.dialled.value()),
        "dial_failures": series.sum(|it| it.dial_failures.value()),
        "handshakes_full": series.sum(|it| it.handshakes.full.value()),
        "handshakes_resumed": series.sum(|it| it.handshakes.resumed.value()),
        "endpoint_count": endpoints.members.len(),
        "endpoints": shown,
    })
}

fn endpoint(member: &Member, probed: bool, now: u64) -> Value {
    let ejected = |it: &EndpointCounters| u64::from(it.ejected_until.value() > now);
    let health = match (probed, member.health.opinion()) {
        (false, _) => "not probed",
        (true, Opinion::Unknown) => "unknown",
        (true, Opinion::Healthy) => "healthy",
        (true, Opinion::Unhealthy) => "unhealthy",
    };
    json!({
        "address": member.address.to_string(),
        "host": member.host.as_ref().map(|host| format!("{}:{}", host.host, host.port)),
        "weight": member.weight,
        "health": health,
        "ejected_by_workers": member.series.sum(ejected),
        "active": member.series.sum(|it| it.active.value()),
        "dials": member.series.sum(|it| it.dialled.value()),
        "dial_failures": member.series.sum(|it| it.dial_failures.value()),
        "probes": member.health.probes(),
        "probe_failures": member.health.failures(),
    })
}

/// As many as a configuration may name.
const ENDPOINTS_MAX: usize = 1_024;
