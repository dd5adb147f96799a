//! A running gateway: loads what the plan names, binds every listener, starts the workers, and ends
//! them again. `run` wraps it in a process, `demo` in a demonstration.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::Sender;
use zeroize::Zeroizing;

use super::bind::{Bound, bind};
use super::driver;
use super::inherited::Inherited;
use crate::config::error::Problem;
use crate::config::plan::{Plan, SessionTickets, Workers};
use crate::core::drain::Drain;
use crate::core::route::Conflict;
use crate::core::ticket_ring::RingError;
use crate::sys::splice::{PIPE_DESCRIPTORS, PIPES_MAX};
use crate::sys::{clock, descriptors, socket, thread};
use crate::tls::{Material, Reloaded, StagedKeys, StekKeys};
use crate::worker::sources::Sources;
use crate::worker::{self, Ended, ListenerKey, Mailbox, Order, Peer, Report, Snapshot, Spawn};

/// Workers that serve, and what they share.
#[derive(Debug)]
pub struct Gateway {
    current: Arc<ArcSwap<Snapshot>>,
    /// Snapshots that a connection may still hold. They are kept here so that none is freed on a
    /// worker: that may take longer than its clients should wait.
    former: Vec<Former>,
    peers: Arc<[Peer]>,
    threads: Vec<JoinHandle<io::Result<Ended>>>,
    /// What is listened on, and where really.
    held: Arc<ArcSwap<Vec<(ListenerKey, SocketAddr)>>>,
    /// The sockets of each, for a process that takes the place of this one.
    kept: Vec<(ListenerKey, Vec<TcpListener>)>,
    /// What the workers are to accept on from `open` on.
    waiting: Vec<Vec<(ListenerKey, TcpListener)>>,
    stek: Arc<StekKeys>,
}

/// What a gateway is started with, read and opened.
#[derive(Debug)]
pub struct Loaded {
    snapshot: Arc<Snapshot>,
    stek: Arc<StekKeys>,
    bound: Vec<Bound>,
    workers: usize,
    cores: Vec<usize>,
}

/// What a process was given by whom it takes the place of, or by systemd.
#[derive(Debug, Default)]
pub struct Given {
    pub sockets: Inherited,
    /// Ticket keys, as `StekKeys::export` has written them.
    pub tickets: Option<Zeroizing<Vec<u8>>>,
}

/// A snapshot that another one has replaced.
#[derive(Debug)]
struct Former {
    snapshot: Arc<Snapshot>,
    /// The listeners that the next one has no more: a worker holds this snapshot until its sockets of
    /// them are closed.
    closing: Vec<(ListenerKey, SocketAddr)>,
}

/// The sockets of one listener.
#[derive(Debug)]
pub struct Held<'a> {
    pub key: ListenerKey,
    pub name: Arc<str>,
    /// As the configuration has it, and where it really is.
    pub configured: SocketAddr,
    pub address: SocketAddr,
    pub sockets: &'a [TcpListener],
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
    pub tickets_changed: bool,
}

/// A worker has ended by itself, and with it all that it served.
#[derive(Debug, PartialEq, Eq)]
pub struct WorkerLost;

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
    #[error("the ticket keys of the former process cannot be taken over")]
    InheritedTickets(#[source] RingError),
    #[error("another configuration went live while this one was loaded")]
    Overtaken,
}

/// A worker's socket, and the same one as control keeps it for another process.
const SOCKETS_A_LISTENER: usize = 2;

