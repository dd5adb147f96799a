//! The gateway under hostile peers: floods, stalls, records that cost their sender nothing, tickets
//! that are none, no descriptor left, sinks that block.
//!
//! Each test starts the real binary and keeps an honest session beside the attack. `threat N` names
//! the row of `docs/threats.md` that a test stands for. What the gateway does for friendly peers is
//! in `tests/gateway`. Start with `support`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: what breaks fails the test at once, where it broke"
)]

mod descriptors;
mod floods;
mod hello;
mod records;
mod sinks;
mod smuggling;
mod support;
mod tickets;
