//! `portcullis run`: the gateway as a process, from the ready line to the last session.
//!
//! The main thread is control: signals, admin, ticket keys. It never touches a client's byte.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;

use super::gateway::{Gateway, StartError};
use super::memory::Memory;
use super::reload::{self, Files, Fingerprint, Reading, Reloads};
use super::signals::{self, Signals, Wanted};
use super::upkeep::{self, Upkeep};
use super::{expiry, outlets, problems};
use crate::admin::{AdminListener, AdminState, Readiness};
use crate::config::error::Problem;
use crate::config::plan::Plan;
use crate::sys::clock;
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
  SIGUSR1, SIGUSR2  reopen logs, upgrade: not available yet, the log says so

Exit codes:
  0  every session ended by itself     1  it could not start, or a worker was lost
  2  sessions were cut at the drain's deadline or by a second signal; or wrong usage";

/// How often control looks whether a worker has ended, and whether a file has changed.
const LOOK: Duration = Duration::from_millis(50);

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
    let Reading { plan, files, fingerprint } = reload::read(&command.config);
    let plan = match plan {
        Ok(plan) => plan,
        Err(found) => return problems::fail(&found),
    };
    let volume = match log::init(&plan.log) {
        Ok(volume) => volume,
        Err(error) => return problems::fail_with(&error),
    };
    match serve(plan, Start { file: &command.config, files, fingerprint, volume }) {
        Ok(Ended::Clean) => ExitCode::SUCCESS,
        Ok(Ended::Cut) => ExitCode::from(2),
        Err(error) => problems::fail_to_start(&error),
    }
}

/// What is known of the configuration beside the plan.
struct Start<'a> {
    file: &'a Path,
    files: Files,
    fingerprint: Fingerprint,
    volume: LogVolume,
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

fn serve(plan: Plan, start: Start<'_>) -> Result<Ended, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Control)?;
    let ended = runtime.block_on(control(plan, start));
    // A configuration that is still being loaded is nobody's any more.
    runtime.shutdown_background();
    ended
}

async fn control(plan: Plan, start: Start<'_>) -> Result<Ended, RunError> {
    // Before anybody is told that we are ready, and may end us.
    let signals = Signals::listen().map_err(RunError::Control)?;
    signals::answer_unavailable().map_err(RunError::Control)?;
    let admin = match &plan.admin {
        None => None,
        Some(admin) => {
            let failed = |error| RunError::Outlet(outlets::admin_problem(admin, &error));
            Some(AdminListener::bind(&admin.address).map_err(failed)?)
        }
    };
    let (reports, access_log) = open_access_log(&plan)?;
    let gateway = Gateway::start(plan, reports.as_ref())?;
    upkeep::settle(&gateway.current().load_full(), NAMES_PATIENCE).await;
    upkeep::tell_all(gateway.peers());
    drop(reports);
    let (peers, counts) = (Arc::clone(gateway.peers()), access_log.counts());
    let reload_counts = Arc::new(ReloadCounts::new(clock::wall()));
    let current = gateway.current();
    let registry =
        metrics::registry(peers, Arc::clone(current), counts, Arc::clone(&reload_counts));
    let state =
        Arc::new(AdminState::new(registry, Arc::clone(current), Arc::clone(gateway.stek())));
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
    let workers = gateway.peers().len();
    let io = gateway.current().load().plan.runtime.io.name();
    tracing::info!(config = %start.file.display(), workers, io, generation = 1, "serving");
    let Start { file, files, fingerprint, volume } = start;
    let plan = &gateway.current().load().plan;
    let reloads = Reloads::new(file, plan, (&files, fingerprint), reload_counts, volume);
    let ended = until_signalled(gateway, &state, signals, reloads).await;
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

/// Serves until the first signal that ends, then drains; a second one ends everything at once.
async fn until_signalled(
    mut gateway: Gateway,
    state: &AdminState,
    mut signals: Signals,
    mut reloads: Reloads,
) -> Result<Ended, RunError> {
    let mut look = tokio::time::interval(LOOK);
    let mut upkeep = Upkeep::new(gateway.peers());
    let mut memory = Memory::new();
    loop {
        tokio::select! {
            order = signals.next() => match order {
                Wanted::Reload => reloads.ask(),
                Wanted::End => break,
            },
            work = reloads.next() => reloads.act(work, &mut gateway),
            _ = look.tick() => {
                if gateway.has_ended() {
                    gateway.stop();
                    return Err(RunError::WorkerLost);
                }
                reloads.look();
                let current = gateway.current().load();
                upkeep.look(&current);
                memory.look(current.plan.limits.memory, gateway.peers());
                free(&mut gateway);
            }
        }
    }
    drop(reloads);
    drop(upkeep);
    state.set_readiness(Readiness::Draining);
    tracing::info!("draining: no longer ready; a second signal ends it at once");
    gateway.drain(clock::now());
    while !gateway.is_over() {
        tokio::select! {
            order = signals.next() => match order {
                Wanted::Reload => {
                    tracing::warn!("SIGHUP changed nothing: the process drains and ends");
                }
                Wanted::End => {
                    tracing::warn!("second signal: cutting what is still open");
                    break;
                }
            },
            _ = look.tick() => {}
        }
    }
    Ok(gateway.stop())
}

/// Frees what no connection holds any more, where nobody waits for it.
fn free(gateway: &mut Gateway) {
    let unused = gateway.take_unused();
    if !unused.is_empty() {
        drop(tokio::task::spawn_blocking(move || drop(unused)));
    }
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
