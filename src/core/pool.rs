//! Ready upstream connections of one worker for one key: when to dial ahead, which to use, which to
//! close.
//!
//! A ready connection is dialled and handshaken before a client asks, serves one session and never
//! comes back: a byte stream has no message boundary. The pool holds what the caller puts in (`T`)
//! and opens, checks or closes nothing; the key (endpoint, server name, identity, verifier, ALPN)
//! is the caller's too. Read `balance` next: it says to which endpoint to dial.

use std::collections::VecDeque;
use std::iter;
use std::time::{Duration, Instant};

/// Ready connections and the forecast of how many will be needed.
///
/// After each event (a take, a dial's end, the deadline) ask `want` how many dials to start.
#[derive(Debug)]
pub struct ReadyPool<T> {
    limits: ReadyLimits,
    /// Oldest first.
    ready: VecDeque<Ready<T>>,
    dialing: usize,
    demand: Demand,
    dial_time: Duration,
    backoff: Backoff,
    /// No connection has to be closed before this; `None` without connections.
    expire_at: Option<Instant>,
}

/// How many connections are held, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyLimits {
    /// Held even when no client comes.
    pub ready_min: usize,
    /// Never more, dials in flight included; 0 turns the pool off.
    pub ready_max: usize,
    /// A connection beyond what the forecast asks for is closed after this time without use.
    pub idle: Duration,
    /// No connection is kept longer, needed or not.
    pub age: Duration,
}

/// A connection, and how long it may be kept; both go with it to the pool of another worker.
#[derive(Debug)]
pub struct Ready<T> {
    pub connection: T,
    idle_at: Instant,
    age_at: Instant,
}

impl<T> Ready<T> {
    /// The same times for what `change` makes of the connection.
    pub fn try_map<U>(self, change: impl FnOnce(T) -> Option<U>) -> Option<Ready<U>> {
        let Self { connection, idle_at, age_at } = self;
        change(connection).map(|connection| Ready { connection, idle_at, age_at })
    }
}

/// Arrivals a second, each fading with `FADE`: for a steady rate the mean is that rate.
#[derive(Debug, Clone, Copy)]
struct Demand {
    rate: f64,
    at: Option<Instant>,
}

/// After failures, no dial until a moment, then one at a time.
#[derive(Debug, Clone, Copy)]
enum Backoff {
    None,
    Until { at: Instant, failures: u32 },
}

impl<T> ReadyPool<T> {
    pub fn new(limits: ReadyLimits) -> Self {
        ReadyPool {
            limits,
            ready: VecDeque::new(),
            dialing: 0,
            demand: Demand { rate: 0.0, at: None },
            dial_time: DIAL_TIME_FIRST,
            backoff: Backoff::None,
            expire_at: None,
        }
    }

    /// Adds a connection. Both its times are shortened by up to a quarter, as `random` has it, so
    /// that connections dialled together do not end together. Gives back what has to be closed
    /// because the pool is full: the oldest.
    pub fn put(&mut self, connection: T, now: Instant, random: u64) -> Option<T> {
        self.put_back(Ready {
            connection,
            idle_at: now + shortened(self.limits.idle, random),
            age_at: now + shortened(self.limits.age, random.rotate_left(32)),
        })
    }

    /// `put`, for one that was in a pool before: its times go on.
    pub fn put_back(&mut self, ready: Ready<T>) -> Option<T> {
        if self.limits.ready_max == 0 {
            return Some(ready.connection);
        }
        let full = self.ready.len() >= self.limits.ready_max;
        let oldest = if full { self.ready.pop_front() } else { None };
        let first = ready.idle_at.min(ready.age_at);
        self.expire_at = Some(self.expire_at.map_or(first, |at| at.min(first)));
        self.ready.push_back(ready);
        oldest.map(|ready| ready.connection)
    }

    /// A client needs a connection: the newest, which is the likeliest to be alive still (upstreams
    /// and middleboxes close what idles) and leaves the oldest to go when demand falls. `None`: the
    /// caller dials.
    pub fn take(&mut self, now: Instant) -> Option<T> {
        self.demand.arrival(now);
        self.lend(now).map(|ready| ready.connection)
    }

