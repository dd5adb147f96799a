//! Owns one client connection above the socket: the handshake, the proof that the server accepted
//! it, and what is done afterwards. Bytes and instants come in as arguments; it never touches a
//! socket or a clock. Read `worker.rs` for who feeds it.
//!
//! In TLS 1.3 a client finishes before the server has looked at its certificate (RFC 8446 §4.4.2):
//! the end of the handshake proves nothing. Hence the stage `Proving`.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion};
use rustls_pki_types::ServerName;

use crate::outcome::Failure;
use crate::pattern;

/// What counts as proof that the server accepted the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// A byte that was sent comes back from the upstream.
    Echo,
    /// A session ticket; TLS 1.2, which the server finishes, needs none.
    Ticket,
    /// The server answers our close_notify with its own.
    Close,
    /// The end of the handshake. Counts clients that the server refuses as accepted.
    None,
}

/// What is done on a connection once it is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is closed.
    None,
    /// So many round trips of one byte.
    Echo(u32),
    /// It stays open and idle.
    Hold(Duration),
    /// So many bytes are sent and must come back unchanged.
    Stream(u64),
}

/// What the sessions of a run do.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// The proof that is waited for.
    pub confirm: Confirm,
    /// What follows the proof.
    pub after: After,
}

/// The instants of an attempt.
#[derive(Debug, Clone, Copy)]
pub struct Stamps {
    /// When the schedule wanted it to start; what users feel counts from here.
    pub intended: Instant,
    /// When it did start.
    pub started: Instant,
    /// TCP established.
    pub connected: Option<Instant>,
    /// The ServerHello was read.
    pub server_hello: Option<Instant>,
    /// The client's side of the handshake was done.
    pub handshake: Option<Instant>,
    /// The proof arrived.
    pub confirmed: Option<Instant>,
    /// The first byte of application data arrived.
    pub first_byte: Option<Instant>,
}

impl Stamps {
    /// An attempt that starts now.
    #[must_use]
    pub fn new(intended: Instant, started: Instant) -> Self {
        Self {
            intended,
            started,
            connected: None,
            server_hello: None,
            handshake: None,
            confirmed: None,
            first_byte: None,
        }
    }
}

/// What the owner of the socket should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Keep reading, and write what there is.
    Continue,
    /// Keep the connection idle for so long, then finish.
    Hold(Duration),
    /// Everything that was planned is done: close.
    Finished,
}

/// A connection's TLS state and its place in the script.
#[derive(Debug)]
pub struct Session {
    tls: ClientConnection,
    script: Script,
    stage: Stage,
    token: u8,
    /// What was wrong with the server's side of TLS, for people.
    trouble: Option<String>,
    /// When things happened.
    pub stamps: Stamps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshaking,
    Proving,
    Echoing { left: u32 },
    Holding,
    Streaming { sent: u64, received: u64 },
    Finished,
}

impl Session {
    /// Starts a handshake; the ClientHello waits to be sent. `token` is the byte to be echoed.
    ///
    /// # Errors
    /// What rustls refuses to start.
    pub fn new(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        script: Script,
        token: u8,
        stamps: Stamps,
    ) -> Result<Self, Failure> {
        let mut tls =
            ClientConnection::new(config, name).map_err(|error| Failure::from_tls(&error))?;
        tls.set_buffer_limit(Some(WRITE_BUFFER_MAX));
        Ok(Self { tls, script, stage: Stage::Handshaking, token, trouble: None, stamps })
    }

    /// Takes bytes from the server.
    ///
    /// # Errors
    /// The class of failure; an alert for the server may then wait to be sent.
    pub fn receive(&mut self, mut bytes: &[u8], now: Instant) -> Result<Step, Failure> {
        let mut step = Step::Continue;
        while !bytes.is_empty() {
            match self.tls.read_tls(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return Err(Failure::Tls),
            }
            let state = self.tls.process_new_packets();
            match state {
                Ok(state) => {
                    let closed = state.peer_has_closed();
                    // A later "keep reading" must not hide that something was finished.
                    match self.advance(closed, now)? {
                        Step::Continue => {}
                        next @ (Step::Hold(_) | Step::Finished) => step = next,
                    }
                }
                Err(error) => {
                    self.stamp_server_hello(now);
                    return Err(self.broken(&error));
                }
            }
        }
        Ok(step)
    }

