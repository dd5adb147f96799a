//! One side of an established session: bytes of the network to plain bytes and back.
//!
//! `transfer` joins two sides in one pass over the caller's buffers, `transfer_within` over one of them; nothing
//! here keeps bytes between passes. TLS 1.3 runs on `core::record` (`tls13`), TLS 1.2 on rustls (`tls12`).

use std::time::Instant;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;

use super::tls12::Received;
pub use super::tls12::Tls12;
use super::tls13::Heard;
pub use super::tls13::Tls13;
use crate::core::client_hello::RecordLimit;
use crate::core::record::{
    self, Done, HEADER, OVERHEAD, Opened, PLAINTEXT_MAX, Pumped, RECORD_MAX, RecordError,
    SealError, Sealer,
};
use crate::core::refusal::{Reason, Refusal};

/// One side of a session after its handshake. Holds no buffer for bytes.
#[derive(Debug)]
pub enum Wire {
    Plain,
    Tls13(Box<Tls13>),
    Tls12(Box<Tls12>),
}

/// Space that `transfer` works in; one for each worker thread. It takes memory at first use.
#[derive(Debug, Default)]
pub struct Scratch {
    plain: Vec<u8>,
}

/// What one `transfer` did.
#[derive(Debug)]
pub struct Transfer {
    /// Bytes at the front of the input that are done with; the rest is passed again with more.
    pub consumed: usize,
    /// Bytes written at the front of the output.
    pub produced: usize,
    /// Plain bytes moved.
    pub payload: u64,
    pub stop: Stop,
}

#[derive(Debug)]
pub enum Stop {
    /// No whole record is left in the input.
    InputEmpty,
    /// The next record does not fit: send `out`, then go on. With an empty `out` of at least
    /// `OUT_BYTES_MIN` this never happens before something was produced.
    OutputFull,
    /// `from` said that it will send nothing more. What is left of the input is meaningless.
    CloseNotify,
    /// The session cannot go on. What was produced is good, and is to be sent.
    Failed(Fault),
}

/// Why a session cannot go on. `refusal.alert` is what to pass to `seal_alert` of `side`; the other
/// side is to be reset, for its stream is cut short.
#[derive(Debug)]
pub struct Fault {
    pub side: Side,
    pub refusal: Refusal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    From,
    To,
}

/// The smallest `out` that takes the content of any one record, in however many, with whatever has to go before it.
pub const OUT_BYTES_MIN: usize = RECORD_MAX + PIECES_MAX * RECORD12_OVERHEAD + CONTROL_BYTES_MAX;

/// The smallest `out` of `seal_control`, `seal_close` and `seal_alert`.
pub const CONTROL_BYTES_MAX: usize = 256;

/// Moves as many whole records as fit from `input` (received from `from`) into `out` (to be sent on
/// `to`), in one pass. Records of TLS 1.2 are opened in place, so what is consumed is overwritten.
/// `now` is for caps per second on what a peer may send beside data (threats 15, 16).
pub fn transfer(
    from: &mut Wire,
    to: &mut Wire,
    input: &mut [u8],
    out: &mut [u8],
    scratch: &mut Scratch,
    now: Instant,
) -> Transfer {
    let mut pass = Pass { consumed: 0, produced: 0, payload: 0 };
    let stop = loop {
        // A KeyUpdate that is owed goes before any more data (RFC 8446 §4.6.3).
        match to.settle(&mut out[pass.produced..]) {
            Ok(bytes) => pass.produced += bytes,
            Err(stop) => break stop,
        }
        let (input, out) = (&mut input[pass.consumed..], &mut out[pass.produced..]);
        let turn = match (&mut *from, &mut *to) {
            (Wire::Plain, Wire::Plain) => copy(input, out),
            (Wire::Plain, Wire::Tls13(to)) => seal_plain(&mut to.sealer, input, out),
            (Wire::Plain, Wire::Tls12(to)) => seal_plain12(to, input, out),
            (Wire::Tls13(from), Wire::Plain) => open_to_plain(from, input, out, now),
            (Wire::Tls13(from), Wire::Tls13(to)) if !to.sealer.is_narrow() => {
                open_to_tls13(from, &mut to.sealer, input, out, now)
            }
            (Wire::Tls13(from), to) => open_apart(from, to, input, out, scratch, now),
            (Wire::Tls12(from), to) => open12(from, to, input, out),
        };
        pass.consumed += turn.consumed;
        pass.produced += turn.produced;
        pass.payload += turn.payload;
        if let Some(stop) = turn.stop {
            break stop;
        }
    };
    let Pass { consumed, produced, payload } = pass;
    Transfer { consumed, produced, payload, stop }
}