/// Descriptors of the process: logs, the admin server, what an upgrade needs.
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
    pub fn start(plan: Plan, reports: Option<&Sender<Report>>) -> Result<Self, StartError> {
        let mut gateway = Self::load(plan, &mut Given::default())?.spawn(reports)?;
        gateway.open();
        Ok(gateway)
    }

    /// Reads and opens all that a start with `plan` and with what others gave needs; no thread is there
    /// yet.
    ///
    /// # Errors
    /// Nothing is left open.
    pub fn load(mut plan: Plan, given: &mut Given) -> Result<Loaded, StartError> {
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
        if let Some(keys) = given.tickets.take() {
            stek.inherit(&keys, clock::unix_now()).map_err(StartError::InheritedTickets)?;
        }
        let snapshot = Snapshot::first(plan, material, workers).map_err(StartError::Chains)?;
        let bound =
            bind(&snapshot, workers, &[], &mut given.sockets).map_err(StartError::Problems)?;
        Ok(Loaded { snapshot, stek, bound, workers, cores })
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
        let held = self.held.load_full();
        let open: Vec<_> = held.iter().chain(self.closing()).copied().collect();
        let bound = bind(&snapshot, workers, &open, &mut Inherited::default())
            .map_err(StartError::Problems)?;
        warn_of(&snapshot.material);
        // From here on nothing can fail.
        let tickets_changed = self.stek.adopt(tickets) == Reloaded::Changed;
        if tickets_changed {
            tracing::info!("session ticket keys changed");
        }
        let name =
            |of: &Snapshot, key| of.listener(key).map(|at| Arc::clone(&of.plan.listeners[at].name));
        let opened = bound.iter();
        let opened = opened.filter_map(|it| Some((name(&snapshot, it.key)?, it.address))).collect();
        let (staying, closing): (Vec<_>, Vec<_>) =
            held.iter().copied().partition(|(key, _)| snapshot.listener(*key).is_some());
        let closed = closing.iter().filter_map(|(key, _)| name(&before, *key)).collect();
        self.held.store(Arc::new(staying));
        // A worker closes its socket once it has emptied the queue: ours must be gone by then.
        self.kept.retain(|(key, _)| snapshot.listener(*key).is_some());
        let sockets = self.hold(bound);
        self.set_defer_accept(&snapshot);
        self.give(&snapshot, sockets);
        let generation = snapshot.generation;
        self.current.store(snapshot);
        self.former.push(Former { snapshot: before, closing });
        Ok(ReloadReport { generation, opened, closed, tickets_changed })
    }

    /// Snapshots that nobody else holds any more; freeing them may take its time.
    pub fn take_unused(&mut self) -> Vec<Arc<Snapshot>> {
        let unused = self.former.extract_if(.., |former| former.is_unused());
        unused.map(|former| former.snapshot).collect()
    }

    /// Listeners of former snapshots that workers may not have closed yet. Who brings one back at once
    /// is in the way of nobody but us.
    fn closing(&self) -> impl Iterator<Item = &(ListenerKey, SocketAddr)> {
        let used = self.former.iter().filter(|former| !former.is_unused());
        used.flat_map(|former| &former.closing)
    }

    /// Where each listener really listens, in the plan's order.
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let snapshot = self.current.load();
        let (keys, bound) = (snapshot.listener_keys(), self.held.load());
        let listeners = snapshot.plan.listeners.iter().zip(keys).filter_map(|(listener, key)| {
            let (_, address) = bound.iter().find(|(held, _)| held == key)?;
            Some((Arc::clone(&listener.name), *address))
        });
        listeners.collect()
    }

    /// The snapshot that new connections are served by, for whoever looks at it now and then.
    pub fn current(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.current
    }

    /// Where each listener really listens, for whoever looks at it now and then.
    pub fn bound(&self) -> &Arc<ArcSwap<Vec<(ListenerKey, SocketAddr)>>> {
        &self.held
    }

    pub fn peers(&self) -> &Arc<[Peer]> {
        &self.peers
    }

    /// The ticket keys, to be rotated by whoever has a clock to wait on.
    pub fn stek(&self) -> &Arc<StekKeys> {
        &self.stek
    }

    /// Lets the workers accept. Before, nothing of a socket is changed: it may be another process', which
    /// goes on with it if this one cannot.
    pub fn open(&mut self) {
        let current = self.current.load_full();
        self.set_defer_accept(&current);
        let sockets = std::mem::take(&mut self.waiting);
        self.give(&current, sockets);
    }

    /// What another process needs to accept in the place of this one.
    pub fn sockets(&self) -> Vec<Held<'_>> {
        let (snapshot, bound) = (self.current.load(), self.held.load());
        let held = self.kept.iter().filter_map(|(key, sockets)| {
            let listener = &snapshot.plan.listeners[snapshot.listener(*key)?];
            let (_, address) = bound.iter().find(|(held, _)| held == key)?;
            Some(Held {
                key: *key,
                name: Arc::clone(&listener.name),
                configured: listener.address,
                address: *address,
                sockets,
            })
        });
        held.collect()
    }

    /// Begins to drain: see `plan::Drain`.
    pub fn drain(&mut self, now: Instant) {
        let plan = self.current.load().plan.runtime.drain;
        let drain = Drain::new(now, plan.grace, plan.spread, plan.deadline);
        self.drain_by(drain, &Arc::default());
    }

    /// As `drain`, while another process accepts in the place of this one on the sockets of the
    /// listeners `passed_on`: there is no grace.
    pub fn hand_over(&mut self, now: Instant, passed_on: &Arc<[ListenerKey]>) {
        let plan = self.current.load().plan.runtime.drain;
        let drain = Drain::new(now, Duration::ZERO, plan.spread, plan.deadline);
        self.drain_by(drain, passed_on);
    }

    fn drain_by(&mut self, drain: Drain, passed_on: &Arc<[ListenerKey]>) {
        let closing = self.kept.drain(..).filter(|(key, _)| !passed_on.contains(key));
        // Who is not accepted yet when its socket is closed would be reset.
        closing.for_each(|(_, sockets)| defer_accept(&sockets, false));
        self.tell_all(|| Order::Drain(drain, Arc::clone(passed_on)));
    }

    /// True once a worker has ended, wanted or not.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// True once all workers have ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// True once this worker has ended.
    pub fn is_gone(&self, worker: usize) -> bool {
        self.threads.get(worker).is_none_or(JoinHandle::is_finished)
    }

    /// Ends whatever still runs and says how it went.
    ///
    /// # Errors
    /// A worker had ended by itself; the log says why. What it served is gone.
    pub fn stop(&mut self) -> Result<Ended, WorkerLost> {
        let running = self.threads.iter().any(|thread| !thread.is_finished());
        if running {
            self.tell_all(|| Order::Stop);
        }
        let joined: Vec<_> = self.threads.drain(..).map(join).collect();
        joined.into_iter().try_fold(Ended::Clean, |ended, of_worker| Ok(ended.and(of_worker?)))
    }

    /// Notes sockets, and returns them by worker.
    fn hold(&mut self, bound: Vec<Bound>) -> Vec<Vec<(ListenerKey, TcpListener)>> {
        let mut all: Vec<Vec<_>> = self.peers.iter().map(|_| Vec::new()).collect();
        let new = bound.iter().map(|bound| (bound.key, bound.address));
        let held = self.held.load().iter().copied().chain(new).collect();
        self.held.store(Arc::new(held));
        for Bound { key, address: _, sockets, kept } in bound {
            self.kept.push((key, kept));
            for (worker, sockets) in all.iter_mut().zip(sockets) {
                worker.extend(sockets.into_iter().map(|socket| (key, socket)));
            }
        }
        all
    }

    /// Whether clients are accepted before they have said something, which may change while the socket stays.
    fn set_defer_accept(&self, snapshot: &Snapshot) {
        for (key, sockets) in &self.kept {
            if let Some(at) = snapshot.listener(*key) {
                defer_accept(sockets, snapshot.plan.listeners[at].defer_accept);
            }
        }
    }

    fn give(&self, snapshot: &Arc<Snapshot>, sockets: Vec<Vec<(ListenerKey, TcpListener)>>) {
        for (peer, sockets) in self.peers.iter().zip(sockets) {
            peer.mailbox.order(Order::Take(Arc::clone(snapshot), sockets));
        }
    }

    fn tell_all(&self, order: impl Fn() -> Order) {
        for peer in self.peers.iter() {
            peer.mailbox.order(order());
        }
    }
}