    /// `take`, for a client of another worker: no sign that more will be needed here.
    pub fn lend(&mut self, now: Instant) -> Option<Ready<T>> {
        let newest = self.ready.iter().rposition(|ready| ready.age_at > now)?;
        self.ready.remove(newest)
    }

    /// Takes out what has to be closed at `now`: the too old, and surplus that was idle too long.
    pub fn expire(&mut self, now: Instant) -> impl Iterator<Item = T> {
        iter::from_fn(move || self.expire_one(now))
    }

    /// Takes out everything, when no client comes any more.
    pub fn empty(&mut self) -> impl Iterator<Item = T> {
        self.expire_at = None;
        self.ready.drain(..).map(|ready| ready.connection)
    }

    /// Takes out those that are good for nobody any more.
    pub fn remove(&mut self, mut is_gone: impl FnMut(&T) -> bool) -> Vec<T> {
        let (mut gone, mut kept) = (Vec::new(), VecDeque::with_capacity(self.ready.len()));
        for ready in self.ready.drain(..) {
            if is_gone(&ready.connection) {
                gone.push(ready.connection);
            } else {
                kept.push_back(ready);
            }
        }
        self.ready = kept;
        gone
    }

    /// How many dials to start at `now`. Report each with `dial_started` and its end with
    /// `dial_done` and `put`, or with `dial_failed`.
    pub fn want(&self, now: Instant) -> usize {
        let missing = self.missing(now);
        match self.backoff {
            Backoff::None => missing,
            Backoff::Until { at, .. } if now < at || self.dialing > 0 => 0,
            Backoff::Until { .. } => missing.min(1),
        }
    }

    pub fn dial_started(&mut self) {
        self.dialing += 1;
    }

    /// A dial for the pool succeeded after `took` (connect and handshake).
    pub fn dial_done(&mut self, took: Duration) {
        self.dialing = self.dialing.saturating_sub(1);
        self.backoff = Backoff::None;
        // The weight of RFC 6298 §2 for round-trip times.
        self.dial_time = (self.dial_time * 7 + took.min(DIAL_TIME_MAX)) / 8;
    }

    /// A dial is none for the pool after all.
    pub fn dial_left(&mut self) {
        self.dialing = self.dialing.saturating_sub(1);
    }

    /// A dial for the pool failed or timed out. Pauses double from 100 ms to 30 s, each shortened
    /// by up to a quarter as `random` has it. Dials that were in flight together count as one
    /// failure. True for the first of a series.
    pub fn dial_failed(&mut self, now: Instant, random: u64) -> bool {
        self.dialing = self.dialing.saturating_sub(1);
        let failures = match self.backoff {
            Backoff::None => 0,
            Backoff::Until { at, .. } if now < at => return false,
            Backoff::Until { failures, .. } => failures,
        };
        let pause = BACKOFF_FIRST.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
        let at = now + shortened(pause, random);
        self.backoff = Backoff::Until { at, failures: failures + 1 };
        failures == 0
    }

