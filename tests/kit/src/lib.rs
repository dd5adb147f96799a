//! What the tests share: development certificates, TLS peers, deadlines. Never part of the product.
//!
//! A broken fixture panics, so that it fails the test that asked for it. Start with `authority`
//! (certificates), then `connect` and `echo` (peers), then `gateway` (the binary under test).
#![expect(
    clippy::expect_used,
    reason = "test code: a fixture that breaks fails the test at once, with its reason"
)]

mod authority;
mod clock;
pub mod unbuffered;

pub use authority::{Authority, ClientSpec, Identity, KeyKind, Purpose, Validity};
pub use clock::{monotonic_now, wall_now};
