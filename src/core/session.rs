//! The life of one connection before its bytes flow: hello, handshake, upstream; and every deadline.
//!
//! Sans-I/O: an `Event` goes in, one `Wish` comes out, and `deadline` says when to come back anyway.
//! It never reads a socket or a clock and knows no TLS. `relay` is the part after it; the driver of
//! both is `worker::connection`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::refusal::{Reason, Refusal};
use super::route::ChainId;

/// Limits in time; `hello` and `handshake` count from accept and progress does not move them.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    pub hello: Duration,
    pub handshake: Duration,
}

/// What a chain says about reaching its upstream.
#[derive(Debug, Clone, Copy)]
pub struct Connect {
    /// For TCP and TLS together, each attempt.
    pub timeout: Duration,
    /// Dials in all; at least one.
    pub attempts: u8,
}

/// A fact, told by the driver.
#[derive(Debug)]
pub enum Event {
    /// The hello (or the first bytes of plain text) chose a chain.
    Routed { chain: ChainId, terminate: bool, connect: Connect },
    /// The client is authenticated by the chain's terms.
    Secured,
    /// An upstream connection is ready to carry this client.
    Connected,
    /// One dial failed; another endpoint may do.
    DialFailed(Refusal),
    /// The upstream connection, made ahead of need, ended before a byte of this client was sent on
    /// it. Fits only where the wish said `may_be_ready`.
    ReadyDied,
    /// The client cannot be served.
    Refused(Refusal),
    /// The time of `deadline` has come.
    Deadline,
    /// The same, while this endpoint was dialled: whether TCP stood, and TLS was waited for.
    NoAnswer { endpoint: SocketAddr, stood: bool },
}

/// What the driver is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    ReadHello,
    Handshake,
    /// Take a ready upstream connection if `may_be_ready`, else dial; `attempt` counts dials from 0.
    Connect {
        attempt: u8,
        may_be_ready: bool,
    },
    Relay,
    Refuse(Refusal),
}

/// When each phase ended, from accept on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks {
    pub hello: Option<Duration>,
    pub handshake: Option<Duration>,
    pub connected: Option<Duration>,
}

/// One connection, from accept until its bytes flow or it is refused.
#[derive(Debug)]
pub struct Session {
    accepted: Instant,
    deadlines: Deadlines,
    marks: Marks,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Hello,
    Handshake {
        chain: ChainId,
        connect: Connect,
    },
    Connecting {
        chain: ChainId,
        connect: Connect,
        attempt: u8,
        ready_died: u8,
        until: Instant,
    },
    /// `may_be_ready`: the connection may be one that was made ahead of need.
    Relaying {
        chain: ChainId,
        connect: Connect,
        ready_died: u8,
        may_be_ready: bool,
    },
    Over {
        chain: Option<ChainId>,
    },
}

/// Ready connections found dead one after another before only a fresh dial will do.
const READY_DIED_MAX: u8 = 4;

impl Session {
    /// A connection that was accepted at `accepted`. Its first wish is `ReadHello`.
    pub fn new(deadlines: Deadlines, accepted: Instant) -> Self {
        Self { accepted, deadlines, marks: Marks::default(), phase: Phase::Hello }
    }

