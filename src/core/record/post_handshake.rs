//! Post-handshake messages (RFC 8446 §4.6): put together from fragments, taken apart when coalesced.
//!
//! Never holds memory unless a message is incomplete or more follow in the same record, and never
//! more than one message and one record. Knows nothing of encryption. `opener.rs` feeds it.

use super::{KeyUpdateRequest, MESSAGE_KEY_UPDATE, MESSAGE_NEW_SESSION_TICKET, RecordError, Role};

/// The bytes of handshake records that are not yet whole messages, and the last ticket.
pub(super) struct PostHandshake {
    buffer: Vec<u8>,
    ticket: Option<Box<[u8]>>,
}

/// A whole message. A ticket's body waits in [`PostHandshake::take_ticket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Ticket,
    KeyUpdate(KeyUpdateRequest),
}

enum Front {
    Partial,
    Whole { kind: Kind, end: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ticket,
    KeyUpdate,
}

impl PostHandshake {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), ticket: None }
    }

    /// Takes the content of one handshake record; returns the first message that is now whole.
    /// While it returns a ticket, [`Self::next`] may have more.
    pub(super) fn accept(
        &mut self,
        fragment: &[u8],
        role: Role,
        max: usize,
    ) -> Result<Option<Message>, RecordError> {
        if self.buffer.is_empty() {
            // The common case, one message in one record, needs no buffer; and a message that
            // is refused by its header never gets one.
            let front = front(fragment, role, max)?;
            if let Front::Whole { kind, end } = front
                && end == fragment.len()
            {
                return self.finish(kind, &fragment[MESSAGE_HEADER..]).map(Some);
            }
        }
        self.buffer.extend_from_slice(fragment);
        self.next(role, max)
    }

    /// The next whole message of what was accepted.
    pub(super) fn next(&mut self, role: Role, max: usize) -> Result<Option<Message>, RecordError> {
        let Front::Whole { kind, end } = front(&self.buffer, role, max)? else {
            return Ok(None);
        };
        // A message must not span a key change (RFC 8446 §5.1), so a key update ends its record.
        if kind == Kind::KeyUpdate && end != self.buffer.len() {
            return Err(RecordError::DataAfterKeyUpdate);
        }
        let mut rest = self.buffer.split_off(end);
        std::mem::swap(&mut rest, &mut self.buffer);
        self.finish(kind, &rest[MESSAGE_HEADER..]).map(Some)
    }

    pub(super) fn take_ticket(&mut self) -> Option<Box<[u8]>> {
        self.ticket.take()
    }

    /// Whether bytes of an unfinished message wait, so that no other record may come.
    #[inline]
    pub(super) fn is_pending(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Bytes of heap that unfinished messages hold.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.buffer.capacity()
    }

    fn finish(&mut self, kind: Kind, body: &[u8]) -> Result<Message, RecordError> {
        match kind {
            Kind::Ticket => {
                self.ticket = Some(body.into());
                Ok(Message::Ticket)
            }
            Kind::KeyUpdate => match body {
                [0] => Ok(Message::KeyUpdate(KeyUpdateRequest::NotRequested)),
                [1] => Ok(Message::KeyUpdate(KeyUpdateRequest::Requested)),
                [found] => Err(RecordError::KeyUpdateRequest { found: *found }),
                _ => Err(RecordError::KeyUpdateLength { length: body.len() }),
            },
        }
    }
}

/// Judges the first message of `bytes` as early as can be: by its type from the first byte on, by
/// its claimed length from the fourth.
fn front(bytes: &[u8], role: Role, max: usize) -> Result<Front, RecordError> {
    let Some((&found, after_type)) = bytes.split_first() else {
        return Ok(Front::Partial);
    };
    let kind = match (found, role) {
        (MESSAGE_KEY_UPDATE, _) => Kind::KeyUpdate,
        (MESSAGE_NEW_SESSION_TICKET, Role::Client) => Kind::Ticket,
        _ => return Err(RecordError::MessageType { found }),
    };
    let Some(&[high, middle, low]) = after_type.first_chunk() else {
        return Ok(Front::Partial);
    };
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    if kind == Kind::KeyUpdate && length != 1 {
        return Err(RecordError::KeyUpdateLength { length });
    }
    if length > max {
        return Err(RecordError::MessageTooLong { length, max });
    }
    let end = MESSAGE_HEADER + length;
    if bytes.len() < end { Ok(Front::Partial) } else { Ok(Front::Whole { kind, end }) }
}

/// Bytes before a handshake message's body: type and length (RFC 8446 §4).
const MESSAGE_HEADER: usize = 4;
