//! What the tests share: development certificates, TLS peers, deadlines. Never part of the product.
//!
//! A broken fixture panics, so that it fails the test that asked for it. Start with `authority`
//! (certificates), then `connect` and `echo` (peers), then `gateway` (the binary under test).
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a fixture that breaks fails the test at once, with its reason"
)]

mod authority;
mod clock;
mod closed_port;
mod connect;
mod deadline;
mod dns;
mod driver;
mod echo;
mod gateway;
pub mod lying_server;
mod metrics;
mod scripted;
mod skip;
mod tls;
pub mod unbuffered;

pub use authority::{Authority, ClientSpec, Identity, KeyKind, Purpose, Validity};
pub use clock::{monotonic_now, wall_now};
pub use closed_port::ClosedPort;
pub use connect::{
    Refusal, TlsStream, close_write, connect_plain, connect_plain_from, connect_tls, handshake,
    read_to_end, refusal, reset, round_trip,
};
pub use deadline::{Deadline, PATIENCE, eventually, within};
pub use dns::{DnsAnswer, StubDns};
pub use driver::has_io_uring;
pub use echo::{Behaviour, Counts, Handshake, PlainEcho, TlsEcho};
pub use gateway::{Gateway, Process};
pub use metrics::Metrics;
pub use scripted::Scripted;
pub use skip::{is_root, missing};
pub use tls::{ClientTls, ServerTls};
