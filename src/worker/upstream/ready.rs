//! The task that keeps connections of one cluster ready, ahead of need.
//!
//! When, and how many, is `core::pool`'s to say.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::choice::Endpoint;
use super::{Cluster, Connected, Seeker};
use crate::core::refusal::{Reason, Refusal};
use crate::core::session::waited_for;
use crate::sys::{clock, socket};
use crate::worker::Worker;

/// Starts the task that keeps connections of a cluster ready, where it may have them.
pub(in crate::worker) fn keep_ready(worker: &Rc<Worker>, cluster: &Rc<Cluster>) {
    if cluster.can_be_ready() {
        tokio::task::spawn_local(fill(Rc::clone(worker), Rc::clone(cluster)));
    }
}

/// Keeps the pool of one cluster as full as it wants to be, until the cluster is retired.
async fn fill(worker: Rc<Worker>, cluster: Rc<Cluster>) {
    let counters = cluster.counters();
    while !cluster.retired.get() && worker.drain.get().is_none() {
        let now = clock::now();
        let mut expired = 0;
        cluster.ready.borrow_mut().expire(now).for_each(|connection| {
            drop(connection);
            expired += 1;
        });
        counters.ready_discarded.add(expired);
        counters.ready.set(cluster.ready.borrow().len());
        let want = cluster.ready.borrow().want(now);
        let room = if worker.has_memory_to_spare() { cluster.ready_room() } else { 0 };
        for _ in 0..want.min(room) {
            cluster.ready.borrow_mut().dial_started();
            cluster.starting.set(cluster.starting.get() + 1);
            tokio::task::spawn_local(dial_ahead(Rc::clone(&worker), Rc::clone(&cluster)));
        }
        let mut next = cluster.ready.borrow().next_deadline(now);
        if want > room {
            // Nobody says when there is.
            next = Some(next.map_or(now + ROOM_LOOK, |next| next.min(now + ROOM_LOOK)));
        }
        drop(worker.timers.until(next, pin!(cluster.used.notified())).await);
    }
}

/// One dial for the pool.
async fn dial_ahead(worker: Rc<Worker>, cluster: Rc<Cluster>) {
    // From here to the count of open connections nothing waits.
    cluster.starting.set(cluster.starting.get().saturating_sub(1));
    let awaited = Awaited::new(&worker, &cluster, Rc::new(Cell::new(true)));
    let began = clock::now();
    let tried = RefCell::new(Vec::new());
    let stood = Cell::new(false);
    let seeker = Seeker { stood: Some(&stood), ..Seeker::NOBODY };
    let dial = pin!(cluster.dial(&worker, seeker, &tried, pending()));
    let dialled = worker.timers.until(Some(began + cluster.timeout), dial).await;
    if cluster.retired.get() {
        return;
    }
    let now = clock::now();
    awaited.counts.set(false);
    let mut pool = cluster.ready.borrow_mut();
    let failed = match dialled {
        Ok(Ok(mut connected)) => {
            connected.ready = true;
            // One that cannot take the option is gone, which is seen before it is used.
            drop(socket::keep_alive(&connected.leg.stream));
            connected.leg.wire.fold();
            pool.dial_done(now.saturating_duration_since(began));
            drop(pool.put(connected, now, worker.random()));
            None
        }
        Ok(Err(refusal)) => Some(refusal),
        Err(_elapsed) => {
            let endpoint = tried.borrow().last().copied();
            Some(over_time(endpoint, stood.get(), cluster.timeout))
        }
    };
    if let Some(refusal) = failed {
        // Nobody else would say it before the first client is refused.
        if pool.dial_failed(now, worker.random()) {
            tracing::warn!(cluster = %cluster.name(), %refusal, "no ready connections, trying on");
        } else {
            tracing::debug!(cluster = %cluster.name(), %refusal, "no ready connection");
        }
    }
    cluster.counters().ready.set(pool.len());
    drop(pool);
    cluster.used.notify_one();
}

/// A dial for a client that may get a connection of another worker before it is through; then it is one
/// for the pool, in whose dials it counts as long as `counts`.
pub(super) async fn dial_beside(
    worker: Rc<Worker>,
    cluster: Rc<Cluster>,
    endpoint: Rc<Endpoint>,
    counts: Rc<Cell<bool>>,
    client: oneshot::Sender<Result<Connected, Refusal>>,
) {
    let awaited = Awaited::new(&worker, &cluster, counts);
    let began = clock::now();
    let (address, stood) = (endpoint.address, Cell::new(false));
    let seeker = Seeker { stood: Some(&stood), ..Seeker::NOBODY };
    let dial = pin!(cluster.dial_to(&worker, seeker, endpoint, pending()));
    let dialled = worker.timers.until(Some(began + cluster.timeout), dial).await;
    let over = |_elapsed| Err(over_time(Some(address), stood.get(), cluster.timeout));
    let dialled = dialled.unwrap_or_else(over);
    let now = clock::now();
    let unwanted = client.send(dialled);
    if awaited.counts.replace(false) {
        let mut pool = cluster.ready.borrow_mut();
        match &unwanted {
            Err(Ok(_)) => pool.dial_done(now.saturating_duration_since(began)),
            Ok(()) | Err(Err(_)) => pool.dial_left(),
        }
    }
    if let Err(Ok(mut connected)) = unwanted
        && !cluster.retired.get()
        && worker.has_memory_to_spare()
    {
        connected.ready = true;
        drop(cluster.ready.borrow_mut().put(connected, now, worker.random()));
        cluster.counters().ready.set(cluster.ready.borrow().len());
    }
    cluster.used.notify_one();
}

/// A dial that the pool waits for, as long as it `counts`. Dropped before its end, which only a panic and the
/// end of the worker bring about, it is one that failed: else the pool would wait for ever.
struct Awaited {
    worker: Rc<Worker>,
    cluster: Rc<Cluster>,
    counts: Rc<Cell<bool>>,
}

impl Awaited {
    fn new(worker: &Rc<Worker>, cluster: &Rc<Cluster>, counts: Rc<Cell<bool>>) -> Self {
        Self { worker: Rc::clone(worker), cluster: Rc::clone(cluster), counts }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.worker.counters.panics.increment();
        }
        if !self.counts.replace(false) || self.cluster.retired.get() {
            return;
        }
        // In use if it was the pool itself that panicked.
        if let Ok(mut pool) = self.cluster.ready.try_borrow_mut() {
            pool.dial_failed(clock::now(), self.worker.random());
        }
        self.cluster.used.notify_one();
    }
}

fn over_time(endpoint: Option<SocketAddr>, stood: bool, limit: Duration) -> Refusal {
    let what = endpoint.map_or_else(|| "no answer".to_owned(), |at| waited_for(at, stood));
    Refusal::new(Reason::UpstreamTimeout, format!("{what} within {limit:?}"))
}

/// How often a pool that its cluster's limit keeps small looks whether there is room again.
const ROOM_LOOK: Duration = Duration::from_secs(1);
