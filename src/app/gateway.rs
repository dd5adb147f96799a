//! A running gateway: loads what the plan names, binds every listener, starts the workers, and ends
//! them again. `run` wraps it in a process, `demo` in a demonstration.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;
use crossbeam::channel::Sender;

use super::bind::{Bound, bind};
use super::driver;
use crate::config::error::Problem;
use crate::config::plan::{Plan, SessionTickets, Workers};
use crate::core::route::Conflict;
use crate::sys::splice::{PIPE_DESCRIPTORS, PIPES_MAX};
use crate::sys::{clock, descriptors, thread};
use crate::tls::{Material, Reloaded, StagedKeys, StekKeys};
use crate::worker::sources::Sources;
use crate::worker::{self, Ended, ListenerKey, Mailbox, Order, Peer, Report, Snapshot, Spawn};

/// Workers that serve, and what they share.
#[derive(Debug)]
pub struct Gateway {
    current: Arc<ArcSwap<Snapshot>>,
    /// Snapshots that a connection may still hold. They are kept here so that none is freed on a
    /// worker: that may take longer than its clients should wait.
    former: Vec<Arc<Snapshot>>,
    peers: Arc<[Peer]>,
    threads: Vec<JoinHandle<io::Result<Ended>>>,
    /// What is listened on, and where really.
    held: Vec<(ListenerKey, SocketAddr)>,
    stek: Arc<StekKeys>,
}

