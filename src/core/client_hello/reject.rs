//! Why a first flight was refused: what to answer, what to count, what to tell the operator.
//!
//! Decides nothing. `refusal` holds the labels that these reasons are counted under.

use std::fmt;

use super::sniff::LooksLike;
use super::{HELLO_BYTES_MAX, HELLO_RECORDS_MAX, RECORD_BYTES_MAX, parse};
use crate::core::refusal::Reason;
use crate::core::server_name::NameError;

/// Why the bytes are not a ClientHello that this gateway takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    #[error("not TLS: the first bytes look like {looks_like}")]
    NotTls { looks_like: LooksLike },
    #[error("the client hello claims {claimed} bytes, the limit is {HELLO_BYTES_MAX}")]
    TooLarge { claimed: usize },
    #[error("the client hello did not end within {HELLO_RECORDS_MAX} TLS records")]
    TooManyRecords,
    #[error("malformed client hello: {0}")]
    Malformed(#[from] Malformed),
    #[error("the server name \"{name}\" cannot be routed: {error}")]
    InvalidName { name: NameShown, error: NameError },
}

/// What of a name is told: its beginning, escaped, for it is the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameShown {
    bytes: [u8; NAME_BYTES_SHOWN],
    /// Of the whole name.
    length: usize,
}

/// Which rule of the protocol the hello breaks. `field` is the name that the RFCs give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a TLS record of type {kind} before the hello ended, expected 22 (handshake)")]
    OtherRecord { kind: u8 },
    #[error("a TLS record with a version other than 3.x before the hello ended")]
    RecordVersion,
    #[error("a handshake record without payload")]
    EmptyRecord,
    #[error("a TLS record of {bytes} bytes, the limit is {RECORD_BYTES_MAX}")]
    RecordTooLong { bytes: usize },
    #[error("handshake message of type {kind}, expected 1 (client_hello)")]
    NotClientHello { kind: u8 },
    #[error("{bytes} bytes behind the hello in its record")]
    MessageBehind { bytes: usize },
    #[error("{field} ends too early")]
    Short { field: &'static str },
    #[error("{bytes} bytes too many in {field}")]
    Long { field: &'static str, bytes: usize },
    #[error("{field} is empty")]
    Empty { field: &'static str },
    #[error("legacy_version is 0x{version:04x}, older than TLS 1.0")]
    LegacyVersion { version: u16 },
    #[error("legacy_compression_methods lack null")]
    NoNullCompression,
    #[error("extension {kind} stands twice")]
    DuplicateExtension { kind: u16 },
    #[error("more than {} extensions", parse::EXTENSIONS_MAX)]
    TooManyExtensions,
    #[error("extension {kind} may not stand in an outer client hello")]
    ForbiddenExtension { kind: u16 },
    #[error("pre_shared_key is not the last extension")]
    PreSharedKeyNotLast,
    #[error("more than {} pre-shared keys offered", parse::PSK_IDENTITIES_MAX)]
    TooManyPreSharedKeys,
    #[error("{identities} pre-shared keys but {binders} binders")]
    BinderCount { identities: usize, binders: usize },
    #[error("server_name holds a name of type {kind}, expected 0 (host_name)")]
    NameType { kind: u8 },
    #[error("server_name holds more than one name")]
    SeveralNames,
    #[error("renegotiation_info of a first handshake holds {bytes} bytes, expected none")]
    Renegotiation { bytes: usize },
}

impl NameShown {
    pub(super) fn of(name: &[u8]) -> Self {
        let mut bytes = [0; NAME_BYTES_SHOWN];
        let shown = name.len().min(NAME_BYTES_SHOWN);
        bytes[..shown].copy_from_slice(&name[..shown]);
        Self { bytes, length: name.len() }
    }
}

impl fmt::Display for NameShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.bytes[..self.length.min(NAME_BYTES_SHOWN)];
        let rest = if shown.len() < self.length { "…" } else { "" };
        write!(f, "{}{rest}", shown.escape_ascii())
    }
}

impl RejectReason {
    /// The AlertDescription to send before closing (RFC 8446 §6.2). `None`: just close.
    pub fn alert(&self) -> Option<u8> {
        match self {
            Self::NotTls { .. } => None,
            // A legal hello beyond our own limit: not a decoding error.
            Self::TooLarge { .. } | Self::TooManyRecords => Some(ILLEGAL_PARAMETER),
            Self::Malformed(fault) => Some(fault.alert()),
            Self::InvalidName { .. } => Some(UNRECOGNIZED_NAME),
        }
    }

    /// What the refusal is counted under.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotTls { .. } => Reason::NotTls,
            Self::TooLarge { .. } | Self::TooManyRecords => Reason::HelloTooLarge,
            Self::Malformed(_) => Reason::HelloMalformed,
            Self::InvalidName { .. } => Reason::SniInvalid,
        }
    }

    /// The stable label in metrics and logs.
    pub fn code(&self) -> &'static str {
        self.reason().code()
    }

    /// Whether the peer speaks another protocol. Never true of an unfinished or broken hello.
    pub fn is_not_tls(&self) -> bool {
        matches!(self, Self::NotTls { .. })
    }
}

impl Malformed {
    fn alert(self) -> u8 {
        match self {
            Self::OtherRecord { .. } | Self::NotClientHello { .. } | Self::MessageBehind { .. } => {
                UNEXPECTED_MESSAGE
            }
            // RFC 8446 §5.1: a zero-length handshake fragment is an unexpected message.
            Self::EmptyRecord => UNEXPECTED_MESSAGE,
            Self::RecordTooLong { .. } => RECORD_OVERFLOW,
            Self::RecordVersion | Self::LegacyVersion { .. } => PROTOCOL_VERSION,
            // RFC 5746 §3.6.
            Self::Renegotiation { .. } => HANDSHAKE_FAILURE,
            // Each field can be read, and what they say together is wrong or beyond our limits.
            Self::NoNullCompression
            | Self::DuplicateExtension { .. }
            | Self::TooManyExtensions
            | Self::ForbiddenExtension { .. }
            | Self::PreSharedKeyNotLast
            | Self::TooManyPreSharedKeys
            | Self::BinderCount { .. }
            | Self::SeveralNames => ILLEGAL_PARAMETER,
            // What follows a name of a type that nobody defined cannot be read.
            Self::Short { .. } | Self::Long { .. } | Self::Empty { .. } | Self::NameType { .. } => {
                DECODE_ERROR
            }
        }
    }
}

// AlertDescription, RFC 8446 §6.
const UNEXPECTED_MESSAGE: u8 = 10;
const RECORD_OVERFLOW: u8 = 22;
const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const UNRECOGNIZED_NAME: u8 = 112;

/// Enough to know whose client it is, and little in a log.
const NAME_BYTES_SHOWN: usize = 64;
