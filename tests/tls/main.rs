//! `portcullis::tls` against rustls' own buffered connections, in memory: no socket, no sleep.
//!
//! `support` builds plans and drives handshakes; each other file makes one kind of claim.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "test code: what breaks fails the test at once, where it broke"
)]

mod breaches;
mod certificate_dir;
mod chains;
mod downstream;
mod farewells;
mod key_exchange;
mod material;
mod paths;
mod reauthorised;
mod reconsidered;
mod record_limits;
mod staple;
mod stek;
mod support;
mod ticket_nonces;
mod tickets;
mod upstream;
mod violations;
mod wire;
