//! Keys of session tickets (STEKs) as a function of a root and the time.
//!
//! Time is cut into epochs of `rotate`; each has one key. The ring holds the keys that tickets may
//! still need, and the next one. A root of this process alone is a chain: the root of each epoch
//! follows from the one before by a one-way step and no other is kept, so whoever reads the memory
//! cannot open tickets whose lifetime is over. Roots of a file (`ticket_roots`) give every epoch's key
//! at once, so nodes with the same file and a clock hold the same keys. It draws no randomness, reads
//! no file and seals no ticket; the ticketer in `tls` does, and is to be read next. `carried` takes a
//! chain to another process.

mod carried;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use aws_lc_rs::hkdf;

pub use self::carried::RingError;
use super::ticket_roots::TicketRoots;
pub use super::ticket_secret::SECRET_BYTES;
use super::ticket_secret::{Secret, expand, extract};

/// The key of the present epoch, of those before it that tickets may still need, and of the next
/// one: a node whose clock runs ahead seals with that already.
#[derive(Clone)]
pub struct TicketRing {
    schedule: Schedule,
    origin: Origin,
    next: TicketKey,
    current: TicketKey,
    /// Newest first.
    previous: VecDeque<TicketKey>,
}

/// Where the keys of epochs to come are taken from.
#[derive(Clone)]
enum Origin {
    /// The root of the epoch after `current`.
    Chain(Secret),
    Roots(TicketRoots),
}

/// One epoch's key. `Debug` shows no secret.
#[derive(Clone)]
pub struct TicketKey {
    epoch: u64,
    id: [u8; KEY_ID_BYTES],
    secret: Secret,
}

/// How long an epoch is and how many keys must be kept: `rotate` in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    rotate_seconds: u64,
    previous: usize,
}

/// Why times do not make a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("tickets need a rotation of at least one second")]
    RotateTooShort,
    #[error("a ticket lifetime of more than {PREVIOUS_MAX} rotations would keep too many keys")]
    LifetimeTooLong,
}

/// What `TicketRing::advance` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// The present key is still the right one.
    Kept,
    Rotated {
        epochs: u64,
    },
    /// The clock went back, and the keys with it: the roots of a file give every epoch's key, and a
    /// node that stayed ahead would be alone.
    Returned {
        epochs: u64,
    },
    /// The clock is in an epoch before the present key's: it went back, or the root is from the
    /// future. The keys of a chain are kept and none comes back.
    ClockBehind {
        epochs: u64,
    },
    /// The clock is further ahead than a ring ever follows: taken for wrong, nothing is changed.
    ClockAhead {
        epochs: u64,
    },
}

/// Length of `TicketKey::id`: public, as it stands in each ticket.
pub const KEY_ID_BYTES: usize = 16;

impl TicketRing {
    /// The ring of `root`, which is the root of `epoch` (`Schedule::epoch` of when it was drawn).
    /// Call `advance` before the first use: epochs from `epoch` on are reached, earlier ones never.
    pub fn new(root: &[u8; SECRET_BYTES], epoch: u64, schedule: Schedule) -> TicketRing {
        let extracted = extract(b"portcullis stek 1", root);
        let root = expand(&extracted, &[b"root", &epoch.to_be_bytes()]);
        let (next_root, current) = (ratchet(&root, epoch), TicketKey::derive(&root, epoch));
        let next = TicketKey::derive(&next_root, epoch.saturating_add(1));
        let origin = Origin::Chain(next_root);
        TicketRing { schedule, origin, next, current, previous: VecDeque::new() }
    }

    /// The ring that every node with `roots` has at `unix_now`, whenever it started.
    pub fn of_roots(roots: TicketRoots, schedule: Schedule, unix_now: u64) -> TicketRing {
        let epoch = schedule.epoch(unix_now);
        let key = |epoch| roots.key(epoch, &schedule);
        let oldest = epoch.saturating_sub(schedule.previous as u64);
        let (current, next) = (key(epoch), key(epoch.saturating_add(1)));
        let previous = (oldest..epoch).rev().map(key).collect();
        TicketRing { schedule, origin: Origin::Roots(roots), next, current, previous }
    }