/// What a configuration is loaded with while another one runs, on whatever thread.
#[derive(Debug)]
pub struct Loader {
    before: Arc<Snapshot>,
    workers: usize,
    stek: Arc<StekKeys>,
}

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadReport {
    pub generation: u64,
    /// Listeners on an address that nobody listened on before, and where they really listen.
    pub opened: Vec<(Arc<str>, SocketAddr)>,
    /// Listeners whose address nobody listens on any more.
    pub closed: Vec<Arc<str>>,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, or what it names, is wrong; never empty.
    #[error("the configuration has {} problems", .0.len())]
    Problems(Vec<Problem>),
    /// Only for a plan made by hand: `config::load` reports this with its place.
    #[error("two filter chains take the same client")]
    Chains(#[source] Conflict),
    #[error("no thread for a worker")]
    Thread(#[source] io::Error),
    #[error("no session ticket keys")]
    Tickets(#[source] crate::tls::StekError),
    #[error("another configuration went live while this one was loaded")]
    Overtaken,
}

/// Descriptors of the process: logs, listening sockets, the admin server.
const DESCRIPTORS_KEPT: u64 = 256;

/// A session has two sockets.
const DESCRIPTORS_A_SESSION: u64 = 2;

/// Reads everything that `plan` names, as a gateway that starts with it would.
///
/// # Errors
/// Every problem at once.
pub fn load_material(plan: &Plan) -> Result<(Material, Arc<StekKeys>), StartError> {
    let SessionTickets { source, rotate, lifetime } = &plan.session_tickets;
    let now = clock::unix_now();
    let (stek, mut found) = match StekKeys::load(source, *rotate, *lifetime, now) {
        Ok(stek) => (stek, Vec::new()),
        // Stands in for what is missing, so that the problems of everything else are found as well.
        Err(found) => {
            (StekKeys::random(*rotate, *lifetime, now).map_err(StartError::Tickets)?, found)
        }
    };
    let stek = Arc::new(stek);
    let material = match Material::load(plan, &stek, 1, clock::unix_now, None) {
        Ok(material) if found.is_empty() => material,
        Ok(_) => return Err(StartError::Problems(found)),
        Err(more) => {
            found.extend(more);
            return Err(StartError::Problems(found));
        }
    };
    Ok((material, stek))
}

impl Gateway {
    /// Starts to serve. Reports of ended connections go to `reports`.
    ///
    /// # Errors
    /// Nothing is left running.
    pub fn start(mut plan: Plan, reports: Option<&Sender<Report>>) -> Result<Self, StartError> {
        let cores = thread::cores();
        let workers = match plan.runtime.workers {
            Workers::Auto => cores.len(),
            Workers::Count(count) => usize::from(count.get()),
        };
        fit_descriptors(&mut plan, workers);
        driver::problem(&plan)
            .map_or(Ok(()), |problem| Err(StartError::Problems(vec![problem])))?;
        let (material, stek) = load_material(&plan)?;
        warn_of(&material);
        let snapshot = Snapshot::first(plan, material, workers).map_err(StartError::Chains)?;
        let bound = bind(&snapshot, workers, &[]).map_err(StartError::Problems)?;
        Self::spawn(&snapshot, stek, bound, workers, &cores, reports)
    }

    fn spawn(
        snapshot: &Arc<Snapshot>,
        stek: Arc<StekKeys>,
        bound: Vec<Bound>,
        workers: usize,
        cores: &[usize],
        reports: Option<&Sender<Report>>,
    ) -> Result<Self, StartError> {
        let held = bound.iter().map(|bound| (bound.key, bound.address)).collect();
        let io = snapshot.plan.runtime.io;
        let peer = || Peer { io, counters: Arc::default(), mailbox: Mailbox::new() };
        let peers: Arc<[Peer]> = (0..workers).map(|_| peer()).collect();
        let pinned = workers <= cores.len();
        let mut gateway = Self {
            current: Arc::new(ArcSwap::new(Arc::clone(snapshot))),
            former: Vec::new(),
            peers: Arc::clone(&peers),
            threads: Vec::with_capacity(workers),
            held,
            stek,
        };
        let sources = Sources::new(clock::now());
        for (index, sockets) in by_worker(bound, workers).into_iter().enumerate() {
            let seed = clock::wall().subsec_nanos();
            let started = worker::spawn(Spawn {
                index,
                core: pinned.then(|| cores[index]),
                snapshot: Arc::clone(snapshot),
                peers: Arc::clone(&peers),
                sources: Arc::clone(&sources),
                sockets,
                reports: reports.cloned(),
                seed: (u64::from(seed) << 16)
                    ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            });
            match started {
                Ok(thread) => gateway.threads.push(thread),
                Err(error) => {
                    gateway.stop();
                    return Err(StartError::Thread(error));
                }
            }
        }
        Ok(gateway)
    }

    /// Puts `plan` in the place of what runs: all of it, or, after any error, nothing.
    ///
    /// # Errors
    /// Every problem of what the plan names, or of the addresses to listen on.
    pub fn reload(&mut self, plan: Plan) -> Result<ReloadReport, StartError> {
        let prepared = self.loader().load(plan)?;
        self.install(prepared)
    }

    /// What the next plan is loaded with.
    pub fn loader(&self) -> Loader {
        let (before, stek) = (self.current.load_full(), Arc::clone(&self.stek));
        Loader { before, workers: self.peers.len(), stek }
    }

    /// Binds what is new in `snapshot` and gives it to every worker.
    ///
    /// # Errors
    /// Nothing has changed then: an address cannot be listened on, or another snapshot came first.
    pub fn install(&mut self, prepared: Prepared) -> Result<ReloadReport, StartError> {
        let Prepared { snapshot, tickets } = prepared;
        let before = self.current.load_full();
        if snapshot.generation != before.generation + 1 {
            return Err(StartError::Overtaken);
        }
        let workers = self.peers.len();
        let bound = bind(&snapshot, workers, &self.held).map_err(StartError::Problems)?;
        warn_of(&snapshot.material);
        // From here on nothing can fail.
        if self.stek.adopt(tickets) == Reloaded::Changed {
            tracing::info!("session ticket keys changed");
        }
        let name =
            |of: &Snapshot, key| of.listener(key).map(|at| Arc::clone(&of.plan.listeners[at].name));
        let opened = bound.iter();
        let opened = opened.filter_map(|it| Some((name(&snapshot, it.key)?, it.address))).collect();
        let closed = self.held.iter().filter(|(key, _)| snapshot.listener(*key).is_none());
        let closed = closed.filter_map(|(key, _)| name(&before, *key)).collect();
        self.held.retain(|(key, _)| snapshot.listener(*key).is_some());
        self.held.extend(bound.iter().map(|bound| (bound.key, bound.address)));
        for (peer, sockets) in self.peers.iter().zip(by_worker(bound, workers)) {
            peer.mailbox.order(Order::Take(Arc::clone(&snapshot), sockets));
        }
        let generation = snapshot.generation;
        self.current.store(snapshot);
        self.former.push(before);
        Ok(ReloadReport { generation, opened, closed })
    }

    /// Snapshots that nobody else holds any more; freeing them may take its time.
    pub fn take_unused(&mut self) -> Vec<Arc<Snapshot>> {
        let is_unused = |snapshot: &mut Arc<Snapshot>| Arc::strong_count(snapshot) == 1;
        self.former.extract_if(.., is_unused).collect()
    }

    /// Where each listener really listens, in the plan's order.
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let snapshot = self.current.load();
        let keys = snapshot.listener_keys();
        let listeners = snapshot.plan.listeners.iter().zip(keys).filter_map(|(listener, key)| {
            let (_, address) = self.held.iter().find(|(held, _)| held == key)?;
            Some((Arc::clone(&listener.name), *address))
        });
        listeners.collect()
    }

    /// The snapshot that new connections are served by, for whoever looks at it now and then.
    pub fn current(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.current
    }

    pub fn peers(&self) -> &Arc<[Peer]> {
        &self.peers
    }

    /// The ticket keys, to be rotated by whoever has a clock to wait on.
    pub fn stek(&self) -> &Arc<StekKeys> {
        &self.stek
    }

    /// Begins to drain: see `plan::Drain`.
    pub fn drain(&self, now: Instant) {
        self.tell_all(|| Order::Drain(now));
    }

    /// True once a worker has ended, wanted or not.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// True once all workers have ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Ends whatever still runs and says how it went.
    pub fn stop(self) -> Ended {
        let running = self.threads.iter().any(|thread| !thread.is_finished());
        if running {
            self.tell_all(|| Order::Stop);
        }
        let mut ended = Ended::Clean;
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(Ended::Clean)) => {}
                Ok(Ok(Ended::Cut)) => ended = Ended::Cut,
                Ok(Err(error)) => {
                    tracing::error!(%error, "a worker could not run");
                    ended = Ended::Cut;
                }
                Err(_panic) => {
                    tracing::error!("a worker panicked; please report it with what stands above");
                    ended = Ended::Cut;
                }
            }
        }
        ended
    }

    fn tell_all(&self, order: impl Fn() -> Order) {
        for peer in self.peers.iter() {
            peer.mailbox.order(order());
        }
    }
}

