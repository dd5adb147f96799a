//! A new configuration in the place of the one that runs: set off by SIGHUP or by a file that changes,
//! loaded beside everything else, and taken whole or not at all.
//!
//! `core::reload` says when, `gateway` makes it live, `worker::reload` is what a worker does with it.
//! Next: `watch` and `files`.

mod changes;
mod files;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

pub use self::files::{Files, Fingerprint, Reading, read};
use self::watch::Watch;
pub use self::watch::{Ways, ways};
use super::confinement::Confinement;
use super::gateway::{Gateway, Loader, Prepared, StartError};
use super::{orders, upkeep};
use crate::admin::Told;
use crate::config::error::{Location, Problem};
use crate::config::plan::{AccessLogSink, AdminAddress, Io, LogFormat, Plan, Sandbox, Workers};
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
    /// What the process may read.
    confinement: Arc<Confinement>,
    loading: Option<JoinHandle<Loaded>>,
    /// Who asked for the load that comes next, and for the one that runs, and waits for its result.
    asking: Vec<oneshot::Sender<Told>>,
    answering: Vec<oneshot::Sender<Told>>,
    counts: Arc<ReloadCounts>,
    volume: LogVolume,
}

/// Something to be done: see `Reloads::act`.
#[derive(Debug)]
pub enum Work {
    Due,
    Loaded(Result<Loaded, JoinError>),
}