    /// Moves on to the epoch of `unix_now` (seconds since 1970), and drops what no ticket needs.
    pub fn advance(&mut self, unix_now: u64) -> Advance {
        let now = self.schedule.epoch(unix_now);
        let epochs = now.abs_diff(self.current.epoch);
        if epochs == 0 {
            return Advance::Kept;
        }
        let is_back = now < self.current.epoch;
        if let Origin::Roots(roots) = &self.origin {
            *self = Self::of_roots(roots.clone(), self.schedule, unix_now);
            return if is_back {
                Advance::Returned { epochs }
            } else {
                Advance::Rotated { epochs }
            };
        }
        if is_back {
            return Advance::ClockBehind { epochs };
        }
        if epochs > EPOCHS_AHEAD_MAX {
            return Advance::ClockAhead { epochs };
        }
        for _ in 0..epochs {
            self.step();
        }
        Advance::Rotated { epochs }
    }

    /// Goes on with other times. A chain keeps its keys: each opens until the lifetime of its last
    /// ticket is over, by the new times, and the present one seals on until its new epoch ends.
    pub fn reschedule(&mut self, schedule: Schedule, unix_now: u64) {
        if let Origin::Roots(roots) = &self.origin {
            *self = Self::of_roots(roots.clone(), schedule, unix_now);
            return;
        }
        let old = std::mem::replace(&mut self.schedule, schedule);
        let epoch = schedule.epoch(unix_now);
        for key in &mut self.previous {
            let last = old.start(key.epoch.saturating_add(1)).saturating_sub(1);
            key.epoch = schedule.epoch(last).min(epoch);
        }
        self.current.epoch = epoch;
        self.next.epoch = epoch.saturating_add(1);
        self.drop_old();
    }

    /// The key to seal new tickets with.
    pub fn current(&self) -> &TicketKey {
        &self.current
    }

    /// The key that sealed a ticket, by the id it carries. `None`: no such key, or no longer.
    pub fn find(&self, id: &[u8]) -> Option<&TicketKey> {
        self.keys().find(|key| key.id == id)
    }

    /// All keys that `find` gives: the present one, then the previous from new to old, then the
    /// next.
    pub fn keys(&self) -> impl Iterator<Item = &TicketKey> {
        std::iter::once(&self.current).chain(&self.previous).chain(std::iter::once(&self.next))
    }

    /// How long from `unix_now` until `advance` rotates; zero when it would now.
    pub fn next_rotation(&self, unix_now: u64) -> Duration {
        let at = self.schedule.start(self.next.epoch);
        Duration::from_secs(at.saturating_sub(unix_now))
    }

    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The roots that the keys follow from; `None` of a chain, which nobody can follow.
    pub fn roots(&self) -> Option<&TicketRoots> {
        match &self.origin {
            Origin::Roots(roots) => Some(roots),
            Origin::Chain(_) => None,
        }
    }

    fn step(&mut self) {
        let Origin::Chain(next_root) = &mut self.origin else { return };
        let after_next = self.next.epoch.saturating_add(1);
        *next_root = ratchet(next_root, self.next.epoch);
        let next = TicketKey::derive(next_root, after_next);
        let current = std::mem::replace(&mut self.next, next);
        self.previous.push_front(std::mem::replace(&mut self.current, current));
        self.drop_old();
    }

    /// By epochs and not by number: after `reschedule` several keys may share an epoch.
    fn drop_old(&mut self) {
        let oldest = self.current.epoch.saturating_sub(self.schedule.previous as u64);
        self.previous.retain(|key| key.epoch >= oldest);
        self.previous.truncate(PREVIOUS_MAX);
    }
}

