//! What systemd is told (sd_notify(3)): when the process is ready, reloads, upgrades and ends, and that
//! its workers live. Without systemd nothing is said, and nothing else changes.
//!
//! Made for `Type=notify-reload`, `NotifyAccess=main` and `WatchdogSec=`.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::heartbeat::Heartbeat;
use crate::worker::Peer;

/// Tells the supervisor of this process.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// `None`: nobody watches whether this process lives.
    watchdog: Option<Watchdog>,
    heart: Heartbeat,
    is_failing: bool,
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
            watchdog: period.map(|period| Watchdog { period, next: now }),
            heart: Heartbeat::new(workers, period.map_or(Duration::MAX, |it| it / 8), now),
            is_failing: false,
        }
    }

    pub(super) fn ready(&mut self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Somebody asked for a reload, and it begins; `ready` says that it is over.
    pub(super) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[
                NotifyState::Reloading,
                now,
                NotifyState::Status("loading the configuration"),
            ]),
            Err(error) => tracing::debug!(%error, "no monotonic time"),
        }
    }

    pub(super) fn status(&mut self, status: &str) {
        self.tell(&[NotifyState::Status(status)]);
    }

    /// The process drains, and has ended after `deadline`.
    pub(super) fn stopping(&mut self, deadline: Duration) {
        let most = (deadline + STOP_MARGIN).as_micros();
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let status = "draining: sessions end at idle moments";
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(most),
            NotifyState::Status(status),
        ]);
    }

    /// From here on this process is the service.
    pub(super) fn main_process(&mut self, process: u32) {
        self.tell(&[NotifyState::MainPid(process)]);
    }

    /// To be called often: asks the workers, and says that they live if all do.
    pub(super) fn look(&mut self, peers: &[Peer], has_ended: impl Fn(usize) -> bool, now: Instant) {
        self.heart.look(peers, has_ended, now);
        let Some(Watchdog { period, next }) = &mut self.watchdog else { return };
        // Twice in a period, as sd_watchdog_enabled(3) asks for.
        let half = *period / 2;
        if now >= *next && self.heart.all_within(half, now) {
            *next = now + half;
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(&mut self, what: &[NotifyState<'_>]) {
        let told = sd_notify::notify(what);
        if let Err(error) = &told
            && !self.is_failing
        {
            tracing::warn!(%error, "the supervisor in NOTIFY_SOCKET cannot be told anything");
        }
        self.is_failing = told.is_err();
    }
}

/// For the last lines of the access log.
const STOP_MARGIN: Duration = Duration::from_secs(5);
