//! `/stats`: what goes on, in numbers, as JSON: the source of the live page.
//!
//! Counts since the start, as in the metrics; who asks twice has a rate.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::listeners::refusals;
use super::{AdminState, clusters};
use crate::sys::status::Status;
use crate::sys::thread;
use crate::worker::{ChainSeries, Histogram, ListenerCounters, Peer, Snapshot};

/// The page, for `now` in Unix seconds.
pub(super) fn page(state: &AdminState, snapshot: &Snapshot, now: u64) -> String {
    let counters = &snapshot.counters;
    let mut chains: Vec<&ChainSeries> = counters.shown_chains().collect();
    let all = chains.len();
    if all > CHAINS_MAX {
        let weight = |it: &&ChainSeries| {
            (it.sum(|counters| counters.open.value()), it.sum(|counters| counters.sessions.value()))
        };
        chains.sort_by_cached_key(|it| std::cmp::Reverse(weight(it)));
        chains.truncate(CHAINS_MAX);
    }
    let page = json!({
        "now": now,
        "now_milliseconds": u64::try_from(crate::sys::clock::wall().as_millis()).unwrap_or(u64::MAX),
        "started": state.shown.started,
        "version": env!("CARGO_PKG_VERSION"),
        "generation": snapshot.generation,
        "readiness": state.readiness().name(),
        "process": process(&state.shown.peers, snapshot),
        "workers": state.shown.peers.iter().enumerate().map(worker).collect::<Vec<_>>(),
        "refusals": by_reason(snapshot),
        "handshake_seconds": handshakes(snapshot),
        "chain_count": all,
        "chains": chains.iter().map(|series| chain(series)).collect::<Vec<_>>(),
        "clusters": clusters::all(snapshot, now),
    });
    format!("{page}\n")
}

/// One tenant.
pub(super) fn chain(series: &ChainSeries) -> Value {
    json!({
        "listener": &*series.name.listener,
        "name": &*series.name.chain,
        "sessions_open": series.sum(|it| it.open.value()),
        "sessions": series.sum(|it| it.sessions.value()),
        "handshakes_full": series.sum(|it| it.handshakes.full.value()),
        "handshakes_resumed": series.sum(|it| it.handshakes.resumed.value()),
        "bytes_received": series.sum(|it| it.bytes_received.value()),
        "bytes_sent": series.sum(|it| it.bytes_sent.value()),
    })
}

fn process(peers: &[Peer], snapshot: &Snapshot) -> Value {
    let counters = &snapshot.counters;
    // Over all chains, those that are not shown among them.
    let sum = |value: fn(&crate::worker::ChainCounters) -> u64| {
        counters.shown_chains().fold(0_u64, |sum, series| sum.wrapping_add(series.sum(value)))
    };
    let of_workers = |value: fn(&crate::worker::WorkerCounters) -> u64| {
        peers.iter().fold(0_u64, |sum, peer| sum.wrapping_add(value(&peer.counters)))
    };
    let pressure = peers.iter().map(|peer| peer.counters.memory_pressure.value()).max();
    json!({
        "connections_accepted": of_workers(|it| it.accepted.value()),
        "connections_open": of_workers(|it| it.open.value()),
        "handshakes_in_flight": of_workers(|it| it.handshaking.value()),
        "panics": of_workers(|it| it.panics.value()),
        "accept_errors": of_workers(|it| it.accept_errors.value()),
        "handshakes_full": sum(|it| it.handshakes.full.value()),
        "handshakes_resumed": sum(|it| it.handshakes.resumed.value()),
        "sessions_open": sum(|it| it.open.value()),
        "sessions": sum(|it| it.sessions.value()),
        "bytes_received": sum(|it| it.bytes_received.value()),
        "bytes_sent": sum(|it| it.bytes_sent.value()),
        "memory_bytes": Status::read().resident(),
        "memory_limit_bytes": snapshot.plan.limits.memory,
        "memory_pressure": pressure.unwrap_or(0),
    })
}

fn worker((at, peer): (usize, &Peer)) -> Value {
    let usage = thread::usage(peer.counters.thread.value());
    json!({
        "worker": at,
        "connections_open": peer.counters.open.value(),
        "handshakes_in_flight": peer.counters.handshaking.value(),
        "accepted": peer.counters.accepted.value(),
        "handed_off": peer.counters.handed_off.value(),
        "cpu_seconds": usage.map(|usage| usage.running.as_secs_f64()),
        "wait_seconds": usage.map(|usage| usage.waiting.as_secs_f64()),
    })
}

/// Over all listeners.
fn by_reason(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for series in snapshot.counters.shown_listeners() {
        for (code, count) in refusals(series, ListenerCounters::refusals) {
            *all.entry(code).or_insert(0) += count.as_u64().unwrap_or(0);
        }
    }
    all
}

/// Over all listeners: the bounds in seconds, and for each the count of those that took no longer and
/// longer than the bound before; one more for the rest.
fn handshakes(snapshot: &Snapshot) -> Value {
    type Of = fn(&ListenerCounters) -> &Histogram;
    let mut bounds = Vec::new();
    let mut summed = |of: Of| {
        let mut counts = Vec::<u64>::new();
        for series in snapshot.counters.shown_listeners() {
            for histogram in series.each().map(of) {
                counts.resize(histogram.bounds().len() + 1, 0);
                counts.iter_mut().zip(histogram.counts()).for_each(|(sum, count)| *sum += count);
                bounds = histogram.bounds().iter().map(|bound| bound.as_secs_f64()).collect();
            }
        }
        counts
    };
    let full = summed(|it| &it.full_handshake);
    let resumed = summed(|it| &it.resumed_handshake);
    json!({ "bounds": bounds, "full": full, "resumed": resumed })
}

/// Those with most sessions, where there are more.
const CHAINS_MAX: usize = 500;
