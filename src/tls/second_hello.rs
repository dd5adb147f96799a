//! The hello that a client sends when it was asked for another key share: whether it is the first one again.
//!
//! rustls compares name, suite and keys. What `core::client_hello` finds beyond that is refused here, before
//! rustls reads it. Costs nothing where no other share is asked for.

use crate::core::client_hello::{HelloBuffer, Peek, peek};
use crate::core::refusal::{Reason, Refusal};

/// How far a handshake has come with it.
#[derive(Debug, Default)]
pub(super) enum SecondHello {
    /// Another share was not asked for. The first hello is kept where its pieces lie in several records:
    /// rustls joins them where they are.
    #[default]
    NotAsked,
    Split(Box<[u8]>),
    /// Comes after this one, as it was received.
    Asked(Box<[u8]>),
    Over,
}

/// What is to be done with the record that comes next.
#[derive(Debug)]
pub(super) enum Look {
    Show,
    /// The hello is not whole yet.
    Wait,
    /// Without an alert of its own it is an illegal parameter.
    Refuse(Refusal),
}

impl SecondHello {
    /// Before rustls is shown anything of `input`.
    pub(super) fn received(&mut self, input: &[u8]) {
        if matches!(self, Self::NotAsked) && is_split(input) {
            let mut joined = HelloBuffer::new();
            if let Peek::Hello(hello) = peek(input, &mut joined) {
                *self = Self::Split(input[..hello.wire_len()].into());
            }
        }
    }

    /// rustls answers `input` with `out`, if that is not empty.
    pub(super) fn answered(&mut self, input: &[u8], out: &[u8]) {
        if out.is_empty() || matches!(self, Self::Asked(_) | Self::Over) {
            return;
        }
        *self = match std::mem::replace(self, Self::Over) {
            Self::NotAsked if is_retry_request(out) => Self::Asked(input.into()),
            Self::Split(first) if is_retry_request(out) => Self::Asked(first),
            _ => Self::Over,
        };
    }

    /// `rest` is what rustls was not shown yet.
    pub(super) fn look(&mut self, rest: &[u8]) -> Look {
        let Self::Asked(first) = &self else { return Look::Show };
        if rest.first().is_some_and(|content| *content != HANDSHAKE_RECORD) {
            // An alert, or the change_cipher_spec before it (RFC 8446 §D.4): rustls judges those.
            return Look::Show;
        }
        let mut joined = HelloBuffer::new();
        let second = match peek(rest, &mut joined) {
            Peek::NeedMore { .. } => return Look::Wait,
            Peek::Reject(reason) => {
                let detail = format!("in its second hello: {reason}");
                let refusal = Refusal::new(reason.reason(), detail);
                return Look::Refuse(Refusal { alert: reason.alert(), ..refusal });
            }
            Peek::Hello(second) => second,
        };
        let mut joined = HelloBuffer::new();
        let changed = match peek(first, &mut joined) {
            Peek::Hello(first) => first.changed_by(&second),
            Peek::NeedMore { .. } | Peek::Reject(_) => None,
        };
        *self = Self::Over;
        changed.map_or(Look::Show, |what| {
            let detail = format!("asked for another key share, it changed {what} of its hello too");
            Look::Refuse(Refusal::new(Reason::ProtocolViolation, detail))
        })
    }
}

/// Whether the first handshake message goes on behind the first record.
fn is_split(input: &[u8]) -> bool {
    let &[_, _, _, high, low, _, top, middle, bottom, ..] = input else { return true };
    let record = usize::from(u16::from_be_bytes([high, low]));
    let message = usize::from(top) << 16 | usize::from(middle) << 8 | usize::from(bottom);
    record < MESSAGE_HEADER_BYTES + message
}

/// A ServerHello with the random that says so (RFC 8446 §4.1.3).
fn is_retry_request(out: &[u8]) -> bool {
    let Some((header, rest)) = out.split_at_checked(RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES + 2)
    else {
        return false;
    };
    header[0] == HANDSHAKE_RECORD
        && header[RECORD_HEADER_BYTES] == SERVER_HELLO
        && rest.starts_with(&RETRY)
}

const HANDSHAKE_RECORD: u8 = 22;
const SERVER_HELLO: u8 = 2;
const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;

/// SHA-256 of "HelloRetryRequest".
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
