//! What was read of a directory's pairs, at most so many: those stay that clients ask for.
//!
//! Workers read without a lock; only whoever puts something in takes one. Which pair goes when there
//! are too many is the clock algorithm's choice (second chance), an approximation of least recently
//! used that costs a worker one store at most.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::{Answer, Stamp, unavailable};
use crate::tls::served::Served;

/// One slot a pair, by its number.
#[derive(Debug)]
pub(super) struct Cache {
    slots: Box<[Slot]>,
    loaded_max: usize,
    /// The numbers of occupied slots, each once; the next to go is in front.
    order: Mutex<VecDeque<u32>>,
}

#[derive(Debug, Default)]
struct Slot {
    held: ArcSwapOption<Held>,
    /// Whether a client wanted it since the hand of the clock came by.
    is_wanted: AtomicBool,
}

/// What reading a pair came to.
#[derive(Debug)]
pub(super) struct Held {
    /// The certificate, or what is wrong with its files.
    pub outcome: Result<Arc<Served>, Arc<str>>,
    pub stamp: Stamp,
    /// Unix seconds.
    pub read_at: u64,
}

impl Cache {
    pub(super) fn new(pairs: usize, loaded_max: usize) -> Self {
        let slots = (0..pairs).map(|_| Slot::default()).collect();
        Self { slots, loaded_max, order: Mutex::default() }
    }

    /// What is held of a pair.
    pub(super) fn get(&self, number: u32) -> Option<Arc<Held>> {
        let slot = self.slots.get(number as usize)?;
        let held = slot.held.load_full()?;
        // Looked at first: a store would take the line of the cache from the other workers.
        if !slot.is_wanted.load(Ordering::Relaxed) {
            slot.is_wanted.store(true, Ordering::Relaxed);
        }
        Some(held)
    }

    /// Holds `held`, and lets another go where there are too many.
    pub(super) fn put(&self, number: u32, held: Arc<Held>) {
        let Some(slot) = self.slots.get(number as usize) else { return };
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.held.swap(Some(held)).is_none() {
            slot.is_wanted.store(false, Ordering::Relaxed);
            order.push_back(number);
        }
        // Workers may go on wanting all of them: after one round the next goes whatever they want.
        let mut chances = order.len();
        while order.len() > self.loaded_max
            && let Some(oldest) = order.pop_front()
        {
            let Some(slot) = self.slots.get(oldest as usize) else { continue };
            if slot.is_wanted.swap(false, Ordering::Relaxed) && chances > 0 {
                chances -= 1;
                order.push_back(oldest);
            } else {
                slot.held.store(None);
            }
        }
    }

    /// Everything that is held.
    pub(super) fn all(&self) -> Vec<(u32, Arc<Held>)> {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let held =
            |number: &u32| Some((*number, self.slots.get(*number as usize)?.held.load_full()?));
        order.iter().filter_map(held).collect()
    }
}

impl Held {
    pub(super) fn answer(&self) -> Answer {
        match &self.outcome {
            Ok(served) => Ok(Arc::clone(served)),
            Err(why) => Err(unavailable(&**why)),
        }
    }

    /// Whether it is time to look again: a pair that could not be used may have been mended, and a
    /// crowd of its clients must not have it read for each of them.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.outcome.is_err() && now.abs_diff(self.read_at) >= RETRY_SECONDS
    }
}

const RETRY_SECONDS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn held(why: &str) -> Arc<Held> {
        Arc::new(Held { outcome: Err(why.into()), stamp: Stamp([None; 3]), read_at: 100 })
    }

    fn numbers(cache: &Cache) -> Vec<u32> {
        cache.all().into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn no_more_are_held_than_allowed_and_wanted_ones_stay() {
        let cache = Cache::new(10, 3);
        for number in 0..3 {
            cache.put(number, held("x"));
        }
        assert!(cache.get(0).is_some());
        cache.put(3, held("x"));
        assert_eq!(numbers(&cache), [2, 3, 0], "1 was wanted by nobody");
        assert!(cache.get(1).is_none());
        cache.put(4, held("x"));
        assert_eq!(numbers(&cache), [3, 0, 4], "the second chance is one");
    }

    #[test]
    fn where_all_are_wanted_the_oldest_goes_all_the_same() {
        let cache = Cache::new(4, 2);
        for number in 0..4 {
            cache.put(number, held("x"));
            (0..4).for_each(|number| drop(cache.get(number)));
            assert!(numbers(&cache).len() <= 2);
        }
    }

    #[test]
    fn what_is_put_again_takes_no_second_place() {
        let cache = Cache::new(4, 2);
        for _ in 0..5 {
            cache.put(1, held("x"));
        }
        cache.put(2, held("y"));
        assert_eq!(numbers(&cache), [1, 2]);
        cache.put(7, held("z"));
        assert!(cache.get(7).is_none(), "there is no such pair");
    }

    #[test]
    fn a_pair_that_cannot_be_used_is_looked_at_again_after_a_while_whatever_the_clock_does() {
        for (now, is_due) in [(100, false), (104, false), (105, true), (95, true), (0, true)] {
            assert_eq!(held("x").is_due(now), is_due, "{now}");
        }
    }
}