/// As [`transfer`], where records can be opened, or sealed, where they lie: the input is what is behind the first
/// `lead` bytes of `buffer`, and what is to be sent is written over the front of the buffer. Plain bytes need a
/// lead, for as records they are longer: [`record::sealed_length`] says by how much; records can do without.
/// `None` where nothing is done in place, or something has to go first: nothing was done then. `OutputFull`: the
/// rest is for [`transfer`], or for another call with a lead of at least [`OVERHEAD`].
pub fn transfer_within(
    from: &mut Wire,
    to: &mut Wire,
    buffer: &mut [u8],
    lead: usize,
    now: Instant,
) -> Option<Transfer> {
    if to.owes_control() {
        return None;
    }
    let done = Done { consumed: lead, produced: 0 };
    let transfer = match (from, to) {
        (Wire::Plain, Wire::Tls13(to)) if to.sealer.seals_in_place() => {
            seal_within(&mut to.sealer, buffer, done)
        }
        (Wire::Tls13(from), Wire::Plain) if from.opener.opens_in_place() => {
            open_within(from, None, buffer, done, now)
        }
        // In more records than it came what was opened may take the place of what is yet to be.
        (Wire::Tls13(from), Wire::Tls13(to))
            if from.opener.opens_in_place() && !to.sealer.is_narrow() =>
        {
            open_within(from, Some(to), buffer, done, now)
        }
        _ => return None,
    };
    Some(Transfer { consumed: transfer.consumed - lead, ..transfer })
}

fn seal_within(sealer: &mut Sealer, buffer: &mut [u8], mut done: Done) -> Transfer {
    let begin = done.consumed;
    let stop = record::transfer_plain_to_tls_within(sealer, buffer, &mut done);
    let payload = (done.consumed - begin) as u64;
    let Done { consumed, produced } = done;
    Transfer { consumed, produced, payload, stop: sealed(stop) }
}

/// For a plain side, where there is no `to`.
fn open_within(
    from: &mut Tls13,
    mut to: Option<&mut Tls13>,
    buffer: &mut [u8],
    mut done: Done,
    now: Instant,
) -> Transfer {
    let mut payload = 0;
    let stop = loop {
        let before = done.produced;
        let (stop, overhead) = match &mut to {
            Some(to) => within_to_tls13(from, &mut to.sealer, buffer, &mut done, now),
            None => {
                let opener = &mut from.opener;
                (record::transfer_tls_to_plain_within(opener, buffer, &mut done, now), 0)
            }
        };
        payload += (done.produced - before).saturating_sub(overhead) as u64;
        if let Some(stop) = stopped(from, stop) {
            break stop;
        }
        // New keys of a peer's may be of the other kind.
        let owes_control = to.as_ref().is_some_and(|to| to.owes_control());
        if owes_control || !from.opener.opens_in_place() {
            break Stop::OutputFull;
        }
    };
    Transfer { consumed: done.consumed, produced: done.produced, payload, stop }
}

impl Wire {
    /// `limit` is the client's, by which `connection` was configured.
    pub(super) fn tls13_server(
        connection: UnbufferedServerConnection,
        limit: RecordLimit,
    ) -> Result<Self, Refusal> {
        Ok(Self::Tls13(Box::new(Tls13::server(connection, limit.content_max())?)))
    }

    pub(super) fn tls13_client(connection: UnbufferedClientConnection) -> Result<Self, Refusal> {
        Ok(Self::Tls13(Box::new(Tls13::client(connection)?)))
    }

    /// As [`Self::tls13_server`].
    pub(super) fn tls12_server(connection: UnbufferedServerConnection, limit: RecordLimit) -> Self {
        Self::Tls12(Box::new(Tls12::server(connection, limit.content_max())))
    }

    pub(super) fn tls12_client(connection: UnbufferedClientConnection) -> Self {
        Self::Tls12(Box::new(Tls12::client(connection)))
    }

    /// Sends a key update of our own after `records` records instead of 2^24; for tests and the
    /// cautious. TLS 1.2 has no key updates.
    #[must_use]
    pub fn with_key_update_after(self, records: u64) -> Self {
        match self {
            Self::Tls13(wire) => Self::Tls13(Box::new(wire.with_key_update_after(records))),
            other @ (Self::Plain | Self::Tls12(_)) => other,
        }
    }

