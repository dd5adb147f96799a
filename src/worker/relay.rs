//! Driving an established session: moves bytes between two legs as the core's `Relay` wishes.
//!
//! One poll receives into the thread's scratch, opens and seals there, and sends. What a connection
//! keeps between polls is a partial record and what the other socket did not take. `flow` is a leg,
//! `spliced` the way for bytes that nobody opens, `looks` what is due while none move.

mod looks;

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Worker;
use super::flow::{Input, Leg, Legs, Next, Tail};
use super::gather::Gathers;
use super::parting;
use super::review::Review;
use super::roster::Place;
use super::scratch::{LEAD, RECEIVE_BYTES_LEAN, RECEIVE_BYTES_MAX, RECEIVE_BYTES_SLOW, Scratch};
use super::spliced::Splices;
use super::tally::Tally;
use super::timers::Alarm;
use super::turns::Busy;
use crate::core::drain::SessionDrain;
use crate::core::refusal::{Reason, Refusal};
use crate::core::relay::{End, Limits, Outcome, Refused, Relay, Side, Wish};
use crate::sys::{clock, socket};
use crate::tls::{Side as WireSide, Stop, Transfer, Wire, transfer, transfer_within};

/// Turns of one poll before other connections get theirs; its share of bytes ends a poll as well.
const TURNS_MAX: u32 = 8;

/// The age at which a session is no short one. The system probes a silent peer from a minute on.
const KEEP_ALIVE_FROM: Duration = Duration::from_secs(10);

/// One session while its bytes flow.
#[derive(Debug)]
pub(super) struct Session<'a> {
    worker: Rc<Worker>,
    legs: Legs<'a>,
    relay: Relay,
    splices: Splices,
    gathers: Gathers,
    alarm: Alarm,
    place: Place,
    review: Review<'a>,
    tally: Tally<'a>,
    /// When this session's turn in a drain comes.
    drain: Option<SessionDrain>,
    /// When the upstream's socket gets its keepalive; the client's has it from its listener, and a ready
    /// one from its pool.
    keep_alive_at: Option<Instant>,
    /// When this poll began, which is soon enough for all that it does.
    now: Instant,
    last_moved: Instant,
    /// Whose payload it was.
    last_from: Side,
    /// Bytes for one receive, and for one poll.
    share: usize,
    /// It went on the last time.
    busy: Option<Busy>,
    /// The upstream was made ahead of need and has neither got nor given a payload byte: when it
    /// turns out to be dead, another one may take its place.
    replaceable: bool,
    detail: String,
    /// What a record that ended the session was, more precisely than that it was bad.
    fault: Option<Reason>,
    /// The fatal alert that the client was sent for it.
    alert: Option<u8>,
}

/// How the relay came to its end.
#[derive(Debug)]
pub(super) enum Relayed {
    Over {
        outcome: Outcome,
        detail: String,
        /// The fatal alert that the client was sent.
        alert: Option<u8>,
        /// What a change of trust has against the client, if it was let go on.
        kept: Option<Refusal>,
    },
    /// The ready upstream connection was dead; the client's leg is as it was.
    ReadyDied,
}

/// What one turn of a flow came to.
enum Turn {
    Moved,
    Waiting,
    Dead,
}

impl<'a> Session<'a> {
    /// `ready`: the upstream connection was made ahead of need.
    pub(super) fn new(
        worker: &Rc<Worker>,
        legs: Legs<'a>,
        ready: bool,
        limits: Limits,
        review: Review<'a>,
        tally: Tally<'a>,
    ) -> Self {
        let now = clock::now();
        Self {
            worker: Rc::clone(worker),
            legs,
            relay: Relay::new(limits, now),
            splices: Splices::default(),
            gathers: Gathers::default(),
            alarm: Alarm::new(&worker.timers),
            place: worker.roster.enter(),
            review,
            tally,
            drain: None,
            keep_alive_at: (!ready).then(|| now + KEEP_ALIVE_FROM),
            now,
            last_moved: now,
            last_from: Side::Upstream,
            share: RECEIVE_BYTES_MAX,
            busy: None,
            replaceable: ready,
            detail: String::new(),
            fault: None,
            alert: None,
        }
    }