    /// When to call `expire` and `want` next, if no other event comes before; may be early.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let retry_at = match self.backoff {
            Backoff::Until { at, .. } if self.dialing == 0 && self.missing(now) > 0 => Some(at),
            Backoff::Until { .. } | Backoff::None => None,
        };
        self.expire_at.into_iter().chain(retry_at).min()
    }

    /// Connections ready to be taken, or to be expired.
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Dials in flight for the pool.
    pub fn dialing(&self) -> usize {
        self.dialing
    }

    fn missing(&self, now: Instant) -> usize {
        self.target(now).saturating_sub(self.ready.len() + self.dialing)
    }

    /// How many connections to have ready or in flight.
    ///
    /// Each take starts a dial, so at rate r and dial time d the dials in flight are Poisson with
    /// mean m = r·d whatever the distribution of d (M/G/∞). A client misses when all of the target
    /// are in flight: with m + 2√m + 1 that is below 3 %. Where less than one client is expected
    /// within `idle`, a connection would be closed before it is used: then only the minimum is
    /// held.
    fn target(&self, now: Instant) -> usize {
        let ReadyLimits { ready_min, ready_max, idle, .. } = self.limits;
        let rate = self.demand.rate_at(now);
        if rate * idle.as_secs_f64() < 1.0 {
            return ready_min.min(ready_max);
        }
        let mean = rate * self.dial_time.as_secs_f64();
        let target = (mean + 2.0 * mean.sqrt()).ceil() + 1.0;
        #[expect(clippy::cast_possible_truncation, reason = "a float above the range saturates")]
        let target = target as usize;
        target.max(ready_min).min(ready_max)
    }

    fn expire_one(&mut self, now: Instant) -> Option<T> {
        if self.expire_at.is_none_or(|at| now < at) {
            return None;
        }
        let surplus = self.ready.len() > self.target(now);
        let due = |ready: &Ready<T>| ready.age_at <= now || (surplus && ready.idle_at <= now);
        if let Some(at) = self.ready.iter().position(due) {
            return self.ready.remove(at).map(|ready| ready.connection);
        }
        // What idles but is still needed is looked at again: demand may have faded by then.
        let again = now + (self.limits.idle / 4).clamp(IDLE_CHECK_MIN, SPAN_MAX);
        let next = |ready: &Ready<T>| {
            let idle_at = if ready.idle_at <= now { again } else { ready.idle_at };
            idle_at.min(ready.age_at)
        };
        self.expire_at = self.ready.iter().map(next).min();
        None
    }
}

impl Demand {
    fn arrival(&mut self, now: Instant) {
        self.rate = self.rate_at(now) + 1.0 / FADE.as_secs_f64();
        self.at = Some(now);
    }

    fn rate_at(&self, now: Instant) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        let passed = now.saturating_duration_since(at).as_secs_f64();
        self.rate * (-passed / FADE.as_secs_f64()).exp()
    }
}

/// `whole`, at most a year, less up to a quarter of it.
fn shortened(whole: Duration, random: u64) -> Duration {
    let whole = whole.min(SPAN_MAX);
    let share = u32::try_from(random % 1024).unwrap_or(0);
    whole - whole / 4096 * share
}

