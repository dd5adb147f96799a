//! One handshake as bytes in, bytes out: what `downstream` and `upstream` have in common.
//!
//! Feeds rustls one record at a time, so that application data that arrives together with Finished
//! is never opened here: it stays in the caller's buffer for `wire`. Read `handshake_context` next.

use std::fmt;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};

use super::alert::{self, Fault, Peer, TAG};
use super::crypto::{group_name, suite_name};
use super::handshake_context::{self, HandshakeContext};
use super::second_hello::{Look, SecondHello};
use crate::core::client_hello::Newest;
use crate::core::refusal::{Reason, Refusal};

/// What one call of `advance` did.
#[derive(Debug)]
pub struct Advance {
    /// Bytes at the front of the input that are done with. The caller drops exactly these, keeps the
    /// rest **as `advance` left it** (records are opened in place) and passes it again, followed by
    /// what it received since.
    pub consumed: usize,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    /// Send `out`, receive more.
    NeedMore,
    /// Send `out`, then call `finish`. What is left of the input is for `wire::transfer`.
    Done,
    /// Send `out` (it ends with the alert that `Refusal::alert` names, if any), then close.
    Failed(Refusal),
}

/// What was negotiated, for logs and for whoever asks how a session is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub version: Version,
    /// IANA's name, as `TLS_AES_128_GCM_SHA256`.
    pub suite: &'static str,
    /// `None` on TLS 1.2 resumption, which exchanges no keys.
    pub group: Option<&'static str>,
    pub alpn: Option<Vec<u8>>,
    pub resumed: bool,
    /// The handshake took a HelloRetryRequest: one more round trip.
    pub hello_retry: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

/// rustls' two kinds of unbuffered connection, alike.
pub(super) trait Engine {
    type Data;

    const PEER: Peer;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn common(&self) -> &CommonState;
}

/// An engine on its way through the handshake.
pub(super) struct Handshake<E> {
    pub engine: E,
    pub context: HandshakeContext,
    /// Bytes at the front of the input that rustls has seen and not let go.
    shown: usize,
    /// Records in there: pieces of one message.
    records: usize,
    /// Records of early data that were refused and dropped.
    passed_over: usize,
    /// The input is no sequence of records: rustls gets all of it and says what is wrong.
    is_broken: bool,
    /// What goes out is under keys that only rustls has: an alert of our own is out of the question.
    is_sealing: bool,
    /// The peer has sent a change_cipher_spec: in TLS 1.2 what comes after it is sealed.
    is_opening: bool,
    second_hello: SecondHello,
}

impl Version {
    /// As logs and metrics write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

impl<E: Engine> Handshake<E> {
    pub(super) fn new(engine: E, context: HandshakeContext) -> Self {
        Self {
            engine,
            context,
            shown: 0,
            records: 0,
            passed_over: 0,
            is_broken: false,
            is_sealing: false,
            is_opening: false,
            second_hello: SecondHello::default(),
        }
    }

