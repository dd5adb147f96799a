//! Moves whole records from one connection to the next in one pass over the caller's scratch.
//!
//! Never owns a buffer and never copies: each record is opened straight into its place in the
//! output and sealed there. Stops at the first thing that needs a decision. `opener.rs` and
//! `sealer.rs` do the work.

use std::time::Instant;

use super::{
    ContentType, Event, HEADER, OVERHEAD, Opened, Opener, PLAINTEXT_MAX, RecordError, SealError,
    Sealer, TAG,
};

/// What one pass did. The first `produced` bytes of output are good whatever stopped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pumped {
    /// Bytes of input done with.
    pub consumed: usize,
    /// Bytes of output to send.
    pub produced: usize,
    pub stop: Stop,
}

/// Why a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// No whole record is left in the input; the next is whole once `at_least` bytes of input
    /// follow those consumed.
    InputEmpty { at_least: usize },
    /// The next record may not fit the rest of the output.
    OutputFull,
    /// The peer said something; its record is consumed.
    Event(Event),
    /// The peer broke a rule. Nothing more comes from this opener.
    Refused(RecordError),
    /// We cannot send.
    Unsealed(SealError),
}

/// Opens records of `input` and seals their content for the other peer into `out`. An output as
/// long as the input always suffices. Records without data are dropped.
pub fn transfer_tls_to_tls(
    opener: &mut Opener,
    sealer: &mut Sealer,
    input: &[u8],
    out: &mut [u8],
    now: Instant,
) -> Pumped {
    let (mut consumed, mut produced) = (0, 0);
    let stop = loop {
        // The plaintext goes where the record will have it; the tag needs room behind it.
        let room = out.len().saturating_sub(TAG);
        let slot = out.get_mut(produced + HEADER..room).unwrap_or_default();
        match opener.open(&input[consumed..], slot, now) {
            Ok(Opened::Data { consumed: bytes, len: 0 }) => consumed += bytes,
            Ok(Opened::Data { consumed: bytes, len }) => {
                consumed += bytes;
                let record = &mut out[produced..produced + len + OVERHEAD];
                match sealer.seal(record, ContentType::ApplicationData) {
                    Ok(()) => produced += len + OVERHEAD,
                    Err(error) => break Stop::Unsealed(error),
                }
            }
            Ok(Opened::NeedMore { at_least }) => break Stop::InputEmpty { at_least },
            Ok(Opened::NeedRoom { .. }) => break Stop::OutputFull,
            Ok(Opened::Event { consumed: bytes, event }) => {
                consumed += bytes;
                break Stop::Event(event);
            }
            Err(error) => break Stop::Refused(error),
        }
    };
    Pumped { consumed, produced, stop }
}

/// Opens records of `input` and packs their content back to back into `out`. An output as long as
/// the input always suffices.
pub fn transfer_tls_to_plain(
    opener: &mut Opener,
    input: &[u8],
    out: &mut [u8],
    now: Instant,
) -> Pumped {
    let (mut consumed, mut produced) = (0, 0);
    let stop = loop {
        match opener.open(&input[consumed..], &mut out[produced..], now) {
            Ok(Opened::Data { consumed: bytes, len }) => {
                consumed += bytes;
                produced += len;
            }
            Ok(Opened::NeedMore { at_least }) => break Stop::InputEmpty { at_least },
            Ok(Opened::NeedRoom { .. }) => break Stop::OutputFull,
            Ok(Opened::Event { consumed: bytes, event }) => {
                consumed += bytes;
                break Stop::Event(event);
            }
            Err(error) => break Stop::Refused(error),
        }
    };
    Pumped { consumed, produced, stop }
}

/// Seals `input` into `out` in records of [`PLAINTEXT_MAX`] and a shorter last one. An output of
/// [`super::sealed_length`] always suffices.
pub fn transfer_plain_to_tls(sealer: &mut Sealer, input: &[u8], out: &mut [u8]) -> Pumped {
    let (mut consumed, mut produced) = (0, 0);
    let stop = loop {
        let rest = &input[consumed..];
        if rest.is_empty() {
            break Stop::InputEmpty { at_least: 1 };
        }
        let length = rest.len().min(PLAINTEXT_MAX);
        match sealer.seal_from(&rest[..length], &mut out[produced..]) {
            Ok(bytes) => {
                consumed += length;
                produced += bytes;
            }
            Err(SealError::BufferTooShort { .. }) => break Stop::OutputFull,
            Err(error) => break Stop::Unsealed(error),
        }
    };
    Pumped { consumed, produced, stop }
}
