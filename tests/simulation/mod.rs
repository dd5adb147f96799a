//! The simulator of one connection, for `tests/simulation.rs` and the fuzz target `session`.
//!
//! Start with `world`; it never opens a socket or waits.

pub(crate) mod choice;
pub(crate) mod peer;
pub(crate) mod verdict;
pub(crate) mod world;
