//! The thread of one worker: its runtime, its tasks, and how it drains and ends.

use std::cell::{Cell, RefCell};
use std::io;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use tokio::task::LocalSet;

use super::census::Census;
use super::crowd::Crowd;
use super::generation::Generation;
use super::in_flight::InFlight;
use super::listening::Listening;
use super::mailbox::{Mail, Order};
use super::report::Report;
use super::roster::{DrainPhase, Roster};
use super::scratch::{Scratch, Spares};
use super::snapshot::{ListenerKey, Snapshot};
use super::sources::Sources;
use super::timers::Timers;
use super::turns::Turns;
use super::vital::{Vital, lost};
use super::{Peer, Worker, accept, memory, reload, ring, upstream};
use crate::config::plan::Io;
use crate::core::client_hello::HelloBuffer;
use crate::core::drain::Drain;
use crate::core::handoff::Handoff;
use crate::core::pressure::Pressure;
use crate::core::relay::LINGER;
use crate::core::report_limit::ReportLimit;
use crate::sys::splice::PipePool;
use crate::sys::{clock, thread};

/// What a worker thread is made of.
#[derive(Debug)]
pub struct Spawn {
    /// Its place in `peers`.
    pub index: usize,
    /// `None`: not pinned.
    pub core: Option<usize>,
    pub snapshot: Arc<Snapshot>,
    pub peers: Arc<[Peer]>,
    /// The same for all workers.
    pub sources: Arc<Sources>,
    pub reports: Option<Sender<Report>>,
    /// Seed of balancing and jitter; any number.
    pub seed: u64,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every session ended by itself or at an idle moment.
    Clean,
    /// So many had to be cut, at the deadline or at once.
    Cut { connections: u64 },
}

impl Ended {
    /// How this worker and another one ended.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self.cut() + other.cut() {
            0 => Self::Clean,
            connections => Self::Cut { connections },
        }
    }

    fn cut(self) -> u64 {
        match self {
            Self::Clean => 0,
            Self::Cut { connections } => connections,
        }
    }
}

/// How often an ending worker looks whether its last session is gone.
const LOOK: Duration = Duration::from_millis(20);

/// Resets and refusals are done in the time that it takes to poll each connection once.
const CUT_PATIENCE: Duration = Duration::from_millis(250);

/// Starts the thread. It accepts on what it is told to, until it is told to drain or to stop.
///
/// # Errors
/// The system gives no thread.
pub fn spawn(spawn: Spawn) -> io::Result<JoinHandle<io::Result<Ended>>> {
    let name = format!("worker-{}", spawn.index);
    std::thread::Builder::new().name(name).spawn(move || run(spawn))
}

fn run(spawn: Spawn) -> io::Result<Ended> {
    if let Some(core) = spawn.core
        && let Err(error) = thread::pin_to(core)
    {
        tracing::warn!(%error, core, "the worker could not be pinned to its core");
    }
    let io = spawn.peers[spawn.index].io;
    // Its tasks, and so its sockets, end where the runtime still is.
    let work = async { LocalSet::new().run_until(serve(spawn)).await };
    match io {
        Io::Epoll => tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?
            .block_on(work),
        Io::IoUring => ring::runtime()?.block_on(work),
    }
}

async fn serve(spawn: Spawn) -> io::Result<Ended> {
    let now = clock::now();
    let io = spawn.peers[spawn.index].io;
    let counters = Arc::clone(&spawn.peers[spawn.index].counters);
    counters.thread.set_to(thread::id());
    let report_limit = report_limit(&spawn.snapshot, spawn.peers.len());
    let worker = Rc::new(Worker {
        index: spawn.index,
        io,
        generation: RefCell::new(Rc::new(Generation::first(spawn.snapshot, spawn.index))),
        listening: Listening::default(),
        counters,
        peers: spawn.peers,
        sources: spawn.sources,
        report_limit: RefCell::new(report_limit),
        reports: spawn.reports,
        scratch: RefCell::new(Scratch::new()),
        hello: RefCell::new(Box::new(HelloBuffer::new())),
        spares: Spares::default(),
        pipes: PipePool::default(),
        timers: Timers::new(now),
        turns: Rc::new(Turns::new(io)),
        in_flight: InFlight::default(),
        crowd: Crowd::default(),
        roster: Rc::new(Roster::default()),
        census: Census::default(),
        pressure: Cell::new(Pressure::default()),
        drain: Cell::new(None),
        handoff: Cell::new(Handoff::default()),
        // Xorshift has no way out of zero.
        random: Cell::new(spawn.seed | 1),
        connections: Cell::new(0),
    });
    let mut vital = Vital::default();
    let timers = Rc::clone(&worker.timers);
    vital.spawn("its timers", async move {
        timers.drive().await;
        Ok(())
    });
    if io == Io::IoUring {
        let turns = Rc::clone(&worker.turns);
        vital.spawn("its turns on the ring", async move { turns.drive().await });
    }
    for cluster in worker.generation().clusters() {
        upstream::keep_ready(&worker, cluster);
    }
    // A worker without its timers or with a deaf listener must not look like one that serves: its
    // thread ends, control notices, and the process makes room for a new one.
    let drain = tokio::select! {
        drain = read_mail(&worker) => drain,
        error = vital.loss() => return Err(error),
        () = worker.listening.loss() => return Err(lost("a listening socket", "what stands above says why")),
    };
    let Some((drain, passed_on)) = drain else { return Ok(cut(&worker, CUT_PATIENCE).await) };
    tokio::select! {
        ended = end(&worker, drain, &passed_on) => Ok(ended),
        None = read_mail(&worker) => Ok(cut(&worker, CUT_PATIENCE).await),
        error = vital.loss() => Err(error),
    }
}

