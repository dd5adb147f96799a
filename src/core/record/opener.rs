//! The receiving side of one connection: one record in, its content or its meaning out.
//!
//! Never replies: key updates, tickets and alerts come out as [`Event`]s for the caller to act on.
//! Read `post_handshake.rs` for fragmented messages, `limits.rs` for the caps.

use std::fmt;
use std::time::Instant;

use super::aead::Expanded;
use super::error::Span;
use super::keys::IV;
use super::limits::Meter;
use super::post_handshake::{Message, PostHandshake};
use super::{
    ALERT_CLOSE_NOTIFY, ALERT_USER_CANCELED, CIPHERTEXT_MAX, CONTENT_ALERT,
    CONTENT_APPLICATION_DATA, CONTENT_HANDSHAKE, HEADER, KeyUpdateRequest, OpenLimits,
    PLAINTEXT_MAX, RecordError, Role, TAG, TrafficKeys,
};

/// Opens the records of one peer, in order.
pub struct Opener {
    phase: Phase,
    sequence: u64,
    keys: TrafficKeys,
    empty_records: Meter,
    /// Key updates and tickets: two meters would be as many bytes more of every connection.
    messages: Meter,
    post_handshake: PostHandshake,
    role: Role,
    limits: OpenLimits,
}

/// What the front of the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// The record is not all there: `at_least` bytes of input are needed, counted from its start.
    NeedMore { at_least: usize },
    /// The output is too short: opening this record needs `at_least` bytes of it.
    NeedRoom { at_least: usize },
    /// `consumed` bytes of input are done with and `out[..len]` is application data. `len` is zero
    /// for what brings none: an empty record, an ignored alert, a part of a handshake message.
    Data { consumed: usize, len: usize },
    /// `consumed` bytes of input are done with, and something happened. `consumed` is zero for the
    /// second and later messages of one record.
    Event { consumed: usize, event: Event },
}

/// What a peer says beside its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The peer ended its direction. All later input is ignored, as RFC 8446 §6.1 demands: each
    /// further call says this again and consumes all.
    CloseNotify,
    /// The peer gave up; no alert is owed. Like [`Event::CloseNotify`], said again from then on.
    FatalAlert { description: u8 },
    /// The peer's next record is under its next keys: call [`Opener::rekey`] before
    /// [`Opener::open`]. When requested, a KeyUpdate of ours is owed too.
    KeyUpdate { request: KeyUpdateRequest },
    /// A NewSessionTicket; [`Opener::take_ticket`] has its body.
    Ticket,
}

enum Phase {
    Open,
    /// The last record may hold another whole message.
    Queued,
    RekeyDue,
    Closed,
    Alerted(u8),
    Failed(RecordError),
}

impl Opener {
    /// `sequence` is the number of records already received under `keys`; `role` is who we are.
    #[must_use]
    pub fn new(keys: TrafficKeys, sequence: u64, role: Role, limits: OpenLimits) -> Self {
        Self {
            phase: Phase::Open,
            sequence,
            keys,
            empty_records: Meter::new(),
            messages: Meter::new(),
            post_handshake: PostHandshake::new(),
            role,
            limits,
        }
    }

    /// Nothing has come for a while: see [`TrafficKeys::fold`].
    pub fn fold(&mut self) {
        self.keys.fold();
    }

    /// Whether there is anything to fold.
    #[must_use]
    pub fn is_expanded(&self) -> bool {
        self.keys.is_expanded()
    }

    /// Opens the record at the front of `input` into `out`, of which it overwrites up to the length
    /// of the record without header and tag, even where it then delivers less. `now` is for the
    /// caps per second.
    ///
    /// # Errors
    /// When the peer broke a rule of RFC 8446 §5 or one of the [`OpenLimits`]. From then on every
    /// call returns the same error. [`RecordError::RekeyDue`] alone is the caller's fault, and
    /// ends with [`Opener::rekey`].
    pub fn open(
        &mut self,
        input: &[u8],
        out: &mut [u8],
        now: Instant,
    ) -> Result<Opened, RecordError> {
        if let Some(opened) = self.without_record(input.len(), now)? {
            return Ok(opened);
        }
        let opened = self.open_record(input, out, now);
        self.remember(opened)
    }

