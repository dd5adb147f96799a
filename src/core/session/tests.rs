//! Tests of the session: every phase with every event, the deadlines, and that it always ends.

use proptest::prelude::*;

use super::*;

const CHAIN: ChainId = ChainId(7);
const CONNECT: Connect = Connect { timeout: Duration::from_secs(3), attempts: 3 };
const DEADLINES: Deadlines =
    Deadlines { hello: Duration::from_secs(5), handshake: Duration::from_secs(10) };

/// Where a session can stand, reached by a short history.
#[derive(Debug, Clone, Copy)]
enum Stand {
    Hello,
    Handshake,
    /// The first dial, in whose place a ready connection may be taken.
    Connecting,
    LastDial,
    /// On what may be a ready connection.
    Relaying,
    /// On a connection that was dialled for this client.
    RelayingFresh,
    Over,
}

const STANDS: [Stand; 7] = [
    Stand::Hello,
    Stand::Handshake,
    Stand::Connecting,
    Stand::LastDial,
    Stand::Relaying,
    Stand::RelayingFresh,
    Stand::Over,
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Routed,
    RoutedThrough,
    Secured,
    Connected,
    DialFailed,
    ReadyDied,
    Refused,
    Deadline,
}

const KINDS: [Kind; 8] = [
    Kind::Routed,
    Kind::RoutedThrough,
    Kind::Secured,
    Kind::Connected,
    Kind::DialFailed,
    Kind::ReadyDied,
    Kind::Refused,
    Kind::Deadline,
];

impl Stand {
    fn history(self) -> &'static [Kind] {
        use Kind::{Connected, DialFailed, Refused, Routed, Secured};
        match self {
            Stand::Hello => &[],
            Stand::Handshake => &[Routed],
            Stand::Connecting => &[Routed, Secured],
            Stand::LastDial => &[Routed, Secured, DialFailed, DialFailed],
            Stand::Relaying => &[Routed, Secured, Connected],
            Stand::RelayingFresh => &[Routed, Secured, DialFailed, Connected],
            Stand::Over => &[Routed, Refused],
        }
    }

    fn session(self, accepted: Instant) -> Session {
        let mut session = Session::new(DEADLINES, accepted);
        for kind in self.history() {
            drop(session.handle(kind.event(), accepted));
        }
        session
    }
}

impl Kind {
    fn event(self) -> Event {
        match self {
            Kind::Routed => Event::Routed { chain: CHAIN, terminate: true, connect: CONNECT },
            Kind::RoutedThrough => {
                Event::Routed { chain: CHAIN, terminate: false, connect: CONNECT }
            }
            Kind::Secured => Event::Secured,
            Kind::Connected => Event::Connected,
            Kind::DialFailed => Event::DialFailed(dial_failed()),
            Kind::ReadyDied => Event::ReadyDied,
            Kind::Refused => Event::Refused(Refusal::new(Reason::ClientClosed, "gone")),
            Kind::Deadline => Event::Deadline,
        }
    }
}

/// What a step came to, as the table writes it.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Shake,
    /// The attempt; `true` where a ready connection may do.
    Dial(u8, bool),
    Relay,
    Refuse(Reason),
    ReadHello,
}

impl From<&Wish> for Step {
    fn from(wish: &Wish) -> Self {
        match wish {
            Wish::ReadHello => Step::ReadHello,
            Wish::Handshake => Step::Shake,
            Wish::Connect { attempt, may_be_ready } => Step::Dial(*attempt, *may_be_ready),
            Wish::Relay => Step::Relay,
            Wish::Refuse(refusal) => Step::Refuse(refusal.reason),
        }
    }
}

