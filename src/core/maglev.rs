//! Consistent hashing: who has the same key goes to the same endpoint, on every worker and node.
//!
//! The look-up table of Maglev (Eisenbud and others, NSDI 2016, §3.4), with weights. Built once for a
//! set of endpoints, off the workers; who may not be chosen for a while is skipped at the look-up, so
//! that only its own keys move. Next: `balance`, the rules that go by load.

use std::fmt;

/// The table for one set of endpoints.
#[derive(Clone, PartialEq, Eq)]
pub struct Maglev {
    endpoints: usize,
    /// An endpoint for each remainder of a key's hash.
    table: Box<[u16]>,
}

/// An endpoint as the table sees it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Of what names it, the same on every node: see [`hash`].
    pub id: u64,
    pub weight: u32,
}

/// How an endpoint goes through the table.
struct Walk {
    endpoint: u16,
    at: usize,
    skip: usize,
    weight: u64,
    /// In units of `weight`: its next turn comes when the rounds have reached it.
    next_turn: u64,
}

impl Maglev {
    /// `None` without endpoints of any weight, or with more than [`ENDPOINTS_MAX`].
    pub fn build(places: &[Place]) -> Option<Self> {
        if places.len() > ENDPOINTS_MAX {
            return None;
        }
        let mut walks: Vec<(u64, Walk)> = Vec::with_capacity(places.len());
        for (place, endpoint) in places.iter().zip(0u16..) {
            if place.weight > 0 {
                walks.push((place.id, Walk::new(endpoint, place)));
            }
        }
        // In the order of their ids, and not of the list: nodes may have theirs in another one.
        walks.sort_by_key(|(id, _)| *id);
        let heaviest = walks.iter().map(|(_, walk)| walk.weight).max()?;
        let mut table = vec![FREE; SLOTS];
        let mut taken = 0;
        for round in 1.. {
            for (_, walk) in &mut walks {
                // The heaviest has a turn in each round, one of half its weight in every other.
                if round * walk.weight < walk.next_turn {
                    continue;
                }
                walk.next_turn += heaviest;
                walk.take(&mut table);
                taken += 1;
                if taken == SLOTS {
                    return Some(Self { endpoints: places.len(), table: table.into() });
                }
            }
        }
        None
    }

    /// The endpoint for a key's hash among those that are `usable`; `None` when none is. A key leaves
    /// its endpoint only while that is not usable.
    pub fn choose(&self, hash: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        for probe in 0..PROBES_MAX {
            let endpoint = self.slot(mix(hash.wrapping_add(probe.wrapping_mul(GOLDEN))));
            if usable(endpoint) {
                return Some(endpoint);
            }
        }
        // Few are left: each key goes to one of them by a hash of both.
        let weigh = |endpoint: &usize| mix(hash ^ mix(*endpoint as u64 + 1));
        (0..self.endpoints).filter(|endpoint| usable(*endpoint)).max_by_key(weigh)
    }

    /// The share of keys whose endpoint is another in `other`, by what names it.
    pub fn moved<'a, N: PartialEq>(
        &self,
        other: &Self,
        name: impl Fn(usize) -> N,
        other_name: impl Fn(usize) -> N + 'a,
    ) -> f64 {
        let pairs = self.table.iter().zip(&other.table);
        let is_moved =
            |(one, two): &(&u16, &u16)| name(usize::from(**one)) != other_name(usize::from(**two));
        pairs.filter(is_moved).count() as f64 / SLOTS as f64
    }

    /// The share of keys that each endpoint has.
    pub fn shares(&self) -> Vec<f64> {
        let mut counts = vec![0usize; self.endpoints];
        for endpoint in &self.table {
            counts[usize::from(*endpoint)] += 1;
        }
        counts.into_iter().map(|count| count as f64 / SLOTS as f64).collect()
    }

    fn slot(&self, hash: u64) -> usize {
        usize::from(self.table[remainder(hash, SLOTS)])
    }
}

impl fmt::Debug for Maglev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maglev").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Walk {
    fn new(endpoint: u16, place: &Place) -> Self {
        Self {
            endpoint,
            at: remainder(mix(place.id), SLOTS),
            // Never 0, and without a divisor in common with a prime: it comes by every slot.
            skip: 1 + remainder(mix(place.id ^ GOLDEN), SLOTS - 1),
            weight: u64::from(place.weight),
            next_turn: 0,
        }
    }

    /// Takes its next slot that is free; there is one.
    fn take(&mut self, table: &mut [u16]) {
        while table[self.at] != FREE {
            self.at = (self.at + self.skip) % SLOTS;
        }
        table[self.at] = self.endpoint;
    }
}

