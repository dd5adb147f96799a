//! One simulated connection: drives `Session` and `Relay` as the worker does, between two peers.
//!
//! What must hold is asserted where it happens; what can be said only at the end is in `verdict`.

#![expect(clippy::panic, reason = "what must not happen fails the run")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use portcullis::core::refusal::{Reason, Refusal};
use portcullis::core::relay::{End, LINGER, Limits, Outcome, Refused, Relay, Side, Wish};
use portcullis::core::route::ChainId;
use portcullis::core::session::{self, Connect, Deadlines, Event, Session};

use super::choice::Choice;
use super::peer::{Peer, Piece, Received};
use super::verdict;

pub(crate) const LIMITS: Limits =
    Limits { idle: Duration::from_secs(60), half_closed: Duration::from_secs(10) };

/// One side of the gateway: its socket's peer and what the gateway keeps for it.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) peer: Peer,
    /// Received and not yet looked at.
    kept: Option<Received>,
    pub(crate) queue: VecDeque<Piece>,
    is_closing: bool,
    owes_control: bool,
    /// What the gateway has learnt of the stream that comes from here.
    pub(crate) end: Option<End>,
    /// A send to here failed.
    pub(crate) refused: Option<Refused>,
    /// The end of the stream that comes from here was carried.
    pub(crate) is_carried: bool,
}

/// A connection while its bytes flow.
#[derive(Debug)]
pub(crate) struct World<'a, 'b> {
    choice: &'a mut Choice<'b>,
    pub(crate) legs: [Leg; 2],
    relay: Relay,
    pub(crate) now: Instant,
    /// When a byte or an end last moved, by the simulator's own count.
    pub(crate) last_activity: Instant,
    is_calm: bool,
    replaceable: bool,
    is_draining: bool,
}

/// What a turn of a flow came to.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Moved,
    Waiting,
    Dead,
}

