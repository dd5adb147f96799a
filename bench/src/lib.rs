//! What is measured: small pieces of work of the gateway's core, each ready to be done again and again.
//!
//! `benches/core.rs` times them with criterion, for people; `instructions` counts their instructions, for
//! CI. One file a noun; nothing here measures. Start with `case`.
#![expect(
    clippy::expect_used,
    reason = "a piece of work that cannot be set up must not be measured"
)]

pub mod balance;
mod case;
pub mod hello;
pub mod limits;
pub mod proxy_protocol;
pub mod record;
pub mod route;
pub mod tickets;
pub mod timer_wheel;
mod tls;
pub mod trust;

pub use case::Case;

/// Everything, in the order of a connection's life.
pub fn cases() -> Vec<Case> {
    [
        limits::cases(),
        proxy_protocol::cases(),
        hello::cases(),
        route::cases(),
        tickets::cases(),
        trust::cases(),
        balance::cases(),
        record::cases(),
        timer_wheel::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