/// What is to go live, loaded and found good.
#[derive(Debug)]
pub struct Prepared {
    snapshot: Arc<Snapshot>,
    tickets: StagedKeys,
}

impl Prepared {
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}

impl Loader {
    /// Reads everything that `plan` names, as a start with it would, and makes of it what follows the
    /// snapshot that runs. Takes as long as that takes.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn load(&self, mut plan: Plan) -> Result<Prepared, StartError> {
        fit_descriptors(&mut plan, self.workers);
        let generation = self.before.generation + 1;
        let SessionTickets { source, rotate, lifetime } = &plan.session_tickets;
        let tickets = self.stek.stage(source, *rotate, *lifetime, clock::unix_now());
        let previous = Some(&self.before.material);
        let material = Material::load(&plan, &self.stek, generation, clock::unix_now, previous);
        let (tickets, material) = match (tickets, material) {
            (Ok(tickets), Ok(material)) => (tickets, material),
            (tickets, material) => {
                let found = [tickets.err(), material.err()].into_iter().flatten().flatten();
                return Err(StartError::Problems(found.collect()));
            }
        };
        let snapshot =
            self.before.next(plan, material, self.workers).map_err(StartError::Chains)?;
        Ok(Prepared { snapshot, tickets })
    }
}

/// What loads and yet needs someone's attention.
fn warn_of(material: &Material) {
    for warning in material.warnings() {
        tracing::warn!("{warning}");
    }
}

/// What each worker is to listen with.
fn by_worker(bound: Vec<Bound>, workers: usize) -> Vec<Vec<(ListenerKey, TcpListener)>> {
    let mut all: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for Bound { key, address: _, sockets } in bound {
        for (worker, socket) in all.iter_mut().zip(sockets) {
            worker.push((key, socket));
        }
    }
    all
}

/// Raises the descriptor limit, and lowers the connection limit to what it carries: better to refuse
/// a client with a reason than to be unable to accept.
fn fit_descriptors(plan: &mut Plan, workers: usize) {
    let limit = match descriptors::raise_limit() {
        Ok(None) => return,
        Ok(Some(limit)) => limit,
        Err(error) => {
            tracing::warn!(%error, "the descriptor limit could not be raised");
            return;
        }
    };
    let ready: usize = plan.clusters.iter().map(|one| usize::from(one.pool.ready_max)).sum();
    let a_worker = PIPES_MAX * PIPE_DESCRIPTORS + ready;
    let kept = DESCRIPTORS_KEPT + (workers * a_worker) as u64;
    let carried = limit.saturating_sub(kept) / DESCRIPTORS_A_SESSION;
    let carried = usize::try_from(carried).unwrap_or(usize::MAX).max(1);
    if plan.limits.connections.is_none_or(|connections| connections.get() > carried) {
        tracing::warn!(
            descriptors = limit,
            connections = carried,
            "limits.connections is lowered to what the descriptor limit carries: raise it (LimitNOFILE of systemd, `ulimit -n`), or write the lower number"
        );
        plan.limits.connections = NonZeroUsize::new(carried);
    }
}
