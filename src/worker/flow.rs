//! One leg of an established session: its socket, its wire, and the few bytes it must keep.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use super::Worker;
use super::scratch::{RECEIVE_BYTES_MAX, RECEIVE_BYTES_MIN, RECEIVE_BYTES_SLOW};
use super::socket::Socket;
use super::stream;
use crate::config::plan::Io;
use crate::core::relay::Side;
use crate::sys::{clock, socket};
use crate::tls::{CONTROL_BYTES_MAX, Stop, Wire, transfer};

/// A leg on its way from one worker to another: out of the runtime of the one and not yet in that of
/// the other.
#[derive(Debug)]
pub(super) struct LooseLeg {
    stream: OwnedFd,
    wire: Wire,
    partial: Vec<u8>,
    unread: bool,
}

/// The client's leg or the upstream's.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) stream: Socket,
    pub(super) wire: Wire,
    /// Received and not yet opened: what came behind the handshake, then at most one partial record.
    pub(super) partial: Vec<u8>,
    /// `partial` was not looked at yet, as far as the relay goes.
    pub(super) unread: bool,
    /// Sealed for this leg and not taken by the socket; `sent` bytes of it are gone.
    unsent: Vec<u8>,
    sent: usize,
    /// close_notify is sealed: nothing may follow it.
    closing: bool,
    /// The acknowledgement that makes the connection known to the peer waits for the first bytes.
    pub(super) holds_acknowledgement: bool,
    /// The next receive's size: doubled when full, smaller again when the other leg is slow.
    receive_max: usize,
    /// Payload bytes that came from this leg.
    pub(super) received: u64,
}

/// What follows bytes that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Unknown,
    /// The end of this direction, at once: it goes in the same packet.
    End,
}

/// What is to be opened, in the input that it was received into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input {
    /// 0 at the end of the stream.
    pub(super) filled: usize,
    /// As much came as was asked for: more is there, most likely.
    pub(super) is_full: bool,
}

/// What there was behind received bytes.
#[derive(Debug)]
pub(super) enum Tail {
    /// Nothing yet.
    Open,
    End,
    Broken(io::Error),
}

impl Leg {
    /// A socket before any handshake.
    pub(super) fn new(stream: Socket) -> Self {
        Self {
            stream,
            wire: Wire::Plain,
            partial: Vec::new(),
            unread: false,
            unsent: Vec::new(),
            sent: 0,
            closing: false,
            holds_acknowledgement: false,
            receive_max: RECEIVE_BYTES_MIN,
            received: 0,
        }
    }

    /// Takes the leg out of this worker's runtime, before its relay has begun.
    pub(super) fn loosen(self) -> io::Result<LooseLeg> {
        let Self { stream, wire, partial, unread, .. } = self;
        Ok(LooseLeg { stream: stream.release()?, wire, partial, unread })
    }

    /// The leg in this worker's runtime.
    pub(super) fn fasten(io: Io, loose: LooseLeg) -> io::Result<Self> {
        let LooseLeg { stream, wire, partial, unread } = loose;
        Ok(Self { wire, partial, unread, ..Self::new(Socket::new(io, stream)?) })
    }

