//! The page `/process`: which process serves, since when, and what came of its upgrades.
//!
//! `portcullis upgrade` finds the process by it and learns the outcome from it.

use serde::Serialize;

use super::AdminState;
use crate::sys::status;

/// What came of the attempts to put another process in the place of this one.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UpgradeReport {
    /// Those that have begun.
    pub attempts: u64,
    pub is_running: bool,
    /// Why the last one that is over has failed.
    pub error: Option<String>,
}

#[derive(Serialize)]
struct Page<'a> {
    process: u32,
    /// When it started, in ticks of the kernel since the machine did: no other process has had this
    /// number and started then.
    started_ticks: Option<u64>,
    version: &'static str,
    readiness: &'static str,
    generation: u64,
    upgrade: &'a UpgradeReport,
}

/// One object.
pub(super) fn page(state: &AdminState) -> String {
    let upgrade = state.upgrade.load();
    let process = std::process::id();
    let page = Page {
        process,
        started_ticks: status::started_ticks(process),
        version: env!("CARGO_PKG_VERSION"),
        readiness: state.readiness().name(),
        generation: state.shown.current.load().generation,
        upgrade: &upgrade,
    };
    // Strings and numbers: it cannot fail.
    serde_json::to_string(&page).unwrap_or_default() + "\n"
}
