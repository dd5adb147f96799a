//! Who comes how often, and how many of whom are here: tables of fixed size that all workers share, for
//! limits that hold for the process.
//!
//! The only thing that workers write together, and once a connection or handshake only: a limit of each
//! worker's own would be another number on each core. No lock: each entry is one atomic word. A key is a
//! digest under a secret of this process, so that nobody can choose whose entry is shared.
//!
//! Clients can be as many as there are addresses. What is limited by name in the configuration, the process
//! or a chain, has tables of its own, which they cannot fill. Where those of clients are full, a rate takes
//! the entry that would be free the soonest, which forgets the least, and who is to be counted is let through:
//! a full table must not refuse anybody.

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
    configured: Tables,
    clients: Tables,
}

#[derive(Debug)]
struct Tables {
    rates: Box<[RateEntry]>,
    counts: Box<[AtomicU64]>,
}

/// What is limited, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    digest: u64,
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Configuration,
    Clients,
}

/// One that is here; leaves when dropped.
#[derive(Debug)]
pub struct Present {
    sources: Arc<Sources>,
    of: Of,
    /// `None`: it found no place, and is not counted.
    place: Option<(usize, u64)>,
}

#[derive(Debug, Default)]
struct RateEntry {
    key: AtomicU64,
    /// See `Rate::admit`; an entry whose time is over may be taken by another key.
    arrival: AtomicU64,
}

/// Where a key has its entry, or may have it.
enum Found<'a> {
    Own(&'a RateEntry),
    Other { entry: &'a RateEntry, arrival: u64 },
}

impl Sources {
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            hasher: RandomState::new(),
            since: now,
            configured: Tables::new(RATES_CONFIGURED, COUNTS_CONFIGURED),
            clients: Tables::new(RATES, COUNTS),
        })
    }

    /// The key of a client, whatever it is told from others by.
    pub fn client(&self, what: impl Hash) -> Key {
        self.key(what, Of::Clients)
    }

    /// The key of what the configuration names, of which there are as many as it names.
    pub fn configured(&self, what: impl Hash) -> Key {
        self.key(what, Of::Configuration)
    }

    fn key(&self, what: impl Hash, of: Of) -> Key {
        // Zero marks an entry that nobody has taken yet.
        Key { digest: self.hasher.hash_one(what) | 1, of }
    }

    fn tables(&self, of: Of) -> &Tables {
        match of {
            Of::Configuration => &self.configured,
            Of::Clients => &self.clients,
        }
    }

    /// Whether one more may pass now; `kept` as in `Rate::admit`. The clock is read behind each look at the
    /// entry: by a time from before another worker's last one, a whole burst would be more than a burst.
    pub fn admits(&self, key: Key, rate: Rate, kept: u32, clock: impl Fn() -> Instant) -> bool {
        let tables = self.tables(key.of);
        let entry = match tables.own_rate(key.digest) {
            Some(entry) => entry,
            None => tables.take_rate(key.digest, self.time(clock())),
        };
        let moved = entry.arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |arrival| {
            rate.admit(arrival, self.time(clock()), kept)
        });
        moved.is_ok()
    }

    /// Nanoseconds from 1 on, for 584 years.
    fn time(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.since).as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX - 1) + 1
    }

    /// Counts one more of `key`, unless there are `max` already.
    pub fn enter(self: &Arc<Self>, key: Key, max: u32) -> Option<Present> {
        let (tag, of) = (key.digest & TAG, key.of);
        let counts = &self.tables(of).counts;
        let mut free = None;
        for at in places(key.digest, counts.len()) {
            let found = counts[at].load(Ordering::Relaxed);
            if found & TAG == tag && found & COUNT > 0 {
                return self.enter_at(of, at, tag, max);
            }
            if found & COUNT == 0 {
                free.get_or_insert(at);
            }
        }
        match free {
            Some(at) => self.enter_at(of, at, tag, max),
            None => Some(self.present(of, None)),
        }
    }

    fn enter_at(self: &Arc<Self>, of: Of, at: usize, tag: u64, max: u32) -> Option<Present> {
        let mut is_full = false;
        let counted = self.tables(of).counts[at].fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            |found| {
                let count = found & COUNT;
                if count > 0 && found & TAG != tag {
                    // Somebody else was faster.
                    return None;
                }
                is_full = count >= u64::from(max).min(COUNT - 1);
                (!is_full).then_some(tag | (count + 1))
            },
        );
        match counted {
            Ok(_) => Some(self.present(of, Some((at, tag)))),
            Err(_) if is_full => None,
            Err(_) => Some(self.present(of, None)),
        }
    }

    fn present(self: &Arc<Self>, of: Of, place: Option<(usize, u64)>) -> Present {
        Present { sources: Arc::clone(self), of, place }
    }
}

