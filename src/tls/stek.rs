//! Session-ticket encryption keys of the process, as one snapshot that all workers read.
//!
//! Where they come from: a random root of this process, a file with roots that nodes share, or files
//! with keys (`source` reads them). `core::ticket_ring` is the schedule of the first two; this file
//! holds the keys ready for use. `ticketer` seals with them; control calls `rotate` and `reload`;
//! nobody ever sees key bytes.

pub mod secret_file;
mod source;
mod status;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

use self::source::Loaded;
pub use self::status::{StekEpoch, StekId, StekOrigin, StekRole, StekStatus};
use crate::config::error::{Location, Problem};
use crate::config::plan::TicketSource;
pub(super) use crate::core::ticket_ring::KEY_ID_BYTES;
use crate::core::ticket_ring::{
    Advance, RingError, Schedule, ScheduleError, TicketKey, TicketRing,
};
use crate::core::ticket_secret::SECRET_BYTES;

/// The ticket keys. `rotate` and `reload` are called by control, everything else by anybody.
pub struct StekKeys {
    keys: ArcSwap<Keys>,
}

/// Keys that were read and are not in use yet; none where those in use stay.
pub struct StagedKeys(Option<Keys>);

/// Why there are no ticket keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StekError {
    #[error("session ticket times do not fit together")]
    Schedule(#[source] ScheduleError),
    #[error("no randomness for session ticket keys")]
    NoRandomness,
}

/// What `StekKeys::reload` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The keys are those that were held.
    Same,
    /// Other keys are held; tickets of those that are gone no longer open.
    Changed,
}

/// What `StekKeys::rotate` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Another key seals from now on.
    pub turned: bool,
    /// When to call again, in Unix seconds; `u64::MAX` where time turns nothing.
    pub next: u64,
}

/// All keys of one moment.
pub(super) struct Keys {
    held: Held,
    /// The one that seals first.
    steks: Vec<Stek>,
}

/// Where keys come from.
enum Held {
    Auto(TicketRing),
    Root(TicketRing),
    /// The newest first.
    Files(Vec<Loaded>),
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
        let ring = TicketRing::new(&*random_root()?, schedule.epoch(unix_now), schedule);
        Ok(Self { keys: ArcSwap::from_pointee(Keys::of(Held::Auto(ring))) })
    }

    /// The keys of `source` at `unix_now`.
    ///
    /// # Errors
    /// All that is wrong with its files, each at the place that names it.
    pub fn load(
        source: &TicketSource,
        rotate: Duration,
        lifetime: Duration,
        unix_now: u64,
    ) -> Result<Self, Vec<Problem>> {
        let keys = Keys::load(source, rotate, lifetime, unix_now)?;
        Ok(Self { keys: ArcSwap::from_pointee(keys) })
    }

    /// Reads `source` again and swaps all keys at once: `stage`, then `adopt`.
    ///
    /// # Errors
    /// As `stage`.
    pub fn reload(
        &self,
        source: &TicketSource,
        rotate: Duration,
        lifetime: Duration,
        unix_now: u64,
    ) -> Result<Reloaded, Vec<Problem>> {
        self.stage(source, rotate, lifetime, unix_now).map(|staged| self.adopt(staged))
    }

    /// Reads `source` again. Keys that are random at start stay when the source stays "auto", with the
    /// new times.
    ///
    /// # Errors
    /// As `load`; the keys that are held are kept either way.
    pub fn stage(
        &self,
        source: &TicketSource,
        rotate: Duration,
        lifetime: Duration,
        unix_now: u64,
    ) -> Result<StagedKeys, Vec<Problem>> {
        let present = self.keys.load();
        Ok(StagedKeys(match (&present.held, source) {
            (Held::Auto(ring), TicketSource::Auto) => {
                let schedule = schedule(source, rotate, lifetime)?;
                if *ring.schedule() == schedule {
                    return Ok(StagedKeys(None));
                }
                let mut ring = ring.clone();
                ring.reschedule(schedule, unix_now);
                Some(Keys::of(Held::Auto(ring)))
            }
            _ => Some(Keys::load(source, rotate, lifetime, unix_now)?),
        }))
    }

    /// Puts staged keys in the place of those that are held, all at once.
    pub fn adopt(&self, staged: StagedKeys) -> Reloaded {
        let Some(next) = staged.0 else { return Reloaded::Same };
        let same = self.keys.load().is_as_before(&next);
        self.keys.store(Arc::new(next));
        if same { Reloaded::Same } else { Reloaded::Changed }
    }

    /// Keys that are random at start, for the process that takes the place of this one; `None` for
    /// those that it reads from files itself.
    pub fn export(&self) -> Option<Zeroizing<Vec<u8>>> {
        match &self.keys.load().held {
            Held::Auto(ring) => ring.export(),
            Held::Root(_) | Held::Files(_) => None,
        }
    }

    /// Goes on with the keys that another process has exported, in the times that are configured here.
    /// Changes nothing where keys are not random at start.
    ///
    /// # Errors
    /// They are no keys.
    pub fn inherit(&self, exported: &[u8], unix_now: u64) -> Result<(), RingError> {
        let present = self.keys.load();
        let Held::Auto(own) = &present.held else { return Ok(()) };
        let mut ring = TicketRing::import(exported)?;
        if ring.schedule() != own.schedule() {
            ring.reschedule(*own.schedule(), unix_now);
        }
        self.keys.store(Arc::new(Keys::of(Held::Auto(ring))));
        self.rotate(unix_now);
        Ok(())
    }

    /// Moves to the epoch of `unix_now`. Keys that are random at start never go back, and are drawn anew
    /// after a clock that was far off; those of a root follow the clock; those of files stay.
    pub fn rotate(&self, unix_now: u64) -> Rotation {
        let present = self.keys.load_full();
        let (Held::Auto(ring) | Held::Root(ring)) = &present.held else {
            return Rotation { turned: false, next: u64::MAX };
        };
        let mut ring = ring.clone();
        let turned = match ring.advance(unix_now) {
            Advance::Rotated { .. } | Advance::Returned { .. } => true,
            Advance::Kept => false,
            Advance::ClockBehind { epochs } if epochs <= ring.schedule().epochs_kept() => false,
            // A clock that was wrong by more than tickets live, and is right now: to wait until it is
            // as late again would be to seal with one key for years.
            Advance::ClockBehind { .. } | Advance::ClockAhead { .. } => match random_root() {
                Ok(root) => {
                    let schedule = *ring.schedule();
                    ring = TicketRing::new(&root, schedule.epoch(unix_now), schedule);
                    true
                }
                Err(_) => false,
            },
        };
        let next = unix_now.saturating_add(ring.next_rotation(unix_now).as_secs());
        if turned {
            let held = match &present.held {
                Held::Auto(_) => Held::Auto(ring),
                Held::Root(_) | Held::Files(_) => Held::Root(ring),
            };
            self.keys.store(Arc::new(Keys::of(held)));
        }
        Rotation { turned, next }
    }

    /// How many keys are accepted.
    pub fn key_count(&self) -> usize {
        self.keys.load().steks.len()
    }

    /// What is held, for people: the key that seals, then those that open, newest first.
    pub fn status(&self) -> Vec<StekStatus> {
        status::of(&self.keys.load().held)
    }

    /// The same on all nodes that open each other's tickets, and of no use to anybody; `None` of keys
    /// that no other node has.
    pub fn fingerprint(&self) -> Option<[u8; SECRET_BYTES]> {
        status::fingerprint(&self.keys.load().held)
    }

    pub(super) fn keys(&self) -> arc_swap::Guard<Arc<Keys>> {
        self.keys.load()
    }
}