    /// As [`Opener::open`] of the record at `at`, within one buffer: its content goes to `to`, which is not
    /// behind the record's header. What lies from `to` to the end of its ciphertext is overwritten, be it
    /// authentic or not. For keys that [`Opener::opens_in_place`] says it of.
    ///
    /// # Errors
    /// As [`Opener::open`]; with other keys [`RecordError::BadRecordMac`], whatever the record.
    pub fn open_within(
        &mut self,
        buffer: &mut [u8],
        at: usize,
        to: usize,
        now: Instant,
    ) -> Result<Opened, RecordError> {
        if let Some(opened) = self.without_record(buffer.len().saturating_sub(at), now)? {
            return Ok(opened);
        }
        let opened = self.open_record_within(buffer, at, to, now);
        self.remember(opened)
    }

    /// Whether [`Opener::open_within`] is to be had, which spares a copy then.
    #[inline]
    #[must_use]
    pub fn opens_in_place(&self) -> bool {
        self.keys.work_in_place()
    }

    /// Installs the keys after a KeyUpdate; the sequence number starts at zero (RFC 8446 §5.3).
    pub fn rekey(&mut self, keys: TrafficKeys) {
        self.keys = keys;
        self.sequence = 0;
        if matches!(self.phase, Phase::RekeyDue) {
            self.phase = Phase::Open;
        }
    }

    /// The body of the NewSessionTicket of the last [`Event::Ticket`], without its header.
    pub fn take_ticket(&mut self) -> Option<Box<[u8]>> {
        self.post_handshake.take_ticket()
    }

    /// How many records were opened under the present keys.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes of heap that unfinished handshake messages hold.
    #[cfg(test)]
    pub(super) fn post_handshake_bytes(&self) -> usize {
        self.post_handshake.buffered()
    }

    /// What there is to say before the next record is looked at, of which there are `input` bytes.
    #[inline]
    fn without_record(
        &mut self,
        input: usize,
        now: Instant,
    ) -> Result<Option<Opened>, RecordError> {
        let event = match self.phase {
            Phase::Open => return Ok(None),
            Phase::Queued => return self.queued(now),
            Phase::RekeyDue => return Err(RecordError::RekeyDue),
            Phase::Closed => Event::CloseNotify,
            Phase::Alerted(description) => Event::FatalAlert { description },
            Phase::Failed(error) => return Err(error),
        };
        Ok(Some(Opened::Event { consumed: input, event }))
    }

    /// The next message of the last record, if that holds another whole one.
    fn queued(&mut self, now: Instant) -> Result<Option<Opened>, RecordError> {
        self.phase = Phase::Open;
        let max = self.limits.message_bytes_max.into();
        let next = self.post_handshake.next(self.role, max);
        let Some(message) = self.remember(next)? else { return Ok(None) };
        let event = self.message(message, now);
        self.remember(event).map(|event| Some(Opened::Event { consumed: 0, event }))
    }

    fn open_record(
        &mut self,
        input: &[u8],
        out: &mut [u8],
        now: Instant,
    ) -> Result<Opened, RecordError> {
        let record = match front(input)? {
            Front::Whole(record) => record,
            Front::Part { at_least } => return Ok(Opened::NeedMore { at_least }),
        };
        let Record { consumed, ciphertext, tag } = record;
        let Some(inner) = out.get_mut(..ciphertext.len()) else {
            return Ok(Opened::NeedRoom { at_least: ciphertext.len() });
        };
        let (nonce, header, key) = self.before(ciphertext.len())?;
        let opened = key.open(nonce, &header, ciphertext, tag, inner);
        self.after(opened.is_ok())?;
        self.opened(consumed, inner, now)
    }

    fn open_record_within(
        &mut self,
        buffer: &mut [u8],
        at: usize,
        to: usize,
        now: Instant,
    ) -> Result<Opened, RecordError> {
        let (consumed, length, tag) = match front(buffer.get(at..).unwrap_or_default())? {
            Front::Whole(Record { consumed, ciphertext, tag }) => {
                (consumed, ciphertext.len(), *tag)
            }
            Front::Part { at_least } => return Ok(Opened::NeedMore { at_least }),
        };
        let from = at + HEADER;
        let (Some(text), Some(shift)) = (buffer.get_mut(to..from + length), from.checked_sub(to))
        else {
            return Ok(Opened::NeedRoom { at_least: length });
        };
        let (nonce, header, key) = self.before(length)?;
        let opened = key.open_within(nonce, &header, &tag, text, shift);
        self.after(opened.is_ok())?;
        self.opened(consumed, &text[..length], now)
    }

