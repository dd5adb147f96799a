//! One side of an established TLS 1.2 session, on rustls' own record path.
//!
//! rustls is at rest between calls: it holds no plaintext and no partial message. Renegotiation is
//! refused (threat 18). An alert that is not rustls' own ends the connection with a record of
//! `core::record`. `wire` drives it.

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncryptError};
use rustls::{Error, ExtractedSecrets};

use super::alert::{self, Peer};
use super::handshake::{Engine, append};
use super::key_budget::KeyBudget;
use super::tls13;
use crate::core::client_hello::RecordLimit;
use crate::core::record::{RecordError, seal_tls12_alert};
use crate::core::refusal::{Reason, Refusal};

/// An established TLS 1.2 connection.
pub struct Tls12 {
    connection: Connection,
    /// Records of rustls' own that wait to be sent: alerts, a handful of bytes.
    pending: Vec<u8>,
    state: State,
    /// The longest content of a record to the peer, to which rustls keeps.
    content_max: u16,
    budget: KeyBudget,
}

/// Whether records can be opened and sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// A record was refused, and the peer does not know yet. rustls may hold a part of a message, and
    /// must not be called again, except for its keys.
    Refused,
    /// rustls refused a record with an alert of its own.
    Answered,
}

/// Why a record was refused.
struct Refused {
    refusal: Refusal,
    /// rustls had an alert for it, which is among what is pending.
    is_answered: bool,
}

enum Connection {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
    /// A fatal alert took its keys.
    Over,
}

/// What one record held.
pub(super) enum Received {
    /// Nothing for the other side.
    Nothing,
    Data(Vec<u8>),
    CloseNotify,
}

impl Tls12 {
    /// `content_max` is what the connection's configuration has made of it.
    pub(super) fn server(connection: UnbufferedServerConnection, content_max: u16) -> Self {
        let budget = KeyBudget::new(connection.negotiated_cipher_suite());
        Self::new(Connection::Server(Box::new(connection)), content_max, budget)
    }

    pub(super) fn client(connection: UnbufferedClientConnection) -> Self {
        let content_max = RecordLimit::Standard.content_max();
        let budget = KeyBudget::new(connection.negotiated_cipher_suite());
        Self::new(Connection::Client(Box::new(connection)), content_max, budget)
    }

    fn new(connection: Connection, content_max: u16, budget: KeyBudget) -> Self {
        Self { connection, pending: Vec::new(), state: State::Open, content_max, budget }
    }

    /// The longest content of one record to the peer, in bytes.
    pub(super) fn content_max(&self) -> usize {
        self.content_max.into()
    }

    /// Opens one whole record. After an error nothing can be opened or sealed any more; what is
    /// pending can still be sent.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Received, Refusal> {
        if self.state != State::Open {
            return Err(over());
        }
        let pending = &mut self.pending;
        let received = match &mut self.connection {
            Connection::Server(connection) => open(connection.as_mut(), record, pending),
            Connection::Client(connection) => open(connection.as_mut(), record, pending),
            Connection::Over => return Err(over()),
        };
        received.map_err(|Refused { refusal, is_answered }| {
            self.state = if is_answered { State::Answered } else { State::Refused };
            refusal
        })
    }

    /// A record that rustls does not get to see. After it nothing can be opened or sealed.
    pub(super) fn refused(&mut self, error: RecordError) -> Refusal {
        if self.state != State::Open {
            return over();
        }
        self.state = State::Refused;
        let reason = match self.connection {
            Connection::Client(_) => violation::<UnbufferedClientConnection>(),
            Connection::Server(_) | Connection::Over => violation::<UnbufferedServerConnection>(),
        };
        Refusal::new(reason, error.to_string()).with_alert(error.alert())
    }

    /// Seals what one record may hold at most, in as many as the peer needs; `None` when `out` is too short.
    /// After an error about the key nothing more can be sealed.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<Option<usize>, Refusal> {
        if self.state != State::Open {
            return Err(over());
        }
        if !self.budget.spend(plain.len(), self.content_max()) {
            return Err(used_up());
        }
        match &mut self.connection {
            Connection::Server(connection) => seal(connection.as_mut(), plain, out),
            Connection::Client(connection) => seal(connection.as_mut(), plain, out),
            Connection::Over => Err(over()),
        }
    }

    pub(super) fn owes_control(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn seal_control(&mut self, out: &mut [u8]) -> usize {
        let bytes = self.pending.len();
        let Some(room) = out.get_mut(..bytes) else { return 0 };
        room.copy_from_slice(&self.pending);
        self.pending = Vec::new();
        bytes
    }

    pub(super) fn seal_close(&mut self, out: &mut [u8]) -> usize {
        let before = self.seal_control(out);
        if self.state != State::Open {
            return before;
        }
        let rest = &mut out[before..];
        let bytes = match &mut self.connection {
            Connection::Server(connection) => close(connection.as_mut(), rest),
            Connection::Client(connection) => close(connection.as_mut(), rest),
            Connection::Over => 0,
        };
        before + bytes
    }

    /// Where rustls has failed with an alert of its own, that one. Else `alert`, and nothing can be
    /// opened or sealed any more. Nothing at all where rustls keeps its keys to itself.
    pub(super) fn seal_alert(&mut self, alert: u8, out: &mut [u8]) -> usize {
        if self.state == State::Answered {
            return self.seal_control(out);
        }
        let secrets = match std::mem::replace(&mut self.connection, Connection::Over) {
            Connection::Server(connection) => {
                secrets(connection.dangerous_into_kernel_connection())
            }
            Connection::Client(connection) => {
                secrets(connection.dangerous_into_kernel_connection())
            }
            Connection::Over => None,
        };
        let Some(ExtractedSecrets { tx: (sequence, secrets), .. }) = secrets else { return 0 };
        let Ok(keys) = tls13::keys(&secrets) else { return 0 };
        let before = self.seal_control(out);
        // What rustls could not send stays before what is sealed here: their numbers say so.
        if self.owes_control() {
            return before;
        }
        before + seal_tls12_alert(keys, sequence, alert, &mut out[before..]).unwrap_or(0)
    }
}

