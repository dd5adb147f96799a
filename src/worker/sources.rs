//! Who comes how often, and how many of whom are here: two tables of fixed size that all workers share,
//! for limits that hold for the process.
//!
//! The only thing that workers write together, and once a connection or handshake only: a limit of each
//! worker's own would be another number on each core. No lock: each entry is one atomic word. A key is a
//! digest under a secret of this process, so that nobody can choose whose entry is shared. What finds no
//! place is let through: a table that is full must not refuse anybody.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::core::rate::Rate;

/// The tables of a process; they outlive reloads.
#[derive(Debug)]
pub struct Sources {
    hasher: RandomState,
    /// Times are counted from here.
    since: Instant,
    rates: Box<[RateEntry]>,
    counts: Box<[AtomicU64]>,
}

/// What is limited, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

/// One that is here; leaves when dropped.
#[derive(Debug)]
pub struct Present {
    sources: Arc<Sources>,
    /// `None`: it found no place, and is not counted.
    place: Option<(usize, u64)>,
}

#[derive(Debug, Default)]
struct RateEntry {
    key: AtomicU64,
    /// See `Rate::admit`; an entry whose time is over may be taken by another key.
    arrival: AtomicU64,
}

impl Sources {
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            hasher: RandomState::new(),
            since: now,
            rates: (0..RATES).map(|_| RateEntry::default()).collect(),
            counts: (0..COUNTS).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// The key of whatever `what` is.
    pub fn key(&self, what: impl Hash) -> Key {
        // Zero marks an entry that nobody has taken yet.
        Key(self.hasher.hash_one(what) | 1)
    }

    /// Whether one more may pass now; `kept` as in `Rate::admit`.
    pub fn admits(&self, key: Key, rate: Rate, kept: u32, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.since).as_nanos();
        // From 1 on, for 584 years.
        let now = u64::try_from(now).unwrap_or(u64::MAX - 1) + 1;
        let Some(entry) = self.rate_entry(key, now) else { return true };
        let moved = entry.arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |arrival| {
            rate.admit(arrival, now, kept)
        });
        moved.is_ok()
    }

    /// Counts one more of `key`, unless there are `max` already.
    pub fn enter(self: &Arc<Self>, key: Key, max: u32) -> Option<Present> {
        let tag = key.0 & TAG;
        let mut free = None;
        for at in places(key, COUNTS) {
            let found = self.counts[at].load(Ordering::Relaxed);
            if found & TAG == tag && found & COUNT > 0 {
                return self.enter_at(at, tag, max);
            }
            if found & COUNT == 0 {
                free.get_or_insert(at);
            }
        }
        match free {
            Some(at) => self.enter_at(at, tag, max),
            None => Some(Present { sources: Arc::clone(self), place: None }),
        }
    }

    fn enter_at(self: &Arc<Self>, at: usize, tag: u64, max: u32) -> Option<Present> {
        let mut is_full = false;
        let counted = self.counts[at].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |found| {
            let count = found & COUNT;
            if count > 0 && found & TAG != tag {
                // Somebody else was faster.
                return None;
            }
            is_full = count >= u64::from(max).min(COUNT - 1);
            (!is_full).then_some(tag | (count + 1))
        });
        match counted {
            Ok(_) => Some(Present { sources: Arc::clone(self), place: Some((at, tag)) }),
            Err(_) if is_full => None,
            Err(_) => Some(Present { sources: Arc::clone(self), place: None }),
        }
    }

    fn rate_entry(&self, key: Key, now: u64) -> Option<&RateEntry> {
        let mut idle = None;
        for at in places(key, RATES) {
            let entry = &self.rates[at];
            if entry.key.load(Ordering::Relaxed) == key.0 {
                return Some(entry);
            }
            if idle.is_none() && entry.arrival.load(Ordering::Relaxed) <= now {
                idle = Some(entry);
            }
        }
        let entry = idle?;
        entry.key.store(key.0, Ordering::Relaxed);
        Some(entry)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let Some((at, tag)) = self.place else { return };
        let left = |found: u64| (found & TAG == tag && found & COUNT > 0).then(|| found - 1);
        let entry = &self.sources.counts[at];
        let _ = entry.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }
}

