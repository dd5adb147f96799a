//! Session-ticket encryption keys of the process, as one snapshot that all workers read.
//!
//! Owns the schedule of random keys: a root that only moves forward, one key an epoch. `ticketer`
//! uses the keys; control calls `rotate`; nobody ever sees key bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use zeroize::{Zeroize, Zeroizing};

/// The ring of ticket keys. `rotate` is called by control, everything else by the ticketers.
pub struct StekKeys {
    ring: ArcSwap<Ring>,
    epoch_seconds: u64,
    /// Epochs for which a key is kept after its own.
    epochs_kept: u64,
}

/// The library could not make a key, which it does only when the system gives no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no randomness for session ticket keys")]
pub struct NoRandomness;

/// The keys of this epoch and of those whose tickets are still accepted, newest first. Not empty.
pub(super) struct Ring {
    root: Root,
    keys: Vec<Arc<Stek>>,
}

/// One key. The id stands in front of each ticket and says nothing about the key.
pub(super) struct Stek {
    pub id: KeyId,
    pub key: LessSafeKey,
    epoch: u64,
}

pub(super) type KeyId = [u8; KEY_ID_BYTES];

/// The secret from which this epoch's key and the next root come; wiped when the epoch ends.
#[derive(Clone)]
struct Root {
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    epoch: u64,
}

impl StekKeys {
    /// A random root; keys change every `rotate` and are kept until no ticket of theirs is younger
    /// than `lifetime`.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn random(
        rotate: Duration,
        lifetime: Duration,
        unix_now: u64,
    ) -> Result<Self, NoRandomness> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_unspecified| NoRandomness)?;
        let epoch_seconds = rotate.as_secs().max(1);
        let root = Root { secret, epoch: unix_now / epoch_seconds };
        let first = Arc::new(root.key()?);
        Ok(Self {
            ring: ArcSwap::from_pointee(Ring { root, keys: vec![first] }),
            epoch_seconds,
            epochs_kept: lifetime.as_secs().div_ceil(epoch_seconds).min(KEYS_MAX),
        })
    }

    /// Moves to the epoch of `unix_now` and forgets what is too old; never moves back. Returns when
    /// the next epoch starts, in Unix seconds.
    pub fn rotate(&self, unix_now: u64) -> u64 {
        let now = unix_now / self.epoch_seconds;
        let ring = self.ring.load();
        if now > ring.root.epoch
            && let Some(next) = ring.at(now, self.epochs_kept)
        {
            self.ring.store(Arc::new(next));
        }
        (now + 1) * self.epoch_seconds
    }

    /// How many keys are accepted.
    pub fn key_count(&self) -> usize {
        self.ring.load().keys.len()
    }

    pub(super) fn ring(&self) -> arc_swap::Guard<Arc<Ring>> {
        self.ring.load()
    }
}

impl Ring {
    /// The key that seals new tickets.
    pub(super) fn current(&self) -> Option<&Stek> {
        self.keys.first().map(Arc::as_ref)
    }

    pub(super) fn find(&self, id: &[u8]) -> Option<&Stek> {
        self.keys.iter().map(Arc::as_ref).find(|stek| stek.id == id)
    }

    fn at(&self, epoch: u64, kept: u64) -> Option<Self> {
        let steps = epoch.saturating_sub(self.root.epoch);
        let mut root = self.root.clone();
        let mut keys = self.keys.clone();
        // After a jump of the clock only the last epochs can have had tickets.
        for _ in 0..steps.min(kept + 1) {
            root = root.next()?;
            root.epoch = root.epoch.max(epoch.saturating_sub(kept));
            keys.insert(0, Arc::new(root.key().ok()?));
        }
        root.epoch = epoch;
        keys.retain(|stek| stek.epoch + kept >= epoch);
        Some(Self { root, keys })
    }
}

impl Root {
    fn key(&self) -> Result<Stek, NoRandomness> {
        let mut key = Zeroizing::new([0; SECRET_BYTES]);
        let mut id = [0; KEY_ID_BYTES];
        self.expand(b"portcullis ticket key", &mut *key).ok_or(NoRandomness)?;
        self.expand(b"portcullis ticket key id", &mut id).ok_or(NoRandomness)?;
        let unbound = UnboundKey::new(&AES_256_GCM, &*key).map_err(|_unspecified| NoRandomness)?;
        Ok(Stek { id, key: LessSafeKey::new(unbound), epoch: self.epoch })
    }

    fn next(&self) -> Option<Self> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        self.expand(b"portcullis ticket root", &mut *secret)?;
        Some(Self { secret, epoch: self.epoch + 1 })
    }

    /// HKDF-Expand (RFC 5869 §2.3); the secret is uniformly random, so it is its own PRK.
    fn expand(&self, label: &[u8], out: &mut [u8]) -> Option<()> {
        let prk = Prk::new_less_safe(HKDF_SHA256, &*self.secret);
        let done = prk.expand(&[label], Length(out.len())).and_then(|okm| okm.fill(out));
        if done.is_err() {
            out.zeroize();
        }
        done.ok()
    }
}

impl fmt::Debug for StekKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StekKeys").field("keys", &self.key_count()).finish_non_exhaustive()
    }
}

/// Bytes of output that HKDF is asked for.
#[derive(Debug, Clone, Copy)]
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

pub(super) const KEY_ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// A week of hourly keys.
const KEYS_MAX: u64 = 168;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn keys() -> StekKeys {
        StekKeys::random(Duration::from_secs(HOUR), Duration::from_secs(3 * HOUR), 10 * HOUR)
            .unwrap()
    }

    #[test]
    fn a_key_lives_for_the_lifetime_of_its_tickets() {
        let keys = keys();
        let first = keys.ring().current().unwrap().id;
        for hour in 11..=13 {
            assert_eq!(keys.rotate(hour * HOUR), (hour + 1) * HOUR);
            assert!(keys.ring().find(&first).is_some(), "hour {hour}");
            assert_ne!(keys.ring().current().unwrap().id, first);
        }
        keys.rotate(14 * HOUR);
        assert!(keys.ring().find(&first).is_none());
        assert_eq!(keys.key_count(), 4);
    }

    #[test]
    fn a_jump_of_the_clock_neither_hangs_nor_goes_back() {
        let keys = keys();
        keys.rotate(u64::MAX / 2);
        let current = keys.ring().current().unwrap().id;
        keys.rotate(0);
        assert_eq!(keys.ring().current().unwrap().id, current);
        assert!(keys.key_count() <= 4);
    }

    // threat 46
    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", keys()), "StekKeys { keys: 1, .. }");
    }
}
