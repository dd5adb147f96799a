//! What it costs to ask a limit: one more handshake of a rate, one more connection of a source.
//!
//! `busy` has as many keys as the tables are made for, so that each look-up misses the caches.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use portcullis::core::rate::Rate;
use portcullis::sys::clock;
use portcullis::worker::sources::Sources;

use crate::Case;

pub fn cases() -> Vec<Case> {
    let sources = Sources::new(clock::now());
    let key = Case::new("limits/key", move || {
        sources.client(black_box(("source", "edge", 0x7f00_0001_u128)))
    });
    let of = |case, keys| {
        // Which slots keys fall into is drawn by lot at each start, and with many of them how often
        // two share one.
        [rate(case, keys), connections(case, keys)]
            .map(|case| if keys == 1 { case } else { case.timed_only() })
    };
    of("quiet", 1).into_iter().chain(of("busy", BUSY)).chain([key.timed_only()]).collect()
}

fn rate(case: &str, count: u32) -> Case {
    let sources = Sources::new(clock::now());
    let keys: Vec<_> = (0..count).map(|source| sources.client(("source", source))).collect();
    let mut now = clock::now();
    let mut at = 0;
    Case::new(format!("limits/rate/{case}"), move || {
        now += Duration::from_micros(1);
        at = (at + STRIDE) % keys.len();
        sources.admits(black_box(keys[at]), RATE, 0, || now)
    })
}

fn connections(case: &str, count: u32) -> Case {
    let sources = Sources::new(clock::now());
    let keys: Vec<_> = (0..count).map(|source| sources.client(("source", source))).collect();
    let held: Vec<_> = keys.iter().map(|key| sources.enter(*key, u32::MAX)).collect();
    let mut at = 0;
    Case::new(format!("limits/connections/{case}"), move || {
        at = (at + STRIDE) % held.len();
        drop(sources.enter(black_box(keys[at]), u32::MAX));
    })
}

const RATE: Rate = Rate::per_second(match NonZeroU32::new(100) {
    Some(rate) => rate,
    None => NonZeroU32::MIN,
});

const BUSY: u32 = 30_000;

/// Has no factor in common with `BUSY`.
const STRIDE: usize = 7_919;
