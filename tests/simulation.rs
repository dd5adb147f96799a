//! Simulated connections: random peers, chunks, stalls, ends, drains and jumps in time, from a seed.
//!
//! `world` drives the core as the worker does, `peer` is what sockets and applications do, `verdict`
//! says what must hold. A failure prints its seed: `SIMULATION_SEED=n cargo test --test simulation`
//! replays that one alone, `SIMULATION_SEEDS=n` runs as many. The fuzz target `session` runs the same world.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use portcullis::core::relay::{ClosedBy, Closing};
use simulation::choice::Choice;
use simulation::world::{Ran, simulate};

#[path = "simulation/mod.rs"]
mod simulation;

/// 20,000 seeds take 0.5 s in a debug build; a long run takes more from the environment.
const SEEDS: u64 = 20_000;

#[expect(clippy::print_stderr, reason = "random tests print their seed")]
fn run_seed(seed: u64) -> Ran {
    let run = catch_unwind(AssertUnwindSafe(|| simulate(&mut Choice::Seed(seed))));
    run.unwrap_or_else(|failure| {
        eprintln!("failed: SIMULATION_SEED={seed}");
        resume_unwind(failure)
    })
}

// threats 23, 24, 25, 26, 27 and 29
#[test]
fn every_seed_keeps_bytes_and_ends() {
    if let Some(seed) = from_environment("SIMULATION_SEED") {
        run_seed(seed);
        return;
    }
    let seeds = from_environment("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let mut reached = HashMap::new();
    let mut replaced_max = 0;
    for seed in 0..seeds {
        let ran = run_seed(seed);
        let key = ran.outcome.map(|outcome| (outcome.how, outcome.closed_by, outcome.reason));
        *reached.entry(format!("{key:?}")).or_insert(0_u64) += 1;
        replaced_max = replaced_max.max(ran.replaced);
    }
    // Runs that never get anywhere would pass everything.
    assert!(reached.len() >= 16, "too little was reached: {reached:#?}");
    assert_eq!(replaced_max, 4, "every ready connection was dead at least once");
}

#[test]
fn a_world_without_choices_ends() {
    for length in 0..64 {
        simulate(&mut Choice::Bytes(&vec![0; length]));
        simulate(&mut Choice::Bytes(&vec![255; length]));
    }
}

/// Found by the fuzz target: the upstream resets while what it sent is read for nobody, byte by byte, and the time
/// for that is up before the reset is seen.
#[test]
fn a_reset_behind_bytes_that_nobody_wants_need_not_be_seen() {
    let choices = [
        119, 242, 4, 0, 0, 0, 29, 217, 196, 133, 220, 251, 97, 62, 248, 159, 159, 159, 60, 70, 12,
        97,
    ];
    let ran = simulate(&mut Choice::Bytes(&choices));
    let outcome = ran.outcome.map(|outcome| (outcome.how, outcome.closed_by, outcome.reason));
    assert_eq!(outcome, Some((Closing::Done, ClosedBy::Gateway, None)));
}

#[expect(clippy::disallowed_methods, reason = "a failing seed is replayed by hand")]
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