/// Waits for a worker's end.
fn join(thread: JoinHandle<io::Result<Ended>>) -> Result<Ended, WorkerLost> {
    match thread.join() {
        Ok(Ok(ended)) => Ok(ended),
        Ok(Err(error)) => {
            tracing::error!(
                %error,
                "a worker could not run; where files are too many, raise LimitNOFILE (ulimit -n)"
            );
            Err(WorkerLost)
        }
        Err(_panic) => {
            tracing::error!("a worker panicked; please report it with what stands above");
            Err(WorkerLost)
        }
    }
}

impl Former {
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.snapshot) == 1
    }
}

impl Loaded {
    pub fn plan(&self) -> &Plan {
        &self.snapshot.plan
    }

    /// Starts the workers. They accept nobody before `Gateway::open`. Reports of ended connections go
    /// to `reports`.
    ///
    /// # Errors
    /// Nothing is left running.
    pub fn spawn(self, reports: Option<&Sender<Report>>) -> Result<Gateway, StartError> {
        let Self { snapshot, stek, bound, workers, cores } = self;
        let io = snapshot.plan.runtime.io;
        let peer = || Peer { io, counters: Arc::default(), mailbox: Mailbox::new() };
        let peers: Arc<[Peer]> = (0..workers).map(|_| peer()).collect();
        let pinned = workers <= cores.len();
        let mut gateway = Gateway {
            current: Arc::new(ArcSwap::new(Arc::clone(&snapshot))),
            former: Vec::new(),
            peers: Arc::clone(&peers),
            threads: Vec::with_capacity(workers),
            held: Arc::default(),
            kept: Vec::new(),
            waiting: Vec::new(),
            stek,
        };
        gateway.waiting = gateway.hold(bound);
        let sources = Sources::new(clock::now());
        for index in 0..workers {
            let seed = clock::wall().subsec_nanos();
            let started = worker::spawn(Spawn {
                index,
                core: cores.get(index).copied().filter(|_| pinned),
                snapshot: Arc::clone(&snapshot),
                peers: Arc::clone(&peers),
                sources: Arc::clone(&sources),
                reports: reports.cloned(),
                seed: (u64::from(seed) << 16)
                    ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            });
            match started {
                Ok(thread) => gateway.threads.push(thread),
                Err(error) => {
                    // What matters is why there is one worker less.
                    drop(gateway.stop());
                    return Err(StartError::Thread(error));
                }
            }
        }
        Ok(gateway)
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

fn defer_accept(sockets: &[TcpListener], is_wanted: bool) {
    for socket in sockets {
        if let Err(error) = socket::defer_accept(socket, is_wanted)
            && is_wanted
        {
            tracing::warn!(%error, "defer_accept has no effect: the system does not know TCP_DEFER_ACCEPT");
        }
    }
}

/// What loads and yet needs someone's attention.
fn warn_of(material: &Material) {
    for warning in material.warnings() {
        tracing::warn!("{}", warning.one_line());
    }
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
    let listening = SOCKETS_A_LISTENER * plan.listeners.len();
    let a_worker = PIPES_MAX * PIPE_DESCRIPTORS + ready + listening;
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

#[cfg(test)]
mod tests;
