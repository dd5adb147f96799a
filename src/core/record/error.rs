//! What can be wrong with a record: by the peer's fault when opening, by ours when sealing.
//!
//! Never carries bytes of the peer, only numbers. `opener.rs` and `sealer.rs` make these.

use thiserror::Error;

/// The peer broke the protocol or one of our caps; the connection ends with [`RecordError::alert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    #[error(
        "the peer sent a record of outer type {found} after the handshake, where only 23 is legal"
    )]
    OuterType { found: u8 },
    #[error("the peer sent a record of type {found}, which is illegal after a TLS 1.2 handshake")]
    Tls12Type { found: u8 },
    #[error("the peer sent a record of version {found:#06x}")]
    Version { found: u16 },
    #[error("the peer sent a record of {length} bytes, more than {max}")]
    CiphertextTooLong { length: usize, max: usize },
    #[error("the peer sent {length} bytes of inner plaintext in one record, more than {max}")]
    PlaintextTooLong { length: usize, max: usize },
    #[error("a record of the peer failed authentication")]
    BadRecordMac,
    #[error("the peer sent a record without an inner content type")]
    InnerTypeMissing,
    #[error("the peer sent a record of inner type {found}")]
    InnerType { found: u8 },
    #[error("the peer sent an empty record of inner type {content}")]
    EmptyFragment { content: u8 },
    #[error("the peer sent a record of inner type {found} inside a fragmented handshake message")]
    Interleaved { found: u8 },
    #[error(
        "the peer sent a handshake message of type {found}, which is illegal after the handshake"
    )]
    MessageType { found: u8 },
    #[error("the peer sent a handshake message of {length} bytes, more than {max}")]
    MessageTooLong { length: usize, max: usize },
    #[error("the peer sent a key update of {length} bytes instead of one")]
    KeyUpdateLength { length: usize },
    #[error("the peer sent a key update with the unknown request {found}")]
    KeyUpdateRequest { found: u8 },
    #[error("the peer sent handshake bytes after a key update in the same record")]
    DataAfterKeyUpdate,
    #[error("the peer sent more than {max} key updates {span}")]
    TooManyKeyUpdates { max: u32, span: Span },
    #[error("the peer sent more than {max} session tickets {span}")]
    TooManyTickets { max: u32, span: Span },
    #[error("the peer sent more than {max} records without data {span}")]
    TooManyEmptyRecords { max: u32, span: Span },
    #[error("the peer sent an alert of {length} bytes instead of two")]
    AlertLength { length: usize },
    #[error("the peer sent an alert of the unknown level {found}")]
    AlertLevel { found: u8 },
    #[error("the peer used up the sequence numbers of one key")]
    SequenceExhausted,
    #[error("a record was to be opened between a key update and its new keys")]
    RekeyDue,
    #[error("the cryptographic library had no memory for a key")]
    NoKey,
}

/// Over what a cap counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Within one second and with no application data between them.
    InARow,
    /// Within one second, whatever came between them.
    PerSecond,
}

/// We cannot seal. No sequence number was used, and nothing in the buffer may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    #[error("{length} bytes of plaintext do not fit one record of {max}")]
    PlaintextTooLong { length: usize, max: usize },
    #[error("a buffer of {length} bytes is too short for a record of {needed}")]
    BufferTooShort { length: usize, needed: usize },
    #[error("the sending key has sealed {records} records, which is all that it may")]
    KeyExhausted { records: u64 },
    #[error("a record was to be sealed between a key update and its new keys")]
    RekeyDue,
    #[error("nothing may be sent after a closing alert")]
    Closed,
    #[error("the cryptographic library failed to seal a record")]
    Refused,
}

impl RecordError {
    /// The description of the fatal alert that the peer is owed (RFC 8446 §6.2).
    #[must_use]
    pub fn alert(self) -> u8 {
        match self {
            Self::OuterType { .. }
            | Self::Tls12Type { .. }
            | Self::InnerTypeMissing
            | Self::InnerType { .. }
            | Self::EmptyFragment { .. }
            | Self::Interleaved { .. }
            | Self::MessageType { .. }
            | Self::DataAfterKeyUpdate
            | Self::TooManyKeyUpdates { .. }
            | Self::TooManyTickets { .. }
            | Self::TooManyEmptyRecords { .. } => UNEXPECTED_MESSAGE,
            Self::BadRecordMac => BAD_RECORD_MAC,
            Self::CiphertextTooLong { .. } | Self::PlaintextTooLong { .. } => RECORD_OVERFLOW,
            Self::KeyUpdateRequest { .. } | Self::AlertLevel { .. } => ILLEGAL_PARAMETER,
            Self::Version { .. }
            | Self::MessageTooLong { .. }
            | Self::KeyUpdateLength { .. }
            | Self::AlertLength { .. } => DECODE_ERROR,
            Self::SequenceExhausted | Self::RekeyDue | Self::NoKey => INTERNAL_ERROR,
        }
    }

    /// A short stable name, for metrics and logs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::OuterType { .. } => "outer_type",
            Self::Tls12Type { .. } => "record_type",
            Self::Version { .. } => "record_version",
            Self::CiphertextTooLong { .. } => "ciphertext_too_long",
            Self::PlaintextTooLong { .. } => "plaintext_too_long",
            Self::BadRecordMac => "bad_record_mac",
            Self::InnerTypeMissing => "inner_type_missing",
            Self::InnerType { .. } => "inner_type",
            Self::EmptyFragment { .. } => "empty_fragment",
            Self::Interleaved { .. } => "interleaved_handshake",
            Self::MessageType { .. } => "message_type",
            Self::MessageTooLong { .. } => "message_too_long",
            Self::KeyUpdateLength { .. } => "key_update_length",
            Self::KeyUpdateRequest { .. } => "key_update_request",
            Self::DataAfterKeyUpdate => "data_after_key_update",
            Self::TooManyKeyUpdates { .. } => "too_many_key_updates",
            Self::TooManyTickets { .. } => "too_many_tickets",
            Self::TooManyEmptyRecords { .. } => "too_many_empty_records",
            Self::AlertLength { .. } => "alert_length",
            Self::AlertLevel { .. } => "alert_level",
            Self::SequenceExhausted => "sequence_exhausted",
            Self::RekeyDue => "rekey_due",
            Self::NoKey => "no_key",
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InARow => "in a row",
            Self::PerSecond => "in a second",
        })
    }
}

const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
