//! How reloads went: written by control, read by a scrape.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::encode::Families;

/// The reloads of this process. Its start counts as no reload, but as a success in time.
#[derive(Debug)]
pub struct ReloadCounts {
    ok: AtomicU64,
    failed: AtomicU64,
    /// Milliseconds since 1970.
    succeeded_at: AtomicU64,
    is_current: AtomicBool,
}

impl ReloadCounts {
    /// At the start, at this time since 1970.
    pub fn new(started: Duration) -> Self {
        Self {
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            succeeded_at: AtomicU64::new(milliseconds(started)),
            is_current: AtomicBool::new(true),
        }
    }

    pub fn succeeded(&self, now: Duration) {
        self.ok.fetch_add(1, Ordering::Relaxed);
        self.succeeded_at.store(milliseconds(now), Ordering::Relaxed);
        self.unchanged();
    }

    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.is_current.store(false, Ordering::Relaxed);
    }

    /// What the files say is what runs.
    pub fn unchanged(&self) {
        self.is_current.store(true, Ordering::Relaxed);
    }

    /// What the files say is known not to be what runs.
    pub fn has_failed(&self) -> bool {
        !self.is_current.load(Ordering::Relaxed)
    }

    pub(super) fn encode(&self, generation: u64, families: &mut Families<'_, '_>) -> fmt::Result {
        families
            .gauge("portcullis_configuration_generation", "Which configuration runs, from 1")?
            .sample(&[], generation)?;
        let mut reloads = families
            .counter("portcullis_reloads", "Configurations that were to replace another")?;
        reloads.sample(&[("result", "ok")], self.ok.load(Ordering::Relaxed))?;
        reloads.sample(&[("result", "failed")], self.failed.load(Ordering::Relaxed))?;
        let at = Duration::from_millis(self.succeeded_at.load(Ordering::Relaxed));
        families
            .gauge(
                "portcullis_reload_last_success_time_seconds",
                "Unix time when the configuration that runs was loaded",
            )?
            .sample(&[], at.as_secs_f64())?;
        families
            .gauge("portcullis_reload_last_success", "Whether the last reload succeeded, 0 or 1")?
            .sample(&[], u64::from(self.is_current.load(Ordering::Relaxed)))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