/// The whole machine: what does not stand here is a fault of the driver.
fn expected(stand: Stand, kind: Kind) -> Step {
    match (stand, kind) {
        (_, Kind::Refused) => Step::Refuse(Reason::ClientClosed),
        (Stand::Hello, Kind::Routed) => Step::Shake,
        (Stand::Hello, Kind::RoutedThrough) | (Stand::Handshake, Kind::Secured) => {
            Step::Dial(0, true)
        }
        (Stand::Hello, Kind::Deadline) => Step::Refuse(Reason::HelloTimeout),
        (Stand::Handshake, Kind::Deadline) => Step::Refuse(Reason::HandshakeTimeout),
        (Stand::Connecting | Stand::LastDial, Kind::Connected) => Step::Relay,
        (Stand::Connecting, Kind::DialFailed | Kind::Deadline) => Step::Dial(1, false),
        (Stand::LastDial, Kind::DialFailed) => Step::Refuse(Reason::UpstreamConnect),
        (Stand::LastDial, Kind::Deadline) => Step::Refuse(Reason::UpstreamTimeout),
        (Stand::Relaying, Kind::ReadyDied) => Step::Dial(0, true),
        (_, _) => Step::Refuse(Reason::Internal),
    }
}

#[test]
fn every_phase_answers_every_event() {
    let accepted = now();
    for stand in STANDS {
        for kind in KINDS {
            let mut session = stand.session(accepted);
            let wish = session.handle(kind.event(), accepted);
            assert_eq!(Step::from(&wish), expected(stand, kind), "{kind:?} in {stand:?}");
            let is_over = matches!(wish, Wish::Refuse(_));
            assert_eq!(is_over, matches!(session.phase, Phase::Over { .. }), "{kind:?}: {wish:?}");
        }
    }
}

#[test]
fn a_refused_session_still_knows_its_chain() {
    for stand in STANDS {
        let mut session = stand.session(now());
        let before = session.chain();
        drop(session.handle(Kind::Refused.event(), now()));
        assert_eq!(session.chain(), before, "{stand:?}");
        assert_eq!(session.deadline(), None);
    }
}

// threat 1: a byte now and then does not buy time.
#[test]
fn deadlines_count_from_accept_whatever_happened_since() {
    let accepted = now();
    let late = accepted + Duration::from_secs(4);
    let mut session = Session::new(DEADLINES, accepted);
    assert_eq!(session.deadline(), Some(accepted + DEADLINES.hello));
    drop(session.handle(Kind::Routed.event(), late));
    assert_eq!(session.deadline(), Some(accepted + DEADLINES.handshake));
    assert_eq!(session.marks().hello, Some(Duration::from_secs(4)));
}

#[test]
fn each_dial_gets_its_own_time() {
    let mut at = now();
    let mut session = Stand::Connecting.session(at);
    for _ in 1..CONNECT.attempts {
        at += Duration::from_secs(1);
        drop(session.handle(Kind::DialFailed.event(), at));
        assert_eq!(session.deadline(), Some(at + CONNECT.timeout));
    }
    at += Duration::from_secs(1);
    drop(session.handle(Kind::DialFailed.event(), at));
    assert_eq!(session.deadline(), None);
}

// threat 28
#[test]
fn dials_are_as_many_as_configured_and_the_last_failure_is_the_refusal() {
    for attempts in [0, 1, 2, 3, 200, u8::MAX] {
        let mut session = Session::new(DEADLINES, now());
        let connect = Connect { attempts, ..CONNECT };
        let routed = Event::Routed { chain: CHAIN, terminate: false, connect };
        let mut wish = session.handle(routed, now());
        let mut dials = 0;
        while let Wish::Connect { attempt, .. } = wish {
            assert_eq!(u32::from(attempt), dials, "attempts count from 0 without a gap");
            dials += 1;
            let failure = Refusal::new(Reason::UpstreamConnect, format!("dial {dials}"));
            wish = session.handle(Event::DialFailed(failure), now());
        }
        // Even a chain that says 0 gets one: a session without a dial would have no reason to fail.
        assert_eq!(dials, u32::from(attempts.max(1)));
        let last = Refusal::new(Reason::UpstreamConnect, format!("dial {dials}"));
        assert_eq!(wish, Wish::Refuse(last));
    }
}

