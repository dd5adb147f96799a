//! The timer wheel as a worker uses it: with 10,000 idle deadlines in it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use portcullis::core::timer_wheel::{TimerKey, TimerWheel};
use portcullis::sys::clock;

use crate::Case;

pub fn cases() -> Vec<Case> {
    let origin = clock::now();
    [schedule_and_cancel, reschedule, next_deadline, advance_one_tick, advance_past_all]
        .map(|case: fn(Instant) -> Case| case(origin))
        .into()
}

fn schedule_and_cancel(origin: Instant) -> Case {
    let (mut wheel, _) = filled(origin);
    let mut turn = 0;
    Case::new(name("schedule_and_cancel"), move || {
        turn += 1;
        let key = wheel.schedule(black_box(origin + scattered(turn)), turn);
        wheel.cancel(black_box(key))
    })
}

fn reschedule(origin: Instant) -> Case {
    let (mut wheel, keys) = filled(origin);
    let mut turn = 0;
    Case::new(name("reschedule"), move || {
        turn += 1;
        let key = keys[turn % TIMERS];
        wheel.reschedule(black_box(key), black_box(origin + scattered(turn as u64)))
    })
}

fn next_deadline(origin: Instant) -> Case {
    let (wheel, _) = filled(origin);
    Case::new(name("next_deadline"), move || black_box(&wheel).next_deadline())
}

fn advance_one_tick(origin: Instant) -> Case {
    // What fires is set anew: 10,000 deadlines within an hour are 0.05 a tick.
    let (mut wheel, _) = filled(origin);
    let mut expired = Vec::with_capacity(TIMERS);
    let mut now = origin;
    Case::new(name("advance_one_tick"), move || {
        now += wheel.tick();
        wheel.advance(now, &mut expired);
        for token in expired.drain(..) {
            wheel.schedule(now + scattered(token), token);
        }
    })
}

fn advance_past_all(origin: Instant) -> Case {
    let mut expired = Vec::with_capacity(TIMERS);
    Case::prepared(
        name("advance_past_all"),
        move || filled(origin).0,
        move |wheel| {
            expired.clear();
            wheel.advance(origin + SPAN, &mut expired);
            expired.len()
        },
    )
}

fn name(case: &str) -> String {
    format!("timer_wheel/{TIMERS}_timers/{case}")
}

fn filled(origin: Instant) -> (TimerWheel<u64>, Vec<TimerKey>) {
    let mut wheel = TimerWheel::new(origin, Duration::from_millis(16));
    let tokens = 0..TIMERS as u64;
    let keys = tokens.map(|token| wheel.schedule(origin + scattered(token), token)).collect();
    (wheel, keys)
}

/// A time below `SPAN`, by a multiplicative hash.
fn scattered(turn: u64) -> Duration {
    let millis = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    Duration::from_millis(millis % 3_600_000)
}

const TIMERS: usize = 10_000;
const SPAN: Duration = Duration::from_secs(3600);
