//! `portcullis run`: the gateway as a process, from its start to the moment from which it serves.
//! `control` is what comes after.
//!
//! # The order of a start
//!
//! 1. What was given is taken: by the process whose place this one takes (`upgrade`), or by systemd
//!    (`sys::passed`). There is one thread.
//! 2. The configuration is read, and the log begins. The program of this process was looked up before.
//! 3. Rights are given up and the sandbox is closed (`confinement`), while there is one thread. What
//!    follows is what the process does for the rest of its life anyway, and must be possible from here on:
//!    it binds listeners that a reload adds, reads configuration and certificates, opens the access log
//!    anew, dials, and starts its own program (`Program::path`, with its libraries) for an upgrade. The
//!    new process then reads all of this again with no more rights, and /proc under a number of its own.
//!    Sockets that were given need no right: a process that took over binds no port below 1024 again.
//! 4. Signals are caught.
//! 5. The admin socket is bound, certificates and keys are loaded, listening sockets are bound or taken.
//! 6. The access log is opened; its thread and the workers start.
//! 7. Host names of upstreams are looked up. Nobody is accepted yet: who comes waits in the queues.
//! 8. A process that takes over says that it is ready, and waits for the other one to let go.
//! 9. Workers accept, admin pages are served, the ready line is written, systemd is told.
//!
//! Whatever fails up to 8 leaves a former process as it is.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;

use super::confinement::{self, Confinement};
use super::control::Control;
use super::gateway::{Gateway, Given, StartError};
use super::inherited::{GivenAdmin, GivenListener, Giver, Inherited};
use super::memory::Memory;
use super::orders::Logs;
use super::reload::{self, Files, Fingerprint, Reading, Reloads};
use super::signals::Signals;
use super::supervisor::Supervisor;
use super::upgrade::{Takeover, TakeoverError, Upgrades};
use super::{expiry, outlets, problems, upkeep};
use crate::admin::{AdminListener, AdminShare, AdminSocket, AdminState, Orders, Shown};
use crate::config::error::Problem;
use crate::config::plan::{AdminAddress, Plan};
use crate::sys::passed::{self, PassedSocket};
use crate::sys::program::Program;
use crate::sys::{clock, huge_pages, privileges, socket};
use crate::telemetry::access_log::{AccessLog, AccessLogGuard};
use crate::telemetry::log::LogVolume;
use crate::telemetry::metrics::ReloadCounts;
use crate::telemetry::{log, metrics};
use crate::tls::StekKeys;
use crate::tls::stek::Rotation;
use crate::worker::{Ended, Report};

/// `portcullis run`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct RunCommand {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

const AFTER_HELP: &str = "\
Prints one line on standard output once it serves, and then one for each connection unless
[access_log] says otherwise:
  ready listener.NAME=ADDRESS ... admin=ADDRESS
Standard error is the log of the process.

Signals:
  SIGTERM, SIGINT   drain as [runtime] drain says; a second one ends all at once
  SIGHUP            reload: everything new goes live, or, after any mistake, nothing; the log says
                    which. A file that changes does the same unless [runtime] watch = false
  SIGUSR1           open the access log's file anew, after it was renamed
  SIGUSR2           upgrade in place: what stands in the place of this program now is started, takes
                    over sockets and ticket keys, and only then this one drains

Exit codes:
  0  every session ended by itself     1  it could not start, or a worker was lost
  2  sessions were cut at the drain's deadline or by a second signal; or wrong usage";

/// How often the ticket keys are held against the wall clock: a clock that is set, as on a machine
/// that starts without one, is noticed within a minute.
const CLOCK_LOOK_MIN: Duration = Duration::from_secs(1);
const CLOCK_LOOK_MAX: Duration = Duration::from_secs(60);

/// How long a start waits for the addresses of host names before it serves without them.
const NAMES_PATIENCE: Duration = Duration::from_secs(5);

/// How long the access log may take to write what is queued, once the last session is over.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Runs until a signal ends it. 0: every session ended by itself; 1: it did not start, or a worker
/// broke; 2: sessions were cut at the drain's deadline.
pub fn run(command: &RunCommand) -> ExitCode {
    if let Err(error) = privileges::hide_memory() {
        return problems::fail_to_start(&RunError::Memory(error));
    }
    let program = Program::of_this_process();
    let takeover = match Takeover::find() {
        Ok(takeover) => takeover,
        Err(error) => return problems::fail_with(&error),
    };
    match start(&command.config, program, takeover.as_ref()) {
        Ok(Ended::Clean) => ExitCode::SUCCESS,
        Ok(Ended::Cut { .. }) => ExitCode::from(2),
        Err(error) => {
            if let Some(takeover) = &takeover {
                takeover.fail(&problems::why(&error));
            }
            problems::fail_to_start(&error)
        }
    }
}