    /// Puts what is to be opened at the front of `input`: the kept bytes, and, unless those were
    /// never looked at, newly received ones behind them.
    pub(super) fn poll_input(
        &mut self,
        input: &mut [u8],
        share: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Input>> {
        let kept = self.partial.len();
        if self.unread && kept > 0 {
            self.unread = false;
            let kept = kept.min(input.len());
            input[..kept].copy_from_slice(&self.partial[..kept]);
            return Poll::Ready(Ok(Input { filled: kept, is_full: false }));
        }
        let end = input.len().min(kept + self.receive_max.min(share));
        let received = std::task::ready!(self.stream.poll_receive(&mut input[kept..end], cx))?;
        if received == 0 {
            return Poll::Ready(Ok(Input { filled: 0, is_full: false }));
        }
        let is_full = received == end - kept;
        if received == self.receive_max {
            self.receive_max = (self.receive_max * 2).min(RECEIVE_BYTES_MAX);
        }
        input[..kept].copy_from_slice(&self.partial);
        Poll::Ready(Ok(Input { filled: kept + received, is_full }))
    }

    /// Looks for more behind the first `filled` bytes of `input`, which came by the last receive: what
    /// the peer sent and its end are best carried across together. Adds to `filled`. Costs a system
    /// call only where the runtime knows that there is something.
    pub(super) fn poll_tail(
        &mut self,
        input: &mut [u8],
        filled: &mut usize,
        cx: &mut Context<'_>,
    ) -> Tail {
        let end = input.len().min(*filled + self.receive_max);
        match self.stream.poll_receive(&mut input[*filled..end], cx) {
            Poll::Pending => Tail::Open,
            Poll::Ready(Ok(0)) if *filled < end => Tail::End,
            Poll::Ready(Ok(received)) => {
                *filled += received;
                Tail::Open
            }
            Poll::Ready(Err(error)) => Tail::Broken(error),
        }
    }

    /// Receives behind what is kept, without opening it.
    pub(super) fn poll_fill(
        &mut self,
        worker: &Worker,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let scratch = &mut *worker.scratch.borrow_mut();
        let space = &mut scratch.input[..RECEIVE_BYTES_MIN];
        let received = std::task::ready!(self.stream.poll_receive(space, cx))?;
        if received > 0 {
            if self.partial.capacity() == 0 {
                self.partial = worker.spares.take();
            }
            self.partial.extend_from_slice(&space[..received]);
            self.unread = true;
        }
        Poll::Ready(Ok(received))
    }

    /// Waits for bytes and keeps them unopened; 0 is the end of the stream. The leg gets no memory
    /// before the first byte is there.
    pub(super) async fn fill(&mut self, worker: &Worker) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(worker, cx)).await
    }

    /// Drops `count` bytes from the front of what is kept.
    pub(super) fn consume(&mut self, worker: &Worker, count: usize) {
        self.partial.drain(..count);
        if self.partial.is_empty() {
            self.unread = false;
            worker.spares.put_back(&mut self.partial);
        }
    }

    /// What was received and goes to a plain upstream as it is: nobody opens it.
    pub(super) fn opening(&self) -> &[u8] {
        if self.unread && matches!(self.wire, Wire::Plain) { &self.partial } else { &[] }
    }

    /// The upstream has got so many bytes of `opening`.
    pub(super) fn opened(&mut self, worker: &Worker, count: usize) {
        if count > 0 {
            self.received += count as u64;
            self.consume(worker, count);
        }
    }

    /// Keeps what could not be opened yet.
    pub(super) fn keep(&mut self, worker: &Worker, rest: &[u8]) {
        if rest.is_empty() {
            worker.spares.put_back(&mut self.partial);
            return;
        }
        if self.partial.capacity() == 0 {
            self.partial = worker.spares.take();
        }
        self.partial.clear();
        self.partial.extend_from_slice(rest);
    }

    /// The other leg is slow: receive less at a time, since all of it may have to be kept.
    pub(super) fn slow_down(&mut self) {
        self.receive_max = (self.receive_max / 2).clamp(RECEIVE_BYTES_MIN, RECEIVE_BYTES_SLOW);
    }

    /// Makes the connection known to a peer that gets no bytes yet.
    pub(super) fn acknowledge(&mut self) {
        if std::mem::take(&mut self.holds_acknowledgement) {
            // One that cannot take the option is gone, which its next read tells.
            drop(socket::acknowledge(&self.stream));
        }
    }

    /// Sends sealed bytes, or keeps what the socket does not take behind what is kept already.
    /// Returns how many are kept.
    pub(super) fn send(
        &mut self,
        worker: &Worker,
        bytes: &[u8],
        next: Next,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        let mut bytes = bytes;
        let is_first = std::mem::take(&mut self.holds_acknowledgement);
        if is_first && matches!(next, Next::Unknown) {
            // The runtime may have yet to hear from the kernel that there is room.
            bytes = &bytes[socket::send(&self.stream, bytes)?..];
        }
        let left = match next {
            _ if !self.unsent.is_empty() => bytes.len(),
            Next::Unknown => stream::poll_send(&mut self.stream, bytes, cx)?,
            Next::End => stream::poll_send_with_more(&mut self.stream, bytes, cx)?,
        };
        if left > 0 {
            if self.unsent.capacity() == 0 {
                self.unsent = worker.spares.take_for(left);
            }
            self.unsent.extend_from_slice(&bytes[bytes.len() - left..]);
        }
        Ok(self.unsent())
    }

    /// Sends bytes of our own before any of the other leg's, which are no payload; ends once the
    /// socket has all of them. The caller bounds the time.
    pub(super) async fn send_ahead(&mut self, worker: &Worker, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if matches!(self.wire, Wire::Plain) {
            return stream::send_all(&mut self.stream, bytes).await;
        }
        let sealed = self.seal_ahead(worker, bytes)?;
        stream::send_all(&mut self.stream, &sealed).await
    }

    /// `bytes` as records of this leg's. They are few, and once a connection: a copy does not matter.
    fn seal_ahead(&mut self, worker: &Worker, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let scratch = &mut *worker.scratch.borrow_mut();
        let mut plain = bytes.to_vec();
        let mut sealed = Vec::new();
        let mut at = 0;
        loop {
            let now = clock::now();
            let (out, tls) = (&mut scratch.output, &mut scratch.tls);
            let done = transfer(&mut Wire::Plain, &mut self.wire, &mut plain[at..], out, tls, now);
            at += done.consumed;
            sealed.extend_from_slice(&scratch.output[..done.produced]);
            match done.stop {
                Stop::InputEmpty => return Ok(sealed),
                Stop::OutputFull => {}
                Stop::CloseNotify => return Err(io::ErrorKind::BrokenPipe.into()),
                Stop::Failed(fault) => return Err(io::Error::other(fault.refusal.to_string())),
            }
        }
    }

    /// Sends what is kept; returns how much is left.
    pub(super) fn flush(&mut self, worker: &Worker, cx: &mut Context<'_>) -> io::Result<usize> {
        let left = stream::poll_send(&mut self.stream, &self.unsent[self.sent..], cx)?;
        self.sent = self.unsent.len() - left;
        if left == 0 {
            self.sent = 0;
            worker.spares.put_back(&mut self.unsent);
        }
        Ok(left)
    }

    /// A KeyUpdate is due on this leg and nothing stands before it.
    pub(super) fn owes_control(&self) -> bool {
        !self.closing && self.unsent.is_empty() && self.wire.owes_control()
    }

    /// Sends what the wire owes; returns how much of it is kept.
    pub(super) fn send_control(
        &mut self,
        worker: &Worker,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        let mut control = [0; CONTROL_BYTES_MAX];
        let sealed = self.wire.seal_control(&mut control);
        self.send(worker, &control[..sealed], Next::Unknown, cx)
    }

    /// Sends close_notify once; returns how many bytes are kept. FIN is the caller's, when none are.
    pub(super) fn send_close(
        &mut self,
        worker: &Worker,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        if self.closing {
            return Ok(self.unsent());
        }
        self.closing = true;
        let mut control = [0; CONTROL_BYTES_MAX];
        let sealed = self.wire.seal_close(&mut control);
        self.send(worker, &control[..sealed], Next::End, cx)
    }

    /// Sends a fatal alert as far as the socket takes it. False where the wire has no way to say
    /// it: then only a reset shows the peer that its stream is cut short.
    pub(super) fn send_alert(&mut self, worker: &Worker, alert: u8, cx: &mut Context<'_>) -> bool {
        if self.closing {
            return true;
        }
        let mut control = [0; CONTROL_BYTES_MAX];
        let sealed = self.wire.seal_alert(alert, &mut control);
        if sealed == 0 {
            return false;
        }
        self.closing = true;
        // The peer broke the protocol: whether it still listens is its own affair.
        drop(self.send(worker, &control[..sealed], Next::Unknown, cx));
        true
    }

    /// close_notify or an alert was sealed: what is left is to see it off.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Memory that is held for bytes that wait.
    pub(super) fn kept(&self) -> usize {
        self.unsent.capacity() + self.partial.capacity()
    }

    /// Bytes that wait for the socket.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// The end of this leg's TCP stream: whether it may be believed.
    pub(super) fn end_of_stream(&self) -> crate::core::relay::End {
        if self.wire.has_close_semantics() {
            crate::core::relay::End::Unclean
        } else {
            crate::core::relay::End::Clean
        }
    }
}

/// Both legs, by the side that they are on.
#[derive(Debug)]
pub(super) struct Legs<'a> {
    pub(super) down: &'a mut Leg,
    pub(super) up: &'a mut Leg,
}

impl Legs<'_> {
    /// The leg that a flow comes from, and the one that it goes to.
    pub(super) fn along(&mut self, from: Side) -> (&mut Leg, &mut Leg) {
        match from {
            Side::Downstream => (self.down, self.up),
            Side::Upstream => (self.up, self.down),
        }
    }

    pub(super) fn on(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::Downstream => self.down,
            Side::Upstream => self.up,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::Opening;

    #[tokio::test]
    async fn a_peer_that_gets_no_bytes_is_told_of_the_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let dialled = socket::dial(address, None, Opening::Soon).unwrap();
        let mut leg = Leg::new(Socket::new(Io::Epoll, dialled.socket).unwrap());
        leg.acknowledge();
        assert!(listener.accept().is_err(), "nothing holds the acknowledgement back");
        leg.holds_acknowledgement = true;
        leg.acknowledge();
        listener.accept().unwrap();
        assert!(!leg.holds_acknowledgement);
    }
}
