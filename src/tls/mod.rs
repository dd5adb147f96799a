//! TLS on both sides of a session, and the only place that knows rustls.
//!
//! `material` reads what a plan names into snapshots; `downstream` and `upstream` start handshakes,
//! `handshake` drives them, `wire` moves records once they are done. Nothing here owns a socket, a
//! timer or a clock. Start with `handshake`.

mod alert;
mod announced;
mod asked;
mod breach;
mod certificate_dir;
mod chain_memo;
mod chain_order;
mod crl;
mod crypto;
mod diagnosis;
pub mod downstream;
mod examination;
pub mod explain;
pub mod filters;
pub mod handshake;
mod handshake_context;
mod hints;
mod identity;
mod key_budget;
mod key_exchange;
mod key_schedule;
mod leaf;
mod leaves;
pub mod material;
#[cfg(test)]
mod mutations;
mod name;
pub mod note;
mod offered;
mod path;
pub mod peer;
mod pem;
mod policies;
mod random;
mod rehearsal;
mod resolver;
mod revocation;
mod second_hello;
mod sent;
mod served;
mod sessions;
mod shown;
mod signature;
mod signature_algorithms;
mod standing;
mod staple;
pub mod stek;
mod ticket_nonce;
pub mod ticketer;
mod tls12;
mod tls13;
pub mod trust;
pub mod upstream;
mod verifier;
pub mod wire;

pub use alert::{alert_name, unsealed_alert};
pub use announced::Announced;
pub use downstream::{ClientFacts, DownstreamTerms, HelloFacts, ServerHandshake};
pub use explain::{Explanation, Step, Verdict};
pub use handshake::{Advance, Negotiated, Outcome, Version};
pub use handshake_context::Memo;
pub use identity::identify;
pub use key_exchange::OfferedGroups;
pub use material::Material;
pub use note::{CertificateNote, DirectoryNote, Due, NoteKind};
pub use rehearsal::{Agreed, SupposeError, SupposedClient};
pub use shown::Shown;
pub use standing::Standing;
pub use stek::{Reloaded, StagedKeys, StekError, StekKeys, StekStatus};
pub use trust::{AnchorPlace, TrustStore};
pub use upstream::{ClientHandshake, Dialler, UpstreamFacts, UpstreamTerms};
pub use wire::{
    CONTROL_BYTES_MAX, Fault, OUT_BYTES_MIN, Scratch, Side, Stop, Transfer, Wire, transfer,
    transfer_within,
};

/// Unix time in seconds, from the one clock of the process; tests pass a clock of their own.
pub type UnixClock = fn() -> u64;
