//! An established session: two flows of bytes, each with its own end, and when all of it is over.
//!
//! Sans-I/O: the driver says what its sockets did, `wish` says what each flow wants next. It holds
//! no bytes (the driver does, `queued` of them) and reads no clock. Half-close, resets, unclean ends,
//! back-pressure and time limits are decided here; `worker::relay` drives it.

use std::time::{Duration, Instant};

use super::refusal::Reason;

/// One end of a session. A flow is named by the side that its bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Downstream,
    Upstream,
}

/// What a flow wants of its driver now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Receive from the flow's side and send on to the other.
    Read,
    /// Send the queued bytes; nothing is received until they are gone (back-pressure).
    Write,
    /// All bytes are sent: carry the end across (close_notify where TLS is spoken, then FIN).
    Close,
    /// Receive and drop, so that the close does not turn into a reset that eats sent bytes.
    Discard,
    /// Nothing any more.
    Nothing,
}

/// How a side's stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// close_notify, or FIN on a side that speaks plain TCP.
    Clean,
    /// FIN without close_notify where TLS is spoken: bytes may be missing (RFC 8446 §6.1).
    Unclean,
    /// RST, or another error of the socket.
    Reset,
    /// A record that could not be opened; the alert is queued by the driver.
    BadRecord,
}

/// What a failed send tells of the side that it went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its FIN had come before (EPIPE), or reading will tell (ENOTCONN of a shutdown): it wants no
    /// more, but what it sent is complete and perhaps not yet received.
    Gone,
    /// It broke off (ECONNRESET and the rest).
    Reset,
}

/// Who ended the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    Downstream,
    Upstream,
    Gateway,
}

/// How a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub closed_by: ClosedBy,
    pub how: Closing,
    /// `None` where both sides ended cleanly.
    pub reason: Option<Reason>,
}

/// What the driver does with both sockets at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Both ends were carried: just close.
    Done,
    /// Say goodbye to both sides (close_notify, FIN), then close.
    Polite,
    /// Reset both, so that the cut is visible.
    Reset,
}

/// Limits in time of an established session.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub idle: Duration,
    pub half_closed: Duration,
}

/// The two flows of one session.
#[derive(Debug)]
pub struct Relay {
    limits: Limits,
    /// Both indexed by `Side as usize`.
    flows: [Flow; 2],
    last_moved: Instant,
    first_end: Option<Side>,
    outcome: Option<Outcome>,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    state: FlowState,
    queued: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlowState {
    Open,
    /// The source ended cleanly; the end is yet to be carried.
    Ending,
    /// The end was carried to the other side.
    Ended,
    /// The destination wants no more; what still comes is dropped.
    Discarding,
    /// The source ended cleanly, and the destination did not want to know.
    Dropped,
}

/// How long bytes that nobody wants are read and dropped, once they are all that is left of a
/// session. Enough for what was in flight; a peer that goes on sending does not get to hold the
/// descriptor.
pub const LINGER: Duration = Duration::from_secs(2);

impl Side {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }
}

impl Relay {
    pub fn new(limits: Limits, now: Instant) -> Self {
        let flow = Flow { state: FlowState::Open, queued: 0 };
        Self { limits, flows: [flow; 2], last_moved: now, first_end: None, outcome: None }
    }

    /// Bytes came from `from` and were sent on, but for `queued` that the other side did not take.
    pub fn moved(&mut self, from: Side, queued: usize, now: Instant) {
        self.last_moved = now;
        self.flow_mut(from).queued = queued;
    }

    /// `queued` bytes of the flow are left after a write, or are new in it though nothing was
    /// received (close_notify, KeyUpdate): only fewer of them count as movement.
    pub fn wrote(&mut self, from: Side, queued: usize, now: Instant) {
        if queued < self.flow(from).queued {
            self.last_moved = now;
        }
        self.flow_mut(from).queued = queued;
    }

    /// The stream that comes from `from`, relayed or discarded, is at its end.
    pub fn ended(&mut self, from: Side, end: End, now: Instant) {
        // An end is a movement: what the other side still has to say gets its time from here on.
        self.last_moved = now;
        self.first_end.get_or_insert(from);
        let has_all = self.flow(from.other()).state == FlowState::Ended;
        let flow = self.flow_mut(from);
        match (flow.state, end) {
            (FlowState::Open, End::Clean) => flow.state = FlowState::Ending,
            (FlowState::Discarding, End::Clean) => flow.state = FlowState::Dropped,
            // Nobody missed its last bytes, and it has taken all that was for it.
            (FlowState::Discarding, End::Reset) if has_all => flow.state = FlowState::Dropped,
            (_, End::Clean) => {}
            (_, End::Unclean) => self.fail(from, from_side(from, Reasons::UNCLEAN)),
            (_, End::BadRecord) => self.fail(from, from_side(from, Reasons::RECORD)),
            (_, End::Reset) => self.fail(from, from_side(from, Reasons::RESET)),
        }
        self.settle();
    }

    /// Sending to `to` failed: it wants no more. Whether that is a fault depends on what it said
    /// before: a side that has ended its own stream cleanly may go at any time.
    pub fn refused_bytes(&mut self, to: Side, refused: Refused, now: Instant) {
        self.last_moved = now;
        let said_its_end = match self.flow(to).state {
            FlowState::Ending | FlowState::Ended | FlowState::Dropped => true,
            FlowState::Open | FlowState::Discarding => false,
        };
        let flow = self.flow_mut(to.other());
        flow.queued = 0;
        flow.state = match flow.state {
            FlowState::Open => FlowState::Discarding,
            FlowState::Ending => FlowState::Dropped,
            state @ (FlowState::Ended | FlowState::Discarding | FlowState::Dropped) => state,
        };
        if refused == Refused::Reset && !said_its_end {
            self.first_end.get_or_insert(to);
            self.fail(to, from_side(to, Reasons::RESET));
        }
        self.settle();
    }