/// Why the process could not serve.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the memory of the process cannot be hidden from others")]
    Memory(#[source] io::Error),
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    #[error(
        "the sockets that systemd passes cannot be used: Accept=no, and ListenStream= of TCP or of a \
         path, are what a gateway takes"
    )]
    Passed(#[source] io::Error),
    #[error("the log cannot be set up")]
    Log(#[source] tracing_subscriber::util::TryInitError),
    /// The admin server or the access log, at the place that names it.
    #[error("{0}")]
    Outlet(Problem),
    #[error("the access log cannot be written to standard output")]
    AccessLog(#[source] io::Error),
    #[error("control could not be set up")]
    Control(#[source] io::Error),
    #[error("a worker ended by itself: what stands above says why; start the process again")]
    WorkerLost,
}

/// What is known of the process beside the plan.
struct Start<'a> {
    file: &'a Path,
    files: Files,
    fingerprint: Fingerprint,
    volume: LogVolume,
    confinement: Confinement,
    program: io::Result<Program>,
    takeover: Option<&'a Takeover>,
    given: Given,
}

fn start(
    file: &Path,
    program: io::Result<Program>,
    takeover: Option<&Takeover>,
) -> Result<Ended, RunError> {
    let given = match takeover {
        Some(takeover) => takeover.accept()?,
        None => from_systemd().map_err(RunError::Passed)?,
    };
    let Reading { plan, files, fingerprint } = reload::read(file);
    let plan = plan.map_err(StartError::Problems)?;
    let volume = log::init(&plan.log).map_err(RunError::Log)?;
    if let Err(error) = huge_pages::forgo() {
        tracing::warn!(%error, "huge pages stay on, so idle connections take more memory; nothing has to be done");
    }
    // While this is the only thread: what is given up is given up in those that this one starts.
    let path = program.as_ref().ok().map(Program::path);
    let confinement =
        confinement::enter(file, &plan, &files, path).map_err(StartError::Problems)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Control)?;
    let start = Start { file, files, fingerprint, volume, confinement, program, takeover, given };
    let ended = runtime.block_on(serve(plan, start));
    // A configuration that is still being loaded is nobody's any more.
    runtime.shutdown_background();
    ended
}

async fn serve(plan: Plan, start: Start<'_>) -> Result<Ended, RunError> {
    let Start { file, files, fingerprint, volume, confinement, program, takeover, mut given } =
        start;
    // Before anybody is told that we are ready, and may end us.
    let signals = Signals::listen().map_err(RunError::Control)?;
    let admin = Admin::listen(&plan, &mut given.sockets)?;
    let loaded = Gateway::load(plan, &mut given)?;
    let left = close(given.sockets);
    let (reports, access_log) = open_access_log(loaded.plan())?;
    let mut gateway = loaded.spawn(reports.as_ref())?;
    drop(reports);
    upkeep::settle(&gateway.current().load_full(), NAMES_PATIENCE).await;
    upkeep::tell_all(gateway.peers());
    let counts = Arc::new(ReloadCounts::new(clock::wall()));
    let (orders, ordered) = crate::admin::orders();
    let state = Arc::new(state(&gateway, &access_log, &counts, orders));
    if let Some(takeover) = takeover {
        takeover.commit(left, admin.as_ref().is_some_and(|admin| admin.share.is_taken_over))?;
    }
    gateway.open();
    let mut ready = ready_line(&gateway);
    let (admin, share) = match admin {
        None => (None, None),
        Some(Admin { share, listener }) => {
            ready.push_str(&format!(" admin={}", listener.local_addr()));
            let served = crate::admin::start(listener, Arc::clone(&state));
            (Some(served.map_err(RunError::Control)?), share.keep())
        }
    };
    tokio::spawn(expiry::watch(Arc::clone(gateway.current())));
    tokio::spawn(rotate_tickets(Arc::clone(gateway.stek())));
    let reloads = {
        let plan = &gateway.current().load().plan;
        Reloads::new(file, plan, (&files, fingerprint), counts, volume.clone()).within(confinement)
    };
    let workers = gateway.peers().len();
    let io = gateway.current().load().plan.runtime.io.name();
    let supervisor = Supervisor::new(workers, clock::now());
    let upgrades = Upgrades::new(program);
    let logs = Logs { volume, reopen: access_log.reopener() };
    let control = Control {
        gateway,
        state,
        signals,
        ordered,
        reloads,
        upgrades,
        share,
        admin,
        logs,
        supervisor,
        memory: Memory::new(),
    };
    let mut control = control.ready();
    if let Err(error) = say(&ready) {
        tracing::warn!(%error, "the ready line cannot be written to standard output: {ready}");
    }
    let took_over = takeover.is_some();
    tracing::info!(config = %file.display(), workers, io, generation = 1, took_over, "serving");
    let ended = control.run().await;
    if let Err(error) = access_log.finish(LOG_PATIENCE) {
        tracing::warn!(%error, "the last lines of the access log are lost");
    }
    if let Ok(ended) = &ended {
        tell(*ended);
    }
    ended
}

fn tell(ended: Ended) {
    match ended {
        Ended::Clean => tracing::info!("ended: every session ended by itself"),
        Ended::Cut { connections } => {
            tracing::warn!(
                connections,
                "ended: connections were cut, see `draining` in the access log"
            );
        }
    }
}

/// The socket of the admin pages.
struct Admin {
    /// Before the listener, whose end may remove the socket's file.
    share: Borrowed,
    listener: AdminListener,
}

/// The socket of the admin pages as long as it may be another process' still, which then goes on with it
/// and its file.
struct Borrowed {
    share: Option<AdminShare>,
    /// From a former process.
    is_taken_over: bool,
}

impl Admin {
    fn listen(plan: &Plan, given: &mut Inherited) -> Result<Option<Self>, RunError> {
        let Some(admin) = &plan.admin else { return Ok(None) };
        let (listener, is_taken_over) = match given.take_admin(admin) {
            Some(GivenAdmin { giver, socket, owns_file, .. }) => (
                AdminListener::given(socket, &admin.address, owns_file),
                giver == Giver::Predecessor,
            ),
            None => (AdminListener::bind(&admin.address), false),
        };
        let failed = |error| RunError::Outlet(outlets::admin_problem(admin, &error));
        let listener = listener.map_err(failed)?;
        let share = listener.share().map_err(RunError::Control)?;
        let share = Borrowed { share: Some(share), is_taken_over };
        Ok(Some(Self { share, listener }))
    }
}

impl Borrowed {
    /// It is this process' now.
    fn keep(mut self) -> Option<AdminShare> {
        self.share.take()
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.is_taken_over
            && let Some(share) = self.share.take()
        {
            share.let_go();
        }
    }
}

/// Sockets of systemd's, if this process is started by one.
fn from_systemd() -> io::Result<Given> {
    let mut given = Given::default();
    let giver = Giver::Systemd;
    for passed::Passed { name, socket } in passed::take()? {
        match socket {
            PassedSocket::Tcp(listener) => {
                socket::adopt(&listener)?;
                let address = listener.local_addr()?;
                let (configured, sockets) = (address, vec![listener]);
                given.sockets.add(GivenListener { giver, name, configured, address, sockets });
            }
            PassedSocket::Unix(listener) => given.sockets.add_admin(unix(listener)?),
        }
    }
    Ok(given)
}

/// Its file is systemd's.
fn unix(listener: UnixListener) -> io::Result<GivenAdmin> {
    let Some(path) = listener.local_addr()?.as_pathname().map(Path::to_owned) else {
        return Err(io::Error::other("a unix socket without a path is none of ours"));
    };
    let (address, socket) = (AdminAddress::Unix(path), AdminSocket::Unix(listener));
    Ok(GivenAdmin { giver: Giver::Systemd, address, socket, owns_file: false })
}

/// Closes what nobody has taken; returns where it listens.
fn close(given: Inherited) -> Vec<SocketAddr> {
    let left = given.addresses().collect();
    for line in given.close() {
        tracing::warn!("nobody listens any more on {line}: no listener has this address or name");
    }
    left
}

fn state(
    gateway: &Gateway,
    log: &AccessLogGuard,
    reloads: &Arc<ReloadCounts>,
    orders: Orders,
) -> AdminState {
    let shown = Shown {
        current: Arc::clone(gateway.current()),
        peers: Arc::clone(gateway.peers()),
        stek: Arc::clone(gateway.stek()),
        bound: Arc::clone(gateway.bound()),
        started: clock::unix_now(),
    };
    let (peers, current) = (Arc::clone(&shown.peers), Arc::clone(&shown.current));
    let (log, stek) = (log.counts(), Arc::clone(&shown.stek));
    let registry = metrics::registry(peers, current, log, Arc::clone(reloads), stek);
    AdminState::new(registry, shown, orders)
}

/// Turns the ticket keys at each epoch.
async fn rotate_tickets(stek: Arc<StekKeys>) {
    loop {
        let now = clock::unix_now();
        let Rotation { turned, next } = stek.rotate(now);
        if turned {
            tracing::info!("session ticket keys rotated");
        }
        let wait = Duration::from_secs(next.saturating_sub(now));
        tokio::time::sleep(wait.clamp(CLOCK_LOOK_MIN, CLOCK_LOOK_MAX)).await;
    }
}

fn open_access_log(plan: &Plan) -> Result<(Option<Sender<Report>>, AccessLogGuard), RunError> {
    let written = &plan.access_log;
    AccessLog::start(&written.sink, written.format).map_err(|error| {
        match outlets::access_log_problem(written, &error) {
            Some(problem) => RunError::Outlet(problem),
            None => RunError::AccessLog(error),
        }
    })
}

/// One line for people and for supervisors: what listens where.
fn ready_line(gateway: &Gateway) -> String {
    let mut line = "ready".to_owned();
    for (listener, address) in gateway.addresses() {
        line.push_str(&format!(" listener.{listener}={address}"));
    }
    line
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
