//! The TLS 1.3 record layer after the handshake (RFC 8446 §5): opens what the peer sent, seals what
//! we send, and moves records from one connection to another in one pass.
//!
//! Never handshakes, derives a key, reads a clock or touches a socket: keys come in as
//! [`TrafficKeys`], bytes as slices, the time as an argument; no allocation per record.
//! Read `opener.rs` next, then `sealer.rs`; `pump.rs` joins the two. Of TLS 1.2 there is one record,
//! the last: `alert_tls12.rs`.

mod aead;
mod alert_tls12;
mod error;
mod keys;
mod limits;
mod opener;
mod post_handshake;
mod pump;
mod sealer;

pub use alert_tls12::{TLS12_ALERT_BYTES_MAX, seal_tls12_alert};
pub use error::{RecordError, SealError, Span};
pub use keys::{Aead, KeyError, TrafficKeys};
pub use limits::OpenLimits;
pub use opener::{Event, Opened, Opener};
pub use pump::{
    Done, Pumped, Stop, transfer_plain_to_tls, transfer_plain_to_tls_within, transfer_tls_to_plain,
    transfer_tls_to_plain_within, transfer_tls_to_tls, transfer_tls_to_tls_within,
};
pub use sealer::{AlertLevel, ContentType, Sealer, sealed_length};

/// Which end of the connection we are; decides which post-handshake messages are legal to receive
/// (RFC 8446 §4.6: only servers send tickets).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// The one field of a KeyUpdate (RFC 8446 §4.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUpdateRequest {
    /// The sender changed its sending keys; nothing is owed.
    NotRequested,
    /// The receiver owes a KeyUpdate of its own (not requested) before its next application data.
    Requested,
}

/// Bytes of a record's header: type, legacy version, length.
pub const HEADER: usize = 5;

/// Bytes of the authentication tag of each of the three AEADs.
pub const TAG: usize = 16;

/// What a sealed record is longer than its plaintext: header, inner content type, tag.
pub const OVERHEAD: usize = HEADER + 1 + TAG;

/// The longest content of one record, in bytes (RFC 8446 §5.1); and for fields that are kept for each connection.
pub const PLAINTEXT_MAX: usize = CONTENT_MAX as usize;
pub const CONTENT_MAX: u16 = 1 << 14;

/// The longest payload of one protected record, in bytes (RFC 8446 §5.2).
pub const CIPHERTEXT_MAX: usize = PLAINTEXT_MAX + 256;

/// The longest record on the wire, in bytes, header included.
pub const RECORD_MAX: usize = HEADER + CIPHERTEXT_MAX;

const CONTENT_ALERT: u8 = 21;
const CONTENT_HANDSHAKE: u8 = 22;
const CONTENT_APPLICATION_DATA: u8 = 23;

const MESSAGE_NEW_SESSION_TICKET: u8 = 4;
const MESSAGE_KEY_UPDATE: u8 = 24;

const ALERT_CLOSE_NOTIFY: u8 = 0;
const ALERT_USER_CANCELED: u8 = 90;

#[cfg(test)]
mod tests;
