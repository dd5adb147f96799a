//! A new configuration in the place of the one that runs: set off by SIGHUP or by a file that changes,
//! loaded beside everything else, and taken whole or not at all.
//!
//! `core::reload` says when, `gateway` makes it live, `worker::reload` is what a worker does with it.
//! Next: `watch` and `files`.

mod files;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

pub use self::files::{Files, Fingerprint, Reading, read};
use self::watch::Watch;
use super::gateway::{Gateway, Loader, Prepared, StartError};
use super::upkeep;
use crate::config::error::Problem;
use crate::config::plan::{AccessLogSink, AdminAddress, Io, LogFormat, Plan, Workers};
use crate::core::reload::{Cause, Next, Schedule};
use crate::sys::clock;
use crate::telemetry::log::LogVolume;
use crate::telemetry::metrics::ReloadCounts;

/// What a process reloads by.
#[derive(Debug)]
pub struct Reloads {
    file: PathBuf,
    schedule: Schedule,
    /// `None`: files are not watched.
    watch: Option<Watch>,
    /// Of what runs.
    fingerprint: Fingerprint,
    /// Of what was told to be wrong, and need not be told again until it changes.
    told: Option<Fingerprint>,
    fixed: Fixed,
    loading: Option<JoinHandle<Loaded>>,
    counts: Arc<ReloadCounts>,
    volume: LogVolume,
}

/// Something to be done: see `Reloads::act`.
#[derive(Debug)]
pub enum Work {
    Due,
    Loaded(Result<Loaded, JoinError>),
}

/// What came of loading.
#[derive(Debug)]
pub struct Loaded {
    files: Files,
    fingerprint: Fingerprint,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// The files say what they said when what runs was loaded.
    Unchanged,
    /// They say what was told to be wrong before.
    Told,
    Ready(Box<Prepared>),
    Failed(StartError),
}

/// What only a start sets up.
#[derive(Debug, PartialEq, Eq)]
struct Fixed {
    workers: Workers,
    io: Io,
    admin: Option<AdminAddress>,
    access_log: (AccessLogSink, LogFormat),
    log_format: LogFormat,
}

impl Reloads {
    /// For the process that was started with `plan`, which stands in `file`.
    pub fn new(
        file: &Path,
        plan: &Plan,
        started: (&Files, Fingerprint),
        counts: Arc<ReloadCounts>,
        volume: LogVolume,
    ) -> Self {
        let (files, fingerprint) = started;
        let mut reloads = Self {
            file: file.to_owned(),
            schedule: Schedule::default(),
            watch: None,
            fingerprint,
            told: None,
            fixed: Fixed::of(plan),
            loading: None,
            counts,
            volume,
        };
        reloads.watch(plan.runtime.watch, files);
        reloads
    }

    /// Somebody wants the configuration loaded now.
    pub fn ask(&mut self) {
        self.schedule.ask();
    }

