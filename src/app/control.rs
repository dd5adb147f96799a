//! Control: what the process does from the moment at which it serves to its end. Signals, reloads,
//! upgrades, and a look at everything every 50 ms.
//!
//! The main thread; it never touches a client's byte. `run` is what comes before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::gateway::{Gateway, WorkerLost};
use super::memory::Memory;
use super::orders::{self, Logs, Then};
use super::problems;
use super::reload::{Progress, Reloads, Work};
use super::run::RunError;
use super::signals::{Signals, Wanted};
use super::supervisor::Supervisor;
use super::upgrade::{Outcome, Successor, UpgradeError, Upgrades};
use super::upkeep::Upkeep;
use crate::admin::{AdminShare, AdminState, AdminThread, Ordered, Readiness, UpgradeReport};
use crate::sys::clock;
use crate::worker::Ended;

/// How often control looks whether a worker has ended, and whether a file has changed.
const LOOK: Duration = Duration::from_millis(50);

/// How long who is connected to the admin pages may take for a last answer.
const ADMIN_PATIENCE: Duration = Duration::from_secs(2);

/// Everything that control has in its hands.
#[derive(Debug)]
pub(super) struct Control {
    pub gateway: Gateway,
    pub state: Arc<AdminState>,
    pub signals: Signals,
    /// What the admin endpoint asks for.
    pub ordered: mpsc::Receiver<Ordered>,
    pub reloads: Reloads,
    pub upgrades: Upgrades,
    /// The socket of the admin pages, to be handed over.
    pub share: Option<AdminShare>,
    /// Serves the admin pages.
    pub admin: Option<AdminThread>,
    pub logs: Logs,
    pub supervisor: Supervisor,
    pub memory: Memory,
}

impl Control {
    /// Tells everybody that the process serves.
    pub(super) fn ready(mut self) -> Self {
        self.state.set_readiness(Readiness::Ready);
        self.supervisor.ready(&self.status());
        self
    }

    /// Serves until the first signal that ends, or until another process serves; then drains.
    pub(super) async fn run(&mut self) -> Result<Ended, RunError> {
        let mut look = tokio::time::interval(LOOK);
        let mut upkeep = Upkeep::new(self.gateway.peers());
        let successor = loop {
            // Another process that starts has its own picture of the configuration.
            let may_reload = !self.upgrades.is_running();
            tokio::select! {
                order = self.signals.next() => match order {
                    Wanted::Reload => self.reloads.ask(),
                    Wanted::Reopen => self.logs.reopen.reopen(),
                    Wanted::Upgrade => self.begin_upgrade(),
                    Wanted::End => break None,
                },
                Some(ordered) = self.ordered.recv() => {
                    if orders::carry_out(ordered, &mut self.reloads, &self.logs) == Then::Drain {
                        break None;
                    }
                }
                work = self.reloads.next(), if may_reload => self.reload(work),
                outcome = self.upgrades.next() => {
                    if let Some(successor) = self.finish_upgrade(outcome) {
                        break Some(successor);
                    }
                }
                _ = look.tick() => {
                    if self.gateway.has_ended() {
                        return self.stop();
                    }
                    self.reloads.look();
                    let current = self.gateway.current().load_full();
                    upkeep.look(&current);
                    self.look();
                }
            }
        };
        drop(upkeep);
        self.reloads.dismiss();
        match successor {
            None => self.begin_drain(),
            Some(successor) => self.hand_over(&successor),
        }
        let ended = self.drain(look).await;
        if let Some(admin) = self.admin.take().filter(|_| self.state.was_retired()) {
            // Whoever asked this process before the other one answered gets an answer.
            admin.finish(ADMIN_PATIENCE).await;
        }
        ended
    }

    fn look(&mut self) {
        let gateway = &self.gateway;
        self.supervisor.look(gateway.peers(), |worker| gateway.is_gone(worker), clock::now());
        self.memory.look(gateway);
        // Freed where nobody waits for it.
        let unused = self.gateway.take_unused();
        if !unused.is_empty() {
            drop(tokio::task::spawn_blocking(move || drop(unused)));
        }
    }

    fn reload(&mut self, work: Work) {
        match self.reloads.act(work, &mut self.gateway) {
            Progress::Asked => self.supervisor.reloading(),
            Progress::Over => self.supervisor.ready(&self.status()),
            Progress::Other => {}
        }
    }