    /// A KeyUpdate reply, a key update of our own, or an alert of rustls' waits to be sent on this
    /// side.
    pub fn owes_control(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls13(wire) => wire.owes_control(),
            Self::Tls12(wire) => wire.owes_control(),
        }
    }

    /// Writes what is owed; zero when nothing is, or when `out` is shorter than
    /// `CONTROL_BYTES_MAX`. At most one KeyUpdate reply is ever owed (threat 15).
    pub fn seal_control(&mut self, out: &mut [u8]) -> usize {
        match self {
            Self::Plain => 0,
            Self::Tls13(wire) => wire.seal_control(out).unwrap_or(0),
            Self::Tls12(wire) => wire.seal_control(out),
        }
    }

    /// Writes close_notify, once; nothing on `Plain`.
    pub fn seal_close(&mut self, out: &mut [u8]) -> usize {
        match self {
            Self::Plain => 0,
            Self::Tls13(wire) => wire.seal_close(out),
            Self::Tls12(wire) => wire.seal_close(out),
        }
    }

    /// Writes a fatal alert; nothing on `Plain`. On TLS 1.2, where rustls has failed, the alert that it
    /// chose goes out. Nothing where it chose none and keeps its keys to itself: then only a reset shows
    /// the peer that its stream is cut.
    pub fn seal_alert(&mut self, alert: u8, out: &mut [u8]) -> usize {
        match self {
            Self::Plain => 0,
            Self::Tls13(wire) => wire.seal_alert(alert, out),
            Self::Tls12(wire) => wire.seal_alert(alert, out),
        }
    }

    /// Whether FIN without close_notify means that data may be missing (threat 26).
    pub fn has_close_semantics(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    /// Gives up what memory an idle session can do without.
    pub fn fold(&mut self) {
        if let Self::Tls13(tls) = self {
            tls.opener.fold();
            tls.sealer.fold();
        }
    }

    /// Whether there is anything to fold.
    pub fn is_expanded(&self) -> bool {
        match self {
            Self::Tls13(tls) => tls.opener.is_expanded() || tls.sealer.is_expanded(),
            Self::Plain | Self::Tls12(_) => false,
        }
    }

    /// Whether the peer takes less in a record than the standard has.
    pub fn is_narrow(&self) -> bool {
        self.content_max() < PLAINTEXT_MAX
    }

    /// The longest content of one record to this side; without records a record of the other side is one.
    fn content_max(&self) -> usize {
        match self {
            Self::Plain => PLAINTEXT_MAX,
            Self::Tls13(tls) => tls.sealer.content_max(),
            Self::Tls12(tls) => tls.content_max(),
        }
    }

    /// Writes the content of one record of the other side, in as many as this one takes.
    fn put(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Refusal> {
        match self {
            Self::Plain => {
                out.get_mut(..plain.len()).ok_or_else(no_room)?.copy_from_slice(plain);
                Ok(plain.len())
            }
            Self::Tls13(to) => {
                let pumped = record::transfer_plain_to_tls(&mut to.sealer, plain, out);
                match pumped.stop {
                    record::Stop::InputEmpty { .. } => Ok(pumped.produced),
                    record::Stop::Unsealed(error) => Err(unsealable(error)),
                    _ => Err(no_room()),
                }
            }
            Self::Tls12(to) => to.seal(plain, out)?.ok_or_else(no_room),
        }
    }

    /// Writes what must go before more data on this side.
    fn settle(&mut self, out: &mut [u8]) -> Result<usize, Stop> {
        if !self.owes_control() {
            return Ok(0);
        }
        match self {
            Self::Plain => Ok(0),
            Self::Tls13(wire) => wire.seal_control(out).map_err(unsealed),
            Self::Tls12(wire) => match wire.seal_control(out) {
                0 => Err(Stop::OutputFull),
                bytes => Ok(bytes),
            },
        }
    }
}

/// What a pass has done so far.
struct Pass {
    consumed: usize,
    produced: usize,
    payload: u64,
}

/// What one turn of a pass did; without a `stop` the pass goes on.
struct Turn {
    consumed: usize,
    produced: usize,
    payload: u64,
    stop: Option<Stop>,
}

impl Turn {
    fn stopped(stop: Stop) -> Self {
        Self { consumed: 0, produced: 0, payload: 0, stop: Some(stop) }
    }

    fn went_on(consumed: usize, produced: usize, payload: usize) -> Self {
        Self { consumed, produced, payload: payload as u64, stop: None }
    }
}

fn copy(input: &[u8], out: &mut [u8]) -> Turn {
    let bytes = input.len().min(out.len());
    out[..bytes].copy_from_slice(&input[..bytes]);
    let stop = if bytes == input.len() { Stop::InputEmpty } else { Stop::OutputFull };
    Turn { stop: Some(stop), ..Turn::went_on(bytes, bytes, bytes) }
}

fn seal_plain(sealer: &mut Sealer, input: &[u8], out: &mut [u8]) -> Turn {
    let Pumped { consumed, produced, stop } = record::transfer_plain_to_tls(sealer, input, out);
    Turn { stop: Some(sealed(stop)), ..Turn::went_on(consumed, produced, consumed) }
}

/// What the end of a pass over plain bytes means.
fn sealed(stop: record::Stop) -> Stop {
    match stop {
        record::Stop::InputEmpty { .. } => Stop::InputEmpty,
        record::Stop::OutputFull | record::Stop::Event(_) | record::Stop::Refused(_) => {
            Stop::OutputFull
        }
        record::Stop::Unsealed(error) => unsealed(error),
    }
}

fn open_to_plain(from: &mut Tls13, input: &[u8], out: &mut [u8], now: Instant) -> Turn {
    let pumped = record::transfer_tls_to_plain(&mut from.opener, input, out, now);
    turn(from, pumped, pumped.produced)
}

fn open_to_tls13(
    from: &mut Tls13,
    sealer: &mut Sealer,
    input: &[u8],
    out: &mut [u8],
    now: Instant,
) -> Turn {
    let before = sealer.sequence();
    let pumped = record::transfer_tls_to_tls(&mut from.opener, sealer, input, out, now);
    let records = usize::try_from(sealer.sequence() - before).unwrap_or(0);
    turn(from, pumped, pumped.produced.saturating_sub(records * OVERHEAD))
}

/// Why it stopped, and how many of the bytes that were made are no payload.
fn within_to_tls13(
    from: &mut Tls13,
    sealer: &mut Sealer,
    input: &mut [u8],
    done: &mut Done,
    now: Instant,
) -> (record::Stop, usize) {
    let before = sealer.sequence();
    let stop = record::transfer_tls_to_tls_within(&mut from.opener, sealer, input, done, now);
    let records = usize::try_from(sealer.sequence() - before).unwrap_or(0);
    (stop, records * OVERHEAD)
}

fn turn(from: &mut Tls13, pumped: Pumped, payload: usize) -> Turn {
    let Pumped { consumed, produced, stop } = pumped;
    Turn { stop: stopped(from, stop), ..Turn::went_on(consumed, produced, payload) }
}

/// What the end of a pass over records means; `None` where the next one goes on.
fn stopped(from: &mut Tls13, stop: record::Stop) -> Option<Stop> {
    match stop {
        record::Stop::InputEmpty { .. } => Some(Stop::InputEmpty),
        record::Stop::OutputFull => Some(Stop::OutputFull),
        record::Stop::Event(event) => heard(from, event),
        record::Stop::Refused(error) => Some(from_failed(from.refused(error))),
        record::Stop::Unsealed(error) => Some(unsealed(error)),
    }
}

/// For a side that takes other records than came.
fn open_apart(
    from: &mut Tls13,
    to: &mut Wire,
    input: &[u8],
    out: &mut [u8],
    scratch: &mut Scratch,
    now: Instant,
) -> Turn {
    if out.len() < room_for(input, to) {
        return Turn::stopped(Stop::OutputFull);
    }
    scratch.plain.resize(RECORD_MAX, 0);
    match from.opener.open(input, &mut scratch.plain, now) {
        Ok(Opened::NeedMore { .. }) => Turn::stopped(Stop::InputEmpty),
        Ok(Opened::NeedRoom { .. }) => Turn::stopped(Stop::OutputFull),
        Ok(Opened::Data { consumed, len: 0 }) => Turn::went_on(consumed, 0, 0),
        Ok(Opened::Data { consumed, len }) => match to.put(&scratch.plain[..len], out) {
            Ok(produced) => Turn::went_on(consumed, produced, len),
            Err(refusal) => Turn { consumed, ..Turn::stopped(to_failed(refusal)) },
        },
        Ok(Opened::Event { consumed, event }) => {
            Turn { stop: heard(from, event), ..Turn::went_on(consumed, 0, 0) }
        }
        Err(error) => Turn::stopped(from_failed(from.refused(error))),
    }
}

fn seal_plain12(to: &mut Tls12, input: &[u8], out: &mut [u8]) -> Turn {
    let bytes = input.len().min(PLAINTEXT_MAX);
    if bytes == 0 {
        return Turn::stopped(Stop::InputEmpty);
    }
    match to.seal(&input[..bytes], out) {
        Ok(Some(produced)) => Turn::went_on(bytes, produced, bytes),
        Ok(None) => Turn::stopped(Stop::OutputFull),
        Err(refusal) => Turn::stopped(to_failed(refusal)),
    }
}

fn open12(from: &mut Tls12, to: &mut Wire, input: &mut [u8], out: &mut [u8]) -> Turn {
    let bytes = match whole_record(input) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Turn::stopped(Stop::InputEmpty),
        Err(error) => return Turn::stopped(from_failed(from.refused(error))),
    };
    if out.len() < room_for(input, to) {
        return Turn::stopped(Stop::OutputFull);
    }
    match from.open(&mut input[..bytes]) {
        Ok(Received::Nothing) => Turn::went_on(bytes, 0, 0),
        Ok(Received::CloseNotify) => Turn { consumed: bytes, ..Turn::stopped(Stop::CloseNotify) },
        Ok(Received::Data(plain)) => match to.put(&plain, out) {
            Ok(produced) => Turn::went_on(bytes, produced, plain.len()),
            Err(refusal) => Turn { consumed: bytes, ..Turn::stopped(to_failed(refusal)) },
        },
        Err(refusal) => Turn { consumed: bytes, ..Turn::stopped(from_failed(refusal)) },
    }
}

