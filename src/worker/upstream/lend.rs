//! Ready connections that go from a worker that has some to one that has none and a client.
//!
//! Who has none asks the worker that shows the most, by mail, and dials at the same time: a worker that
//! is busy, stuck or gone costs nothing, and whichever comes second is for the pool. Who is asked takes
//! the connection out of its runtime and gives it away. A client that finds a ready connection on its
//! own worker meets nothing of this. `ready` is how connections are made.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::ready::dial_beside;
use super::{Active, Cluster, Connected, Seeker};
use crate::core::pool::Ready;
use crate::core::refusal::{Reason, Refusal};
use crate::sys::clock;
use crate::tls::UpstreamFacts;
use crate::worker::Worker;
use crate::worker::flow::{Leg, LooseLeg};
use crate::worker::mailbox::Ask;

/// A ready connection between two workers: in no pool and in no count.
#[derive(Debug)]
pub(in crate::worker) struct Parcel {
    leg: LooseLeg,
    facts: Option<Box<UpstreamFacts>>,
    address: SocketAddr,
    /// What the endpoint is called instead of what the terms say.
    server_name: Option<Arc<str>>,
}

/// What was asked of another worker.
#[derive(Debug)]
pub(in crate::worker) struct Loan {
    cluster: Rc<Cluster>,
    answer: oneshot::Receiver<Ready<Parcel>>,
}

/// Answers a worker that asks for a ready connection.
pub(in crate::worker) fn answer(worker: &Worker, ask: Ask) {
    let Ask { cluster, answer } = ask;
    if answer.is_closed() {
        // Its dial was quicker.
        return;
    }
    let generation = worker.generation();
    // Not there: this worker is a reload ahead or behind, and what it has was made for other terms.
    let Some(cluster) = generation.cluster_of(cluster) else { return };
    if let Some(parcel) = cluster.part_with(worker)
        && let Err(parcel) = answer.send(parcel)
    {
        cluster.keep(worker, parcel);
    }
}

impl Cluster {
    /// Asks the worker with the most ready connections for one; to be called by a client for whom
    /// there is none here. `None`: it has to dial, and is counted as one that had to.
    pub(in crate::worker) fn ask(self: &Rc<Self>, worker: &Worker) -> Option<Loan> {
        if self.retired.get() || !self.can_be_ready() {
            return None;
        }
        let loan = self.ask_richest(worker);
        if loan.is_none() {
            self.counters().ready_misses.increment();
        }
        loan
    }

    fn ask_richest(self: &Rc<Self>, worker: &Worker) -> Option<Loan> {
        // In a drain the other worker may be gone, and its mailbox a place where nobody looks.
        if worker.drain.get().is_some() {
            return None;
        }
        let others = (0..worker.peers.len()).filter(|other| *other != self.worker);
        let rich = others.map(|other| (self.series.of(other).ready.value(), other));
        let (ready, richest) = rich.max()?;
        if ready <= self.asked.get() {
            return None;
        }
        let (give, answer) = oneshot::channel();
        let ask = Ask { cluster: self.key, answer: give };
        worker.peers[richest].mailbox.ask(ask).then(|| Loan::new(self, answer))
    }

    /// Connects a client by what was asked for or by a dial, whichever is there first.
    ///
    /// # Errors
    /// As `dial`.
    pub(in crate::worker) async fn dial_or_borrow(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        mut loan: Loan,
        seeker: Seeker<'_>,
        tried: &RefCell<Vec<SocketAddr>>,
    ) -> Result<Connected, Refusal> {
        let endpoint = self.choose(worker, seeker, &mut tried.borrow_mut())?;
        let address = endpoint.address;
        let (client, mut dialled) = oneshot::channel();
        self.ready.borrow_mut().dial_started();
        let counts = Rc::new(Cell::new(true));
        tokio::task::spawn_local(dial_beside(
            Rc::clone(worker),
            Rc::clone(self),
            endpoint,
            Rc::clone(&counts),
            client,
        ));
        let first = {
            let mut comes = pin!(loan.comes(worker, seeker.ahead));
            let first = tokio::select! {
                biased;
                lent = &mut comes => Ok(lent),
                dialled = &mut dialled => Err(dialled),
            };
            match first {
                // Others may have got through before, and an answer is quick to come.
                Err(Ok(Err(failure))) => match soon(worker, comes).await {
                    Some(lent) => return Ok(lent),
                    None => return self.missed(failure),
                },
                first => first,
            }
        };
        let dialled = match first {
            Ok(Some(lent)) => {
                // Nothing is known against the endpoint that is still being dialled.
                tried.borrow_mut().retain(|it| *it != address);
                return Ok(lent);
            }
            Ok(None) => {
                // The dial is this client's: the pool begins one of its own.
                if counts.replace(false) {
                    self.ready.borrow_mut().dial_left();
                    self.used.notify_one();
                }
                dialled.await
            }
            Err(dialled) => {
                loan.end(worker);
                dialled
            }
        };
        self.counters().ready_misses.increment();
        let gone = |error: oneshot::error::RecvError| {
            Err(Refusal::new(Reason::Internal, format!("the dial was given up: {error}")))
        };
        let mut connected = dialled.unwrap_or_else(gone)?;
        let announced = connected.leg.send_ahead(worker, seeker.ahead).await;
        announced.map_err(|error| super::dial::failure(&error, connected.address))?;
        Ok(connected)
    }