    fn status(&self) -> String {
        let current = self.gateway.current().load();
        let (generation, listeners) = (current.generation, current.plan.listeners.len());
        let failed =
            if self.reloads.has_failed() { "; the last reload failed, see the log" } else { "" };
        format!("serving, generation {generation}, listeners: {listeners}{failed}")
    }

    fn begin_upgrade(&mut self) {
        let deadline = self.gateway.current().load().plan.runtime.upgrade_deadline;
        match self.upgrades.begin(&self.gateway, self.share.as_ref(), deadline) {
            Ok(()) => {
                let attempts = self.state.upgrade().attempts + 1;
                self.state.set_upgrade(UpgradeReport { attempts, is_running: true, error: None });
                self.supervisor.status("upgrading: the new process starts");
            }
            Err(error @ UpgradeError::UnderWay) => {
                tracing::warn!("SIGUSR2 changed nothing: {error}")
            }
            Err(error) => {
                let attempts = self.state.upgrade().attempts + 1;
                self.upgrade_failed(&error, attempts);
            }
        }
    }

    /// Lets the new process serve, or says why this one goes on.
    fn finish_upgrade(&mut self, outcome: Outcome) -> Option<Successor> {
        let let_go = outcome.and_then(|mut successor| {
            // While this process still may say so.
            self.supervisor.main_process(successor.process());
            match successor.go() {
                Ok(()) => Ok(successor),
                Err(error) => {
                    self.supervisor.main_process(std::process::id());
                    Err(error)
                }
            }
        });
        match let_go {
            Ok(successor) => Some(successor),
            Err(error) => {
                self.upgrade_failed(&error, self.state.upgrade().attempts);
                None
            }
        }
    }

    fn upgrade_failed(&mut self, error: &UpgradeError, attempts: u64) {
        let why = problems::chain(error);
        // First: whoever reads the line may look at the page.
        let error = Some(why.clone());
        self.state.set_upgrade(UpgradeReport { attempts, is_running: false, error });
        tracing::error!("not upgraded, this process serves on: {why}");
        self.supervisor.status(&format!("{}; the last upgrade failed, see the log", self.status()));
    }

    fn begin_drain(&mut self) {
        if let Some(error) = self.upgrades.cancel() {
            tracing::warn!("not upgraded: {error}");
        }
        self.state.set_readiness(Readiness::Draining);
        tracing::info!("draining: no longer ready; a second signal ends it at once");
        self.supervisor.stopping(self.gateway.current().load().plan.runtime.drain.deadline);
        self.gateway.drain(clock::now());
    }

    fn hand_over(&mut self, successor: &Successor) {
        self.state.set_readiness(Readiness::Draining);
        // First: once the pages are retired, their thread drops the socket, and with it a file that is
        // still its own.
        if let Some(share) = self.share.take().filter(|_| successor.has_admin) {
            share.let_go();
        }
        self.state.retire();
        if self.reloads.is_asked() {
            successor.reload();
        }
        tracing::info!(
            process = successor.process(),
            "upgraded: the new process serves, this one drains; a second signal ends it at once"
        );
        self.gateway.hand_over(clock::now(), &successor.passed_on);
    }

    /// Waits for the sessions, or for a second signal that ends.
    async fn drain(&mut self, mut look: tokio::time::Interval) -> Result<Ended, RunError> {
        while !self.gateway.is_over() {
            tokio::select! {
                order = self.signals.next() => match order {
                    Wanted::Reload => {
                        tracing::warn!("SIGHUP changed nothing: the process drains and ends");
                    }
                    Wanted::Upgrade => {
                        tracing::warn!("SIGUSR2 changed nothing: the process drains and ends");
                    }
                    Wanted::Reopen => self.logs.reopen.reopen(),
                    Wanted::End => {
                        tracing::warn!("second signal: cutting what is still open");
                        break;
                    }
                },
                Some(ordered) = self.ordered.recv() => orders::carry_out_late(ordered, &self.logs),
                _ = look.tick() => self.look(),
            }
        }
        self.stop()
    }

    fn stop(&mut self) -> Result<Ended, RunError> {
        self.gateway.stop().map_err(|WorkerLost| RunError::WorkerLost)
    }
}