    /// The end of the flow from `from` was carried to the other side.
    pub fn closed(&mut self, from: Side, now: Instant) {
        debug_assert_eq!(self.flow(from).queued, 0, "an end must not overtake bytes");
        self.last_moved = now;
        self.flow_mut(from).state = FlowState::Ended;
        self.settle();
    }

    /// The time of `deadline` has come (a call that is early changes nothing).
    pub fn deadline_passed(&mut self, now: Instant) {
        if self.outcome.is_some() || now < self.deadline() {
            return;
        }
        let reason = if self.only_discards() {
            None
        } else if self.is_half_closed() {
            Some(Reason::HalfClosedTimeout)
        } else {
            Some(Reason::IdleTimeout)
        };
        let how = if reason.is_none() { Closing::Done } else { self.polite_if_flushed() };
        self.outcome = Some(Outcome { closed_by: ClosedBy::Gateway, how, reason });
    }

    /// The process is going: ends the session at once if no byte is on its way, and says whether
    /// it did. `force` resets it, whatever is on its way: nobody knows whether more was to come, and
    /// a cut must not look like an end.
    pub fn drain(&mut self, force: bool) -> bool {
        self.end(force, Reason::Draining)
    }

    /// As `drain`, for another reason.
    pub fn end(&mut self, force: bool, reason: Reason) -> bool {
        if self.outcome.is_none() && (force || self.queued() == 0) {
            let how = if force { Closing::Reset } else { Closing::Polite };
            let reason = Some(reason);
            self.outcome = Some(Outcome { closed_by: ClosedBy::Gateway, how, reason });
        }
        self.outcome.is_some()
    }

    pub fn wish(&self, from: Side) -> Wish {
        let flow = self.flow(from);
        match flow.state {
            _ if flow.queued > 0 => Wish::Write,
            FlowState::Open => Wish::Read,
            FlowState::Ending => Wish::Close,
            FlowState::Discarding => Wish::Discard,
            FlowState::Ended | FlowState::Dropped => Wish::Nothing,
        }
    }

    /// Whether more may come from `from`: the session goes on, and it has not ended.
    pub fn is_open(&self, from: Side) -> bool {
        self.outcome.is_none() && self.flow(from).state == FlowState::Open
    }

    /// Whether nothing is left of the session but the end of the flow from `from`.
    pub fn is_last(&self, from: Side) -> bool {
        self.outcome.is_none() && self.flow(from.other()).state.is_over()
    }

    /// Set once the session is over.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// When the session is over if nothing moves.
    pub fn deadline(&self) -> Instant {
        let quiet = if self.only_discards() {
            LINGER
        } else if self.is_half_closed() {
            self.limits.half_closed
        } else {
            self.limits.idle
        };
        self.last_moved + quiet
    }

    /// Bytes that wait for a slow reader, both ways.
    pub fn queued(&self) -> usize {
        self.flows.iter().map(|flow| flow.queued).sum()
    }

    fn is_half_closed(&self) -> bool {
        self.flows.iter().any(|flow| flow.state != FlowState::Open)
    }

    /// Nothing that anybody wants is left. While bytes or an end are still on their way, the
    /// discarded ones on the other flow must not cut them short.
    fn only_discards(&self) -> bool {
        !self.flows.iter().any(|flow| flow.state.is_on_its_way())
    }

    fn polite_if_flushed(&self) -> Closing {
        if self.queued() == 0 { Closing::Polite } else { Closing::Reset }
    }

    /// `side` broke off in the middle: the cut must be visible on the other side too.
    fn fail(&mut self, side: Side, reason: Reason) {
        let closed_by = ClosedBy::from(side);
        self.outcome.get_or_insert(Outcome {
            closed_by,
            how: Closing::Reset,
            reason: Some(reason),
        });
    }

    fn settle(&mut self) {
        let over = self.flows.iter().all(|flow| flow.state.is_over());
        if over && self.outcome.is_none() {
            let closed_by = self.first_end.map_or(ClosedBy::Gateway, ClosedBy::from);
            self.outcome = Some(Outcome { closed_by, how: Closing::Done, reason: None });
        }
    }

    fn flow(&self, from: Side) -> &Flow {
        &self.flows[from as usize]
    }

    fn flow_mut(&mut self, from: Side) -> &mut Flow {
        &mut self.flows[from as usize]
    }
}

impl FlowState {
    /// Its bytes, or its end, are still to reach the other side.
    fn is_on_its_way(self) -> bool {
        match self {
            Self::Open | Self::Ending => true,
            Self::Ended | Self::Discarding | Self::Dropped => false,
        }
    }

    /// Nothing comes of it any more.
    fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Dropped)
    }
}

impl From<Side> for ClosedBy {
    fn from(side: Side) -> Self {
        match side {
            Side::Downstream => Self::Downstream,
            Side::Upstream => Self::Upstream,
        }
    }
}

/// The reason for the downstream and for the upstream.
struct Reasons;

impl Reasons {
    const UNCLEAN: [Reason; 2] = [Reason::ClientUncleanEof, Reason::UpstreamUncleanEof];
    const RESET: [Reason; 2] = [Reason::ClientReset, Reason::UpstreamReset];
    const RECORD: [Reason; 2] = [Reason::ClientRecord, Reason::UpstreamRecord];
}

fn from_side(side: Side, reasons: [Reason; 2]) -> Reason {
    reasons[side as usize]
}

#[cfg(test)]
mod tests;