    pub(super) fn advance(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Advance {
        let mut consumed = 0;
        if self.shown == 0 && E::PEER == Peer::Client {
            self.second_hello.received(input);
        }
        let outcome = loop {
            let shown = consumed + self.shown.min(input.len() - consumed);
            let answered = out.len();
            let (step, discard) = self.step(&mut input[consumed..shown], out);
            if E::PEER == Peer::Client {
                self.second_hello.answered(&input[..shown], &out[answered..]);
            }
            let before = consumed;
            consumed += discard;
            self.shown = shown - consumed;
            if discard > 0 {
                self.records = 0;
            }
            match step {
                Step::Again => {}
                Step::Established => break Outcome::Done,
                Step::Blocked if self.is_passed_over(&input[consumed..shown]) => {
                    if shown - consumed > RECORD_HEADER + SEALED_MAX {
                        break Outcome::Failed(too_long(None));
                    }
                    consumed = shown;
                    (self.shown, self.records) = (0, 0);
                    self.passed_over += 1;
                }
                Step::Blocked if self.is_left(&input[before..consumed], &input[shown..]) => {
                    if E::PEER == Peer::Client && !self.is_sealing {
                        out.extend_from_slice(&alert::UNSEALED_CLOSE);
                    }
                    break Outcome::Failed(closed::<E>());
                }
                Step::Blocked => match self.show_more(input.len() - consumed, &input[shown..]) {
                    Ok(true) => {}
                    Ok(false) => break Outcome::NeedMore,
                    Err(refusal) => {
                        let alert = self.say(refusal.alert.unwrap_or(ILLEGAL_PARAMETER), out);
                        break Outcome::Failed(Refusal { alert, ..refusal });
                    }
                },
                Step::Failed(error) => {
                    let fault = Fault::of(error, discard);
                    let plain = self.plain_text(&fault, &input[consumed..]);
                    let (done_with, rest) = input[..shown].split_at_mut(consumed);
                    let refusal = self.give_up(fault, &done_with[before..], rest, out);
                    let refusal = plain.map_or(refusal, |found| Refusal { alert: None, ..found });
                    break Outcome::Failed(refusal);
                }
                Step::Closed => break Outcome::Failed(closed::<E>()),
            }
        };
        Advance { consumed, outcome }
    }

    /// Facts of an established connection.
    ///
    /// # Errors
    /// Before the handshake is done.
    pub(super) fn negotiated(&self) -> Result<Negotiated, Refusal> {
        let common = self.engine.common();
        let kind = common.handshake_kind();
        let (Some(version), Some(suite), Some(kind), false) = (
            common.protocol_version(),
            common.negotiated_cipher_suite(),
            kind,
            common.is_handshaking(),
        ) else {
            return Err(Refusal::new(Reason::Internal, "the handshake is not done"));
        };
        let group = common.negotiated_key_exchange_group();
        Ok(Negotiated {
            version: match version {
                ProtocolVersion::TLSv1_3 => Version::Tls13,
                _ => Version::Tls12,
            },
            suite: suite_name(suite),
            group: group.map(|group| group_name(group.name())),
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            resumed: kind == HandshakeKind::Resumed,
            hello_retry: kind == HandshakeKind::FullWithHelloRetryRequest,
        })
    }

    /// One call into rustls, its context in place; what it wants sent goes to `out`.
    fn step(&mut self, shown: &mut [u8], out: &mut Vec<u8>) -> (Step, usize) {
        let Self { engine, context, .. } = self;
        let start = out.len();
        let (step, discard) = handshake_context::enter(context, || {
            let UnbufferedStatus { discard, state, .. } = engine.process(shown);
            let step = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => match append(&mut data, out) {
                    Ok(()) => Step::Again,
                    Err(error) => Step::Failed(error),
                },
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Step::Again
                }
                Ok(ConnectionState::BlockedHandshake) => Step::Blocked,
                // With no client authentication a TLS 1.3 server may write before the client's
                // Finished; that is not yet an established connection.
                Ok(ConnectionState::WriteTraffic(_)) => Step::Established,
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Step::Closed,
                Ok(_) => Step::Failed(Error::HandshakeNotComplete),
                Err(error) => Step::Failed(error),
            };
            (step, discard)
        });
        let common = self.engine.common();
        if common.handshake_kind().is_some_and(|kind| kind != HandshakeKind::Resumed) {
            // A ticket that opened and yet was not used says nothing about this client.
            self.context.ticket = None;
        }
        // In TLS 1.3 a change_cipher_spec means nothing.
        self.is_sealing |= match out.get(start) {
            Some(&CONTENT_APPLICATION_DATA) => true,
            Some(&CONTENT_CHANGE_CIPHER_SPEC) => {
                common.protocol_version() != Some(ProtocolVersion::TLSv1_3)
            }
            _ => false,
        };
        match step {
            Step::Established if common.is_handshaking() => (Step::Blocked, discard),
            step => (step, discard),
        }
    }

    /// Whether what rustls has been shown is a record of early data that it refused and cannot open (RFC 8446
    /// §4.2.10): it passes over such, but keeps them in front of it, tries them again with each that comes
    /// and counts them each time. What does not open aws-lc leaves as zeros before its tag, where a piece of
    /// a message would have its inner type; and without early data it would be an error.
    fn is_passed_over(&self, shown: &[u8]) -> bool {
        let Some((header, payload)) = shown.split_at_checked(RECORD_HEADER) else { return false };
        E::PEER == Peer::Client
            && self.is_sealing
            && self.records == 1
            && self.passed_over < RECORDS_MAX
            && header[0] == CONTENT_APPLICATION_DATA
            && payload.iter().take(payload.len().saturating_sub(TAG)).all(|byte| *byte == 0)
    }