/// What a run came to, for those who count what runs reach.
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None` where no upstream took the client.
    pub(crate) outcome: Option<Outcome>,
    /// Ready upstreams found dead.
    pub(crate) replaced: usize,
}

/// What a relay came to.
enum Relayed {
    Over(Outcome),
    ReadyDied(Leg),
}

/// Runs one connection from accept to its end, and judges it.
pub(crate) fn simulate(choice: &mut Choice<'_>) -> Ran {
    #[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
    let now = Instant::now();
    let is_calm = choice.chance(40);
    let mut session = Session::new(Deadlines { hello: LINGER, handshake: LINGER }, now);
    let attempts = 1 + u8::try_from(choice.below(3)).unwrap_or(0);
    let connect = Connect { timeout: LINGER, attempts };
    let routed = Event::Routed { chain: ChainId(0), terminate: choice.chance(50), connect };
    let mut down = Leg::new(Peer::new(choice, is_calm));
    let mut wish = session.handle(routed, now);
    let mut replaced = 0;
    for _ in 0..STEPS_MAX {
        let event = match wish {
            session::Wish::Handshake => Event::Secured,
            session::Wish::Connect { .. } if !is_calm && choice.chance(20) => {
                Event::DialFailed(Refusal::new(Reason::UpstreamConnect, ""))
            }
            session::Wish::Connect { may_be_ready, .. } => {
                assert_eq!(session.handle(Event::Connected, now), session::Wish::Relay);
                let is_ready = may_be_ready && choice.chance(60);
                let mut up = Leg::new(Peer::new(choice, is_calm));
                if is_ready && choice.chance(50) {
                    up.peer.close();
                }
                match World::new(choice, [down, up], now, is_calm, is_ready).run() {
                    Relayed::Over(outcome) => return Ran { outcome: Some(outcome), replaced },
                    Relayed::ReadyDied(leg) => down = leg,
                }
                replaced += 1;
                Event::ReadyDied
            }
            session::Wish::Refuse(refusal) => {
                assert_eq!(refusal.reason, Reason::UpstreamConnect);
                return Ran { outcome: None, replaced };
            }
            wish @ (session::Wish::ReadHello | session::Wish::Relay) => panic!("{wish:?}"),
        };
        wish = session.handle(event, now);
    }
    panic!("a session that does not end");
}

impl<'a, 'b> World<'a, 'b> {
    fn new(
        choice: &'a mut Choice<'b>,
        legs: [Leg; 2],
        now: Instant,
        is_calm: bool,
        is_ready: bool,
    ) -> Self {
        let relay = Relay::new(LIMITS, now);
        let (replaceable, is_draining, last_activity) = (is_ready, false, now);
        Self { choice, legs, relay, now, last_activity, is_calm, replaceable, is_draining }
    }

    /// Until it is over and judged, or until the ready upstream is found dead: then the client's leg
    /// comes back as it was.
    fn run(mut self) -> Relayed {
        for _ in 0..STEPS_MAX {
            if self.poll() == Turn::Dead {
                let [down, up] = self.legs;
                assert_eq!(up.peer.delivered, 0, "replaced though it had a byte of the client");
                assert!(up.peer.has_ended() && down.peer.delivered == 0);
                return Relayed::ReadyDied(down);
            }
            if let Some(outcome) = self.relay.outcome() {
                self.stays(outcome);
                verdict::check(&mut self.legs, outcome, self.now, self.last_activity);
                if self.is_calm {
                    verdict::check_calm(&self.legs, outcome);
                }
                return Relayed::Over(outcome);
            }
            self.world_moves();
        }
        panic!("a relay that does not end");
    }

    /// As the worker's: turns until nothing moves, then the limits in time.
    fn poll(&mut self) -> Turn {
        for _ in 0..TURNS_MAX {
            let mut moved = false;
            for from in self.order() {
                if self.relay.outcome().is_some() {
                    return Turn::Moved;
                }
                match self.turn(from) {
                    Turn::Moved => moved = true,
                    Turn::Waiting => {}
                    Turn::Dead => return Turn::Dead,
                }
            }
            if !moved {
                break;
            }
        }
        if self.relay.outcome().is_none() {
            let quiet = self.relay.deadline().saturating_duration_since(self.last_activity);
            assert!(
                [LINGER, LIMITS.idle, LIMITS.half_closed].contains(&quiet),
                "{quiet:?} after the last activity"
            );
            if self.is_draining {
                self.relay.drain(false);
            }
            let is_due = self.now >= self.relay.deadline();
            self.relay.deadline_passed(self.now);
            assert!(!is_due || self.relay.outcome().is_some(), "a deadline without consequence");
        }
        Turn::Waiting
    }

    /// A dead upstream is to be noticed before the client's bytes are.
    fn order(&self) -> [Side; 2] {
        if self.replaceable {
            [Side::Upstream, Side::Downstream]
        } else {
            [Side::Downstream, Side::Upstream]
        }
    }

    fn turn(&mut self, from: Side) -> Turn {
        self.pay_control(from);
        match self.relay.wish(from) {
            Wish::Write => self.flush(from),
            Wish::Read => self.read(from),
            Wish::Close => self.close(from),
            Wish::Discard => self.discard(from),
            Wish::Nothing => Turn::Waiting,
        }
    }

    fn pay_control(&mut self, from: Side) {
        let to = self.leg(from.other());
        if to.owes_control && !to.is_closing && to.queue.is_empty() {
            to.owes_control = false;
            to.queue.push_back(Piece::KeyUpdate);
            if let Some(left) = self.send(from.other()) {
                self.relay.wrote(from, left, self.now);
            }
        }
    }

    fn flush(&mut self, from: Side) -> Turn {
        let before = self.leg(from.other()).queue.clone();
        let Some(left) = self.send(from.other()) else { return Turn::Moved };
        let to = self.leg(from.other());
        let moved = size(&before) > size(&to.queue);
        if moved {
            self.last_activity = self.now;
        }
        self.relay.wrote(from, left, self.now);
        if left == 0 { Turn::Moved } else { Turn::Waiting }
    }

    fn read(&mut self, from: Side) -> Turn {
        assert!(self.leg(from.other()).queue.is_empty(), "read against back-pressure");
        let is_upstream = from == Side::Upstream;
        let received = self.receive(from);
        match received {
            Received::Pending => return Turn::Waiting,
            Received::Bytes { .. } if is_upstream => {}
            _ if !self.replaceable => {}
            _ if is_upstream => return Turn::Dead,
            Received::EndOfStream | Received::Reset => {}
            Received::Bytes { .. } | Received::CloseNotify | Received::BadRecord => {
                if self.legs[Side::Upstream as usize].peer.peeks_dead() {
                    self.leg(from).kept = Some(received);
                    return Turn::Dead;
                }
                assert!(!self.legs[Side::Upstream as usize].peer.has_ended(), "sent to the dead");
            }
        }
        self.replaceable = false;
        let (start, count) = match received {
            Received::Pending => return Turn::Waiting,
            Received::Bytes { start, count } => (start, count),
            Received::CloseNotify => return self.ended(from, End::Clean),
            Received::EndOfStream => {
                let is_clean = !self.leg(from).peer.speaks_tls;
                return self.ended(from, if is_clean { End::Clean } else { End::Unclean });
            }
            Received::Reset => return self.ended(from, End::Reset),
            Received::BadRecord => return self.ended(from, End::BadRecord),
        };
        self.last_activity = self.now;
        if self.leg(from).peer.speaks_tls && self.choice.chance(5) {
            self.leg(from).owes_control = true;
        }
        self.leg(from.other()).queue.push_back(Piece::Payload { start, count });
        let Some(left) = self.send(from.other()) else { return Turn::Moved };
        self.relay.moved(from, left, self.now);
        // close_notify may stand right behind the bytes, in the same receive.
        if self.leg(from).peer.close_notify && self.choice.chance(50) {
            match self.receive(from) {
                Received::CloseNotify => return self.ended(from, End::Clean),
                Received::Pending => {}
                more => self.leg(from).kept = Some(more),
            }
        }
        Turn::Moved
    }

    fn receive(&mut self, from: Side) -> Received {
        if let Some(kept) = self.leg(from).kept.take() {
            return kept;
        }
        let leg = &mut self.legs[from as usize];
        leg.peer.receive(self.choice)
    }

    fn ended(&mut self, from: Side, end: End) -> Turn {
        self.last_activity = self.now;
        self.leg(from).end.get_or_insert(end);
        self.relay.ended(from, end, self.now);
        Turn::Moved
    }

    fn close(&mut self, from: Side) -> Turn {
        let (source, to) = (from as usize, from.other() as usize);
        assert_eq!(self.legs[source].end, Some(End::Clean), "an end that nobody said");
        if !self.legs[to].is_closing {
            self.legs[to].is_closing = true;
            if self.legs[to].peer.speaks_tls {
                self.legs[to].queue.push_back(Piece::CloseNotify);
                let Some(left) = self.send(from.other()) else { return Turn::Moved };
                if left > 0 {
                    self.relay.wrote(from, left, self.now);
                    return Turn::Moved;
                }
            }
        }
        match self.legs[to].peer.shut_down() {
            Ok(()) => {
                self.last_activity = self.now;
                self.legs[source].is_carried = true;
                self.relay.closed(from, self.now);
            }
            Err(refused) => self.refused(from.other(), refused),
        }
        Turn::Moved
    }

    fn discard(&mut self, from: Side) -> Turn {
        match self.receive(from) {
            Received::Pending => Turn::Waiting,
            // Nobody opens these any more.
            Received::Bytes { .. } | Received::CloseNotify => Turn::Moved,
            Received::BadRecord if !self.leg(from).peer.fin => Turn::Waiting,
            Received::EndOfStream | Received::BadRecord => self.ended(from, End::Clean),
            Received::Reset => self.ended(from, End::Reset),
        }
    }

    /// Sends what is queued for `to`; returns how much is left, `None` where the send failed.
    fn send(&mut self, to: Side) -> Option<usize> {
        let leg = &mut self.legs[to as usize];
        while let Some(piece) = leg.queue.pop_front() {
            match leg.peer.send(piece, self.choice) {
                Ok(None) => {}
                Ok(Some(rest)) => {
                    leg.queue.push_front(rest);
                    break;
                }
                Err(refused) => {
                    self.refused(to, refused);
                    return None;
                }
            }
        }
        Some(size(&self.legs[to as usize].queue))
    }

    fn refused(&mut self, to: Side, refused: Refused) {
        self.last_activity = self.now;
        let leg = self.leg(to);
        leg.queue.clear();
        leg.refused.get_or_insert(refused);
        self.relay.refused_bytes(to, refused, self.now);
    }

    /// Peers act and time goes by. When both peers are done, only time is left.
    fn world_moves(&mut self) {
        let mut acted = false;
        // Several at once: the gateway's thread was busy elsewhere.
        for _ in 0..=self.choice.below(4) {
            let side = if self.choice.chance(50) { Side::Upstream } else { Side::Downstream };
            acted |= [side, side.other()].into_iter().any(|side| {
                let leg = &mut self.legs[side as usize];
                leg.peer.act(self.choice)
            });
        }
        if !acted && self.choice.chance(30) {
            self.now += Duration::from_millis(self.choice.below(3_000));
        } else if !acted || (!self.is_calm && self.choice.chance(1)) {
            self.now = self.now.max(self.relay.deadline());
        } else if self.choice.chance(20) {
            self.now += Duration::from_millis(self.choice.below(40));
        }
        if !self.is_calm && self.choice.chance(1) {
            self.is_draining = true;
        }
        if !self.is_calm && self.is_draining && self.choice.chance(5) {
            self.relay.drain(true);
        }
    }

    /// An outcome is for good, whatever is said afterwards.
    fn stays(&mut self, outcome: Outcome) {
        let mut relay = Relay::new(LIMITS, self.now);
        std::mem::swap(&mut relay, &mut self.relay);
        for from in [Side::Downstream, Side::Upstream] {
            relay.refused_bytes(from, Refused::Reset, self.now);
            relay.ended(from, End::Reset, self.now);
            relay.deadline_passed(relay.deadline());
            relay.drain(true);
        }
        assert_eq!(relay.outcome(), Some(outcome));
    }

    fn leg(&mut self, side: Side) -> &mut Leg {
        &mut self.legs[side as usize]
    }
}

impl Leg {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            kept: None,
            queue: VecDeque::new(),
            is_closing: false,
            owes_control: false,
            end: None,
            refused: None,
            is_carried: false,
        }
    }
}

fn size(queue: &VecDeque<Piece>) -> usize {
    let size = |piece: &Piece| match piece {
        Piece::Payload { count, .. } => usize::try_from(*count).unwrap_or(usize::MAX),
        Piece::KeyUpdate | Piece::CloseNotify => 1,
    };
    queue.iter().map(size).sum()
}

const STEPS_MAX: usize = 20_000;

/// As the worker's.
const TURNS_MAX: u32 = 8;
