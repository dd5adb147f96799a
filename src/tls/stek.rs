//! Session-ticket encryption keys of the process, as one snapshot that all workers read.
//!
//! `core::ticket_ring` is the schedule; this file draws the root and holds the keys ready for use.
//! `ticketer` seals with them; control calls `rotate`; nobody ever sees key bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

pub(super) use crate::core::ticket_ring::KEY_ID_BYTES;
use crate::core::ticket_ring::{
    Advance, SECRET_BYTES, Schedule, ScheduleError, TicketKey, TicketRing,
};

/// The ticket keys. `rotate` is called by control, everything else by the ticketers.
pub struct StekKeys {
    keys: ArcSwap<Keys>,
}

/// Why there are no ticket keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StekError {
    #[error("session ticket times do not fit together")]
    Schedule(#[source] ScheduleError),
    #[error("no randomness for session ticket keys")]
    NoRandomness,
}

/// A ring and its keys expanded, the one to seal with first.
pub(super) struct Keys {
    ring: TicketRing,
    steks: Vec<Stek>,
}

/// One key. The id stands in front of each ticket and says nothing about the key.
pub(super) struct Stek {
    pub id: [u8; KEY_ID_BYTES],
    pub key: LessSafeKey,
}

impl StekKeys {
    /// A random root; keys change every `rotate` and open tickets for `lifetime`.
    ///
    /// # Errors
    /// When the times make no schedule, or the system gives no randomness.
    pub fn random(rotate: Duration, lifetime: Duration, unix_now: u64) -> Result<Self, StekError> {
        let schedule = Schedule::new(rotate, lifetime).map_err(StekError::Schedule)?;
        let mut root = Zeroizing::new([0; SECRET_BYTES]);
        if aws_lc_rs::rand::fill(&mut *root).is_err() {
            return Err(StekError::NoRandomness);
        }
        let ring = TicketRing::new(&root, schedule.epoch(unix_now), schedule);
        Ok(Self { keys: ArcSwap::from_pointee(Keys::of(ring)) })
    }

    /// Moves to the epoch of `unix_now`; never back. Returns when to call again, in Unix seconds.
    pub fn rotate(&self, unix_now: u64) -> u64 {
        let mut ring = self.keys.load().ring.clone();
        let advance = ring.advance(unix_now);
        let next = unix_now.saturating_add(ring.next_rotation(unix_now).as_secs());
        if matches!(advance, Advance::Rotated { .. }) {
            self.keys.store(Arc::new(Keys::of(ring)));
        }
        next
    }

    /// How many keys are accepted.
    pub fn key_count(&self) -> usize {
        self.keys.load().steks.len()
    }

    pub(super) fn keys(&self) -> arc_swap::Guard<Arc<Keys>> {
        self.keys.load()
    }
}

impl Keys {
    fn of(ring: TicketRing) -> Self {
        let steks = ring.keys().filter_map(Stek::of).collect();
        Self { ring, steks }
    }

    /// The key that seals new tickets.
    pub(super) fn current(&self) -> Option<&Stek> {
        self.steks.first()
    }

    pub(super) fn find(&self, id: &[u8]) -> Option<&Stek> {
        self.steks.iter().find(|stek| stek.id == id)
    }
}

impl Stek {
    fn of(key: &TicketKey) -> Option<Self> {
        let unbound = UnboundKey::new(&AES_256_GCM, key.secret()).ok()?;
        Some(Self { id: *key.id(), key: LessSafeKey::new(unbound) })
    }
}

impl fmt::Debug for StekKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StekKeys").field("keys", &self.key_count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn keys() -> StekKeys {
        StekKeys::random(Duration::from_secs(HOUR), Duration::from_secs(3 * HOUR), 10 * HOUR)
            .unwrap()
    }

    #[test]
    fn a_key_lives_as_long_as_its_tickets() {
        let keys = keys();
        let first = keys.keys().current().unwrap().id;
        for hour in 11..=13 {
            assert_eq!(keys.rotate(hour * HOUR), (hour + 1) * HOUR);
            assert!(keys.keys().find(&first).is_some(), "hour {hour}");
            assert_ne!(keys.keys().current().unwrap().id, first);
        }
        keys.rotate(14 * HOUR);
        assert!(keys.keys().find(&first).is_none());
    }

    // threat 38
    #[test]
    fn a_clock_that_goes_back_changes_nothing() {
        let keys = keys();
        keys.rotate(12 * HOUR);
        let current = keys.keys().current().unwrap().id;
        keys.rotate(0);
        assert_eq!(keys.keys().current().unwrap().id, current);
    }

    // threat 46
    #[test]
    fn debug_shows_no_key() {
        assert!(format!("{:?}", keys()).starts_with("StekKeys { keys: "));
    }
}