impl Tables {
    fn new(rates: usize, counts: usize) -> Self {
        Self {
            rates: (0..rates).map(|_| RateEntry::default()).collect(),
            counts: (0..counts).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The entry of a key, if it has one.
    fn own_rate(&self, digest: u64) -> Option<&RateEntry> {
        let mut entries = places(digest, self.rates.len()).map(|at| &self.rates[at]);
        entries.find(|entry| entry.key.load(Ordering::Acquire) == digest)
    }

    /// Takes for a key the first entry that is free, or the one that would be the soonest; or its own, where another
    /// worker has just done so.
    fn take_rate(&self, digest: u64, now: u64) -> &RateEntry {
        let mut found = self.find_rate(digest, now);
        for _ in 0..TAKES_MAX {
            let Found::Other { entry, arrival } = found else { break };
            // Emptied before it has its new key: who finds it by that, on another worker, finds nothing of the
            // former one, and what is found there is not emptied again.
            let is_free = arrival <= now;
            let emptied =
                || entry.arrival.compare_exchange(arrival, 0, Ordering::AcqRel, Ordering::Relaxed);
            if is_free || emptied().is_ok() {
                entry.key.store(digest, Ordering::Release);
                break;
            }
            found = self.find_rate(digest, now);
        }
        match found {
            Found::Own(entry) | Found::Other { entry, .. } => entry,
        }
    }

    fn find_rate(&self, digest: u64, now: u64) -> Found<'_> {
        let mut soonest = Found::Other { entry: &self.rates[0], arrival: u64::MAX };
        let mut free_at = u64::MAX;
        for at in places(digest, self.rates.len()) {
            let entry = &self.rates[at];
            if entry.key.load(Ordering::Acquire) == digest {
                return Found::Own(entry);
            }
            let arrival = entry.arrival.load(Ordering::Acquire);
            if arrival.max(now) < free_at {
                free_at = arrival.max(now);
                soonest = Found::Other { entry, arrival };
            }
        }
        soonest
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let Some((at, tag)) = self.place else { return };
        let left = |found: u64| (found & TAG == tag && found & COUNT > 0).then(|| found - 1);
        let entry = &self.sources.tables(self.of).counts[at];
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
fn places(digest: u64, entries: usize) -> impl Iterator<Item = usize> {
    let first = usize::try_from(digest >> 40).unwrap_or(0);
    (0..PROBED).map(move |step| (first + step) % entries)
}

/// 16 bytes each: 1 MiB.
const RATES: usize = 1 << 16;

/// 8 bytes each: 1 MiB.
const COUNTS: usize = 1 << 17;

/// For the process, chains and filters: as many as a configuration has, several times over.
const RATES_CONFIGURED: usize = 1 << 14;
const COUNTS_CONFIGURED: usize = 1 << 14;

/// So often a worker looks again for an entry that another one has taken just now; then it shares that.
const TAKES_MAX: usize = 8;

/// Filled to a half, one key in 3,100 has found no place, and the next finds none once in 270 (simulated).
const PROBED: usize = 16;

/// An entry of counts: 40 bits of its key, and how many are here.
const COUNT: u64 = (1 << 24) - 1;
const TAG: u64 = !COUNT;

/// Tells `::1.2.3.4` from 1.2.3.4.
const IPV4: u128 = 1 << 127;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;
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
                let (sources, key) = (&sources, sources.client(("edge", 1_u8)));
                scope.spawn(move || {
                    (0..200).filter(|_| sources.admits(key, rate, 0, || now)).count()
                })
            };
            let threads: Vec<_> = (0..4).map(ask).collect();
            threads.into_iter().map(|thread| thread.join().expect("a count")).sum()
        });
        assert_eq!(passed, 100);
        assert!(sources.admits(sources.client(("edge", 2_u8)), rate, 0, || now), "another key");
        let later = now + Duration::from_millis(15);
        assert!(sources.admits(sources.client(("edge", 1_u8)), rate, 0, || later));
        assert!(!sources.admits(sources.client(("edge", 1_u8)), rate, 0, || later));
    }

    #[test]
    fn a_worker_that_was_held_up_with_its_time_in_hand_finds_the_burst_whole() {
        let now = clock::now();
        let sources = Sources::new(now);
        let twice = "1/h".parse::<Rate>().expect("a rate").with_burst(NonZeroU32::new(2).unwrap());
        let key = sources.client("one");
        let later = now + Duration::from_millis(1);
        let reads = Cell::new(0);
        let passes = sources.admits(key, twice, 0, || {
            reads.set(reads.get() + 1);
            match reads.get() {
                1 => now,
                // Another worker comes between this time and what is made of it.
                2 => {
                    assert!(sources.admits(key, twice, 0, || later));
                    now
                }
                _ => later,
            }
        });
        assert!(passes);
        assert!(!sources.admits(key, twice, 0, || later), "the third");
    }

    #[test]
    fn those_who_are_here_are_counted_until_they_leave() {
        let sources = Sources::new(clock::now());
        let key = sources.client("one");
        let here: Vec<_> = (0..3).map(|_| sources.enter(key, 3).expect("room")).collect();
        assert!(sources.enter(key, 3).is_none());
        let other = sources.enter(sources.client("other"), 1);
        assert!(other.is_some());
        drop(here);
        assert!(sources.enter(key, 1).is_some());
        assert!(
            sources
                .clients
                .counts
                .iter()
                .filter(|entry| entry.load(Ordering::Relaxed) & COUNT > 0)
                .count()
                == 1
        );
    }

    #[test]
    fn sixty_thousand_sources_are_told_apart() {
        let sources = Sources::new(clock::now());
        let (mut here, mut seen) = (Vec::new(), HashSet::new());
        // Two that an entry holds for one are there once in 600 runs, by chance.
        let mut keys: Vec<_> = (0..60_000_u32).map(|source| sources.client(source)).collect();
        keys.retain(|key| seen.insert(key.digest & TAG));
        assert!(keys.len() > 59_990, "{} digests", keys.len());
        for (source, key) in keys.into_iter().enumerate() {
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
    fn clients_by_the_hundred_thousand_turn_no_limit_off() {
        let now = clock::now();
        let sources = Sources::new(now);
        let per_second = Rate::per_second(NonZeroU32::new(2).expect("not zero"));
        let per_hour: Rate = "1/h".parse().expect("a rate");
        let process = sources.configured("process");
        assert!((0..2).all(|_| sources.admits(process, per_second, 0, || now)));
        for client in 0..200_000_u32 {
            assert!(sources.admits(sources.client(client), per_hour, 0, || now), "its first");
        }
        assert!(
            !sources.admits(process, per_second, 0, || now),
            "forgotten for the sake of clients"
        );
        let client = sources.client("another");
        let passed = (0..100).filter(|_| sources.admits(client, per_second, 0, || now)).count();
        assert_eq!(passed, 2, "of a client that came to a full table");
        let chain = sources.configured("chain");
        let here: Vec<_> =
            (0..200_000_u32).map(|one| sources.enter(sources.client(one), 9)).collect();
        let _first = sources.enter(chain, 1).expect("room");
        assert!(sources.enter(chain, 1).is_none(), "not counted, as clients are {}", here.len());
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