/// A new root.
///
/// # Errors
/// When the system gives no randomness.
pub fn random_root() -> Result<Box<Zeroizing<[u8; SECRET_BYTES]>>, StekError> {
    let mut root = Box::new(Zeroizing::new([0; SECRET_BYTES]));
    match aws_lc_rs::rand::fill(&mut **root) {
        Ok(()) => Ok(root),
        Err(_) => Err(StekError::NoRandomness),
    }
}

impl Keys {
    fn load(
        source: &TicketSource,
        rotate: Duration,
        lifetime: Duration,
        unix_now: u64,
    ) -> Result<Self, Vec<Problem>> {
        let held = match source {
            TicketSource::Auto => {
                let schedule = schedule(source, rotate, lifetime)?;
                let root = random_root().map_err(|error| vec![nowhere(source, &error)])?;
                Held::Auto(TicketRing::new(&root, schedule.epoch(unix_now), schedule))
            }
            TicketSource::Root(file) => {
                let schedule = schedule(source, rotate, lifetime)?;
                Held::Root(TicketRing::of_roots(source::roots(file)?, schedule, unix_now))
            }
            TicketSource::Keys(files) => Held::Files(source::keys(files)?),
        };
        Ok(Self::of(held))
    }

    fn of(held: Held) -> Self {
        let steks = match &held {
            Held::Auto(ring) | Held::Root(ring) => ring.keys().filter_map(Stek::of).collect(),
            Held::Files(loaded) => {
                let mut keys: Vec<_> = loaded.iter().map(|loaded| &loaded.key).collect();
                let sealing = source::sealing(keys.len());
                keys.rotate_left(sealing);
                keys.into_iter().filter_map(Stek::of).collect()
            }
        };
        Self { held, steks }
    }

    /// Whether nothing but time is between the two.
    fn is_as_before(&self, other: &Self) -> bool {
        let same_times = match (&self.held, &other.held) {
            (Held::Root(ring), Held::Root(next)) => ring.schedule() == next.schedule(),
            (Held::Files(_), Held::Files(_)) => true,
            (Held::Auto(_) | Held::Root(_) | Held::Files(_), _) => false,
        };
        same_times && status::fingerprint(&self.held) == status::fingerprint(&other.held)
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

impl fmt::Debug for StagedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedKeys").field("changed", &self.0.is_some()).finish_non_exhaustive()
    }
}

impl fmt::Debug for StekKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StekKeys").field("keys", &self.key_count()).finish_non_exhaustive()
    }
}

fn schedule(
    source: &TicketSource,
    rotate: Duration,
    lifetime: Duration,
) -> Result<Schedule, Vec<Problem>> {
    Schedule::new(rotate, lifetime)
        .map_err(|error| vec![nowhere(source, &StekError::Schedule(error))])
}

/// `config` lets no such times through, and "auto" has no place in a file where it is the default.
fn nowhere(source: &TicketSource, error: &StekError) -> Problem {
    let place =
        || Location { file: Arc::default(), line: 1, column: 1, key: Arc::from("session_tickets") };
    let at = match source {
        TicketSource::Auto => place(),
        TicketSource::Root(file) => file.at.clone(),
        TicketSource::Keys(files) => files.first().map_or_else(place, |file| file.at.clone()),
    };
    let help = match error {
        StekError::Schedule(error) => error.to_string(),
        StekError::NoRandomness => String::new(),
    };
    Problem { at, message: error.to_string(), help }
}

#[cfg(test)]
mod tests;