/// A hash of a key or of an endpoint's name: FNV-1a, and a finisher that spreads what it leaves
/// together. The same on every node and in every version: two nodes send a client to one endpoint.
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The finisher of splitmix64.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn remainder(word: u64, divisor: usize) -> usize {
    usize::try_from(word % divisor as u64).unwrap_or(0)
}

/// A prime, as the walks demand, and the small one of the paper: 128 KiB a cluster, and 64 slots for
/// each of the most endpoints that there may be.
const SLOTS: usize = 65_537;
/// A cluster of more endpoints has shares that are too uneven.
pub const ENDPOINTS_MAX: usize = 1_024;
const FREE: u16 = u16::MAX;
/// With half of the endpoints gone, one key in 65,536 comes to the end of them.
const PROBES_MAX: u64 = 16;
/// 2⁶⁴ divided by the golden ratio: steps that spread evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(count: usize) -> Vec<Place> {
        (0..count).map(|at| place(at, 1)).collect()
    }

    fn place(at: usize, weight: u32) -> Place {
        Place { id: hash(format!("10.0.{}.{}:6432", at / 256, at % 256).as_bytes()), weight }
    }

    fn table(places: &[Place]) -> Maglev {
        Maglev::build(places).expect("a table")
    }

    #[test]
    fn shares_are_those_of_the_weights_to_a_hundredth() {
        let weights = [1, 2, 3, 1, 2, 3, 1, 2, 3, 1];
        let places: Vec<_> = (0..).zip(weights).map(|(at, weight)| place(at, weight)).collect();
        let sum: u32 = places.iter().map(|place| place.weight).sum();
        for (share, place) in table(&places).shares().iter().zip(&places) {
            let wanted = f64::from(place.weight) / f64::from(sum);
            assert!((share / wanted - 1.0).abs() < 0.01, "{share} instead of {wanted}");
        }
    }

    #[test]
    fn the_order_of_the_list_changes_no_key() {
        let forward = places(7);
        let mut backward = forward.clone();
        backward.reverse();
        let (one, other) = (table(&forward), table(&backward));
        assert_eq!(one.moved(&other, |at| forward[at].id, |at| backward[at].id), 0.0);
    }

    #[test]
    fn an_endpoint_that_goes_moves_little_more_than_its_own_keys() {
        let all = places(20);
        let less: Vec<_> = all.iter().copied().enumerate().filter(|(at, _)| *at != 3).collect();
        let less: Vec<_> = less.into_iter().map(|(_, place)| place).collect();
        let moved = table(&all).moved(&table(&less), |at| all[at].id, |at| less[at].id);
        assert!((0.05..0.10).contains(&moved), "{moved}");
    }

    #[test]
    fn who_is_skipped_loses_its_keys_and_nobody_else_does() {
        let maglev = table(&places(5));
        for key in 0..10_000u64 {
            let key = hash(&key.to_be_bytes());
            let home = maglev.choose(key, |_| true).unwrap();
            let now = maglev.choose(key, |at| at != 2).unwrap();
            assert!(now != 2 && (home == 2 || now == home), "{key}: {home}, {now}");
        }
    }

    #[test]
    fn too_many_endpoints_and_none_have_no_table() {
        assert_eq!(Maglev::build(&[]), None);
        assert_eq!(Maglev::build(&[place(0, 0)]), None);
        assert_eq!(Maglev::build(&places(ENDPOINTS_MAX + 1)), None);
        let most = table(&places(ENDPOINTS_MAX));
        let fair = 1.0 / ENDPOINTS_MAX as f64;
        assert!(most.shares().iter().all(|share| (0.9 * fair..1.1 * fair).contains(share)));
    }

    #[test]
    fn hashes_are_what_they_were() {
        // Another version must send a client to the same endpoint.
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(b"10.0.0.1"), hash(b"10.0.0.1"));
        assert_ne!(hash(b"10.0.0.1"), hash(b"10.0.0.2"));
    }

    proptest! {
        #[test]
        fn a_choice_is_one_that_is_usable(
            usable in prop::collection::vec(any::<bool>(), 1..40),
            key: u64,
        ) {
            let maglev = table(&places(usable.len()));
            let chosen = maglev.choose(key, |at| usable[at]);
            prop_assert_eq!(chosen.is_some(), usable.contains(&true));
            prop_assert!(chosen.is_none_or(|at| usable[at]));
            prop_assert_eq!(chosen, maglev.choose(key, |at| usable[at]));
        }
    }
}
