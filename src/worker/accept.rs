//! Accepting: one socket a listener and worker, and the hand-off to a clearly lighter worker
//! before a byte is read.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::accept_failures::Failures;
use super::generation::Entrance;
use super::listening::{Leave, Loss};
use super::mailbox::Handed;
use super::socket::{Listener, Socket};
use super::{Worker, connection, limits, reload};
use crate::core::refusal::Reason;
use crate::sys::{clock, socket};

/// More than a queue of `sys::socket` holds: a flood does not keep a removed listener open.
const QUEUE_MAX: usize = 8192;

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) stream: Socket,
    pub(super) source: SocketAddr,
    pub(super) at: Instant,
    pub(super) entrance: Entrance,
}

/// Accepts on one listening socket of this worker, until its listener is no more.
pub(super) async fn run(worker: Rc<Worker>, leave: Rc<Leave>, socket: TcpListener, loss: Loss) {
    let mut listener = match Listener::new(worker.io, socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the runtime takes no listening socket; this worker accepts nothing");
            return;
        }
    };
    let mut failures = Failures::new();
    let mut told = pin!(leave.told());
    loop {
        let accepted = tokio::select! {
            // First, so that a flood does not keep a listener that is no more.
            biased;
            () = &mut told => {
                empty(&worker, &leave, &listener);
                return loss.forgive();
            }
            accepted = poll_fn(|cx| listener.poll_accept(cx)) => accepted,
        };
        match accepted {
            Ok((stream, source)) => admit(&worker, &leave, stream, source),
            Err(error) => {
                if let Some(pause) = failures.one_more(&worker, &leave, &listener, &error) {
                    worker.timers.sleep_until(clock::now() + pause).await;
                }
            }
        }
    }
}

/// Accepts what waits in the queue of a socket that is about to be closed: closing resets it.
fn empty(worker: &Rc<Worker>, leave: &Leave, listener: &Listener) {
    for _ in 0..QUEUE_MAX {
        let Ok((socket, Some(source))) = socket::accept(listener) else { return };
        match Socket::new(worker.io, socket) {
            Ok(stream) => admit(worker, leave, stream, source),
            Err(error) => tracing::warn!(%error, "the runtime takes no more sockets"),
        }
    }
}

/// Serves the connection here, or gives it to a worker that is clearly lighter.
fn admit(worker: &Rc<Worker>, leave: &Leave, stream: Socket, source: SocketAddr) {
    worker.counters.accepted.increment();
    let Some(entrance) = leave.entrance(worker) else {
        return tracing::error!("a socket of no listener has accepted a connection");
    };
    let arrival = Arrival { stream, source, at: clock::now(), entrance };
    let lighter = lighter_worker(worker);
    let mut handoff = worker.handoff.get();
    handoff.accepted();
    worker.handoff.set(handoff);
    match lighter {
        Some(other) => hand_over(worker, other, arrival),
        None => begin(worker, arrival),
    }
}

fn hand_over(worker: &Rc<Worker>, other: usize, arrival: Arrival) {
    let Arrival { stream, source, at, entrance } = arrival;
    let stream = match stream.release() {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "a socket could not be handed over"),
    };
    let Entrance { generation, listener } = entrance;
    let snapshot = Arc::clone(&generation.snapshot);
    let handed = Box::new(Handed { stream, source, at, snapshot, listener });
    match worker.peers[other].mailbox.hand(handed) {
        Ok(()) => worker.counters.handed_off.increment(),
        // Its mailbox is full: it is not lighter after all. Or it is gone, in a drain that begins.
        Err(handed) => begin_handed(worker, *handed),
    }
}

/// Starts to serve a connection that another worker accepted.
pub(super) fn begin_handed(worker: &Rc<Worker>, handed: Handed) {
    let Handed { stream, source, at, snapshot, listener } = handed;
    let entrance = reload::entrance(worker, snapshot, listener);
    match Socket::new(worker.io, stream) {
        Ok(stream) => begin(worker, Arrival { stream, source, at, entrance }),
        Err(error) => {
            tracing::warn!(%error, "the runtime takes no more sockets");
            entrance.counters().of(worker.index).refused(Reason::LocalResources);
        }
    }
}

fn begin(worker: &Rc<Worker>, arrival: Arrival) {
    let refusal = limits::over_connections(worker, &arrival.entrance);
    connection::start(worker, arrival, refusal);
}

fn lighter_worker(worker: &Worker) -> Option<usize> {
    // In a drain the other worker may be gone, and its mailbox a place where nobody looks.
    if worker.peers.len() < 2 || worker.drain.get().is_some() {
        return None;
    }
    let load = |at: usize| {
        let peer = &worker.peers[at];
        // What is in the mail is not in the gauge yet.
        usize::try_from(peer.counters.open.value()).unwrap_or(0) + peer.mailbox.waiting()
    };
    let others = worker.peers.len() - 1;
    // Two samples are enough (the power of two choices); with one other worker, that one.
    let pick = |random: u64| {
        let step = 1 + usize::try_from(random % others as u64).unwrap_or(0);
        (worker.index + step) % worker.peers.len()
    };
    let sampled = [pick(worker.random()), pick(worker.random())].map(|at| (at, load(at)));
    worker.handoff.get().target(load(worker.index), &sampled)
}