// threat 29
#[test]
fn dead_ready_connections_are_replaced_until_only_a_fresh_dial_will_do() {
    let mut session = Stand::Connecting.session(now());
    for died in 1..=READY_DIED_MAX {
        assert_eq!(session.handle(Event::Connected, now()), Wish::Relay);
        let wish = session.handle(Event::ReadyDied, now());
        let may_be_ready = died < READY_DIED_MAX;
        assert_eq!(wish, Wish::Connect { attempt: 0, may_be_ready });
        assert_eq!(session.marks().connected, None, "no upstream is connected any more");
    }
    assert_eq!(session.handle(Event::Connected, now()), Wish::Relay);
    let wish = session.handle(Event::ReadyDied, now());
    assert_eq!(Step::from(&wish), Step::Refuse(Reason::Internal));
}

#[test]
fn after_dead_ready_connections_all_dials_are_still_there() {
    let mut session = Stand::Relaying.session(now());
    let mut wish = session.handle(Event::ReadyDied, now());
    let mut dials = 0;
    while let Wish::Connect { .. } = wish {
        dials += 1;
        wish = session.handle(Kind::DialFailed.event(), now());
    }
    assert_eq!(dials, CONNECT.attempts);
}

/// Events that fit before a refusal is certain: hello, handshake, a round for each dead ready
/// connection, and what the dials of the last round can come to.
fn events_max(attempts: u8) -> usize {
    2 + 2 * usize::from(READY_DIED_MAX) + usize::from(attempts.max(1)) + 1
}

proptest! {
    #[test]
    fn any_events_end_the_session_within_a_bound(
        kinds in prop::collection::vec(0..KINDS.len(), 0..600),
        attempts in any::<u8>(),
        likely in any::<bool>(),
    ) {
        let mut session = Session::new(DEADLINES, now());
        let mut steps = 0;
        for kind in kinds {
            // Arbitrary events end most sessions at once, so half of the runs keep to those that
            // fit and thereby last longest.
            let kind = if likely { fitting(&session, KINDS[kind]) } else { KINDS[kind] };
            let event = match kind.event() {
                Event::Routed { chain, terminate, connect } => {
                    Event::Routed { chain, terminate, connect: Connect { attempts, ..connect } }
                }
                event @ (Event::Secured | Event::Connected | Event::DialFailed(_)
                    | Event::ReadyDied | Event::Refused(_) | Event::Deadline
                    | Event::NoAnswer { .. }) => event,
            };
            if matches!(session.phase, Phase::Over { .. }) {
                prop_assert!(matches!(session.handle(event, now()), Wish::Refuse(_)));
                continue;
            }
            steps += 1;
            let wish = session.handle(event, now());
            prop_assert!(wish != Wish::ReadHello, "a hello is read once");
            prop_assert!(steps <= events_max(attempts), "{steps} events");
        }
    }
}

/// `kind`, or what keeps this session going longest.
fn fitting(session: &Session, kind: Kind) -> Kind {
    match &session.phase {
        Phase::Hello => Kind::Routed,
        Phase::Handshake { .. } => Kind::Secured,
        Phase::Connecting { ready_died, .. } if *ready_died < READY_DIED_MAX => Kind::Connected,
        Phase::Connecting { .. } => match kind {
            Kind::Connected => Kind::Connected,
            Kind::Routed
            | Kind::RoutedThrough
            | Kind::Secured
            | Kind::DialFailed
            | Kind::ReadyDied
            | Kind::Refused
            | Kind::Deadline => Kind::DialFailed,
        },
        Phase::Relaying { .. } => Kind::ReadyDied,
        Phase::Over { .. } => kind,
    }
}

fn dial_failed() -> Refusal {
    Refusal::new(Reason::UpstreamConnect, "refused")
}

#[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
fn now() -> Instant {
    Instant::now()
}