impl fmt::Debug for Tls12 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls12").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

fn open<E: Engine>(
    engine: &mut E,
    record: &mut [u8],
    pending: &mut Vec<u8>,
) -> Result<Received, Refused> {
    let mut received = Received::Nothing;
    let mut discarded = 0;
    for _ in 0..STEPS_MAX {
        let status = engine.process(&mut record[discarded..]);
        discarded += status.discard;
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(data) = traffic.next_record() {
                    let data = data.map_err(|error| unanswered(failed::<E>(&error, None)))?;
                    match &mut received {
                        Received::Data(all) => all.extend_from_slice(data.payload),
                        Received::Nothing => received = Received::Data(data.payload.to_vec()),
                        Received::CloseNotify => {}
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append(&mut data, pending)
                    .map_err(|error| unanswered(failed::<E>(&error, None)))?;
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                return Ok(Received::CloseNotify);
            }
            Ok(ConnectionState::WriteTraffic(_)) => {
                // A piece of a handshake message that is not whole, or an empty one: only a
                // renegotiation could begin so, and those are refused.
                return if discarded == record.len() {
                    Ok(received)
                } else {
                    Err(unexpected::<E>("a handshake record without a whole message"))
                };
            }
            Ok(_) => return Err(unexpected::<E>("a message that does not belong here")),
            Err(error) => {
                // Without an alert to give it would look at the record anew.
                let is_answered = engine.common().wants_write();
                if is_answered {
                    collect_alert(engine, &mut record[discarded..], pending);
                }
                let refusal = match &error {
                    // rustls answers an alert in TLS 1.2 only where its level is unknown.
                    Error::AlertReceived(_) if is_answered => {
                        let refusal = Refusal::new(violation::<E>(), alert::NO_SUCH_LEVEL);
                        refusal.with_alert(ILLEGAL_PARAMETER)
                    }
                    error => failed::<E>(error, alert::sealed_alert(error)),
                };
                return Err(Refused { refusal, is_answered });
            }
        }
    }
    Err(unexpected::<E>("a record that led to too many steps"))
}

fn seal<E: Engine>(engine: &mut E, plain: &[u8], out: &mut [u8]) -> Result<Option<usize>, Refusal> {
    match engine.process(&mut []).state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match traffic.encrypt(plain, out) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(EncryptError::InsufficientSize(_)) => Ok(None),
            Err(EncryptError::EncryptExhausted) => Err(used_up()),
        },
        Ok(_) => Err(Refusal::new(Reason::Internal, "nothing may be sent any more")),
        Err(error) => Err(failed::<E>(&error, None)),
    }
}

fn close<E: Engine>(engine: &mut E, out: &mut [u8]) -> usize {
    // PeerClosed is said once, before writing is possible.
    for _ in 0..2 {
        match engine.process(&mut []).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                return traffic.queue_close_notify(out).unwrap_or(0);
            }
            Ok(ConnectionState::PeerClosed) => {}
            _ => return 0,
        }
    }
    0
}

fn collect_alert<E: Engine>(engine: &mut E, rest: &mut [u8], pending: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = engine.process(rest).state
        && append(&mut data, pending).is_err()
    {
        pending.clear();
    }
}

fn failed<E: Engine>(error: &Error, alert: Option<u8>) -> Refusal {
    let reason = match (E::PEER, error) {
        (Peer::Client, Error::DecryptError) => Reason::ClientRecord,
        (Peer::Client, _) => return Refusal { alert, ..alert::refusal(error, E::PEER) },
        (Peer::Upstream, Error::AlertReceived(_)) => Reason::UpstreamAlert,
        (Peer::Upstream, _) => Reason::UpstreamRecord,
    };
    Refusal { alert, ..Refusal::new(reason, alert::words(error)) }
}

fn secrets<K>(taken: Result<(ExtractedSecrets, K), Error>) -> Option<ExtractedSecrets> {
    taken.ok().map(|(secrets, _kernel)| secrets)
}

fn used_up() -> Refusal {
    Refusal::new(Reason::KeyUsedUp, "the sending key of TLS 1.2 has sealed as much as it may")
}

fn over() -> Refusal {
    Refusal::new(Reason::Internal, "the connection has failed before")
}

fn violation<E: Engine>() -> Reason {
    match E::PEER {
        Peer::Client => Reason::ProtocolViolation,
        Peer::Upstream => Reason::UpstreamRecord,
    }
}

fn unexpected<E: Engine>(what: &str) -> Refused {
    let detail = format!("the peer sent {what} after the handshake");
    unanswered(Refusal::new(violation::<E>(), detail).with_alert(UNEXPECTED_MESSAGE))
}

fn unanswered(refusal: Refusal) -> Refused {
    Refused { refusal, is_answered: false }
}

/// One record leads to an alert or two, its data, and rest.
const STEPS_MAX: usize = 16;

const UNEXPECTED_MESSAGE: u8 = 10;
const ILLEGAL_PARAMETER: u8 = 47;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_used_up_seals_nothing_and_says_so() {
        let mut session = Tls12::new(Connection::Over, 512, KeyBudget::of_blocks(70));
        let mut seal = |bytes: usize| session.seal(&vec![0; bytes], &mut []).unwrap_err().reason;
        // 64 blocks of its own, and two for each of two records.
        assert_eq!(seal(1024), Reason::Internal);
        assert_eq!(seal(16), Reason::KeyUsedUp);
    }
}
