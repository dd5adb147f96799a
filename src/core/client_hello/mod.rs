//! Reads a ClientHello out of the bytes received so far: hello, need more, or reject.
//!
//! Owns the walk over TLS records up to the end of the first handshake message and every limit on
//! it. Never allocates, never consumes: the same bytes go on to the TLS engine or to the upstream.
//! What it cannot read it refuses; an unfinished hello is never taken for plain text. It is never
//! laxer than rustls (`tests/hello_differential.rs`). Read `parse` next, then `hello` for what a
//! hello tells; `reject` lists what is refused and how, `again` what a second hello may change.

mod again;
mod hello;
mod parse;
mod record_limit;
mod reject;
mod sniff;
#[cfg(test)]
mod tests;

use std::fmt;

pub use again::Changed;
pub use hello::{Alpn, ClientHello, KeyShareGroups, Newest, U16List};
pub use record_limit::RecordLimit;
pub use reject::{Malformed, NameShown, RejectReason};
pub use sniff::LooksLike;

use crate::core::server_name::{NameError, normalise_into};

/// Longest ClientHello body taken: four times the largest seen in the wild (about 4 KiB, with
/// post-quantum shares and a fat ticket), a quarter of what rustls would take.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// TLS records before the hello must have ended. Real clients send one or two; 64 lets a test send
/// small ones and bounds the walk for a peer that sends one byte a record.
pub const HELLO_RECORDS_MAX: usize = 64;

/// Longest plaintext of a record (RFC 8446 §5.1).
pub const RECORD_BYTES_MAX: usize = 1 << 14;

/// What the bytes received so far are.
#[derive(Debug)]
pub enum Peek<'a> {
    Hello(ClientHello<'a>),
    /// Nothing can be said before `at_least` bytes of input are there, counted from accept.
    NeedMore {
        at_least: usize,
    },
    Reject(RejectReason),
}

/// Where a hello is joined that came in several records, and where its name is lower-cased. One a
/// thread: nothing in it outlives the hello that borrows it.
pub struct HelloBuffer {
    message: Box<[u8]>,
    name: [u8; 255],
}

/// Reads `input`: everything received since accept. Bytes behind the hello are left alone.
pub fn peek<'a>(input: &'a [u8], joined: &'a mut HelloBuffer) -> Peek<'a> {
    match find(input) {
        Ok(found) => read(input, &found, joined).map_or_else(Peek::Reject, Peek::Hello),
        Err(Stop::NeedMore { at_least }) => Peek::NeedMore { at_least },
        Err(Stop::Reject(reason)) => Peek::Reject(reason),
    }
}

/// The name that a hello with `raw` as its host_name is routed by, or why such a hello is refused.
///
/// # Errors
/// As [`peek`] for a hello with this name.
pub fn server_name<'a>(raw: &[u8], buffer: &'a mut [u8; 255]) -> Result<&'a str, RejectReason> {
    match normalise_into(raw, buffer) {
        // An empty vector where the protocol wants a name, before it is looked at as one.
        Err(NameError::Empty) => Err(Malformed::Empty { field: HOST_NAME }.into()),
        name => name.map_err(|error| RejectReason::InvalidName { name: NameShown::of(raw), error }),
    }
}

impl HelloBuffer {
    /// The only allocation of this module: [`HELLO_BYTES_MAX`] and a little.
    pub fn new() -> Self {
        let message = vec![0; MESSAGE_HEADER_BYTES + HELLO_BYTES_MAX].into_boxed_slice();
        Self { message, name: [0; 255] }
    }
}

impl Default for HelloBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HelloBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HelloBuffer").finish_non_exhaustive()
    }
}

/// A whole handshake message in the input.
struct Found {
    /// With its four bytes of header.
    message_len: usize,
    /// Bytes of input up to its end, record headers included.
    wire_len: usize,
    records: usize,
}

enum Stop {
    NeedMore { at_least: usize },
    Reject(RejectReason),
}

impl From<Malformed> for Stop {
    fn from(fault: Malformed) -> Self {
        Self::Reject(fault.into())
    }
}

