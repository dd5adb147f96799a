//! Moves whole records from one connection to the next in one pass over the caller's scratch.
//!
//! Never owns a buffer: each record is opened straight into its place in the output and sealed there. Where
//! the keys allow it the output may be the front of the input: the functions whose names end with `within`.
//! Stops at the first thing that needs a decision. `opener.rs` and `sealer.rs` do the work.

use std::ops::Range;
use std::time::Instant;

use super::aead::COPY_BYTES;
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

/// What of a buffer is done when records are opened or sealed within it: what is to be read begins at `consumed`,
/// and what was written is the front, up to `produced`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub consumed: usize,
    pub produced: usize,
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

/// Opens records of `input` and seals their content for the other peer into `out`, each as one, so that the sealer
/// may not be [narrow](Sealer::is_narrow). An output as long as the input always suffices. Records without data are
/// dropped.
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
        match data(opener.open(&input[consumed..], slot, now), &mut consumed) {
            Ok(0) => {}
            Ok(len) => match seal_at(sealer, out, &mut produced, len) {
                Ok(()) => {}
                Err(stop) => break stop,
            },
            Err(stop) => break stop,
        }
    };
    Pumped { consumed, produced, stop }
}

/// As [`transfer_tls_to_tls`], within one buffer: the next record is at `done.consumed`, what was sealed ends at
/// `done.produced`, which is not behind it. Both are moved on. For an opener that
/// [opens in place](Opener::opens_in_place).
pub fn transfer_tls_to_tls_within(
    opener: &mut Opener,
    sealer: &mut Sealer,
    buffer: &mut [u8],
    done: &mut Done,
    now: Instant,
) -> Stop {
    loop {
        let opened = opener.open_within(buffer, done.consumed, done.produced + HEADER, now);
        match data(opened, &mut done.consumed) {
            Ok(0) => {}
            Ok(len) => match seal_at(sealer, buffer, &mut done.produced, len) {
                Ok(()) => {}
                Err(stop) => break stop,
            },
            Err(stop) => break stop,
        }
    }
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
        let opened = opener.open(&input[consumed..], &mut out[produced..], now);
        match data(opened, &mut consumed) {
            Ok(len) => produced += len,
            Err(stop) => break stop,
        }
    };
    Pumped { consumed, produced, stop }
}

/// As [`transfer_tls_to_plain`], within one buffer, as [`transfer_tls_to_tls_within`].
pub fn transfer_tls_to_plain_within(
    opener: &mut Opener,
    buffer: &mut [u8],
    done: &mut Done,
    now: Instant,
) -> Stop {
    loop {
        let opened = opener.open_within(buffer, done.consumed, done.produced, now);
        match data(opened, &mut done.consumed) {
            Ok(len) => done.produced += len,
            Err(stop) => break stop,
        }
    }
}

/// The length of the data that was opened, or why the pass ends here.
#[inline]
fn data(opened: Result<Opened, RecordError>, consumed: &mut usize) -> Result<usize, Stop> {
    match opened {
        Ok(Opened::Data { consumed: bytes, len }) => {
            *consumed += bytes;
            Ok(len)
        }
        Ok(Opened::NeedMore { at_least }) => Err(Stop::InputEmpty { at_least }),
        Ok(Opened::NeedRoom { .. }) => Err(Stop::OutputFull),
        Ok(Opened::Event { consumed: bytes, event }) => {
            *consumed += bytes;
            Err(Stop::Event(event))
        }
        Err(error) => Err(Stop::Refused(error)),
    }
}

/// Seals the `length` bytes of plaintext that lie a header behind `produced`.
#[inline]
fn seal_at(
    sealer: &mut Sealer,
    out: &mut [u8],
    produced: &mut usize,
    length: usize,
) -> Result<(), Stop> {
    let end = *produced + length + OVERHEAD;
    let record = out.get_mut(*produced..end).ok_or(Stop::OutputFull)?;
    sealer.seal(record, ContentType::ApplicationData).map_err(Stop::Unsealed)?;
    *produced = end;
    Ok(())
}

/// As [`transfer_plain_to_tls`], within one buffer: the plaintext begins at `done.consumed`, and records go to
/// `done.produced`, each of them [`OVERHEAD`] longer than its plaintext: as much more room before the plaintext
/// takes one record more. For a sealer that [seals in place](Sealer::seals_in_place). After
/// [`Stop::Unsealed`] what is left of the plaintext is not where it was.
pub fn transfer_plain_to_tls_within(
    sealer: &mut Sealer,
    buffer: &mut [u8],
    done: &mut Done,
) -> Stop {
    loop {
        let length = buffer.len().saturating_sub(done.consumed).min(PLAINTEXT_MAX);
        if length == 0 {
            return Stop::InputEmpty { at_least: 1 };
        }
        if done.produced + OVERHEAD > done.consumed {
            return Stop::OutputFull;
        }
        let plaintext = done.consumed..done.consumed + length;
        move_back(buffer, plaintext, done.produced + HEADER);
        if let Err(stop) = seal_at(sealer, buffer, &mut done.produced, length) {
            return stop;
        }
        done.consumed += length;
    }
}

/// Moves bytes to a place before them, in pieces as [`super::aead`] copies.
#[inline]
fn move_back(buffer: &mut [u8], from: Range<usize>, to: usize) {
    for at in from.clone().step_by(COPY_BYTES) {
        let end = from.end.min(at + COPY_BYTES);
        buffer.copy_within(at..end, to + at - from.start);
    }
}

/// Seals `input` into `out` in records of [`Sealer::content_max`] and a shorter last one. An output
/// of [`super::sealed_length`] always suffices for a sealer that is not [narrow](Sealer::is_narrow).
pub fn transfer_plain_to_tls(sealer: &mut Sealer, input: &[u8], out: &mut [u8]) -> Pumped {
    let (mut consumed, mut produced) = (0, 0);
    let stop = loop {
        let rest = &input[consumed..];
        if rest.is_empty() {
            break Stop::InputEmpty { at_least: 1 };
        }
        let length = rest.len().min(sealer.content_max());
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