    /// Relays until both sides are done, and closes both as the outcome asks.
    pub(super) async fn run(&mut self) -> Relayed {
        let ended = poll_fn(|cx| self.poll(cx)).await;
        let Some(mut outcome) = ended else { return Relayed::ReadyDied };
        if let Some(Reason::ClientRecord | Reason::UpstreamRecord) = outcome.reason {
            // An alert of the peer's, say: no corruption.
            outcome.reason = self.fault.or(outcome.reason);
        }
        let mut detail = std::mem::take(&mut self.detail);
        if outcome.reason == Some(Reason::TrustChanged) {
            self.review.why().clone_into(&mut detail);
        }
        if outcome.reason == Some(Reason::MemoryLimit) {
            detail = self.worker.memory_in_words();
        }
        // Boxed, so that an idle session does not carry the memory of its end (1.3 KiB).
        let kept = Box::pin(self.finish(outcome)).await;
        Relayed::Over { outcome, detail, alert: self.alert, kept }
    }

    /// The outcome once the session is over; `None` where the ready upstream connection is dead.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        self.place.register(cx);
        let now = clock::now();
        self.now = now;
        self.review.look(&self.worker, now);
        // A stream that never waits would not look at the drain below.
        self.look_at_force(now);
        self.share = self.worker.share().min(share_max(&self.legs.down.wire, &self.legs.up.wire));
        let begun = self.received();
        for _ in 0..TURNS_MAX {
            let mut moved = false;
            // What a ready upstream has to say of its end (a close_notify, an alert) is to be heard
            // before the client's bytes are taken.
            let order = match self.replaceable {
                true => [Side::Upstream, Side::Downstream],
                false => [Side::Downstream, Side::Upstream],
            };
            for from in order {
                match self.turn(from, cx) {
                    Turn::Moved => moved = true,
                    Turn::Waiting => {}
                    Turn::Dead => return Poll::Ready(None),
                }
            }
            if let Some(outcome) = self.relay.outcome() {
                return Poll::Ready(Some(outcome));
            }
            if !moved {
                return self.wait(cx);
            }
            if self.received() - begun >= self.share as u64 {
                break;
            }
        }
        self.busy(cx)
    }

    /// Payload of both sides since the session began.
    fn received(&self) -> u64 {
        self.legs.down.received + self.legs.up.received
    }

    /// Something moved in each turn: others come first, and what ends a session whatever it does is
    /// looked at here too, for a peer that never pauses does not let it come to `wait`.
    fn busy(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let now = self.now;
        self.relay.deadline_passed(now);
        self.look_at_force(now);
        match self.relay.outcome() {
            Some(outcome) => Poll::Ready(Some(outcome)),
            None => {
                self.busy.get_or_insert_with(|| self.worker.turns.enter());
                self.worker.turns.after_others(cx);
                Poll::Pending
            }
        }
    }

    /// One turn of the flow that comes from `from`.
    fn turn(&mut self, from: Side, cx: &mut Context<'_>) -> Turn {
        if self.relay.outcome().is_some() {
            return Turn::Waiting;
        }
        self.pay_control(from, cx);
        match self.relay.wish(from) {
            Wish::Write => self.flush(from, cx),
            Wish::Read => self.read(from, cx),
            Wish::Close => self.close(from, cx),
            Wish::Discard => self.discard(from, cx),
            Wish::Nothing => Turn::Waiting,
        }
    }

    /// Sends a KeyUpdate that the destination of this flow is owed, if its way is clear.
    fn pay_control(&mut self, from: Side, cx: &mut Context<'_>) {
        let (_, to) = self.legs.along(from);
        if !to.owes_control() {
            return;
        }
        let now = self.now;
        match to.send_control(&self.worker, cx) {
            // Not `moved`: a peer that asks for keys and sends nothing is idle.
            Ok(kept) => self.relay.wrote(from, kept, now),
            Err(error) => self.relay.refused_bytes(from.other(), refused(&error), now),
        }
    }

    fn flush(&mut self, from: Side, cx: &mut Context<'_>) -> Turn {
        let now = self.now;
        let (_, to) = self.legs.along(from);
        let before = to.unsent() + self.splices.queued(from);
        let left = match to.flush(&self.worker, cx) {
            Ok(0) => self.splices.drain(from, &mut to.stream, &self.worker.pipes, cx),
            left => left,
        };
        match left {
            Ok(left) => {
                self.relay.wrote(from, left, now);
                if left < before {
                    self.last_moved = now;
                }
                if left == 0 { Turn::Moved } else { Turn::Waiting }
            }
            Err(error) => {
                self.relay.refused_bytes(from.other(), refused(&error), now);
                Turn::Moved
            }
        }
    }

    fn read(&mut self, from: Side, cx: &mut Context<'_>) -> Turn {
        let (source, to) = self.legs.along(from);
        if Splices::serve(source, to) && self.worker.pipes.has_one() {
            return self.splice(from, cx);
        }
        let worker = Rc::clone(&self.worker);
        let scratch = &mut *worker.scratch.borrow_mut();
        let space = &mut scratch.input[LEAD..];
        let Poll::Ready(input) = source.poll_input(space, self.share, cx) else {
            return Turn::Waiting;
        };
        let Input { mut filled, is_full } = match input {
            Ok(Input { filled: 0, .. }) if self.replaceable && from == Side::Upstream => {
                return Turn::Dead;
            }
            Ok(Input { filled: 0, .. }) => {
                if from == Side::Downstream {
                    // The end is about to be told to the upstream, whose own end is then an answer.
                    self.replaceable = false;
                }
                self.relay.ended(from, source.end_of_stream(), self.now);
                return Turn::Moved;
            }
            Ok(input) => input,
            Err(_) if self.replaceable && from == Side::Upstream => return Turn::Dead,
            Err(error) => return self.broken(from, &error),
        };
        // Whether the bytes of a client are for a ready upstream is not known yet; a stream of TLS says its
        // end itself, in its last record; and behind as much as was asked for comes more, not an end.
        let tail = match self.replaceable || is_full || source.wire.has_close_semantics() {
            true => Tail::Open,
            false => source.poll_tail(space, &mut filled, cx),
        };
        if self.replaceable && from == Side::Downstream {
            if self.upstream_is_dead(cx) {
                self.legs.down.keep(&worker, &space[..filled]);
                self.legs.down.unread = true;
                return Turn::Dead;
            }
            self.replaceable = false;
        }
        let turn = self.relay_input(from, LEAD..LEAD + filled, &tail, scratch, cx);
        match tail {
            Tail::Open => turn,
            // The bytes themselves have ended the flow.
            _ if !self.relay.is_open(from) => turn,
            Tail::End => {
                let (source, _) = self.legs.along(from);
                self.relay.ended(from, source.end_of_stream(), self.now);
                turn
            }
            Tail::Broken(error) => self.broken(from, &error),
        }
    }

    /// Opens, seals and sends what was received in the scratch's input.
    fn relay_input(
        &mut self,
        from: Side,
        mut received: Range<usize>,
        tail: &Tail,
        scratch: &mut Scratch,
        cx: &mut Context<'_>,
    ) -> Turn {
        #[cfg(test)]
        super::panic_hook::look_at(&scratch.input[received.clone()]);
        let now = self.now;
        loop {
            let (source, to) = self.legs.along(from);
            let passed = translate(source, to, scratch, received.clone(), now);
            received.start += passed.transfer.consumed;
            let payload = passed.transfer.payload;
            self.tally.moved(from, source.received, payload, now);
            source.received += payload;
            self.gathers.received(from, &source.stream, source.received, payload, now);
            if payload > 0 {
                self.replaceable = false;
                (self.last_moved, self.last_from) = (now, from);
            }
            let (source, to) = self.legs.along(from);
            let next = match (&passed.transfer.stop, tail) {
                (Stop::CloseNotify, _) => Next::End,
                (Stop::InputEmpty, Tail::End) => Next::End,
                _ => Next::Unknown,
            };
            match to.send(&self.worker, passed.bytes(scratch), next, cx) {
                Ok(kept) => {
                    if kept > 0 {
                        source.slow_down();
                    }
                    if payload > 0 || kept > 0 {
                        self.relay.moved(from, kept, now);
                    }
                }
                Err(error) => {
                    source.keep(&self.worker, &[]);
                    self.note(&error);
                    self.relay.refused_bytes(from.other(), refused(&error), now);
                    return Turn::Moved;
                }
            }
            let rest = match passed.transfer.stop {
                Stop::OutputFull => continue,
                Stop::InputEmpty => &scratch.input[received],
                Stop::CloseNotify | Stop::Failed(_) => &[],
            };
            source.keep(&self.worker, rest);
            return self.stopped(from, passed.transfer.stop, cx);
        }
    }

    /// What the end of the input means for the flow.
    fn stopped(&mut self, from: Side, stop: Stop, cx: &mut Context<'_>) -> Turn {
        match stop {
            Stop::InputEmpty | Stop::OutputFull => {}
            Stop::CloseNotify | Stop::Failed(_) if self.replaceable => return Turn::Dead,
            Stop::CloseNotify => self.relay.ended(from, End::Clean, self.now),
            Stop::Failed(fault) => {
                let side = match fault.side {
                    WireSide::From => from,
                    WireSide::To => from.other(),
                };
                self.detail = fault.refusal.detail;
                self.fault = Some(fault.refusal.reason);
                if let Some(alert) = fault.refusal.alert {
                    let leg = self.legs.on(side);
                    let is_sent = !leg.is_closing() && leg.send_alert(&self.worker, alert, cx);
                    if is_sent && side == Side::Downstream {
                        self.alert = Some(alert);
                    }
                }
                self.relay.ended(side, End::BadRecord, self.now);
            }
        }
        Turn::Moved
    }

    /// Bytes that nobody opens, in bulk: through a pipe, past this process.
    fn splice(&mut self, from: Side, cx: &mut Context<'_>) -> Turn {
        let now = self.now;
        let (source, to) = self.legs.along(from);
        match self.splices.pass(from, &mut source.stream, &mut to.stream, &self.worker.pipes, cx) {
            Poll::Pending => Turn::Waiting,
            Poll::Ready(Ok(passed)) if passed.received == 0 => {
                self.relay.ended(from, End::Clean, now);
                Turn::Moved
            }
            Poll::Ready(Ok(passed)) => {
                let payload = passed.received as u64;
                self.tally.moved(from, source.received, payload, now);
                source.received += payload;
                self.gathers.received(from, &source.stream, source.received, payload, now);
                (self.last_moved, self.last_from) = (now, from);
                self.relay.moved(from, passed.queued, now);
                if let Some(error) = passed.refused {
                    self.relay.refused_bytes(from.other(), refused(&error), now);
                }
                Turn::Moved
            }
            Poll::Ready(Err(error)) => self.broken(from, &error),
        }
    }

    /// Carries the end of a flow across: close_notify where TLS is spoken, then FIN.
    fn close(&mut self, from: Side, cx: &mut Context<'_>) -> Turn {
        let now = self.now;
        let (_, to) = self.legs.along(from);
        match to.send_close(&self.worker, cx) {
            // Its socket has been read to FIN, so that the close to come sends all, and FIN, not a reset.
            Ok(0) if self.relay.is_last(from) && matches!(to.wire, Wire::Plain) => {
                self.relay.closed(from, now);
            }
            Ok(0) => match socket::shutdown_write(&to.stream) {
                Ok(()) => self.relay.closed(from, now),
                Err(error) => self.relay.refused_bytes(from.other(), refused(&error), now),
            },
            Ok(kept) => self.relay.wrote(from, kept, now),
            Err(error) => self.relay.refused_bytes(from.other(), refused(&error), now),
        }
        Turn::Moved
    }

    fn discard(&mut self, from: Side, cx: &mut Context<'_>) -> Turn {
        let received = {
            let scratch = &mut *self.worker.scratch.borrow_mut();
            let (source, _) = self.legs.along(from);
            source.stream.poll_receive(&mut scratch.input, cx)
        };
        match received {
            Poll::Pending => Turn::Waiting,
            Poll::Ready(Ok(0)) => {
                // Its records are not opened any more: FIN has to do for its close_notify.
                self.relay.ended(from, End::Clean, self.now);
                Turn::Moved
            }
            Poll::Ready(Err(error)) => self.broken(from, &error),
            Poll::Ready(Ok(_)) => Turn::Moved,
        }
    }

    /// Whether the upstream has ended before it was used. Without readiness this costs no system
    /// call.
    fn upstream_is_dead(&mut self, cx: &mut Context<'_>) -> bool {
        match self.legs.up.stream.poll_peek(cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(peeked)) => peeked == 0,
            Poll::Ready(Err(_)) => true,
        }
    }

    /// The socket of `side` failed.
    fn broken(&mut self, side: Side, error: &io::Error) -> Turn {
        self.note(error);
        self.relay.ended(side, End::Reset, self.now);
        Turn::Moved
    }

    fn note(&mut self, error: &io::Error) {
        if self.detail.is_empty() {
            self.detail = error.to_string();
        }
    }

    /// Closes both sockets as the outcome asks. Whoever does not close in time is closed.
    async fn finish(&mut self, outcome: Outcome) -> Option<Refusal> {
        parting::part(&self.worker, &mut self.legs, outcome.how).await;
        self.review.kept()
    }
}