impl fmt::Debug for TicketRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TicketRing { schedule, origin: _, next, current, previous } = self;
        f.debug_struct("TicketRing")
            .field("schedule", schedule)
            .field("next", next)
            .field("current", current)
            .field("previous", previous)
            .finish_non_exhaustive()
    }
}

impl TicketKey {
    /// The epoch that the key seals tickets in; 0 of a key that has none.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Names the key in a ticket; tells nothing about it.
    pub fn id(&self) -> &[u8; KEY_ID_BYTES] {
        &self.id
    }

    /// For AES-256-GCM. Whoever has it can mint any client's ticket.
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    fn derive(root: &Secret, epoch: u64) -> TicketKey {
        Self::expand(&prk(root), epoch, &[&epoch.to_be_bytes()])
    }

    /// The key and the id that `prk` gives for `context`.
    pub(super) fn expand(prk: &hkdf::Prk, epoch: u64, context: &[&[u8]]) -> TicketKey {
        let of = |purpose: &'static [u8]| expand(prk, &[&[purpose], context].concat());
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&of(b"id")[..KEY_ID_BYTES]);
        TicketKey { epoch, id, secret: of(b"key") }
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey(epoch {}, secret withheld)", self.epoch)
    }
}

impl Schedule {
    /// A key seals for `rotate`, and opens for `lifetime` after it sealed its last ticket.
    ///
    /// # Errors
    /// `rotate` below a second, or a `lifetime` of more than 255 times `rotate`.
    pub fn new(rotate: Duration, lifetime: Duration) -> Result<Schedule, ScheduleError> {
        let rotate_seconds = rotate.as_secs();
        if rotate_seconds == 0 {
            return Err(ScheduleError::RotateTooShort);
        }
        let lifetime_seconds =
            lifetime.as_secs().saturating_add(u64::from(lifetime.subsec_nanos() > 0));
        // Sealed at the end of an epoch, a ticket lives on into this many epochs after it.
        match usize::try_from(lifetime_seconds.div_ceil(rotate_seconds)) {
            Ok(previous) if previous <= PREVIOUS_MAX => Ok(Schedule { rotate_seconds, previous }),
            _ => Err(ScheduleError::LifetimeTooLong),
        }
    }

    /// The epoch that `unix_now` (seconds since 1970) is in.
    pub fn epoch(&self, unix_now: u64) -> u64 {
        unix_now / self.rotate_seconds
    }

    /// When `epoch` begins, in Unix seconds; the key of the epoch seals from here.
    pub fn start(&self, epoch: u64) -> u64 {
        epoch.saturating_mul(self.rotate_seconds)
    }

    /// From when on the key of `epoch` opens nothing more.
    pub fn end(&self, epoch: u64) -> u64 {
        self.start(epoch.saturating_add(self.previous as u64).saturating_add(1))
    }

    /// How many epochs after its own a key still opens.
    pub fn epochs_kept(&self) -> u64 {
        self.previous as u64
    }

    pub fn rotate_seconds(&self) -> u64 {
        self.rotate_seconds
    }
}

/// The root of the epoch after `epoch`; `root` does not follow from it.
fn ratchet(root: &Secret, epoch: u64) -> Secret {
    expand(&prk(root), &[b"ratchet", &epoch.to_be_bytes()])
}

fn prk(root: &Secret) -> hkdf::Prk {
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &***root)
}

/// Ten days of hours. `find` looks at each key's id, 16 bytes, in turn.
const PREVIOUS_MAX: usize = 255;