/// Walks the records until the first handshake message ends, copying nothing.
fn find(input: &[u8]) -> Result<Found, Stop> {
    // Handshake bytes in the records before this one, and the message header out of them.
    let (mut seen, mut header, mut at) = (0, [0; MESSAGE_HEADER_BYTES], 0);
    for records in 1..=HELLO_RECORDS_MAX {
        let len = record_len(input, at)?;
        let start = at + RECORD_HEADER_BYTES;
        let payload = &input[start..input.len().min(start + len)];

        let mut goal = MESSAGE_HEADER_BYTES;
        for (to, from) in header.iter_mut().skip(seen).zip(payload) {
            *to = *from;
        }
        if seen + payload.len() > 0 {
            check_type(header[0])?;
        }
        if seen + payload.len() >= MESSAGE_HEADER_BYTES {
            let claimed =
                usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
            if claimed > HELLO_BYTES_MAX {
                return Err(Stop::Reject(RejectReason::TooLarge { claimed }));
            }
            goal += claimed;
            // The keys may change after a hello, so nothing may follow it in its record
            // (RFC 8446 §5.1).
            if seen + len > goal {
                return Err(Malformed::MessageBehind { bytes: seen + len - goal }.into());
            }
        }
        if seen + len >= goal {
            let wire_len = start + goal - seen;
            if input.len() >= wire_len {
                return Ok(Found { message_len: goal, wire_len, records });
            }
            return Err(Stop::NeedMore { at_least: wire_len });
        }
        at = start + len;
        if input.len() < at && records < HELLO_RECORDS_MAX {
            return Err(Stop::NeedMore { at_least: at + RECORD_HEADER_BYTES });
        }
        seen += len;
    }
    Err(Stop::Reject(RejectReason::TooManyRecords))
}

/// The payload length of the record at `at`. Each byte of the header is judged as soon as it is
/// there: a peer that does not speak TLS is told by its first.
fn record_len(input: &[u8], at: usize) -> Result<usize, Stop> {
    let header = &input[at.min(input.len())..];
    let first = at == 0;
    let not_tls = || RejectReason::NotTls { looks_like: LooksLike::guess(input) };
    match header {
        [HANDSHAKE, ..] | [] => {}
        _ if first => return Err(Stop::Reject(not_tls())),
        [kind, ..] => return Err(Malformed::OtherRecord { kind: *kind }.into()),
    }
    // Clients that once spoke SSL 3.0 put 03 00 here, others 03 01 or their own highest version, and
    // servers must take any 03 XX (RFC 5246 appendix E.1, RFC 8446 §5.1).
    match header {
        [_, 3, ..] | [_] | [] => {}
        _ if first => return Err(Stop::Reject(not_tls())),
        _ => return Err(Malformed::RecordVersion.into()),
    }
    let &[_, _, _, high, low, ..] = header else {
        // The first byte alone can settle the matter; later ones are worth waiting for together.
        let at_least = if input.is_empty() { 1 } else { at + RECORD_HEADER_BYTES };
        return Err(Stop::NeedMore { at_least });
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(Malformed::EmptyRecord.into()),
        bytes @ (RECORD_BYTES_OVER..) => Err(Malformed::RecordTooLong { bytes }.into()),
        len => Ok(len),
    }
}

fn check_type(kind: u8) -> Result<(), Malformed> {
    if kind == CLIENT_HELLO { Ok(()) } else { Err(Malformed::NotClientHello { kind }) }
}

/// Joins the message if it is split, reads it, and normalises the name.
fn read<'a>(
    input: &'a [u8],
    found: &Found,
    joined: &'a mut HelloBuffer,
) -> Result<ClientHello<'a>, RejectReason> {
    let HelloBuffer { message, name } = joined;
    let message: &'a [u8] = if found.records == 1 {
        &input[RECORD_HEADER_BYTES..found.wire_len]
    } else {
        let message = &mut message[..found.message_len];
        join(&input[..found.wire_len], message);
        message
    };
    let (mut hello, raw_name) = parse::client_hello(&message[MESSAGE_HEADER_BYTES..])?;
    hello.wire_len = found.wire_len;
    if let Some(raw) = raw_name {
        hello.server_name = Some(server_name(raw, name)?);
    }
    Ok(hello)
}

/// Copies the payloads of the records in `input`, which `find` has checked, into `message`.
fn join(mut input: &[u8], message: &mut [u8]) {
    let mut filled = 0;
    while let [_, _, _, high, low, rest @ ..] = input {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (payload, behind) = rest.split_at(len.min(rest.len()).min(message.len() - filled));
        message[filled..filled + payload.len()].copy_from_slice(payload);
        filled += payload.len();
        input = behind;
    }
    debug_assert_eq!(filled, message.len(), "`find` and `join` walk the same records");
}

/// As RFC 6066 §3 calls the name in `server_name`.
const HOST_NAME: &str = "host_name";
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;
const RECORD_BYTES_OVER: usize = RECORD_BYTES_MAX + 1;