    fn missed<T>(&self, failure: Refusal) -> Result<T, Refusal> {
        self.counters().ready_misses.increment();
        Err(failure)
    }

    /// Gives away a connection that is good and alive.
    fn part_with(&self, worker: &Worker) -> Option<Ready<Parcel>> {
        if self.retired.get() {
            return None;
        }
        let counters = self.counters();
        self.used.notify_one();
        loop {
            let lent = self.ready.borrow_mut().lend(clock::now());
            counters.ready.set(self.ready.borrow().len());
            let parcel = lent?.try_map(|mut connected| {
                let is_good = self.chooser.borrow().is_good(&connected.active.endpoint);
                (is_good && connected.is_alive(worker)).then(|| connected.pack()).flatten()
            });
            if parcel.is_some() {
                return parcel;
            }
            counters.ready_discarded.increment();
        }
    }

    /// Makes a connection of another worker one of this one's, if it may be used here.
    fn unpack(self: &Rc<Self>, worker: &Worker, parcel: Parcel) -> Option<Connected> {
        let Parcel { leg, facts, address, server_name } = parcel;
        let mut chooser = self.chooser.borrow_mut();
        let endpoint = chooser
            .endpoint_of(address, server_name.as_deref(), clock::now())
            .filter(|_| !self.retired.get());
        let leg = endpoint.zip(Leg::fasten(worker.io, leg).ok());
        let Some((endpoint, leg)) = leg else {
            self.counters().ready_discarded.increment();
            return None;
        };
        let active = Active::new(self, endpoint);
        Some(Connected { leg, facts, address, ready: true, opened: 0, active })
    }

    /// Puts a connection of another worker into the pool of this one.
    fn keep(self: &Rc<Self>, worker: &Worker, parcel: Ready<Parcel>) {
        let Some(ready) = parcel.try_map(|parcel| self.unpack(worker, parcel)) else { return };
        if worker.has_memory_to_spare() {
            drop(self.ready.borrow_mut().put_back(ready));
            self.counters().ready.set(self.ready.borrow().len());
            self.used.notify_one();
        }
    }
}

impl Connected {
    fn pack(self) -> Option<Parcel> {
        let Self { leg, facts, address, active, .. } = self;
        let server_name = active.endpoint.server_name.clone();
        match leg.loosen() {
            Ok(leg) => Some(Parcel { leg, facts, address, server_name }),
            Err(error) => {
                tracing::debug!(%error, "a ready connection could not be given to another worker");
                None
            }
        }
    }
}

impl Loan {
    fn new(cluster: &Rc<Cluster>, answer: oneshot::Receiver<Ready<Parcel>>) -> Self {
        cluster.asked.set(cluster.asked.get() + 1);
        Self { cluster: Rc::clone(cluster), answer }
    }

    /// The connection, for a client that cannot be dialled for: whoever has nothing to lose waits for
    /// other workers, and not for long.
    pub(in crate::worker) async fn comes_soon(
        &mut self,
        worker: &Worker,
        ahead: &[u8],
    ) -> Option<Connected> {
        soon(worker, self.comes(worker, ahead)).await
    }

    /// The connection, with `ahead` sent on it; `None`: there is none.
    async fn comes(&mut self, worker: &Worker, ahead: &[u8]) -> Option<Connected> {
        let parcel = (&mut self.answer).await.ok()?;
        let mut connected = self.cluster.unpack(worker, parcel.connection)?;
        // One that does not even take these is as dead as one that has ended.
        connected.leg.send_ahead(worker, ahead).await.ok()?;
        self.cluster.counters().ready_stolen.increment();
        Some(connected)
    }

    /// It is not needed any more: if it has come all the same, it is for the pool.
    fn end(mut self, worker: &Worker) {
        self.answer.close();
        if let Ok(parcel) = self.answer.try_recv() {
            self.cluster.keep(worker, parcel);
        }
    }
}

/// What comes within the time of an answer.
async fn soon<T>(worker: &Worker, comes: impl Future<Output = Option<T>>) -> Option<T> {
    worker.timers.until(Some(clock::now() + ANSWER_TIME_MAX), pin!(comes)).await.ok().flatten()
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.cluster.asked.set(self.cluster.asked.get().saturating_sub(1));
    }
}

/// A worker that serves answers between two polls, which take microseconds, a handshake's a millisecond.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(50);