    /// What a record whose ciphertext has `length` bytes is opened with: nonce, what was authenticated
    /// beside it, key.
    #[inline]
    fn before(
        &mut self,
        length: usize,
    ) -> Result<([u8; IV], [u8; HEADER], &Expanded), RecordError> {
        if self.sequence == u64::MAX {
            return Err(RecordError::SequenceExhausted);
        }
        // As rustls does, the version is authenticated as 0x0303 whatever the header said, for it
        // is to be ignored for all purposes (RFC 8446 §5.1).
        let [.., high, low] = (length + TAG).to_be_bytes();
        let header = [CONTENT_APPLICATION_DATA, 3, 3, high, low];
        self.keys.unfold();
        let key = self.keys.ready().ok_or(RecordError::NoKey)?;
        Ok((self.keys.nonce(self.sequence), header, key))
    }

    /// Counts a record that was authentic.
    #[inline]
    fn after(&mut self, is_authentic: bool) -> Result<(), RecordError> {
        if !is_authentic {
            return Err(RecordError::BadRecordMac);
        }
        self.sequence += 1;
        Ok(())
    }

    /// What an inner plaintext says (RFC 8446 §5.2).
    #[inline]
    fn opened(
        &mut self,
        consumed: usize,
        inner: &[u8],
        now: Instant,
    ) -> Result<Opened, RecordError> {
        if inner.len() > PLAINTEXT_MAX + 1 {
            // The type byte and the padding count (RFC 8446 §5.4).
            let max = PLAINTEXT_MAX + 1;
            return Err(RecordError::PlaintextTooLong { length: inner.len(), max });
        }
        let Some(len) = content_length(inner) else {
            return Err(RecordError::InnerTypeMissing);
        };
        let content = inner[len];
        if content == CONTENT_APPLICATION_DATA && len > 0 && !self.post_handshake.is_pending() {
            self.empty_records.end_row();
            self.messages.end_row();
            return Ok(Opened::Data { consumed, len });
        }
        match self.control(content, &inner[..len], now)? {
            Some(event) => Ok(Opened::Event { consumed, event }),
            None => Ok(Opened::Data { consumed, len: 0 }),
        }
    }

