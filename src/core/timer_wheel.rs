//! All deadlines of one worker: a hierarchical wheel that sets, moves and cancels a timer in O(1).
//!
//! Owns when a token is due, never what it means, and never a clock: `now` is an argument. Timers
//! lie in a slab that grows to the most there ever were; after that no call allocates. `session`
//! and the workers use it; read `session` next.

use std::mem;
use std::time::{Duration, Instant};

/// Timers with a token each. They never fire early, and fire no later than one tick after their
/// deadline if `advance` is called then.
#[derive(Debug)]
pub struct TimerWheel<T> {
    origin: Instant,
    /// A tick is 2^`tick_bits` nanoseconds.
    tick_bits: u32,
    /// Ticks from `origin` up to which everything has fired.
    elapsed: u64,
    /// First timer of each slot, level by level; the last list holds what was due when it was set.
    heads: [u32; DUE + 1],
    /// One bit for each slot of a level that is not empty.
    occupied: [u64; LEVELS],
    nodes: Vec<Node<T>>,
    free: u32,
    len: usize,
}

/// Names one timer until it fires or is cancelled; then it names none, even when the place is used
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

/// 40 bytes with a token of 8: 10,000 timers are 400 kB.
#[derive(Debug)]
struct Node<T> {
    due: u64,
    /// `None` while the place is free.
    token: Option<T>,
    next: u32,
    previous: u32,
    /// Odd while the timer is set, even while the place is free.
    generation: u32,
}