/// What `act` has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A load has begun that somebody asked for.
    Asked,
    /// A load is over, well or not.
    Over,
    Other,
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
    account: Option<(String, Option<String>)>,
    sandbox: Sandbox,
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
            confinement: Arc::default(),
            loading: None,
            asking: Vec::new(),
            answering: Vec::new(),
            counts,
            volume,
        };
        reloads.watch(plan.runtime.watch, files);
        reloads
    }

    /// For a process that may read no more than this.
    #[must_use]
    pub fn within(mut self, confinement: Confinement) -> Self {
        self.confinement = Arc::new(confinement);
        self
    }

    /// Somebody wants the configuration loaded now.
    pub fn ask(&mut self) {
        self.schedule.ask();
    }

    /// Tells whoever waits that nothing is loaded any more.
    pub fn dismiss(&mut self) {
        self.answering.append(&mut self.asking);
        self.answer(&Told::refused("the process drains and ends: nothing is loaded"));
    }

    /// As `ask`, for somebody who waits for what comes of it.
    pub fn ask_for(&mut self, answer: oneshot::Sender<Told>) {
        self.schedule.ask();
        self.asking.push(answer);
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

    /// Whether somebody wants the configuration loaded, and nothing has been begun since.
    pub fn is_asked(&self) -> bool {
        self.schedule.is_asked()
    }

    /// Whether what stands in the files is known not to be what runs.
    pub fn has_failed(&self) -> bool {
        self.counts.has_failed()
    }

    /// Does what `next` has found.
    pub fn act(&mut self, work: Work, gateway: &mut Gateway) -> Progress {
        match work {
            Work::Due => match self.schedule.start(clock::now()) {
                Some(cause) => {
                    self.begin(cause, gateway.loader());
                    if cause == Cause::Asked { Progress::Asked } else { Progress::Other }
                }
                None => Progress::Other,
            },
            Work::Loaded(loaded) => {
                self.loading = None;
                match loaded {
                    Ok(loaded) => self.finish(loaded, gateway),
                    Err(panic) => {
                        tracing::error!(%panic, "please report this with what stands above");
                        self.schedule.done(false, clock::now());
                        self.counts.failed();
                        let why = "it broke off, which is a fault of portcullis: see the log";
                        self.answer(&Told::wrong(json!({ "error": why })));
                    }
                }
                Progress::Over
            }
        }
    }

    /// Loads on a thread of its own: signals and admin pages do not wait for a long list.
    fn begin(&mut self, cause: Cause, loader: Loader) {
        let file = self.file.clone();
        let known = match cause {
            // Whoever asks gets a new generation, whatever is in the files.
            Cause::Asked => {
                self.answering = std::mem::take(&mut self.asking);
                (None, None)
            }
            Cause::Changed => (Some(self.fingerprint), self.told),
        };
        let confinement = Arc::clone(&self.confinement);
        let load = move || load(&file, &loader, known, &confinement);
        self.loading = Some(tokio::task::spawn_blocking(load));
    }

    fn finish(&mut self, loaded: Loaded, gateway: &mut Gateway) {
        let Loaded { files, fingerprint, outcome } = loaded;
        let before = gateway.current().load_full();
        let result = match outcome {
            Outcome::Unchanged => {
                if self.counts.has_failed() {
                    tracing::info!("the files say again what runs: nothing is left to mend");
                }
                self.counts.unchanged();
                // The same mistake, made once more, is news.
                self.told = None;
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
                let fixed = self.fixed.differs(&snapshot.plan);
                for key in &fixed {
                    tracing::warn!("{key} has changed: this takes effect with the next start only");
                }
                for (listener, address) in &report.opened {
                    tracing::info!(%listener, %address, "listening");
                }
                for listener in &report.closed {
                    tracing::info!(%listener, "listening no more where it did");
                }
                tracing::info!(generation = report.generation, "configuration reloaded");
                if !self.answering.is_empty() {
                    let changes = changes::between(&before, &snapshot);
                    self.answer(&orders::reloaded(&report, &fixed, &changes));
                }
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
    fn tell(&mut self, error: &StartError, next: Next, gateway: &Gateway) {
        let whole;
        let problems = match error {
            StartError::Problems(problems) => problems.as_slice(),
            other => {
                whole = [self.problem(other)];
                &whole
            }
        };
        self.answer(&orders::not_reloaded(problems, gateway.current().load().generation));
        if let Next::Again(pause) = next {
            for problem in problems {
                let problem = problem.one_line();
                tracing::info!("not loaded yet, once more in {pause:?}: {problem}");
            }
            return;
        }
        self.counts.failed();
        for problem in problems {
            let problem = problem.one_line();
            tracing::error!("not reloaded: {problem}");
        }
        tracing::error!(
            problems = problems.len(),
            generation = gateway.current().load().generation,
            "the configuration was not reloaded, nothing has changed: mend what stands above"
        );
    }

    fn answer(&mut self, told: &Told) {
        for waiting in self.answering.drain(..) {
            // Whoever asked may have gone.
            drop(waiting.send(told.clone()));
        }
    }

    /// What has no place of its own has the whole file's.
    fn problem(&self, error: &StartError) -> Problem {
        let at = Location::whole(&self.file);
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
    confinement: &Confinement,
) -> Loaded {
    let Reading { plan, files, fingerprint } = read(file);
    let beyond = confinement.problems(file, &files);
    let outcome = match plan {
        _ if !beyond.is_empty() && told != Some(fingerprint) => {
            Outcome::Failed(StartError::Problems(beyond))
        }
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
            account: plan.runtime.account.as_ref().map(|account| {
                let group = account.group.as_ref().map(|(group, _)| group.clone());
                (account.user.clone(), group)
            }),
            sandbox: plan.runtime.sandbox,
        }
    }

    /// The keys that `plan` has otherwise.
    fn differs(&self, plan: &Plan) -> Vec<&'static str> {
        let Self { workers, io, admin, access_log, log_format, account, sandbox } = Self::of(plan);
        let keys = [
            ("runtime.workers", self.workers != workers),
            ("runtime.io", self.io != io),
            ("admin.listen", self.admin != admin),
            ("access_log.path", self.access_log.0 != access_log.0),
            ("access_log.format", self.access_log.1 != access_log.1),
            ("log.format", self.log_format != log_format),
            ("runtime.user", self.account != account),
            ("runtime.sandbox", self.sandbox != sandbox),
        ];
        keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}
