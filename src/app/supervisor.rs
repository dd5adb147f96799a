//! What systemd is told (sd_notify(3)): when the process is ready, reloads, upgrades and ends, and that
//! its workers live. Without systemd nothing is said, and nothing else changes.
//!
//! Made for `Type=notify-reload`, `NotifyAccess=main` and `WatchdogSec=`. Nothing waits for a supervisor that does
//! not read.

use std::io;
use std::time::{Duration, Instant};

use sd_notify::{NotifyState, notify};

use super::heartbeat::Heartbeat;
use super::speaker::Speaker;
use crate::worker::Peer;

/// Tells the supervisor of this process.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// `None`: there is no supervisor.
    speaker: Option<Speaker>,
    /// `None`: nobody watches whether this process lives.
    watchdog: Option<Watchdog>,
    heart: Heartbeat,
    /// That it does not listen was logged.
    is_deaf: bool,
}

#[derive(Debug)]
struct Watchdog {
    period: Duration,
    next: Instant,
}

impl Supervisor {
    pub(super) fn new(workers: usize, now: Instant) -> Self {
        // The interval of the service; a process that took over goes on with it.
        let period = sd_notify::watchdog_enabled();
        Self {
            speaker: std::env::var_os("NOTIFY_SOCKET").and_then(|_| speaker()),
            watchdog: period.map(|period| Watchdog { period, next: now }),
            heart: Heartbeat::new(workers, period.map_or(Duration::MAX, |it| it / 8), now),
            is_deaf: false,
        }
    }

    pub(super) fn ready(&mut self, status: &str) {
        let status = status.to_owned();
        self.tell(move || notify(&[NotifyState::Ready, NotifyState::Status(&status)]));
    }

    /// Somebody asked for a reload, and it begins; `ready` says that it is over.
    pub(super) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(move || {
                notify(&[
                    NotifyState::Reloading,
                    now,
                    NotifyState::Status("loading the configuration"),
                ])
            }),
            Err(error) => tracing::debug!(%error, "no monotonic time"),
        }
    }

    pub(super) fn status(&mut self, status: &str) {
        let status = status.to_owned();
        self.tell(move || notify(&[NotifyState::Status(&status)]));
    }

    /// The process drains, and has ended after `deadline`.
    pub(super) fn stopping(&mut self, deadline: Duration) {
        let most = (deadline + STOP_MARGIN).as_micros();
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let status = "draining: sessions end at idle moments";
        self.tell(move || {
            notify(&[
                NotifyState::Stopping,
                NotifyState::ExtendTimeoutUsec(most),
                NotifyState::Status(status),
            ])
        });
        // The process may be over before the thread has its turn.
        self.finish();
    }

    /// From here on this process is the service. What it says comes behind this.
    pub(super) fn main_process(&mut self, process: u32) {
        self.tell(move || notify(&[NotifyState::MainPid(process)]));
        self.finish();
    }

    /// To be called often: asks the workers, and says that they live if all do.
    pub(super) fn look(&mut self, peers: &[Peer], has_ended: impl Fn(usize) -> bool, now: Instant) {
        self.heart.look(peers, has_ended, now);
        let Some(Watchdog { period, next }) = &mut self.watchdog else { return };
        // Twice in a period, as sd_watchdog_enabled(3) asks for.
        let half = *period / 2;
        if now < *next || !self.heart.all_within(half, now) {
            return;
        }
        if self.speaker.as_ref().is_some_and(|speaker| !speaker.has_said_all()) {
            // One more would say nothing new.
            if now >= *next + half {
                self.is_not_heard();
            }
            return;
        }
        *next = now + half;
        self.tell(|| notify(&[NotifyState::Watchdog]));
    }

    fn tell(&mut self, message: impl FnOnce() -> io::Result<()> + Send + 'static) {
        let Some(speaker) = &self.speaker else { return };
        if !speaker.say(message) {
            self.is_not_heard();
        }
    }

    fn finish(&self) {
        if let Some(speaker) = &self.speaker {
            speaker.finish(PATIENCE);
        }
    }

    fn is_not_heard(&mut self) {
        if !std::mem::replace(&mut self.is_deaf, true) {
            tracing::warn!(
                "the supervisor in NOTIFY_SOCKET does not read what it is told: the gateway serves on, and the \
                 supervisor may take it for one that hangs; look there"
            );
        }
    }
}

fn speaker() -> Option<Speaker> {
    Speaker::new()
        .inspect_err(|error| {
            tracing::warn!(
                %error,
                "the supervisor is told nothing, for there can be no thread for it: raise TasksMax or LimitNPROC"
            );
        })
        .ok()
}

/// For the last lines of the access log.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// How long is waited for a supervisor that does not read, where it matters what it hears first.
const PATIENCE: Duration = Duration::from_secs(1);