fn heard(from: &mut Tls13, event: record::Event) -> Option<Stop> {
    match from.hear(event) {
        Ok(Heard::GoOn) => None,
        Ok(Heard::CloseNotify) => Some(Stop::CloseNotify),
        Err(refusal) => Some(from_failed(refusal)),
    }
}

/// The length of the record of TLS 1.2 at the front of `input`; an error when its header is wrong.
fn whole_record(input: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(&[content, major, minor, high, low]) = input.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    if !(CONTENT_ALERT..=CONTENT_APPLICATION_DATA).contains(&content) {
        return Err(RecordError::Tls12Type { found: content });
    }
    if major != 3 {
        return Err(RecordError::Version { found: u16::from_be_bytes([major, minor]) });
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > PAYLOAD12_MAX {
        return Err(RecordError::CiphertextTooLong { length, max: PAYLOAD12_MAX });
    }
    let bytes = HEADER + length;
    Ok((input.len() >= bytes).then_some(bytes))
}

/// Bytes of output to `to` that suffice for the record at the front of `input`, whatever it holds. A record
/// that is not whole needs none.
fn room_for(input: &[u8], to: &Wire) -> usize {
    match input.first_chunk::<HEADER>() {
        Some(&[.., high, low]) => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if input.len() < HEADER + length {
                0
            } else {
                let content = length.min(PLAINTEXT_MAX);
                content + content.div_ceil(to.content_max()) * RECORD12_OVERHEAD
            }
        }
        None => 0,
    }
}