/// By what clients of one address are told from others: all of IPv4, and the network that a household
/// or a machine has of IPv6, where addresses are free.
pub fn prefix(source: IpAddr) -> u128 {
    match source.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()) | IPV4,
        IpAddr::V6(address) => address.to_bits() >> 64,
    }
}

/// Where a key may have its entry.
fn places(key: Key, entries: usize) -> impl Iterator<Item = usize> {
    let first = usize::try_from(key.0 >> 40).unwrap_or(0);
    (0..PROBED).map(move |step| (first + step) % entries)
}

/// 16 bytes each: 1 MiB.
const RATES: usize = 1 << 16;

/// 8 bytes each: 1 MiB.
const COUNTS: usize = 1 << 17;

/// Half full, one key in 65,000 finds no place.
const PROBED: usize = 16;

/// An entry of counts: 40 bits of its key, and how many are here.
const COUNT: u64 = (1 << 24) - 1;
const TAG: u64 = !COUNT;

/// Tells `::1.2.3.4` from 1.2.3.4.
const IPV4: u128 = 1 << 127;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::sys::clock;

    #[test]
    fn a_rate_holds_over_all_threads_and_keys_do_not_share_it() {
        let now = clock::now();
        let sources = Sources::new(now);
        let rate = Rate::per_second(NonZeroU32::new(100).expect("not zero"));
        let passed: usize = std::thread::scope(|scope| {
            let ask = |_| {
                let (sources, key) = (&sources, sources.key(("edge", 1_u8)));
                scope.spawn(move || (0..200).filter(|_| sources.admits(key, rate, 0, now)).count())
            };
            let threads: Vec<_> = (0..4).map(ask).collect();
            threads.into_iter().map(|thread| thread.join().expect("a count")).sum()
        });
        assert_eq!(passed, 100);
        assert!(sources.admits(sources.key(("edge", 2_u8)), rate, 0, now), "another key");
        let later = now + Duration::from_millis(15);
        assert!(sources.admits(sources.key(("edge", 1_u8)), rate, 0, later));
        assert!(!sources.admits(sources.key(("edge", 1_u8)), rate, 0, later));
    }

    #[test]
    fn those_who_are_here_are_counted_until_they_leave() {
        let sources = Sources::new(clock::now());
        let key = sources.key("one");
        let here: Vec<_> = (0..3).map(|_| sources.enter(key, 3).expect("room")).collect();
        assert!(sources.enter(key, 3).is_none());
        let other = sources.enter(sources.key("other"), 1);
        assert!(other.is_some());
        drop(here);
        assert!(sources.enter(key, 1).is_some());
        assert!(
            sources.counts.iter().filter(|entry| entry.load(Ordering::Relaxed) & COUNT > 0).count()
                == 1
        );
    }

    #[test]
    fn sixty_thousand_sources_are_told_apart() {
        let sources = Sources::new(clock::now());
        let mut here = Vec::new();
        for source in 0..60_000_u32 {
            let key = sources.key(source);
            let first = sources.enter(key, 1).expect("the first of this source");
            if first.place.is_some() {
                assert!(sources.enter(key, 1).is_none(), "{source}");
            }
            here.push(first);
        }
        let uncounted = here.iter().filter(|one| one.place.is_none()).count();
        assert!(uncounted < 60, "{uncounted} found no place");
    }

    #[test]
    fn networks_of_ipv6_and_single_addresses_of_ipv4_are_one_source() {
        let prefix = |text: &str| prefix(text.parse().expect("an address"));
        assert_eq!(prefix("2001:db8::1"), prefix("2001:db8::ffff:1"));
        assert_ne!(prefix("2001:db8::1"), prefix("2001:db8:0:1::1"));
        assert_eq!(prefix("192.0.2.1"), prefix("::ffff:192.0.2.1"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.2.2"));
    }
}