    /// All but application data that carries bytes.
    #[cold]
    fn control(
        &mut self,
        content: u8,
        body: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, RecordError> {
        if self.post_handshake.is_pending() && content != CONTENT_HANDSHAKE {
            return Err(RecordError::Interleaved { found: content });
        }
        match content {
            CONTENT_APPLICATION_DATA => self.count_empty(now).map(|()| None),
            CONTENT_ALERT | CONTENT_HANDSHAKE if body.is_empty() => {
                Err(RecordError::EmptyFragment { content })
            }
            CONTENT_ALERT => self.alert(body, now),
            CONTENT_HANDSHAKE => {
                let max = self.limits.message_bytes_max.into();
                let Some(message) = self.post_handshake.accept(body, self.role, max)? else {
                    return Ok(None);
                };
                self.message(message, now).map(Some)
            }
            found => Err(RecordError::InnerType { found }),
        }
    }

    fn alert(&mut self, body: &[u8], now: Instant) -> Result<Option<Event>, RecordError> {
        // One alert a record, never a part of one (RFC 8446 §5.1).
        let &[level, description] = body else {
            return Err(RecordError::AlertLength { length: body.len() });
        };
        match (level, description) {
            (LEVEL_WARNING | LEVEL_FATAL, ALERT_CLOSE_NOTIFY) => {
                self.phase = Phase::Closed;
                Ok(Some(Event::CloseNotify))
            }
            (LEVEL_WARNING, ALERT_USER_CANCELED) => self.count_empty(now).map(|()| None),
            // Every other alert is an error whatever its level (RFC 8446 §6).
            (LEVEL_WARNING | LEVEL_FATAL, description) => {
                self.phase = Phase::Alerted(description);
                Ok(Some(Event::FatalAlert { description }))
            }
            (found, _) => Err(RecordError::AlertLevel { found }),
        }
    }

    fn message(&mut self, message: Message, now: Instant) -> Result<Event, RecordError> {
        match message {
            Message::Ticket => {
                self.count_message(now)
                    .map_err(|(max, span)| RecordError::TooManyTickets { max, span })?;
                if self.post_handshake.is_pending() {
                    self.phase = Phase::Queued;
                }
                Ok(Event::Ticket)
            }
            Message::KeyUpdate(request) => {
                self.count_message(now)
                    .map_err(|(max, span)| RecordError::TooManyKeyUpdates { max, span })?;
                self.phase = Phase::RekeyDue;
                Ok(Event::KeyUpdate { request })
            }
        }
    }

    fn count_message(&mut self, now: Instant) -> Result<(), (u32, Span)> {
        let limits = &self.limits;
        self.messages.count(now, limits.messages_in_a_row_max, limits.messages_per_second_max)
    }

    fn count_empty(&mut self, now: Instant) -> Result<(), RecordError> {
        let limits = &self.limits;
        self.empty_records
            .count(now, limits.empty_records_in_a_row_max, limits.empty_records_per_second_max)
            .map_err(|(max, span)| RecordError::TooManyEmptyRecords { max, span })
    }

    #[inline]
    fn remember<T>(&mut self, result: Result<T, RecordError>) -> Result<T, RecordError> {
        if let Err(error) = result {
            self.phase = Phase::Failed(error);
        }
        result
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("keys", &self.keys)
            .field("sequence", &self.sequence)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The front of the input.
enum Front<'a> {
    Whole(Record<'a>),
    Part { at_least: usize },
}

/// A whole record; `consumed` is its length.
struct Record<'a> {
    consumed: usize,
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG],
}

#[inline]
fn front(input: &[u8]) -> Result<Front<'_>, RecordError> {
    let Some(length) = payload_length(input)? else {
        return Ok(Front::Part { at_least: HEADER });
    };
    let consumed = HEADER + length;
    let Some(payload) = input.get(HEADER..consumed) else {
        return Ok(Front::Part { at_least: consumed });
    };
    let Some((ciphertext, tag)) = payload.split_last_chunk::<TAG>() else {
        return Err(RecordError::BadRecordMac);
    };
    Ok(Front::Whole(Record { consumed, ciphertext, tag }))
}

/// Reads a header, and refuses it from the first byte that is wrong. `None` when it is incomplete.
#[inline]
fn payload_length(input: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(&[content, major, minor, high, low]) = input.first_chunk::<HEADER>() else {
        return partial_header(input).map(|()| None);
    };
    if content != CONTENT_APPLICATION_DATA {
        return Err(RecordError::OuterType { found: content });
    }
    if major != 3 {
        return Err(RecordError::Version { found: u16::from_be_bytes([major, minor]) });
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > CIPHERTEXT_MAX {
        return Err(RecordError::CiphertextTooLong { length, max: CIPHERTEXT_MAX });
    }
    // Nothing this short can be authentic; there is no point in waiting for the rest.
    if length < TAG { Err(RecordError::BadRecordMac) } else { Ok(Some(length)) }
}

fn partial_header(input: &[u8]) -> Result<(), RecordError> {
    match *input {
        [found, ..] if found != CONTENT_APPLICATION_DATA => Err(RecordError::OuterType { found }),
        [_, major, minor, ..] if major != 3 => {
            Err(RecordError::Version { found: u16::from_be_bytes([major, minor]) })
        }
        _ => Ok(()),
    }
}

/// Where the content of an inner plaintext ends and its type stands: the last byte that is not
/// zero (RFC 8446 §5.4). Padding is skipped a block at a time, which compiles to vector code.
#[inline]
fn content_length(inner: &[u8]) -> Option<usize> {
    if let [.., last] = inner
        && *last != 0
    {
        return Some(inner.len() - 1);
    }
    let padding = inner
        .rchunks_exact(PADDING_BLOCK)
        .take_while(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
        .count()
        * PADDING_BLOCK;
    inner[..inner.len() - padding].iter().rposition(|byte| *byte != 0)
}

const LEVEL_WARNING: u8 = 1;
const LEVEL_FATAL: u8 = 2;

const PADDING_BLOCK: usize = 64;
