//! Any bytes choose what two peers, their sockets and time do: no byte is lost, no break unseen, and
//! every run ends.
//!
//! The world and what must hold in it are in `tests/simulation`.

#![no_main]

#[expect(dead_code, reason = "a target needs a part of it")]
#[path = "../../tests/simulation/mod.rs"]
mod simulation;

use libfuzzer_sys::fuzz_target;
use simulation::choice::Choice;
use simulation::world::simulate;

fuzz_target!(|data: &[u8]| {
    simulate(&mut Choice::Bytes(data));
});