    /// Whether the record that comes next is a close_notify, or the one that rustls is done with was, under the
    /// keys of TLS 1.2. Before the end of a handshake rustls takes such for a warning: its peer would wait for
    /// an answer (RFC 5246 §7.2.1) until the handshake's time is up.
    fn is_left(&self, done_with: &[u8], rest: &[u8]) -> bool {
        let is_tls13 = self.is_tls13();
        // Behind a piece of a message it is out of place.
        let is_in_place = self.shown == 0 && !self.is_broken && !is_tls13;
        is_in_place
            && match self.is_opening {
                true => alert::is_opened_close(done_with),
                false => alert::is_unsealed_close(rest),
            }
    }

    fn is_tls13(&self) -> bool {
        self.engine.common().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Adds the next whole record to what rustls is shown; `false` when there is none.
    fn show_more(&mut self, held: usize, rest: &[u8]) -> Result<bool, Refusal> {
        if E::PEER == Peer::Client && !self.is_sealing && self.is_tls13() && is_too_long(rest) {
            // Nothing that rustls could open: early data before a second hello.
            return Err(too_long(Some(RECORD_OVERFLOW)));
        }
        match self.second_hello.look(rest) {
            Look::Show => {}
            Look::Wait => return Ok(false),
            Look::Refuse(refusal) => return Err(refusal),
        }
        let more = match next_record(rest) {
            _ if self.is_broken => rest.len(),
            NextRecord::Whole(bytes) => bytes,
            NextRecord::Partial => 0,
            NextRecord::Broken => {
                self.is_broken = true;
                rest.len()
            }
        };
        self.is_opening |= more > 0 && rest.first() == Some(&CONTENT_CHANGE_CIPHER_SPEC);
        self.shown += more;
        self.records += usize::from(more > 0);
        let detail = if more == 0 && held > INPUT_BYTES_MAX {
            format!("a flight of the handshake is longer than {INPUT_BYTES_MAX} bytes")
        } else if more > 0 && self.records > RECORDS_MAX {
            format!("a message of the handshake comes in more than {RECORDS_MAX} records")
        } else {
            return Ok(more > 0);
        };
        Err(Refusal::new(
            match E::PEER {
                Peer::Client => Reason::ProtocolViolation,
                Peer::Upstream => Reason::UpstreamTls,
            },
            detail,
        ))
    }

    /// Collects the alert that rustls has for `fault`, corrects it where it can be, and says why. `record` is what
    /// rustls is done with.
    fn give_up(
        &mut self,
        fault: Fault,
        record: &[u8],
        shown: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Refusal {
        let start = out.len();
        // The server's own flight may stand before the alert, in short records. Once all is out rustls must not be
        // asked again: it would look at the input anew.
        while self.engine.common().wants_write() {
            let Self { engine, context, .. } = self;
            let encoded = handshake_context::enter(context, || match engine.process(shown).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => append(&mut data, out).is_ok(),
                _ => false,
            });
            if !encoded {
                break;
            }
        }
        let is_tls13 = self.is_tls13();
        let is_answered = out.len() > start;
        let fault = if is_answered { fault.answered(record, is_tls13) } else { fault };
        let failure = self.context.failure.take();
        let hello = self.context.newest.filter(|_| failure.is_none());
        let hello = hello.and_then(|newest| fault.of_hello(newest));
        let of_hello = hello.as_ref().and_then(|refusal| refusal.alert);
        let refusal = fault.refusal(failure.or(hello), E::PEER);
        let alert = match plain_alert(&mut out[start..]) {
            Some([_content, major, minor, .., code]) => {
                let better = of_hello.or_else(|| fault.better_alert(refusal.reason, is_tls13));
                *code = better.unwrap_or(*code);
                if let Some(Newest::Older(version)) = self.context.newest {
                    // Or it would speak of a bad record.
                    [*major, *minor] = version.to_be_bytes();
                }
                Some(*code)
            }
            None if is_answered => fault.sealed_alert(is_tls13),
            None => fault.missed_alert().and_then(|alert| self.say(alert, out)),
        };
        Refusal { alert, ..refusal }
    }

    /// What there is to say of an upstream whose first bytes are none of TLS.
    fn plain_text(&self, fault: &Fault, answer: &[u8]) -> Option<Refusal> {
        let is_first = self.engine.common().protocol_version().is_none();
        let is_upstream = E::PEER == Peer::Upstream;
        (is_upstream && is_first && fault.is_no_record()).then(|| alert::without_tls(answer))
    }

    /// Sends a client an alert of our own, where that can be: in the clear.
    fn say(&self, alert: u8, out: &mut Vec<u8>) -> Option<u8> {
        let is_possible = E::PEER == Peer::Client && !self.is_sealing;
        is_possible.then(|| {
            out.extend_from_slice(&alert::unsealed_alert(alert));
            alert
        })
    }
}

impl Engine for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    const PEER: Peer = Peer::Client;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Engine for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    const PEER: Peer = Peer::Upstream;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl<E> fmt::Debug for Handshake<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// What a close_notify comes to.
fn closed<E: Engine>() -> Refusal {
    let reason = match E::PEER {
        Peer::Client => Reason::ClientClosed,
        Peer::Upstream => Reason::UpstreamTls,
    };
    Refusal::new(reason, alert::CLOSED)
}

/// Early data that is passed over, in a record that is longer than TLS 1.3 allows (RFC 8446 §5.2). Of all others
/// rustls finds it out.
fn too_long(alert: Option<u8>) -> Refusal {
    let detail = format!("a record of early data is longer than {SEALED_MAX} bytes");
    Refusal { alert, ..Refusal::new(Reason::ProtocolViolation, detail) }
}

/// What one call into rustls came to.
enum Step {
    Again,
    Blocked,
    Established,
    Closed,
    Failed(Error),
}

enum NextRecord {
    Whole(usize),
    Partial,
    Broken,
}

fn next_record(bytes: &[u8]) -> NextRecord {
    let Some(&[content, major, _, high, low]) = bytes.first_chunk() else {
        return NextRecord::Partial;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !(20..=23).contains(&content) || major != 3 || length > PAYLOAD_MAX {
        return NextRecord::Broken;
    }
    let bytes_whole = RECORD_HEADER + length;
    if bytes.len() < bytes_whole { NextRecord::Partial } else { NextRecord::Whole(bytes_whole) }
}

/// Whether the record that comes next says of itself that it is sealed by TLS 1.3, and is too long for that.
fn is_too_long(rest: &[u8]) -> bool {
    matches!(rest, [CONTENT_APPLICATION_DATA, 3, _, high, low, ..]
        if usize::from(u16::from_be_bytes([*high, *low])) > SEALED_MAX)
}

/// The last record of `sent`, when that is an alert in the clear; it ends with the description.
fn plain_alert(sent: &mut [u8]) -> Option<&mut [u8; 7]> {
    let mut at = 0;
    while let NextRecord::Whole(bytes) = next_record(sent.get(at..)?) {
        if at + bytes == sent.len() {
            break;
        }
        at += bytes;
    }
    let last: &mut [u8; 7] = sent.get_mut(at..)?.try_into().ok()?;
    matches!(last, [21, 3, _, 0, 2, ..]).then_some(last)
}

pub(super) fn append<D>(
    data: &mut rustls::unbuffered::EncodeTlsData<'_, D>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) => return Err(Error::HandshakeNotComplete),
    };
    out.resize(start + needed, 0);
    match data.encode(&mut out[start..]) {
        Ok(written) => {
            out.truncate(start + written);
            Ok(())
        }
        Err(_) => {
            out.truncate(start);
            Err(Error::HandshakeNotComplete)
        }
    }
}

const CONTENT_CHANGE_CIPHER_SPEC: u8 = 20;
const CONTENT_APPLICATION_DATA: u8 = 23;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;

const RECORD_HEADER: usize = 5;
/// RFC 8446 §5.2.
const SEALED_MAX: usize = 16_384 + 256;

/// TLS 1.2's limit (RFC 5246 §6.2.3) but for its last byte, which rustls does not read; rustls applies
/// 1.3's.
const PAYLOAD_MAX: usize = 16_384 + 2_047;

/// The client's certificate flight; rustls allows 64 KiB for one message.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// rustls looks at all pieces of a message with each that comes, so that many cost their square.
const RECORDS_MAX: usize = 512;
