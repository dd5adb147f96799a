//! The timer wheel as a worker uses it: with 10,000 idle deadlines in it.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use portcullis::core::timer_wheel::{TimerKey, TimerWheel};
use std::hint::black_box;
use std::time::{Duration, Instant};

fn timer_wheel(criterion: &mut Criterion) {
    let origin = origin();
    let mut group = criterion.benchmark_group("timer_wheel/10000_timers");
    let (mut wheel, keys) = filled(origin);

    group.bench_function("schedule_and_cancel", |bencher| {
        let mut turn = 0;
        bencher.iter(|| {
            turn += 1;
            let key = wheel.schedule(black_box(origin + scattered(turn)), turn);
            wheel.cancel(black_box(key))
        });
    });

    group.bench_function("reschedule", |bencher| {
        let mut turns = (1u64..).zip(keys.iter().cycle());
        bencher.iter(|| {
            let (turn, key) = turns.next().unwrap_or((0, &keys[0]));
            wheel.reschedule(black_box(*key), black_box(origin + scattered(turn)))
        });
    });

    group.bench_function("next_deadline", |bencher| {
        bencher.iter(|| black_box(&wheel).next_deadline());
    });

    group.bench_function("advance_one_tick", |bencher| {
        // What fires is set anew: 10,000 deadlines within an hour are 0.05 a tick.
        let (mut wheel, _) = filled(origin);
        let mut expired = Vec::with_capacity(TIMERS);
        let mut now = origin;
        bencher.iter(|| {
            now += wheel.tick();
            wheel.advance(now, &mut expired);
            for token in expired.drain(..) {
                wheel.schedule(now + scattered(token), token);
            }
        });
    });

    group.bench_function("advance_past_all", |bencher| {
        let mut expired = Vec::with_capacity(TIMERS);
        bencher.iter_batched_ref(
            || filled(origin).0,
            |wheel| {
                expired.clear();
                wheel.advance(origin + SPAN, &mut expired);
                expired.len()
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
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

fn origin() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
    Instant::now()
}

const TIMERS: usize = 10_000;
const SPAN: Duration = Duration::from_secs(3600);

criterion_group!(benches, timer_wheel);
criterion_main!(benches);