impl<T> TimerWheel<T> {
    /// An empty wheel. `tick` is rounded up to a power of two of nanoseconds, so that finding the
    /// tick of an instant is a shift: 16 ms become 16.8 ms.
    pub fn new(origin: Instant, tick: Duration) -> Self {
        let tick_bits = nanos(tick).clamp(1, TICK_NANOS_MAX).next_power_of_two().trailing_zeros();
        TimerWheel {
            origin,
            tick_bits,
            elapsed: 0,
            heads: [NIL; DUE + 1],
            occupied: [0; LEVELS],
            nodes: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// Sets a timer. A deadline that has passed fires at the next `advance`.
    pub fn schedule(&mut self, deadline: Instant, token: T) -> TimerKey {
        let due = self.tick_after(deadline);
        let index = self.claim(due, token);
        self.link(index);
        self.len += 1;
        TimerKey { index, generation: self.nodes[index as usize].generation }
    }

    /// Moves a timer; its key stays. `false` if it has fired or was cancelled.
    pub fn reschedule(&mut self, key: TimerKey, deadline: Instant) -> bool {
        let due = self.tick_after(deadline);
        let Some(node) = self.live(key) else { return false };
        // An idle deadline that moves with each record stays within a tick most of the time.
        if node.due != due {
            self.unlink(key.index);
            self.nodes[key.index as usize].due = due;
            self.link(key.index);
        }
        true
    }

    /// Takes a timer out and gives its token; `None` if it has fired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let token = self.live(key)?.token.take();
        self.unlink(key.index);
        self.release(key.index);
        token
    }

    /// Whether the timer has neither fired nor been cancelled.
    pub fn is_set(&self, key: TimerKey) -> bool {
        let node = self.nodes.get(key.index as usize);
        node.is_some_and(|node| node.generation == key.generation)
    }

    /// Appends the tokens of all timers that are due to `expired`, earlier ticks first. The cost is
    /// that of the timers it touches: a gap of hours (a stopped process) costs no more than a tick.
    /// A `now` before an earlier one is taken for that one.
    pub fn advance(&mut self, now: Instant, expired: &mut Vec<T>) {
        self.expire_list(DUE, expired);
        let target = self.tick_before(now);
        while let Some((level, slot)) = self.first_slot() {
            let start = self.slot_start(level, slot);
            if start > target {
                break;
            }
            self.elapsed = start;
            self.occupied[level] &= !(1 << slot);
            self.expire_list(level * SLOTS + slot, expired);
        }
        self.elapsed = self.elapsed.max(target);
    }

    /// When to call `advance` next; `None` without timers. This may be before the first deadline
    /// (never after the tick that ends it): far timers move closer in at most `LEVELS` steps.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = if self.heads[DUE] == NIL {
            let (level, slot) = self.first_slot()?;
            self.slot_start(level, slot)
        } else {
            self.elapsed
        };
        let nanos = u64::try_from(u128::from(tick) << self.tick_bits).unwrap_or(u64::MAX);
        self.origin.checked_add(Duration::from_nanos(nanos))
    }

    /// Timers that have neither fired nor been cancelled.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The real tick: what `new` was given, rounded up.
    pub fn tick(&self) -> Duration {
        Duration::from_nanos(1 << self.tick_bits)
    }

    /// Fires what is due in a list that `advance` has reached, and moves the rest closer.
    fn expire_list(&mut self, list: usize, expired: &mut Vec<T>) {
        let mut index = mem::replace(&mut self.heads[list], NIL);
        while index != NIL {
            let node = &mut self.nodes[index as usize];
            let next = node.next;
            if node.due <= self.elapsed {
                expired.extend(node.token.take());
                self.release(index);
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    /// The non-empty slot that is reached first: a level is always before the ones above it.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// The tick at which a slot begins. Timers of a level share all higher digits with `elapsed`.
    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = level * SLOT_BITS;
        let above = self.elapsed >> shift >> SLOT_BITS << SLOT_BITS;
        (above | slot as u64) << shift
    }

    /// The list where a tick belongs: the level of the highest base-64 digit in which it differs
    /// from `elapsed`, the slot of that digit. No slot ever wraps, and as `advance` leaves no timer
    /// behind, a set timer belongs to the same list until `advance` reaches that list.
    fn list_of(&self, due: u64) -> usize {
        if due <= self.elapsed {
            return DUE;
        }
        let level = (due ^ self.elapsed).ilog2() as usize / SLOT_BITS;
        let slot = usize::try_from((due >> (level * SLOT_BITS)) % SLOTS as u64).unwrap_or(0);
        level * SLOTS + slot
    }

    fn link(&mut self, index: u32) {
        let list = self.list_of(self.nodes[index as usize].due);
        if list != DUE {
            self.occupied[list / SLOTS] |= 1 << (list % SLOTS);
        }
        let next = mem::replace(&mut self.heads[list], index);
        if next != NIL {
            self.nodes[next as usize].previous = index;
        }
        let node = &mut self.nodes[index as usize];
        node.next = next;
        node.previous = NIL;
    }

    fn unlink(&mut self, index: u32) {
        let Node { due, next, previous, .. } = self.nodes[index as usize];
        if next != NIL {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NIL {
            self.nodes[previous as usize].next = next;
            return;
        }
        let list = self.list_of(due);
        self.heads[list] = next;
        if next == NIL && list != DUE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    fn claim(&mut self, due: u64, token: T) -> u32 {
        let index = self.free;
        if let Some(node) = self.nodes.get_mut(index as usize) {
            self.free = node.next;
            node.generation = node.generation.wrapping_add(1);
            node.due = due;
            node.token = Some(token);
            return index;
        }
        let index = u32::try_from(self.nodes.len()).unwrap_or(NIL);
        assert!(index != NIL, "2^32 timers are 160 GiB: the connection limits are far below");
        self.nodes.push(Node { due, token: Some(token), next: NIL, previous: NIL, generation: 1 });
        index
    }

    /// Gives a node that is in no list back to the slab; keys to it are void from here on.
    fn release(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        node.next = mem::replace(&mut self.free, index);
        self.len -= 1;
    }

    fn live(&mut self, key: TimerKey) -> Option<&mut Node<T>> {
        let node = self.nodes.get_mut(key.index as usize)?;
        // A key is only ever given out with an odd generation.
        (node.generation == key.generation).then_some(node)
    }

    /// The last tick that has begun at `at`.
    fn tick_before(&self, at: Instant) -> u64 {
        (nanos(at.saturating_duration_since(self.origin)) >> self.tick_bits).min(TICKS_MAX)
    }

    /// The first tick that begins at or after `at`.
    fn tick_after(&self, at: Instant) -> u64 {
        let nanos = nanos(at.saturating_duration_since(self.origin));
        let part = nanos & ((1 << self.tick_bits) - 1);
        ((nanos >> self.tick_bits) + u64::from(part > 0)).min(TICKS_MAX)
    }
}

/// Whole nanoseconds; 584 years and more are 584 years.
fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}

const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 64^8 ticks of 16.8 ms are 150,000 years: no list of what is too far for the wheel.
const LEVELS: usize = 8;
const DUE: usize = LEVELS * SLOTS;
const TICKS_MAX: u64 = (1 << (LEVELS * SLOT_BITS)) - 1;
/// 18 minutes; keeps shifts in range.
const TICK_NANOS_MAX: u64 = 1 << 40;
const NIL: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TICK: Duration = Duration::from_nanos(1 << 24);

    fn origin() -> Instant {
        // Any instant does; what matters is the distance from it.
        #[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
        Instant::now()
    }

    fn advanced<T>(wheel: &mut TimerWheel<T>, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        wheel.advance(now, &mut expired);
        expired
    }

    #[test]
    fn a_timer_fires_within_the_tick_after_its_deadline_and_once() {
        for millis in [0, 1, 16, 17, 1_000, 60_000, 3_600_000, 86_400_000 * 400] {
            let start = origin();
            let mut wheel = TimerWheel::new(start, TICK);
            let deadline = start + Duration::from_millis(millis);
            wheel.schedule(deadline, millis);
            if millis > 0 {
                let before = deadline - Duration::from_nanos(1);
                assert!(advanced(&mut wheel, before).is_empty(), "{millis} ms: early");
            }
            assert_eq!(advanced(&mut wheel, deadline + TICK), [millis]);
            assert!(advanced(&mut wheel, deadline + 2 * TICK).is_empty());
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_advance() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        let now = start + Duration::from_secs(9);
        assert!(advanced(&mut wheel, now).is_empty());
        wheel.schedule(start, 1);
        assert!(wheel.next_deadline().unwrap() <= now);
        assert_eq!(advanced(&mut wheel, now), [1]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_key_dies_with_its_timer_even_when_the_place_is_used_again() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        let first = wheel.schedule(start + TICK, 1);
        assert_eq!(wheel.cancel(first), Some(1));
        let second = wheel.schedule(start + TICK, 2);
        assert_eq!(second.index, first.index);
        assert_eq!(wheel.cancel(first), None);
        assert!(!wheel.reschedule(first, start));
        assert_eq!(advanced(&mut wheel, start + 2 * TICK), [2]);
        assert_eq!(wheel.cancel(second), None);
    }

    // threat 38: the process is stopped for hours, then goes on.
    #[test]
    fn a_jump_of_hours_fires_all_that_is_due_in_order_of_ticks() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        for second in (0..10_000u64).rev() {
            wheel.schedule(start + Duration::from_secs(second), second);
        }
        let later = start + Duration::from_secs(5 * 3600);
        let kept = wheel.schedule(later + Duration::from_secs(1), u64::MAX);
        assert_eq!(advanced(&mut wheel, later), (0..10_000).collect::<Vec<_>>());
        assert_eq!(wheel.cancel(kept), Some(u64::MAX));
    }

    #[test]
    fn time_that_goes_back_fires_nothing_and_breaks_nothing() {
        let start = origin() + Duration::from_secs(100);
        let mut wheel = TimerWheel::new(start, TICK);
        assert_eq!(advanced(&mut wheel, start + Duration::from_secs(50)), [] as [u8; 0]);
        wheel.schedule(start + Duration::from_secs(60), 1);
        assert!(advanced(&mut wheel, start - Duration::from_secs(50)).is_empty());
        assert_eq!(advanced(&mut wheel, start + Duration::from_secs(61)), [1]);
    }

    #[test]
    fn a_grown_wheel_allocates_no_more() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        let keys: Vec<_> =
            (0..1000).map(|token| wheel.schedule(start + TICK * token, token)).collect();
        let grown = wheel.nodes.capacity();
        keys.into_iter().for_each(|key| assert!(wheel.cancel(key).is_some()));
        for token in 0..1000 {
            wheel.schedule(start + TICK * token, token);
        }
        assert_eq!((wheel.nodes.capacity(), wheel.len()), (grown, 1000));
    }

    #[test]
    fn waiting_for_next_deadline_fires_in_time_after_few_wake_ups() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        let deadline = start + Duration::from_secs(3600 * 24 * 3 + 7);
        wheel.schedule(deadline, ());
        let mut wakes = 0;
        let fired = loop {
            let now = wheel.next_deadline().unwrap();
            wakes += 1;
            if !advanced(&mut wheel, now).is_empty() {
                break now;
            }
        };
        assert!(deadline <= fired && fired < deadline + TICK);
        assert!(wakes <= LEVELS, "{wakes} wake-ups");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Schedule(u64),
        Reschedule(usize, u64),
        Cancel(usize),
        Advance(u64),
    }

    /// Nanoseconds of all magnitudes up to some hours, also on the very edges of ticks.
    fn span() -> impl Strategy<Value = u64> {
        (0..44u32, any::<u64>(), 0..4u64).prop_map(|(bits, random, edge)| match edge {
            0 => (random % (1 << bits)) >> 24 << 24,
            _ => random % (1 << bits),
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => span().prop_map(Step::Schedule),
            2 => (any::<usize>(), span()).prop_map(|(of, at)| Step::Reschedule(of, at)),
            1 => any::<usize>().prop_map(Step::Cancel),
            3 => span().prop_map(Step::Advance),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn the_wheel_agrees_with_a_sorted_map(steps in prop::collection::vec(step(), 1..120)) {
            let start = origin();
            let mut now = start;
            let mut wheel = TimerWheel::new(start, TICK);
            let mut model = BTreeMap::<usize, Instant>::new();
            let mut keys = Vec::new();
            for step in steps {
                match step {
                    Step::Schedule(after) => {
                        let deadline = now + Duration::from_nanos(after);
                        model.insert(keys.len(), deadline);
                        keys.push(wheel.schedule(deadline, keys.len()));
                    }
                    Step::Reschedule(of, after) if !keys.is_empty() => {
                        let token = of % keys.len();
                        let deadline = now + Duration::from_nanos(after);
                        let live = model.contains_key(&token);
                        prop_assert_eq!(wheel.reschedule(keys[token], deadline), live);
                        model.entry(token).and_modify(|at| *at = deadline);
                    }
                    Step::Cancel(of) if !keys.is_empty() => {
                        let token = of % keys.len();
                        let live = model.remove(&token).map(|_| token);
                        prop_assert_eq!(wheel.cancel(keys[token]), live);
                    }
                    Step::Reschedule(..) | Step::Cancel(_) => {}
                    Step::Advance(by) => {
                        now += Duration::from_nanos(by);
                        for token in advanced(&mut wheel, now) {
                            let deadline = model.remove(&token).expect("fired once");
                            prop_assert!(deadline <= now, "fired early");
                        }
                        for deadline in model.values() {
                            prop_assert!(*deadline + TICK > now, "more than one tick late");
                        }
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                match (wheel.next_deadline(), model.values().min()) {
                    (Some(wake), Some(first)) => prop_assert!(wake < *first + TICK || wake <= now),
                    (wake, first) => prop_assert_eq!(wake.is_some(), first.is_some()),
                }
            }
        }
    }
}