/// One worker's share of the refusals that are written; at least one a second, if any are.
pub(super) fn report_limit(snapshot: &Snapshot, workers: usize) -> ReportLimit {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
    let share = |rate: NonZeroU32| NonZeroU32::new(rate.get() / workers).or(Some(NonZeroU32::MIN));
    let rate = snapshot.plan.access_log.refusals_per_second;
    ReportLimit::new(rate.and_then(share), clock::now())
}

/// Takes deliveries until control says that it is time to go. `None`: at once.
async fn read_mail(worker: &Rc<Worker>) -> Option<(Drain, Arc<[ListenerKey]>)> {
    let mailbox = Arc::clone(&worker.peers[worker.index].mailbox);
    loop {
        match mailbox.receive().await {
            Mail::Socket(handed) => accept::begin_handed(worker, *handed),
            Mail::Ask(ask) => upstream::answer(worker, ask),
            Mail::Order(Order::Take(snapshot, sockets)) => {
                reload::take(worker, Arc::clone(&snapshot));
                reload::listen(worker, snapshot, sockets);
            }
            Mail::Order(Order::Look) => {
                worker.generation().clusters().iter().for_each(|cluster| cluster.look());
            }
            Mail::Order(Order::List(listing)) => worker.census.tell(*listing, clock::now()),
            Mail::Order(Order::Memory(pressure)) => memory::press(worker, pressure),
            Mail::Order(Order::MakeRoom) => worker.crowd.make_room(),
            Mail::Order(Order::Beat) => worker.counters.beats.increment(),
            Mail::Order(Order::Drain(drain, passed_on)) => {
                if worker.drain.get().is_none() {
                    worker.drain.set(Some(drain));
                    return Some((drain, passed_on));
                }
            }
            Mail::Order(Order::Stop) => return None,
        }
    }
}

/// Grace, then no new connections; sessions end one by one; what is left at the deadline is cut.
async fn end(worker: &Rc<Worker>, drain: Drain, passed_on: &[ListenerKey]) -> Ended {
    worker.timers.sleep_until(drain.accept_until()).await;
    worker.listening.close(&worker.generation(), passed_on).await;
    for cluster in worker.generation().clusters() {
        cluster.retire();
    }
    worker.roster.set_phase(DrainPhase::Draining);
    if empty_by(worker, drain.over_at()).await {
        return Ended::Clean;
    }
    cut(worker, LINGER).await
}

/// Resets every session: one that is merely dropped would end with FIN, as if it were whole. Who is not
/// that far is refused.
async fn cut(worker: &Rc<Worker>, patience: Duration) -> Ended {
    let open = worker.counters.open.value();
    worker.roster.set_phase(DrainPhase::Forced);
    worker.crowd.dismiss();
    empty_by(worker, clock::now() + patience).await;
    match open {
        0 => Ended::Clean,
        connections => Ended::Cut { connections },
    }
}

/// Waits until no connection is left, nor can one come, or until `at`; says which.
async fn empty_by(worker: &Rc<Worker>, at: Instant) -> bool {
    loop {
        while worker.counters.open.value() > 0 {
            let now = clock::now();
            if now >= at {
                return false;
            }
            worker.timers.sleep_until(at.min(now + LOOK)).await;
        }
        // Of a worker that had not heard of the drain.
        let handed = worker.peers[worker.index].mailbox.close();
        if handed.is_empty() {
            return true;
        }
        handed.into_iter().for_each(|handed| accept::begin_handed(worker, handed));
    }
}