/// What the failure of a send says. Linux answers EPIPE after a FIN of the peer's and ECONNRESET
/// without one; a shutdown fails with ENOTCONN either way and leaves it to the next receive.
fn refused(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => Refused::Gone,
        _ => Refused::Reset,
    }
}

/// Bytes for one receive and one poll of a session, as its sides want it.
fn share_max(down: &Wire, up: &Wire) -> usize {
    match (down, up) {
        // Short records are many, and each costs more than the bytes that it holds.
        _ if down.is_narrow() => RECEIVE_BYTES_SLOW,
        (Wire::Plain, _) | (_, Wire::Plain) => RECEIVE_BYTES_MAX,
        (Wire::Tls13(_) | Wire::Tls12(_), Wire::Tls13(_) | Wire::Tls12(_)) => RECEIVE_BYTES_LEAN,
    }
}

/// What one pass over the scratch's input came to, and where the bytes to be sent stand.
struct Passed {
    transfer: Transfer,
    /// In the input itself where nothing was to be done to them or it was done there, else in the output.
    in_input: Option<Range<usize>>,
}

impl Passed {
    fn bytes<'a>(&self, scratch: &'a Scratch) -> &'a [u8] {
        match &self.in_input {
            Some(range) => &scratch.input[range.clone()],
            None => &scratch.output[..self.transfer.produced],
        }
    }
}

/// From the source's wire to the destination's, in one pass.
fn translate(
    source: &mut Leg,
    to: &mut Leg,
    scratch: &mut Scratch,
    input: Range<usize>,
    now: Instant,
) -> Passed {
    if matches!((&source.wire, &to.wire), (Wire::Plain, Wire::Plain)) {
        let transfer = Transfer {
            consumed: input.len(),
            produced: input.len(),
            payload: input.len() as u64,
            stop: Stop::InputEmpty,
        };
        return Passed { transfer, in_input: Some(input) };
    }
    // What lies before the input was sent, or is another session's that was: it is written over.
    let begin = input.start - LEAD;
    let buffer = &mut scratch.input[begin..input.end];
    if let Some(transfer) = transfer_within(&mut source.wire, &mut to.wire, buffer, LEAD, now) {
        let in_input = Some(begin..begin + transfer.produced);
        return Passed { transfer, in_input };
    }
    let transfer = transfer(
        &mut source.wire,
        &mut to.wire,
        &mut buffer[LEAD..],
        &mut scratch.output,
        &mut scratch.tls,
        now,
    );
    Passed { transfer, in_input: None }
}