    /// Notes what has changed among the files. To be asked often: it costs a system call.
    pub fn look(&mut self) {
        match self.watch.as_ref().map(Watch::has_changed) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => self.schedule.changed(clock::now()),
            Some(Err(error)) => {
                tracing::error!(%error, "files are not watched any more: send SIGHUP to reload");
                self.watch = None;
            }
        }
    }

    /// Waits until there is something to do. May be dropped and called again.
    pub async fn next(&mut self) -> Work {
        let due = self.schedule.next(clock::now());
        tokio::select! {
            () = sleep_until(due) => Work::Due,
            loaded = finished(self.loading.as_mut()) => Work::Loaded(loaded),
        }
    }

    /// Does what `next` has found.
    pub fn act(&mut self, work: Work, gateway: &mut Gateway) {
        match work {
            Work::Due => {
                if let Some(cause) = self.schedule.start(clock::now()) {
                    self.begin(cause, gateway.loader());
                }
            }
            Work::Loaded(loaded) => {
                self.loading = None;
                match loaded {
                    Ok(loaded) => self.finish(loaded, gateway),
                    Err(panic) => {
                        tracing::error!(%panic, "please report this with what stands above");
                        self.schedule.done(false, clock::now());
                        self.counts.failed();
                    }
                }
            }
        }
    }

    /// Loads on a thread of its own: signals and admin pages do not wait for a long list.
    fn begin(&mut self, cause: Cause, loader: Loader) {
        let file = self.file.clone();
        let known = match cause {
            // Whoever asks gets a new generation, whatever is in the files.
            Cause::Asked => (None, None),
            Cause::Changed => (Some(self.fingerprint), self.told),
        };
        self.loading = Some(tokio::task::spawn_blocking(move || load(&file, &loader, known)));
    }

    fn finish(&mut self, loaded: Loaded, gateway: &mut Gateway) {
        let Loaded { files, fingerprint, outcome } = loaded;
        let result = match outcome {
            Outcome::Unchanged => {
                self.counts.unchanged();
                Ok(None)
            }
            Outcome::Told => Ok(None),
            Outcome::Failed(error) => Err(error),
            Outcome::Ready(prepared) => {
                let snapshot = Arc::clone(prepared.snapshot());
                gateway.install(*prepared).map(|report| Some((snapshot, report)))
            }
        };
        let next = self.schedule.done(result.is_ok(), clock::now());
        let is_watched = match &result {
            Ok(Some((snapshot, _))) => snapshot.plan.runtime.watch,
            Ok(None) | Err(_) => self.watch.is_some(),
        };
        self.watch(is_watched, &files);
        match result {
            Ok(None) => tracing::debug!("the files of the configuration say what they said"),
            Ok(Some((snapshot, report))) => {
                self.fingerprint = fingerprint;
                self.told = None;
                self.counts.succeeded(clock::wall());
                self.volume.set(snapshot.plan.log.level);
                for key in self.fixed.differs(&snapshot.plan) {
                    tracing::warn!("{key} has changed: this takes effect with the next start only");
                }
                for (listener, address) in &report.opened {
                    tracing::info!(%listener, %address, "listening");
                }
                for listener in &report.closed {
                    tracing::info!(%listener, "listening no more where it did");
                }
                tracing::info!(generation = report.generation, "configuration reloaded");
            }
            Err(error) => {
                if next == Next::Failed {
                    self.told = Some(fingerprint);
                }
                self.tell(&error, next, gateway);
            }
        }
    }

    /// Says what keeps a configuration from being loaded.
    fn tell(&self, error: &StartError, next: Next, gateway: &Gateway) {
        let whole;
        let problems = match error {
            StartError::Problems(problems) => problems.as_slice(),
            other => {
                whole = [self.problem(other)];
                &whole
            }
        };
        if let Next::Again(pause) = next {
            for problem in problems {
                tracing::info!("not loaded yet, once more in {pause:?}: {problem}");
            }
            return;
        }
        self.counts.failed();
        for problem in problems {
            tracing::error!("not reloaded: {problem}");
        }
        tracing::error!(
            problems = problems.len(),
            generation = gateway.current().load().generation,
            "the configuration was not reloaded, nothing has changed: mend what stands above"
        );
    }

    /// What has no place of its own has the whole file's.
    fn problem(&self, error: &StartError) -> Problem {
        let at = crate::config::error::Location {
            file: Arc::new(self.file.clone()),
            line: 1,
            column: 1,
            key: Arc::from(""),
        };
        Problem { at, message: super::problems::chain(error), help: String::new() }
    }

    fn watch(&mut self, is_wanted: bool, files: &Files) {
        if !is_wanted {
            self.watch = None;
            return;
        }
        if self.watch.is_none() {
            self.watch = match Watch::new() {
                Ok(watch) => Some(watch),
                Err(error) => {
                    tracing::warn!(%error, "files cannot be watched: send SIGHUP to reload");
                    return;
                }
            };
        }
        if self.watch.as_mut().is_some_and(|watch| watch.set(files)) {
            self.schedule.changed(clock::now());
        }
    }
}

/// Reads and loads everything, on whatever thread.
fn load(
    file: &Path,
    loader: &Loader,
    (running, told): (Option<Fingerprint>, Option<Fingerprint>),
) -> Loaded {
    let Reading { plan, files, fingerprint } = read(file);
    let outcome = match plan {
        Ok(_) if running == Some(fingerprint) => Outcome::Unchanged,
        _ if told == Some(fingerprint) => Outcome::Told,
        Err(problems) => Outcome::Failed(StartError::Problems(problems)),
        Ok(plan) => match loader.load(plan) {
            Ok(prepared) => {
                // No client is to come to a cluster whose names have not been asked for yet.
                let settled = upkeep::settle(prepared.snapshot(), NAMES_PATIENCE);
                tokio::runtime::Handle::current().block_on(settled);
                Outcome::Ready(Box::new(prepared))
            }
            Err(error) => Outcome::Failed(error),
        },
    };
    Loaded { files, fingerprint, outcome }
}

/// How long new host names may take to be found before a configuration goes live without their
/// addresses.
const NAMES_PATIENCE: Duration = Duration::from_secs(5);

async fn sleep_until(due: Option<std::time::Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn finished<T>(task: Option<&mut JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

impl Fixed {
    fn of(plan: &Plan) -> Self {
        Self {
            workers: plan.runtime.workers,
            io: plan.runtime.io,
            admin: plan.admin.as_ref().map(|admin| admin.address.clone()),
            access_log: (plan.access_log.sink.clone(), plan.access_log.format),
            log_format: plan.log.format,
        }
    }

    /// The keys that `plan` has otherwise.
    fn differs(&self, plan: &Plan) -> Vec<&'static str> {
        let Self { workers, io, admin, access_log, log_format } = Self::of(plan);
        let keys = [
            ("runtime.workers", self.workers != workers),
            ("runtime.io", self.io != io),
            ("admin.listen", self.admin != admin),
            ("access_log.path", self.access_log.0 != access_log.0),
            ("access_log.format", self.access_log.1 != access_log.1),
            ("log.format", self.log_format != log_format),
        ];
        keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}