/// Long enough that one burst does not fill the pool, short enough to follow a storm of clients.
const FADE: Duration = Duration::from_secs(5);
/// Believed before the first dial ends: TCP and TLS 1.3 across a region.
const DIAL_TIME_FIRST: Duration = Duration::from_millis(100);
/// Keeps one stuck dial from asking for a full pool.
const DIAL_TIME_MAX: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// No time that is added to an `Instant` comes near its end.
const SPAN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
const IDLE_CHECK_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::seeded::Random;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    const LIMITS: ReadyLimits = ReadyLimits {
        ready_min: 2,
        ready_max: 64,
        idle: Duration::from_secs(60),
        age: Duration::from_secs(600),
    };

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
        Instant::now()
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn expired<T>(pool: &mut ReadyPool<T>, now: Instant) -> Vec<T> {
        pool.expire(now).collect()
    }

    #[test]
    fn the_newest_is_taken_and_the_oldest_makes_room() {
        let now = start();
        let mut pool = ReadyPool::new(ReadyLimits { ready_max: 3, ..LIMITS });
        assert_eq!((1..=3).find_map(|i| pool.put(i, now, 0)), None);
        assert_eq!(pool.put(4, now, 0), Some(1));
        assert_eq!([0; 4].map(|_| pool.take(now)), [Some(4), Some(3), Some(2), None]);
    }

    #[test]
    fn what_is_lent_keeps_its_times_and_is_no_sign_of_demand() {
        let now = start();
        let mut pools = [LIMITS; 2].map(ReadyPool::new);
        pools[0].put(1, now, 0);
        let lent = pools[0].lend(now + seconds(50.0)).expect("a connection");
        assert_eq!((pools[0].len(), pools[0].want(now + seconds(50.0))), (0, 2));
        assert!(pools[0].lend(now).is_none());
        let lent = lent.try_map(|it| Some(it + 1)).expect("a connection");
        assert_eq!(pools[1].put_back(lent), None);
        assert_eq!(pools[1].next_deadline(now), Some(now + LIMITS.idle), "as it was put first");
        assert_eq!(pools[1].take(now + LIMITS.age), None);
        assert_eq!(expired(&mut pools[1], now + LIMITS.age), [2]);
    }

    #[test]
    fn a_dial_that_leaves_the_pool_is_missed() {
        let now = start();
        let mut pool = ReadyPool::<u8>::new(LIMITS);
        (0..2).for_each(|_| pool.dial_started());
        assert_eq!(pool.want(now), 0);
        pool.dial_left();
        assert_eq!((pool.want(now), pool.dialing()), (1, 1));
    }

    #[test]
    fn what_is_good_for_nobody_is_taken_out_and_missed() {
        let now = start();
        let mut pool = ReadyPool::new(LIMITS);
        assert_eq!((1..=4).find_map(|i| pool.put(i, now, 0)), None);
        assert_eq!(pool.remove(|i| i % 2 == 0), [2, 4]);
        assert_eq!((pool.len(), pool.want(now)), (2, 0));
        assert_eq!(pool.remove(|_| true), [1, 3]);
        assert_eq!((pool.want(now), pool.take(now)), (2, None));
    }

    #[test]
    fn a_pool_that_is_off_wants_and_keeps_nothing() {
        let now = start();
        let mut pool = ReadyPool::new(ReadyLimits { ready_max: 0, ..LIMITS });
        assert_eq!((pool.put(1, now, 0), pool.take(now)), (Some(1), None));
        assert_eq!((pool.want(now), pool.next_deadline(now)), (0, None));
    }

    #[test]
    fn the_minimum_is_dialled_at_once_and_dials_in_flight_count() {
        let now = start();
        let mut pool = ReadyPool::new(LIMITS);
        assert_eq!(pool.want(now), 2);
        pool.dial_started();
        assert_eq!(pool.want(now), 1);
        pool.dial_started();
        assert_eq!((pool.want(now), pool.dialing()), (0, 2));
        pool.dial_done(seconds(0.05));
        assert_eq!(pool.put(1, now, 0), None);
        assert_eq!((pool.want(now), pool.len(), pool.dialing()), (0, 1, 1));
    }

    #[test]
    fn idle_ends_surplus_and_age_ends_all() {
        let now = start();
        let mut pool = ReadyPool::new(LIMITS);
        (0..4).for_each(|i| assert_eq!(pool.put(i, now, 0), None));
        assert_eq!(pool.next_deadline(now), Some(now + LIMITS.idle));
        assert!(expired(&mut pool, now + seconds(59.9)).is_empty());
        assert_eq!(expired(&mut pool, now + LIMITS.idle), [0, 1], "down to the minimum");
        let later = pool.next_deadline(now + LIMITS.idle).unwrap();
        assert!(later > now + LIMITS.idle && later <= now + LIMITS.age);
        assert_eq!(expired(&mut pool, now + LIMITS.age), [2, 3]);
        assert_eq!(pool.next_deadline(now + LIMITS.age), None);
        assert_eq!(pool.want(now + LIMITS.age), 2);
    }

    #[test]
    fn what_is_too_old_is_never_taken() {
        let now = start();
        let mut pool = ReadyPool::new(LIMITS);
        pool.put(1, now, 0);
        assert_eq!(pool.take(now + LIMITS.age), None);
        assert_eq!(expired(&mut pool, now + LIMITS.age), [1]);
    }

    #[test]
    fn jitter_shortens_by_less_than_a_quarter() {
        for random in [0, 1, 511, 1023, u64::MAX] {
            let shortened = shortened(LIMITS.age, random);
            assert!(shortened <= LIMITS.age && shortened > LIMITS.age * 3 / 4, "{shortened:?}");
        }
        assert_eq!(shortened(Duration::ZERO, 9), Duration::ZERO);
    }

    // threat 28
    #[test]
    fn a_dead_upstream_is_dialled_once_in_half_a_minute() {
        let begin = start();
        let (mut now, mut pool, mut dials) = (begin, ReadyPool::<u8>::new(LIMITS), 0);
        while now < begin + seconds(600.0) {
            let wanted = pool.want(now);
            (0..wanted).for_each(|_| pool.dial_started());
            dials += wanted;
            now += seconds(0.001);
            for _ in 0..wanted {
                pool.dial_failed(now, 7);
            }
            now = pool.next_deadline(now).expect("a retry is due").max(now);
        }
        // Pauses of 0.1, 0.2 … 25.6 s are 9 dials in 51 s, then one every 30 s, and 2 at first.
        assert!((26..=32).contains(&dials), "{dials} dials");
        pool.dial_started();
        pool.dial_done(seconds(0.01));
        assert_eq!(pool.want(now), 2, "one success ends the pause");
    }

    #[test]
    fn dials_that_fail_together_are_one_failure() {
        let now = start();
        let mut pool = ReadyPool::<u8>::new(ReadyLimits { ready_min: 32, ..LIMITS });
        (0..32).for_each(|_| pool.dial_started());
        assert!(pool.dial_failed(now, 0), "the first of a series");
        assert!((1..32).all(|_| !pool.dial_failed(now, 0)));
        assert_eq!(pool.dialing(), 0);
        assert_eq!(pool.next_deadline(now), Some(now + BACKOFF_FIRST));
        assert_eq!((pool.want(now), pool.want(now + BACKOFF_FIRST)), (0, 1));
    }

    impl Random {
        fn unit(&mut self) -> f64 {
            f64::from((self.next() >> 32) as u32) / f64::from(u32::MAX)
        }
    }

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        Client,
        Dialled(Duration),
    }

    /// Poisson clients at `rate` a second and dials of 20–80 ms, for `length` seconds; the share of
    /// hits after the first 10 s, and the pool as it ends.
    fn simulate(seed: u64, rate: f64, length: f64) -> (f64, ReadyPool<()>, Instant) {
        let begin = start();
        let mut random = Random(seed);
        let mut pool = ReadyPool::new(ReadyLimits { ready_min: 1, ..LIMITS });
        let mut events = BinaryHeap::from([Reverse((begin, Event::Client))]);
        let (mut hits, mut clients, mut now) = (0.0, 0.0, begin);
        while let Some(Reverse((at, event))) = events.pop() {
            now = at;
            match event {
                Event::Client => {
                    let hit = pool.take(now).is_some();
                    if now > begin + seconds(10.0) {
                        clients += 1.0;
                        hits += f64::from(u8::from(hit));
                    }
                    let next = now + seconds(-(1.0 - random.unit()).max(1e-9).ln() / rate);
                    if next < begin + seconds(length) {
                        events.push(Reverse((next, Event::Client)));
                    }
                }
                Event::Dialled(took) => {
                    pool.dial_done(took);
                    assert!(pool.put((), now, random.next()).is_none(), "dialled too many");
                }
            }
            pool.expire(now).for_each(drop);
            for _ in 0..pool.want(now) {
                pool.dial_started();
                let took = seconds(0.02 + 0.06 * random.unit());
                events.push(Reverse((now + took, Event::Dialled(took))));
            }
            assert!(pool.len() + pool.dialing() <= LIMITS.ready_max);
        }
        (hits / clients, pool, now)
    }

    #[test]
    fn at_a_steady_rate_more_than_95_of_100_clients_find_a_ready_connection() {
        for (seed, rate) in [(1, 0.5), (2, 2.0), (3, 20.0), (4, 100.0), (5, 500.0)] {
            let (hit_share, ..) = simulate(seed, rate, 10.0 + 2000.0 / rate);
            println!("seed {seed}, {rate} clients/s: {:.1} % hits", 100.0 * hit_share);
            assert!(hit_share > 0.95, "seed {seed}: {hit_share} at {rate}/s");
        }
    }

    #[test]
    fn when_clients_stay_away_the_pool_shrinks_to_its_minimum() {
        let (_, mut pool, mut now) = simulate(6, 300.0, 20.0);
        assert!(pool.len() > 20, "{} ready", pool.len());
        let (end, mut wakes) = (now + LIMITS.age * 3 / 4, 0);
        while let Some(at) = pool.next_deadline(now).filter(|at| *at < end) {
            now = at;
            pool.expire(now).for_each(drop);
            wakes += 1;
        }
        assert_eq!(pool.len(), 1);
        assert!(wakes < 200, "{wakes} wake-ups");
    }
}
