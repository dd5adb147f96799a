//! A simulated peer: an application with its plan, and the gateway's socket to it, which fails as
//! Linux' do. Bytes are positions in a stream, so that loss and reordering show at once.
//!
//! `world` puts two of them on the two sides of a relay.

use portcullis::core::relay::Refused;

use super::choice::Choice;

/// What a peer sends at the end of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// close_notify and then FIN, or FIN on plain TCP.
    Clean,
    /// FIN without close_notify, where TLS is spoken.
    Unclean,
    Reset,
    BadRecord,
    /// Nothing: it falls silent.
    Never,
}

/// What one receive gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    Pending,
    Bytes { start: u64, count: u64 },
    CloseNotify,
    EndOfStream,
    Reset,
    BadRecord,
}

/// A piece of what is sent to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    Payload { start: u64, count: u64 },
    KeyUpdate,
    CloseNotify,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) speaks_tls: bool,
    /// It keeps to its plan and reads everything; the other kind may stop or go at any time.
    is_calm: bool,
    finish: Finish,
    pub(crate) to_send: u64,
    pub(crate) sent: u64,
    /// Taken by the gateway.
    pub(crate) taken: u64,
    pub(crate) close_notify: bool,
    close_notify_taken: bool,
    bad_record: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// The socket's pending error: the first call that meets it takes it away.
    error: Option<Refused>,
    /// The application is gone: what comes is answered with RST.
    is_closed: bool,
    window: u64,
    /// In the peer's kernel, not read by the application.
    buffered: u64,
    /// Payload that the peer's kernel took, in order.
    pub(crate) delivered: u64,
    pub(crate) saw_close_notify: bool,
    pub(crate) saw_fin: bool,
    pub(crate) saw_reset: bool,
}

impl Peer {
    pub(crate) fn new(choice: &mut Choice<'_>, is_calm: bool) -> Self {
        let speaks_tls = choice.chance(50);
        let finish = match choice.below(if is_calm { 1 } else { 8 }) {
            0..=3 => Finish::Clean,
            4 => Finish::Reset,
            5 => Finish::Never,
            6 if speaks_tls => Finish::Unclean,
            7 if speaks_tls => Finish::BadRecord,
            _ => Finish::Clean,
        };
        Self {
            speaks_tls,
            is_calm,
            finish,
            to_send: if choice.chance(80) { choice.below(200) } else { 0 },
            sent: 0,
            taken: 0,
            close_notify: false,
            close_notify_taken: false,
            bad_record: false,
            fin: false,
            rst: false,
            error: None,
            is_closed: false,
            window: 1 + choice.below(64),
            buffered: 0,
            delivered: 0,
            saw_close_notify: false,
            saw_fin: false,
            saw_reset: false,
        }
    }

    /// Does something; returns whether anything was left to do.
    pub(crate) fn act(&mut self, choice: &mut Choice<'_>) -> bool {
        if self.is_closed || self.rst {
            return false;
        }
        if !self.is_calm && choice.chance(4) {
            self.close();
            return true;
        }
        let reads = self.buffered > 0 && (self.is_calm || choice.chance(70));
        if reads && (choice.chance(50) || self.has_finished()) {
            self.buffered -= choice.part(self.buffered);
            return true;
        }
        if self.has_finished() {
            let read_all = self.saw_fin && self.buffered == 0;
            let may_go = self.finish != Finish::Never && (!self.is_calm || read_all);
            if may_go && choice.chance(50) {
                self.close();
                return true;
            }
            return reads;
        }
        if self.finish == Finish::Reset && choice.chance(10) {
            self.reset();
        } else if self.sent < self.to_send {
            self.sent += choice.part(self.to_send - self.sent);
        } else {
            self.end(choice);
        }
        true
    }

    fn has_finished(&self) -> bool {
        self.fin || self.bad_record || (self.finish == Finish::Never && self.sent == self.to_send)
    }