    /// The server's FIN.
    ///
    /// # Errors
    /// `UnexpectedEof` where no close_notify came first.
    pub fn end_of_stream(&mut self, now: Instant) -> Result<Step, Failure> {
        if self.stage == Stage::Finished {
            return Ok(Step::Finished);
        }
        let empty: &mut &[u8] = &mut &[][..];
        // Zero bytes read tell rustls about the FIN.
        let _ = self.tls.read_tls(empty);
        match self.tls.process_new_packets() {
            Ok(state) if state.peer_has_closed() => self.advance(true, now),
            Ok(_) => Err(Failure::UnexpectedEof),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Writes what waits to be sent; `WouldBlock` is not an error.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, socket: &mut impl Write) -> io::Result<()> {
        loop {
            self.fill_stream();
            if !self.tls.wants_write() {
                return Ok(());
            }
            match self.tls.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether it is idle as planned.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.stage == Stage::Holding
    }

    /// Queues our close_notify.
    pub fn close(&mut self) {
        self.stage = Stage::Finished;
        self.tls.send_close_notify();
    }

    /// What was wrong with the server's side of TLS, once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// Full, full after a HelloRetryRequest, or resumed; `None` until the ServerHello.
    #[must_use]
    pub fn kind(&self) -> Option<HandshakeKind> {
        self.tls.handshake_kind()
    }

    /// Whether the server has sent its close_notify.
    #[must_use]
    pub fn peer_closed(&mut self) -> bool {
        self.tls.process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }

    /// The negotiated TLS connection, for results: version, suite, group, ALPN.
    #[must_use]
    pub fn tls(&self) -> &ClientConnection {
        &self.tls
    }

    fn advance(&mut self, peer_closed: bool, now: Instant) -> Result<Step, Failure> {
        self.stamp_server_hello(now);
        if self.stage == Stage::Handshaking && !self.tls.is_handshaking() {
            self.stamps.handshake = Some(now);
            self.stage = Stage::Proving;
            match self.script.confirm {
                Confirm::Echo => self.say(),
                Confirm::Close => self.tls.send_close_notify(),
                Confirm::Ticket | Confirm::None => {}
            }
        }
        if self.stage == Stage::Handshaking {
            return if peer_closed { Err(Failure::Closed) } else { Ok(Step::Continue) };
        }
        self.read_plaintext(now)?;
        if self.stage == Stage::Proving && self.is_proven(peer_closed) {
            self.stamps.confirmed = Some(now);
            return Ok(self.begin_after());
        }
        if peer_closed && self.stage != Stage::Finished {
            return Err(Failure::Closed);
        }
        Ok(match self.stage {
            Stage::Finished => Step::Finished,
            Stage::Handshaking
            | Stage::Proving
            | Stage::Echoing { .. }
            | Stage::Holding
            | Stage::Streaming { .. } => Step::Continue,
        })
    }

    fn broken(&mut self, error: &rustls::Error) -> Failure {
        let failure = Failure::from_tls(error);
        // An alert is named by its number.
        if failure == Failure::Tls {
            self.trouble = Some(error.to_string());
        }
        failure
    }

    fn stamp_server_hello(&mut self, now: Instant) {
        if self.stamps.server_hello.is_none() && self.tls.protocol_version().is_some() {
            self.stamps.server_hello = Some(now);
        }
    }

    fn is_proven(&self, peer_closed: bool) -> bool {
        match self.script.confirm {
            Confirm::None => true,
            Confirm::Close => peer_closed,
            Confirm::Ticket => {
                self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_2)
                    || self.tls.tls13_tickets_received() > 0
            }
            Confirm::Echo => self.stamps.first_byte.is_some(),
        }
    }

    fn begin_after(&mut self) -> Step {
        if self.script.confirm == Confirm::Close {
            self.stage = Stage::Finished;
            return Step::Finished;
        }
        match self.script.after {
            After::None | After::Echo(0) | After::Stream(0) => {
                self.stage = Stage::Finished;
                Step::Finished
            }
            After::Echo(left) => {
                self.stage = Stage::Echoing { left };
                self.say();
                Step::Continue
            }
            After::Hold(span) => {
                self.stage = Stage::Holding;
                Step::Hold(span)
            }
            After::Stream(_) => {
                self.stage = Stage::Streaming { sent: 0, received: 0 };
                Step::Continue
            }
        }
    }

    fn read_plaintext(&mut self, now: Instant) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        loop {
            let count = match self.tls.reader().read(&mut buffer) {
                // 0 is close_notify; the errors are "nothing yet" and "FIN", told elsewhere.
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => count,
            };
            if self.stamps.first_byte.is_none() {
                self.stamps.first_byte = Some(now);
            }
            self.check(&buffer[..count])?;
        }
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self.stage {
            Stage::Proving if self.script.confirm == Confirm::Echo => {
                if bytes != [self.token] {
                    return Err(Failure::BadData);
                }
            }
            Stage::Echoing { left } => {
                if bytes != [self.token] {
                    return Err(Failure::BadData);
                }
                if left == 1 {
                    self.stage = Stage::Finished;
                } else {
                    self.stage = Stage::Echoing { left: left - 1 };
                    self.say();
                }
            }
            Stage::Streaming { sent, received } => self.check_stream(bytes, sent, received)?,
            // A server that speaks first, such as a database's greeting.
            Stage::Proving | Stage::Handshaking | Stage::Holding | Stage::Finished => {}
        }
        Ok(())
    }

    fn check_stream(&mut self, bytes: &[u8], sent: u64, received: u64) -> Result<(), Failure> {
        let After::Stream(total) = self.script.after else { return Ok(()) };
        if pattern::first_wrong(bytes, received).is_some() {
            return Err(Failure::BadData);
        }
        let position = received + bytes.len() as u64;
        self.stage = if position >= total {
            Stage::Finished
        } else {
            Stage::Streaming { sent, received: position }
        };
        Ok(())
    }

    fn say(&mut self) {
        // One byte always fits: the buffer was just flushed or never used.
        let _ = self.tls.writer().write(&[self.token]);
    }

    fn fill_stream(&mut self) {
        let (Stage::Streaming { sent, received }, After::Stream(total)) =
            (self.stage, self.script.after)
        else {
            return;
        };
        let mut sent = sent;
        while sent < total {
            let mut chunk = [0; 4096];
            let length = chunk.len().min(usize::try_from(total - sent).unwrap_or(chunk.len()));
            pattern::fill(&mut chunk[..length], sent);
            let accepted = self.tls.writer().write(&chunk[..length]).unwrap_or_default();
            sent += accepted as u64;
            if accepted < length {
                break;
            }
        }
        self.stage = Stage::Streaming { sent, received };
    }
}

/// Enough for a bandwidth-delay product on loopback; a run has up to 20,000 sessions.
const WRITE_BUFFER_MAX: usize = 64 * 1024;