/// 22 years of hours. Following a clock this far takes about a second on the control thread.
const EPOCHS_AHEAD_MAX: u64 = 200_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3600;
    const ROOT: [u8; 32] = {
        let mut root = [0; 32];
        let mut at = 0u8;
        while at < 32 {
            root[at as usize] = at;
            at += 1;
        }
        root
    };

    fn schedule(lifetime_hours: u64) -> Schedule {
        let hours = |hours| Duration::from_secs(hours * HOUR);
        Schedule::new(hours(1), hours(lifetime_hours)).unwrap()
    }

    fn ring_at(epoch: u64) -> TicketRing {
        TicketRing::new(&ROOT, epoch, schedule(12))
    }

    fn epochs(ring: &TicketRing) -> Vec<u64> {
        ring.keys().map(TicketKey::epoch).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Computed with Python's `hmac` from the words of this file and RFC 5869.
    #[test]
    fn keys_are_the_known_ones() {
        let mut ring = ring_at(7);
        ring.advance(9 * HOUR);
        let known = KNOWN_FROM_7;
        let found = [7, 8, 9, 10].map(|epoch| ring.keys().find(|key| key.epoch == epoch).unwrap());
        for (key, (id, secret)) in found.into_iter().zip(known) {
            assert_eq!((hex(key.id()).as_str(), hex(key.secret()).as_str()), (id, secret));
        }
    }

    #[test]
    fn nodes_with_one_root_agree_whenever_they_started() {
        let mut long_up = ring_at(100);
        for hour in 100..=150 {
            long_up.advance(hour * HOUR + 17);
        }
        let mut fresh = ring_at(100);
        fresh.advance(150 * HOUR + HOUR - 1);
        assert_eq!(fresh.current().secret(), long_up.current().secret());
        assert_eq!(epochs(&fresh), epochs(&long_up));
        for key in long_up.keys() {
            assert_eq!(fresh.find(key.id()).unwrap().secret(), key.secret());
        }
    }

    #[test]
    fn a_node_an_epoch_ahead_or_behind_is_understood() {
        let (mut ahead, mut behind) = (ring_at(5), ring_at(5));
        ahead.advance(10 * HOUR);
        behind.advance(9 * HOUR);
        assert_eq!(behind.find(ahead.current().id()).unwrap().epoch(), 10);
        assert_eq!(ahead.find(behind.current().id()).unwrap().epoch(), 9);
    }

    #[test]
    fn a_key_opens_for_the_whole_lifetime_of_its_last_ticket_and_no_epoch_longer() {
        for (lifetime, kept) in [(0, 0), (1, 1), (12, 12)] {
            let mut ring = TicketRing::new(&ROOT, 0, schedule(lifetime));
            let id = *ring.current().id();
            let last_use = HOUR - 1 + lifetime * HOUR;
            for hour in 0..=last_use / HOUR {
                ring.advance(hour * HOUR);
            }
            assert!(ring.find(&id).is_some(), "{lifetime} hours");
            assert_eq!(ring.previous.len(), kept);
            ring.advance(last_use + 1);
            assert!(ring.find(&id).is_none(), "{lifetime} hours");
        }
        let ragged = Schedule::new(Duration::from_secs(HOUR), Duration::from_millis(3_600_001));
        assert_eq!(ragged.unwrap().previous, 2);
    }

    // threat 38
    #[test]
    fn a_clock_that_goes_back_brings_no_dropped_key_back() {
        let mut ring = ring_at(0);
        let dropped = *ring.current().id();
        ring.advance(20 * HOUR);
        let held = epochs(&ring);
        assert_eq!(ring.advance(0), Advance::ClockBehind { epochs: 20 });
        assert!(ring.find(&dropped).is_none());
        assert_eq!(epochs(&ring), held);
        assert_eq!(ring.next_rotation(0), Duration::from_secs(21 * HOUR));
        assert_eq!(ring.advance(20 * HOUR), Advance::Kept);
    }

    #[test]
    fn a_clock_far_ahead_is_not_followed() {
        let mut ring = ring_at(0);
        assert_eq!(ring.advance(u64::MAX), Advance::ClockAhead { epochs: u64::MAX / HOUR });
        assert_eq!(ring.current().epoch(), 0);
        assert_eq!(ring.next_rotation(u64::MAX), Duration::ZERO);
        let mut last = TicketRing::new(&ROOT, u64::MAX, schedule(1));
        assert_eq!(last.advance(0), Advance::ClockBehind { epochs: u64::MAX });
    }

    #[test]
    fn rotation_comes_at_the_end_of_the_epoch() {
        let mut ring = ring_at(0);
        assert_eq!(ring.advance(5 * HOUR + 600), Advance::Rotated { epochs: 5 });
        assert_eq!(ring.next_rotation(5 * HOUR + 600), Duration::from_secs(3000));
        assert_eq!(ring.advance(6 * HOUR - 1), Advance::Kept);
        assert_eq!(ring.advance(6 * HOUR), Advance::Rotated { epochs: 1 });
    }

    #[test]
    fn times_that_make_no_schedule_are_refused() {
        let second = Duration::from_secs(1);
        let short = Schedule::new(Duration::from_millis(999), second);
        assert_eq!(short, Err(ScheduleError::RotateTooShort));
        assert!(Schedule::new(second, 255 * second).is_ok());
        assert_eq!(Schedule::new(second, 256 * second), Err(ScheduleError::LifetimeTooLong));
        assert_eq!(Schedule::new(second, Duration::MAX), Err(ScheduleError::LifetimeTooLong));
    }

    // threat 46
    #[test]
    fn debug_shows_no_secret() {
        let ring = ring_at(3);
        let shown = format!("{ring:?} {:?}", ring.current());
        assert!(!shown.contains(&hex(&ring.current().secret()[..4])));
        assert!(!shown.contains(&format!("{:?}", &ring.current().secret()[..4])[1..]));
        assert!(shown.contains("epoch 3"));
    }

    proptest! {
        #[test]
        fn any_walk_of_the_clock_holds_the_keys_of_its_latest_hour(
            hours in prop::collection::vec(0..60u64, 1..12),
            start in 0..40u64,
        ) {
            let mut ring = ring_at(start);
            let mut latest = start;
            for hour in hours {
                ring.advance(hour * HOUR + hour * 59);
                latest = latest.max(hour);
                let oldest = latest.saturating_sub(12).max(start);
                let mut held = epochs(&ring);
                held.sort_unstable();
                prop_assert_eq!(held, (oldest..=latest + 1).collect::<Vec<_>>());
                prop_assert_eq!(ring.current().epoch(), latest);
            }
            let mut direct = ring_at(start);
            direct.advance(latest * HOUR);
            prop_assert_eq!(direct.current().secret(), ring.current().secret());
        }

        #[test]
        fn roots_and_epochs_share_no_key(root: [u8; 32], flip in 0..256usize) {
            let mut other = root;
            other[flip / 8] ^= 1 << (flip % 8);
            let mut rings = [root, other].map(|root| TicketRing::new(&root, 0, schedule(3)));
            rings.iter_mut().for_each(|ring| { ring.advance(3 * HOUR); });
            let keys = rings.iter().flat_map(TicketRing::keys);
            let mut secrets: Vec<_> = keys.map(|key| *key.secret()).collect();
            let all = secrets.len();
            secrets.sort_unstable();
            secrets.dedup();
            prop_assert_eq!((secrets.len(), all), (10, 10));
        }
    }

    const KNOWN_FROM_7: [(&str, &str); 4] = [
        (
            "562f72de4b592466cbf12aa9f402ab18",
            "acc5ab4d89d511aa772a87413b6a9c5369ca767ba6c95eb80580c123e2ec543c",
        ),
        (
            "913d0b49fbb9d5237c790ef95979c600",
            "c030958cdbb45e40ac650f23b798b07d54b800864e44fd2fc19fa86955d7d649",
        ),
        (
            "bdf5ee6341a93b9e3aaea20a9e5976ab",
            "ea28dcd2505de78278adeb00a2ca1bbcd7a070f011e1c6ec77ba8655bb95ad33",
        ),
        (
            "49d53aaaeb1e9e7975dceae96aa2ee00",
            "97a93bd45adc1e6a69731254aeb02c6bf1ce4d76e74442571b0f6dbfcab7532d",
        ),
    ];
}
