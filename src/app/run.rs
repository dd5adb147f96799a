//! `portcullis run`: the gateway as a process, from the ready line to the last session.
//!
//! The main thread is control: signals, admin, ticket keys. It never touches a client's byte.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::gateway::{Gateway, StartError};
use super::{expiry, outlets, problems};
use crate::admin::{AdminListener, AdminState, Readiness};
use crate::config;
use crate::config::error::Problem;
use crate::config::plan::Plan;
use crate::sys::clock;
use crate::telemetry::access_log::{AccessLog, AccessLogGuard};
use crate::telemetry::{log, metrics};
use crate::tls::StekKeys;
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
  SIGTERM, SIGINT           drain as [runtime] drain says; a second one ends all at once
  SIGHUP, SIGUSR1, SIGUSR2  reload, reopen logs, upgrade: not available yet, the log says so

Exit codes:
  0  every session ended by itself     1  it could not start, or a worker was lost
  2  sessions were cut at the drain's deadline or by a second signal; or wrong usage";

/// How often control looks whether a worker has ended.
const LOOK: Duration = Duration::from_millis(50);

/// How long the access log may take to write what is queued, once the last session is over.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Runs until a signal ends it. 0: every session ended by itself; 1: it did not start, or a worker
/// broke; 2: sessions were cut at the drain's deadline.
pub fn run(command: &RunCommand) -> ExitCode {
    let plan = match config::load(&command.config) {
        Ok(plan) => plan,
        Err(found) => return problems::fail(&found),
    };
    if let Err(error) = log::init(&plan.log) {
        return problems::fail_with(&error);
    }
    match serve(plan, &command.config) {
        Ok(Ended::Clean) => ExitCode::SUCCESS,
        Ok(Ended::Cut) => ExitCode::from(2),
        Err(error) => problems::fail_to_start(&error),
    }
}

/// Why the process could not serve.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
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

fn serve(plan: Plan, file: &Path) -> Result<Ended, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Control)?;
    runtime.block_on(control(plan, file))
}

async fn control(plan: Plan, file: &Path) -> Result<Ended, RunError> {
    // Before anybody is told that we are ready, and may end us.
    let signals = Signals::listen().map_err(RunError::Control)?;
    for unavailable in UNAVAILABLE {
        let received = signal(unavailable.kind).map_err(RunError::Control)?;
        tokio::spawn(answer(unavailable, received));
    }
    let admin = match &plan.admin {
        None => None,
        Some(admin) => {
            let failed = |error| RunError::Outlet(outlets::admin_problem(admin, &error));
            Some(AdminListener::bind(&admin.address).map_err(failed)?)
        }
    };
    let (reports, access_log) = open_access_log(&plan)?;
    let gateway = Gateway::start(plan, reports.as_ref())?;
    drop(reports);
    let (peers, counts) = (Arc::clone(gateway.peers()), access_log.counts());
    let current = gateway.current();
    let registry = metrics::registry(peers, Arc::clone(current), counts);
    let state = Arc::new(AdminState::new(registry, Arc::clone(current)));
    let mut ready = ready_line(&gateway);
    if let Some(admin) = admin {
        ready.push_str(&format!(" admin={}", admin.local_addr()));
        tokio::spawn(crate::admin::serve(admin, Arc::clone(&state)));
    }
    tokio::spawn(expiry::watch(Arc::clone(current)));
    tokio::spawn(rotate_tickets(Arc::clone(gateway.stek())));
    state.set_readiness(Readiness::Ready);
    if let Err(error) = say(&ready) {
        tracing::warn!(%error, "the ready line cannot be written to standard output: {ready}");
    }
    tracing::info!(config = %file.display(), workers = gateway.peers().len(), "serving");
    let ended = until_signalled(gateway, &state, signals).await;
    if let Err(error) = access_log.finish(LOG_PATIENCE) {
        tracing::warn!(%error, "the last lines of the access log are lost");
    }
    match &ended {
        Ok(Ended::Clean) => tracing::info!("ended: every session ended by itself"),
        Ok(Ended::Cut) => tracing::warn!("ended: sessions were cut"),
        Err(_) => {}
    }
    ended
}

/// SIGTERM and SIGINT, which mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on neither ends the process by itself.
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A signal that other daemons act on and this one cannot yet. Left alone it would end the process,
/// and every session with it, without a word.
#[derive(Debug, Clone, Copy)]
struct UnavailableSignal {
    kind: SignalKind,
    name: &'static str,
    /// What it asks for elsewhere, and what to do here.
    instead: &'static str,
}

const UNAVAILABLE: [UnavailableSignal; 3] = [
    UnavailableSignal {
        kind: SignalKind::hangup(),
        name: "SIGHUP",
        instead: "reload is not available yet: start a new process to use a changed configuration",
    },
    UnavailableSignal {
        kind: SignalKind::user_defined1(),
        name: "SIGUSR1",
        instead: "reopening logs is not available yet: rotate the access log by copy and truncate",
    },
    UnavailableSignal {
        kind: SignalKind::user_defined2(),
        name: "SIGUSR2",
        instead: "upgrade in place is not available yet: SIGTERM drains, then start the new program",
    },
];

/// Says each time that nothing was done.
async fn answer(unavailable: UnavailableSignal, mut received: Signal) {
    let UnavailableSignal { kind: _, name, instead } = unavailable;
    while received.recv().await.is_some() {
        tracing::warn!("{name} changed nothing: {instead}");
    }
}

/// Serves until the first signal, then drains; a second one ends everything at once.
async fn until_signalled(
    gateway: Gateway,
    state: &AdminState,
    mut signals: Signals,
) -> Result<Ended, RunError> {
    tokio::select! {
        () = signals.next() => {}
        () = ended(&gateway, Gateway::has_ended) => {
            gateway.stop();
            return Err(RunError::WorkerLost);
        }
    }
    state.set_readiness(Readiness::Draining);
    tracing::info!("draining: no longer ready; a second signal ends it at once");
    gateway.drain(clock::now());
    tokio::select! {
        () = signals.next() => tracing::warn!("second signal: cutting what is still open"),
        () = ended(&gateway, Gateway::is_over) => {}
    }
    Ok(gateway.stop())
}

async fn ended(gateway: &Gateway, is_so: impl Fn(&Gateway) -> bool) {
    while !is_so(gateway) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Turns the ticket keys at each epoch.
async fn rotate_tickets(stek: Arc<StekKeys>) {
    let mut latest = None;
    loop {
        let now = clock::unix_now();
        let next = stek.rotate(now);
        // The first call finds the keys of the start; a clock set back turns nothing.
        if latest.is_some_and(|latest| next > latest) {
            tracing::info!("session ticket keys rotated");
        }
        latest = latest.max(Some(next));
        tokio::time::sleep(Duration::from_secs(next.saturating_sub(now).max(1))).await;
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
        line.push_str(&format!(" listener.{}={address}", listener.name));
    }
    line
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
