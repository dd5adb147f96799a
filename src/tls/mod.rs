//! TLS on both sides of a session, and the only place that knows rustls.
//!
//! `material` reads what a plan names into snapshots; `downstream` and `upstream` start handshakes,
//! `handshake` drives them, `wire` moves records once they are done. Nothing here owns a socket, a
//! timer or a clock. Start with `handshake`.

pub mod downstream;
pub mod handshake;
pub mod material;
pub mod stek;
pub mod upstream;
pub mod wire;

pub use downstream::{ClientFacts, DownstreamTerms, HelloFacts, Identity, ServerHandshake};
pub use handshake::{Advance, Negotiated, Outcome, Version};
pub use material::Material;
pub use stek::StekKeys;
pub use upstream::{ClientHandshake, Dialler, UpstreamFacts, UpstreamTerms};
pub use wire::{
    CONTROL_BYTES_MAX, Fault, OUT_BYTES_MIN, Scratch, Side, Stop, Transfer, Wire, transfer,
};

/// Unix time in seconds, from the one clock of the process; tests pass a clock of their own.
pub type UnixClock = fn() -> u64;
