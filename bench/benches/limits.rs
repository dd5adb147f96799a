//! What it costs to ask a limit: one more handshake of a rate, one more connection of a source.
//!
//! `busy` has as many keys as the tables are made for, so that each look-up misses the caches.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::core::rate::Rate;
use portcullis::sys::clock;
use portcullis::worker::sources::Sources;

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limits");
    for (case, keys) in [("quiet", 1), ("busy", BUSY)] {
        let sources = Sources::new(clock::now());
        let keys: Vec<_> = (0..keys).map(|source| sources.key(("source", source))).collect();
        let mut now = clock::now();
        let mut at = 0;
        let mut next = || {
            at = (at + STRIDE) % keys.len();
            keys[at]
        };
        group.bench_function(format!("rate/{case}"), |bencher| {
            bencher.iter(|| {
                now += Duration::from_micros(1);
                sources.admits(black_box(next()), RATE, 0, now)
            });
        });
        let held: Vec<_> = keys.iter().map(|key| sources.enter(*key, u32::MAX)).collect();
        group.bench_function(format!("connections/{case}"), |bencher| {
            bencher.iter(|| drop(sources.enter(black_box(next()), u32::MAX)));
        });
        drop(held);
    }
    let sources = Sources::new(clock::now());
    group.bench_function("key", |bencher| {
        bencher.iter(|| sources.key(black_box(("source", "edge", 0x7f00_0001_u128))));
    });
    group.finish();
}

const RATE: Rate = Rate::per_second(match NonZeroU32::new(100) {
    Some(rate) => rate,
    None => NonZeroU32::MIN,
});

const BUSY: u32 = 30_000;

/// Has no factor in common with `BUSY`.
const STRIDE: usize = 7_919;

criterion_group!(benches, limits);
criterion_main!(benches);