fn from_failed(refusal: Refusal) -> Stop {
    Stop::Failed(Fault { side: Side::From, refusal })
}

fn to_failed(refusal: Refusal) -> Stop {
    Stop::Failed(Fault { side: Side::To, refusal })
}

fn unsealed(error: SealError) -> Stop {
    match error {
        SealError::BufferTooShort { .. } => Stop::OutputFull,
        error => to_failed(unsealable(error)),
    }
}

fn unsealable(error: SealError) -> Refusal {
    Refusal::new(Reason::Internal, error.to_string())
}

fn no_room() -> Refusal {
    Refusal::new(Reason::Internal, "a record is longer than the room kept for it")
}

/// Header, explicit nonce and tag of TLS 1.2 (RFC 5288 §3), more than TLS 1.3 takes.
const RECORD12_OVERHEAD: usize = HEADER + 8 + 16;

/// Records that the content of one may take for a client with the least of room.
const PIECES_MAX: usize = PLAINTEXT_MAX.div_ceil(RecordLimit::LEAST as usize);

/// What may come after a handshake of TLS 1.2, with handshake records between them. A
/// change_cipher_spec begins a renegotiation, and there is none.
const CONTENT_ALERT: u8 = 21;
const CONTENT_APPLICATION_DATA: u8 = 23;

/// RFC 5246 §6.2.3 allows one byte more, which rustls does not read. No cipher here makes so much of a
/// plain text that is short enough: it is a record_overflow (§7.2.2) all the same.
const PAYLOAD12_MAX: usize = PLAINTEXT_MAX + 2_047;