    /// Takes one fact and says what to do next. An event that does not fit the phase is a fault of
    /// the driver and refuses the connection.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Instant) -> Wish {
        let phase = std::mem::replace(&mut self.phase, Phase::Over { chain: None });
        let (phase, wish) = self.step(phase, event, now);
        self.phase = phase;
        wish
    }

    /// When to come back with `Event::Deadline`; `None` once the relay has its own.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Hello => Some(self.accepted + self.deadlines.hello),
            Phase::Handshake { .. } => Some(self.accepted + self.deadlines.handshake),
            Phase::Connecting { until, .. } => Some(*until),
            Phase::Relaying { .. } | Phase::Over { .. } => None,
        }
    }

    /// The chain that took this client.
    pub fn chain(&self) -> Option<ChainId> {
        match &self.phase {
            Phase::Hello => None,
            Phase::Handshake { chain, .. }
            | Phase::Connecting { chain, .. }
            | Phase::Relaying { chain, .. } => Some(*chain),
            Phase::Over { chain } => *chain,
        }
    }

    pub fn marks(&self) -> Marks {
        self.marks
    }

    fn step(&mut self, phase: Phase, event: Event, now: Instant) -> (Phase, Wish) {
        let elapsed = now.saturating_duration_since(self.accepted);
        match (phase, event) {
            (Phase::Hello, Event::Routed { chain, terminate: true, connect }) => {
                self.marks.hello = Some(elapsed);
                (Phase::Handshake { chain, connect }, Wish::Handshake)
            }
            (Phase::Hello, Event::Routed { chain, terminate: false, connect }) => {
                self.marks.hello = Some(elapsed);
                connecting(chain, connect, 0, now)
            }
            (Phase::Hello, Event::Deadline) => {
                let limit = self.deadlines.hello;
                refuse(None, Reason::HelloTimeout, format!("no complete hello within {limit:?}"))
            }
            (Phase::Handshake { chain, connect }, Event::Secured) => {
                self.marks.handshake = Some(elapsed);
                connecting(chain, connect, 0, now)
            }
            (Phase::Handshake { chain, .. }, Event::Deadline) => {
                let limit = self.deadlines.handshake;
                let detail = format!("the handshake did not end within {limit:?}");
                refuse(Some(chain), Reason::HandshakeTimeout, detail)
            }
            (Phase::Connecting { chain, connect, attempt, ready_died, .. }, Event::Connected) => {
                self.marks.connected = Some(elapsed);
                let may_be_ready = may_be_ready(attempt, ready_died);
                (Phase::Relaying { chain, connect, ready_died, may_be_ready }, Wish::Relay)
            }
            (phase @ Phase::Connecting { .. }, Event::DialFailed(failure)) => {
                next_dial(&phase, failure, now)
            }
            (
                phase @ Phase::Connecting { connect, attempt, .. },
                event @ (Event::Deadline | Event::NoAnswer { .. }),
            ) => {
                let (limit, dials) = (connect.timeout, u32::from(attempt) + 1);
                let what = match event {
                    Event::NoAnswer { endpoint, stood } => waited_for(endpoint, stood),
                    _ => "no answer".to_owned(),
                };
                let attempts = connect.attempts;
                let detail = format!("{what} within {limit:?}, dial {dials} of {attempts}");
                next_dial(&phase, Refusal::new(Reason::UpstreamTimeout, detail), now)
            }
            (
                Phase::Relaying { chain, connect, ready_died, may_be_ready: true },
                Event::ReadyDied,
            ) => {
                self.marks.connected = None;
                connecting(chain, connect, ready_died + 1, now)
            }
            (phase, Event::Refused(refusal)) => {
                (Phase::Over { chain: phase_chain(&phase) }, Wish::Refuse(refusal))
            }
            (phase, event) => {
                let detail = format!("{event:?} in {phase:?}");
                refuse(phase_chain(&phase), Reason::Internal, detail)
            }
        }
    }
}

/// The first dial, or one more ready connection in the place of a dead one.
fn connecting(chain: ChainId, connect: Connect, ready_died: u8, now: Instant) -> (Phase, Wish) {
    let (attempt, until) = (0, now + connect.timeout);
    let wish = Wish::Connect { attempt, may_be_ready: may_be_ready(attempt, ready_died) };
    (Phase::Connecting { chain, connect, attempt, ready_died, until }, wish)
}

/// Only the first dial of a round may be spared. Once this is false it stays so for the session's
/// life: that is what bounds the rounds.
fn may_be_ready(attempt: u8, ready_died: u8) -> bool {
    attempt == 0 && ready_died < READY_DIED_MAX
}

/// The next endpoint, or the refusal that the last one gave.
fn next_dial(phase: &Phase, failure: Refusal, now: Instant) -> (Phase, Wish) {
    let &Phase::Connecting { chain, connect, attempt, ready_died, .. } = phase else {
        return refuse(phase_chain(phase), Reason::Internal, failure.to_string());
    };
    let attempt = attempt + 1;
    if attempt >= connect.attempts {
        return (Phase::Over { chain: Some(chain) }, Wish::Refuse(failure));
    }
    let until = now + connect.timeout;
    let wish = Wish::Connect { attempt, may_be_ready: may_be_ready(attempt, ready_died) };
    (Phase::Connecting { chain, connect, attempt, ready_died, until }, wish)
}

/// What was waited for in vain, from an endpoint that was dialled. `stood`: TCP did, and TLS was to come.
pub(crate) fn waited_for(endpoint: SocketAddr, stood: bool) -> String {
    match stood {
        true => format!("{endpoint} took the connection, and TLS was not done"),
        false => format!("no answer from {endpoint}"),
    }
}

fn refuse(chain: Option<ChainId>, reason: Reason, detail: String) -> (Phase, Wish) {
    (Phase::Over { chain }, Wish::Refuse(Refusal::new(reason, detail)))
}

fn phase_chain(phase: &Phase) -> Option<ChainId> {
    match phase {
        Phase::Hello => None,
        Phase::Handshake { chain, .. }
        | Phase::Connecting { chain, .. }
        | Phase::Relaying { chain, .. } => Some(*chain),
        Phase::Over { chain } => *chain,
    }
}

#[cfg(test)]
mod tests;