    fn end(&mut self, choice: &mut Choice<'_>) {
        match self.finish {
            Finish::Clean if self.speaks_tls && !self.close_notify => {
                self.close_notify = true;
                self.fin = choice.chance(70);
            }
            Finish::Clean | Finish::Unclean => self.fin = true,
            Finish::Reset => self.reset(),
            Finish::BadRecord => self.bad_record = true,
            Finish::Never => {}
        }
    }

    /// `close(2)`: with unread bytes in its buffer a socket is reset (RFC 2525 §2.17).
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        if self.buffered > 0 { self.reset() } else { self.fin = true }
    }

    fn reset(&mut self) {
        self.rst = true;
        self.error = Some(if self.fin { Refused::Gone } else { Refused::Reset });
    }

    /// The gateway receives. What came before a RST is still there.
    pub(crate) fn receive(&mut self, choice: &mut Choice<'_>) -> Received {
        let there = self.sent - self.taken;
        if there > 0 {
            let (start, count) = (self.taken, choice.part(there));
            self.taken += count;
            return Received::Bytes { start, count };
        }
        if self.close_notify && !self.close_notify_taken {
            self.close_notify_taken = true;
            return Received::CloseNotify;
        }
        if self.bad_record {
            return Received::BadRecord;
        }
        if self.fin {
            return Received::EndOfStream;
        }
        if self.rst {
            // An error that a send has taken away leaves only an end.
            let was_there = self.error.take().is_some();
            return if was_there { Received::Reset } else { Received::EndOfStream };
        }
        Received::Pending
    }

    /// `recv(MSG_PEEK)`: nothing but the end.
    pub(crate) fn peeks_dead(&self) -> bool {
        let nothing_there = self.sent == self.taken && self.close_notify == self.close_notify_taken;
        nothing_there && !self.bad_record && (self.fin || self.rst)
    }

    /// Whether a ready connection to it is of no use any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.fin || self.rst || self.close_notify || self.bad_record
    }

    /// The gateway sends; returns what the socket did not take.
    pub(crate) fn send(
        &mut self,
        piece: Piece,
        choice: &mut Choice<'_>,
    ) -> Result<Option<Piece>, Refused> {
        assert!(!self.saw_fin, "sent behind a FIN: {piece:?}");
        if self.rst {
            return Err(self.error.take().unwrap_or(Refused::Gone));
        }
        if self.is_closed {
            // The kernel takes it, the peer answers with RST.
            self.reset();
            return Ok(None);
        }
        let room = self.window - self.buffered.min(self.window);
        match piece {
            Piece::Payload { start, count } => {
                assert_eq!(start, self.delivered, "lost or reordered");
                assert!(!self.saw_close_notify, "payload behind close_notify");
                let taken = choice.part(room.min(count));
                self.buffered += taken;
                self.delivered += taken;
                let (start, count) = (start + taken, count - taken);
                Ok((count > 0).then_some(Piece::Payload { start, count }))
            }
            Piece::KeyUpdate | Piece::CloseNotify if room == 0 => Ok(Some(piece)),
            Piece::KeyUpdate => Ok(None),
            Piece::CloseNotify => {
                self.saw_close_notify = true;
                Ok(None)
            }
        }
    }

    /// The gateway sends FIN.
    pub(crate) fn shut_down(&mut self) -> Result<(), Refused> {
        if self.rst {
            // ENOTCONN, which leaves the error to the next receive.
            return Err(Refused::Gone);
        }
        self.saw_fin = true;
        Ok(())
    }

    /// Whether its stream ended cleanly, as far as the wire goes.
    pub(crate) fn said_its_end(&self) -> bool {
        if self.speaks_tls { self.close_notify } else { self.fin }
    }

    /// Whether it was led to believe that the other side's stream is complete.
    pub(crate) fn believes_in_the_end(&self) -> bool {
        !self.saw_reset && if self.speaks_tls { self.saw_close_notify } else { self.saw_fin }
    }
}
