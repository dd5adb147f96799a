//! Session-ticket encryption keys of the process, as one snapshot that all workers read.

use std::time::Duration;

/// The ring of ticket keys. `rotate` is called by control, everything else by the ticketers.
#[derive(Debug)]
pub struct StekKeys {}

impl StekKeys {
    /// A random root; the first epoch starts at `unix_now`.
    pub fn random(_rotate: Duration, _lifetime: Duration, _unix_now: u64) -> Option<Self> {
        Some(Self {})
    }

    /// Moves to the epoch of `unix_now`; returns the time of the next turn, in Unix seconds.
    pub fn rotate(&self, unix_now: u64) -> u64 {
        unix_now
    }
}
