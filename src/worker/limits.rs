//! The limits on who may begin: whether one more connection, or one more handshake, is too many.
//!
//! Each worker counts its own; only here are all their gauges read, once a connection and handshake.
//! What is limited in a time, or of one source, is in `sources`.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};

use super::connection::Connection;
use super::generation::Entrance;
use super::sources::{self, Key, Present};
use super::{Worker, WorkerCounters};
use crate::config::plan::Chain;
use crate::core::rate::Rate;
use crate::core::refusal::{Reason, Refusal};
use crate::sys::clock;

/// Of a rate's burst, one part in so many is for clients that offer to resume: they are the ones that have
/// been let in before, and their handshakes cost little more than half as much as a stranger's.
const RESUMING: u32 = 5;

/// Why a connection that was just accepted cannot stay, if so.
pub(super) fn over_connections(worker: &Worker, entrance: &Entrance) -> Option<Refusal> {
    if let Some(refusal) = worker.over_memory() {
        return Some(refusal);
    }
    let of_process = entrance.generation.snapshot.plan.limits.connections;
    let refused = |key: String, limit: NonZeroUsize| {
        worker.ask_for_room(clock::now());
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

impl Connection {
    /// Counts the connection among those of its source.
    ///
    /// # Errors
    /// When there are too many already.
    pub(super) fn take_place(&mut self, entrance: &Entrance) -> Result<(), Refusal> {
        let listener = entrance.plan();
        let Some(limit) = listener.connections_per_source else { return Ok(()) };
        let sources = &self.worker.sources;
        let key = of_source(&self.worker, &listener.name, self.card.source.get().ip());
        match sources.enter(key, limit.get()) {
            Some(present) => self.places.push(present),
            None => {
                let (source, name) = (self.card.source.get().ip(), &listener.name);
                let detail = format!(
                    "{source} has listener.{name}.limits.connections_per_source = {limit} open"
                );
                return Err(Refusal::new(Reason::SourceConnections, detail));
            }
        }
        Ok(())
    }

    /// Why no handshake with this client may begin now, if so; asked before any cryptography.
    pub(super) fn over_handshakes(&self, entrance: &Entrance, chain: &Chain) -> Option<Refusal> {
        over_in_flight(&self.worker).or_else(|| self.over_rates(entrance, chain))
    }

    /// The narrowest limit first: what one source or chain has too much of is not taken from the rest.
    fn over_rates(&self, entrance: &Entrance, chain: &Chain) -> Option<Refusal> {
        let (worker, listener) = (&self.worker, entrance.plan());
        let sources = &worker.sources;
        let source = || of_source(worker, &listener.name, self.card.source.get().ip());
        self.over_rate(listener.handshakes_per_second_per_source, source, |limit| {
            let (name, source) = (&listener.name, self.card.source.get().ip());
            format!(
                "listener.{name}.limits.handshakes_per_second_per_source = {limit}, from {source}"
            )
        })
        .or_else(|| {
            let key = || sources.configured(("chain", &listener.name, &chain.name));
            self.over_rate(chain.limits.handshakes_per_second, key, |limit| {
                let (listener, chain) = (&listener.name, &chain.name);
                format!("listener.{listener}.chain.{chain}.limits.handshakes_per_second = {limit}")
            })
        })
        .or_else(|| {
            let limit = entrance.generation.snapshot.plan.limits.handshakes_per_second;
            let key = || sources.configured("process");
            self.over_rate(limit, key, |limit| format!("limits.handshakes_per_second = {limit}"))
        })
    }

    fn over_rate(
        &self,
        limit: Option<NonZeroU32>,
        key: impl FnOnce() -> Key,
        detail: impl FnOnce(NonZeroU32) -> String,
    ) -> Option<Refusal> {
        let limit = limit?;
        let kept = if self.notes.offers_resumption { 0 } else { limit.get().div_ceil(RESUMING) };
        let is_admitted =
            self.worker.sources.admits(key(), Rate::per_second(limit), kept, clock::now);
        (!is_admitted).then(|| Refusal::new(Reason::HandshakeRate, detail(limit)))
    }
}

/// Where a connection counts until it is over.
pub(super) type Places = Vec<Present>;

fn of_source(worker: &Worker, listener: &str, source: IpAddr) -> Key {
    worker.sources.client(("source", listener, sources::prefix(source)))
}

fn over_in_flight(worker: &Worker) -> Option<Refusal> {
    let limit = worker.generation().snapshot.plan.limits.handshakes_in_flight;
    let limit = limit.filter(reached(worker, |it| it.handshaking.value()))?;
    if worker.in_flight.make_room(clock::now()) {
        return None;
    }
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
