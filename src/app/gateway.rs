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

use crate::config::error::Problem;
use crate::config::plan::{Listener, Plan, SessionTickets, Workers};
use crate::core::route::Conflict;
use crate::sys::splice::{PIPE_DESCRIPTORS, PIPES_MAX};
use crate::sys::{clock, descriptors, socket, thread};
use crate::tls::{Material, StekKeys};
use crate::worker::{self, Ended, Mail, Mailbox, Peer, Report, Snapshot, Spawn, WorkerCounters};

/// Workers that serve, and what they share.
#[derive(Debug)]
pub struct Gateway {
    snapshot: Arc<Snapshot>,
    current: Arc<ArcSwap<Snapshot>>,
    peers: Arc<[Peer]>,
    threads: Vec<JoinHandle<io::Result<Ended>>>,
    addresses: Vec<SocketAddr>,
    stek: Arc<StekKeys>,
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
    let SessionTickets { source: _, rotate, lifetime } = plan.session_tickets;
    let stek =
        StekKeys::random(rotate, lifetime, clock::unix_now()).map_err(StartError::Tickets)?;
    let stek = Arc::new(stek);
    let material =
        Material::load(plan, &stek, 1, clock::unix_now, None).map_err(StartError::Problems)?;
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
        let (material, stek) = load_material(&plan)?;
        for warning in material.warnings() {
            tracing::warn!("{warning}");
        }
        let sockets = bind(&plan.listeners, workers).map_err(StartError::Problems)?;
        let snapshot = Snapshot::new(plan, material).map_err(StartError::Chains)?;
        Self::spawn(snapshot, stek, sockets, &cores, reports)
    }

    fn spawn(
        snapshot: Arc<Snapshot>,
        stek: Arc<StekKeys>,
        sockets: Vec<Vec<TcpListener>>,
        cores: &[usize],
        reports: Option<&Sender<Report>>,
    ) -> Result<Self, StartError> {
        let (listeners, clusters) = (snapshot.plan.listeners.len(), snapshot.plan.clusters.len());
        let addresses = sockets.first().into_iter().flatten();
        let addresses = addresses.filter_map(|socket| socket.local_addr().ok()).collect();
        let counters = || WorkerCounters::new(listeners, snapshot.chains(), clusters);
        let peers: Arc<[Peer]> = sockets
            .iter()
            .map(|_| Peer { counters: Arc::new(counters()), mailbox: Mailbox::new() })
            .collect();
        let current = Arc::new(ArcSwap::from(Arc::clone(&snapshot)));
        let pinned = sockets.len() <= cores.len();
        let mut threads = Vec::with_capacity(sockets.len());
        for (index, listeners) in sockets.into_iter().enumerate() {
            let seed = clock::wall().subsec_nanos();
            let started = worker::spawn(Spawn {
                index,
                core: pinned.then(|| cores[index]),
                snapshot: Arc::clone(&snapshot),
                peers: Arc::clone(&peers),
                listeners,
                reports: reports.cloned(),
                seed: (u64::from(seed) << 16)
                    ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            });
            match started {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    Self { snapshot, current, peers, threads, addresses, stek }.stop();
                    return Err(StartError::Thread(error));
                }
            }
        }
        Ok(Self { snapshot, current, peers, threads, addresses, stek })
    }

    /// Where each listener really listens, in the plan's order.
    pub fn addresses(&self) -> impl Iterator<Item = (&Listener, SocketAddr)> {
        self.snapshot.plan.listeners.iter().zip(self.addresses.iter().copied())
    }

    /// The snapshot that runs, for whoever looks at it again and again.
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
        self.tell_all(|| Mail::Drain(now));
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
            self.tell_all(|| Mail::Stop);
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

    fn tell_all(&self, mail: impl Fn() -> Mail) {
        for (peer, thread) in self.peers.iter().zip(&self.threads) {
            // A mailbox is full of sockets for a moment at most: its worker empties it.
            let mut turns = 0;
            while peer.mailbox.send(mail()).is_err() && !thread.is_finished() && turns < TELL_TURNS
            {
                std::thread::park_timeout(TELL_PAUSE);
                turns += 1;
            }
        }
    }
}

/// One set of listening sockets a worker. All problems at once.
fn bind(listeners: &[Listener], workers: usize) -> Result<Vec<Vec<TcpListener>>, Vec<Problem>> {
    let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    let mut problems = Vec::new();
    for listener in listeners {
        let mut address = listener.address;
        let bound = socket::ensure_free(address).and_then(|()| {
            for sockets in &mut sockets {
                let socket = socket::listen(address)?;
                // Port 0: the first socket gets a port, the others join it there.
                address = socket.local_addr()?;
                sockets.push(socket);
            }
            Ok(())
        });
        if let Err(error) = bound {
            problems.push(bind_problem(listener, listeners, &error));
        }
    }
    if problems.is_empty() { Ok(sockets) } else { Err(problems) }
}

fn bind_problem(listener: &Listener, all: &[Listener], error: &io::Error) -> Problem {
    let address = listener.address;
    let port = address.port();
    // The same address twice is found by `config`; all addresses of the machine and one of them is not.
    let ours = all.iter().find(|other| {
        let shared = other.address.ip().is_unspecified() || address.ip().is_unspecified();
        other.name != listener.name && other.address.port() == port && shared
    });
    let help = match error.kind() {
        io::ErrorKind::AddrInUse if ours.is_some() => {
            let (name, other) = ours.map_or(("", address), |it| (&*it.name, it.address));
            format!(
                "listener {name} takes {other}, and one of the two addresses stands for all of this \
                 machine: give each address of its own, or another port"
            )
        }
        io::ErrorKind::AddrInUse => format!(
            "another process listens there: `ss -ltnp 'sport = :{port}'` says which; end it or choose another port"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 need a right: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, `setcap cap_net_bind_service=+ep` on the binary, or a port above 1023 instead of {port}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine: `ip addr` lists them", address.ip())
        }
        _ => String::new(),
    };
    let message = format!("cannot listen on {address}: {error}");
    Problem { at: listener.at.clone(), message, help }
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

const TELL_PAUSE: Duration = Duration::from_millis(1);
const TELL_TURNS: u32 = 5_000;
