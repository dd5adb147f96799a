//! The limits of the process: whether one more connection, or one more handshake, is too many.
//!
//! Each worker counts its own; only here are all their gauges read, once a connection and handshake.

use std::num::NonZeroUsize;

use super::generation::Entrance;
use super::{Worker, WorkerCounters};
use crate::core::refusal::{Reason, Refusal};

/// Why a connection that was just accepted cannot stay, if so.
pub(super) fn over_connections(worker: &Worker, entrance: &Entrance) -> Option<Refusal> {
    let of_process = entrance.generation.snapshot.plan.limits.connections;
    let refused = |key: String, limit: NonZeroUsize| {
        Refusal::new(Reason::ConnectionLimit, format!("{key} = {limit} are open"))
    };
    if let Some(limit) = of_process.filter(reached(worker, |it| it.open.value())) {
        return Some(refused("limits.connections".to_owned(), limit));
    }
    let of_listener = entrance.plan();
    let limit = of_listener.connections_max.filter(|limit| {
        entrance.counters().sum(|counters| counters.open.value()) >= limit.get() as u64
    })?;
    Some(refused(format!("listener.{}.limits.connections", of_listener.name), limit))
}

/// Why no further handshake may begin now, if so.
pub(super) fn over_handshakes(worker: &Worker) -> Option<Refusal> {
    let limit = worker.generation().snapshot.plan.limits.handshakes_in_flight;
    let limit = limit.filter(reached(worker, |it| it.handshaking.value()))?;
    let detail = format!("limits.handshakes_in_flight = {limit} are running");
    Some(Refusal::new(Reason::HandshakeLimit, detail))
}

/// Whether all workers together stand at a limit.
fn reached(
    worker: &Worker,
    gauge: impl Fn(&WorkerCounters) -> u64,
) -> impl FnOnce(&NonZeroUsize) -> bool {
    let now: u64 = worker.peers.iter().map(|peer| gauge(&peer.counters)).sum();
    move |limit| now >= limit.get() as u64
}
