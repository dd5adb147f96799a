//! Tests of the relay, by table: what each end does in each state, and when time runs out.

use super::*;

const LIMITS: Limits =
    Limits { idle: Duration::from_secs(600), half_closed: Duration::from_secs(30) };
const SIDES: [Side; 2] = [Side::Downstream, Side::Upstream];
const SECOND: Duration = Duration::from_secs(1);

/// What a flow can have gone through, without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Open,
    /// With bytes that wait for a slow reader.
    OpenQueued,
    /// Ended, and the end waits behind bytes.
    EndingQueued,
    Ending,
    Ended,
}

const STANDS: [Stand; 5] =
    [Stand::Open, Stand::OpenQueued, Stand::EndingQueued, Stand::Ending, Stand::Ended];

impl Stand {
    fn bring(self, relay: &mut Relay, from: Side, now: Instant) {
        match self {
            Stand::Open => {}
            Stand::OpenQueued => relay.moved(from, 10, now),
            Stand::EndingQueued => {
                relay.moved(from, 10, now);
                relay.ended(from, End::Clean, now);
            }
            Stand::Ending => relay.ended(from, End::Clean, now),
            Stand::Ended => {
                relay.ended(from, End::Clean, now);
                relay.closed(from, now);
            }
        }
    }

    fn said_its_end(self) -> bool {
        matches!(self, Stand::EndingQueued | Stand::Ending | Stand::Ended)
    }

    fn queued(self) -> usize {
        if matches!(self, Stand::OpenQueued | Stand::EndingQueued) { 10 } else { 0 }
    }

    fn wish(self) -> Wish {
        match self {
            Stand::Open => Wish::Read,
            Stand::OpenQueued | Stand::EndingQueued => Wish::Write,
            Stand::Ending => Wish::Close,
            Stand::Ended => Wish::Nothing,
        }
    }
}

/// Every side in every stand, with the other side in every stand, not yet over.
fn every_stand(mut check: impl FnMut(Relay, Side, Stand, Stand, Instant)) {
    let now = now();
    for side in SIDES {
        for its in STANDS {
            for others in STANDS {
                let mut relay = Relay::new(LIMITS, now);
                its.bring(&mut relay, side, now);
                others.bring(&mut relay, side.other(), now);
                if relay.outcome().is_none() {
                    check(relay, side, its, others, now);
                }
            }
        }
    }
}

fn reset_by(side: Side) -> Option<Outcome> {
    broken_by(side, from_side(side, Reasons::RESET))
}

fn broken_by(side: Side, reason: Reason) -> Option<Outcome> {
    Some(Outcome { closed_by: side.into(), how: Closing::Reset, reason: Some(reason) })
}

fn done_by(side: Side) -> Option<Outcome> {
    Some(Outcome { closed_by: side.into(), how: Closing::Done, reason: None })
}

fn by_gateway(how: Closing, reason: Option<Reason>) -> Option<Outcome> {
    Some(Outcome { closed_by: ClosedBy::Gateway, how, reason })
}

#[test]
fn each_stand_has_its_wish_and_its_bytes() {
    every_stand(|relay, side, its, others, _| {
        assert_eq!(relay.wish(side), its.wish(), "{its:?}");
        assert_eq!(relay.wish(side.other()), others.wish(), "{others:?}");
        assert_eq!(relay.queued(), its.queued() + others.queued());
        assert_eq!(relay.is_last(side), others == Stand::Ended, "{its:?}, {others:?}");
    });
}

// threat 23: both orders, and each side first.
#[test]
fn the_first_to_end_closed_the_session_and_the_other_goes_on_until_its_own_end() {
    for first in SIDES {
        let (mut relay, second, now) = (Relay::new(LIMITS, now()), first.other(), now());
        relay.ended(first, End::Clean, now);
        assert_eq!((relay.wish(first), relay.wish(second)), (Wish::Close, Wish::Read));
        relay.closed(first, now);
        assert_eq!((relay.wish(first), relay.wish(second)), (Wish::Nothing, Wish::Read));
        relay.moved(second, 0, now);
        assert_eq!(relay.outcome(), None);
        relay.ended(second, End::Clean, now);
        assert_eq!(relay.outcome(), None, "the second end is yet to be carried");
        relay.closed(second, now);
        assert_eq!(relay.outcome(), done_by(first));
    }
}

#[test]
fn an_end_waits_behind_the_bytes_before_it() {
    let (mut relay, now) = (Relay::new(LIMITS, now()), now());
    Stand::EndingQueued.bring(&mut relay, Side::Downstream, now);
    relay.wrote(Side::Downstream, 4, now);
    assert_eq!(relay.wish(Side::Downstream), Wish::Write);
    relay.wrote(Side::Downstream, 0, now);
    assert_eq!(relay.wish(Side::Downstream), Wish::Close);
    // close_notify itself may meet a full socket.
    relay.wrote(Side::Downstream, 24, now);
    assert_eq!(relay.wish(Side::Downstream), Wish::Write);
}

// threats 25 and 26
#[test]
fn a_broken_stream_resets_both_sides_in_every_state() {
    for end in [End::Reset, End::Unclean, End::BadRecord] {
        every_stand(|mut relay, side, its, others, now| {
            let reasons = match end {
                End::Reset => Reasons::RESET,
                End::Unclean => Reasons::UNCLEAN,
                End::BadRecord | End::Clean => Reasons::RECORD,
            };
            relay.ended(side, end, now);
            let broken = broken_by(side, from_side(side, reasons));
            assert_eq!(relay.outcome(), broken, "{end:?}: {its:?} {others:?}");
        });
    }
}

#[test]
fn a_reset_of_the_receiver_is_a_fault_unless_it_had_said_its_end() {
    every_stand(|mut relay, to, its, others, now| {
        relay.refused_bytes(to, Refused::Reset, now);
        if !its.said_its_end() {
            assert_eq!(relay.outcome(), reset_by(to), "{its:?} {others:?}");
            return;
        }
        assert_eq!(relay.queued(), its.queued(), "what it refused is dropped, its own bytes not");
        assert_eq!(relay.wish(to), its.wish());
        let rest = if others.said_its_end() { Wish::Nothing } else { Wish::Discard };
        assert_eq!(relay.wish(to.other()), rest, "{its:?} {others:?}");
        let over = its == Stand::Ended && others.said_its_end();
        assert_eq!(relay.outcome().map(|outcome| outcome.how), over.then_some(Closing::Done));
    });
}

#[test]
fn the_last_words_of_a_receiver_that_went_after_its_fin_are_still_read() {
    every_stand(|mut relay, to, its, others, now| {
        relay.refused_bytes(to, Refused::Gone, now);
        assert_eq!(relay.wish(to), its.wish(), "{its:?} {others:?}");
        let is_fault = |outcome: Outcome| outcome.reason.is_some();
        assert!(!relay.outcome().is_some_and(is_fault));
    });
    let (mut relay, now) = (Relay::new(LIMITS, now()), now());
    relay.refused_bytes(Side::Upstream, Refused::Gone, now);
    relay.moved(Side::Upstream, 0, now);
    relay.ended(Side::Upstream, End::Clean, now);
    relay.closed(Side::Upstream, now);
    relay.ended(Side::Downstream, End::Clean, now);
    assert_eq!(relay.outcome(), done_by(Side::Upstream));
}

#[test]
fn a_receiver_whose_last_words_are_cut_short_is_a_fault() {
    for (end, reasons) in [(End::Reset, Reasons::RESET), (End::Unclean, Reasons::UNCLEAN)] {
        for side in SIDES {
            let (mut relay, now) = (Relay::new(LIMITS, now()), now());
            relay.refused_bytes(side, Refused::Gone, now);
            relay.ended(side, end, now);
            assert_eq!(relay.outcome(), broken_by(side, from_side(side, reasons)));
        }
    }
}

/// `gone` has ended cleanly, and refused what `talker` still sent.
fn discarding(gone: Side, its: Stand, now: Instant) -> Relay {
    let mut relay = Relay::new(LIMITS, now);
    its.bring(&mut relay, gone, now);
    relay.refused_bytes(gone, Refused::Reset, now);
    assert_eq!(relay.wish(gone.other()), Wish::Discard);
    relay
}

#[test]
fn what_nobody_wants_is_dropped_until_its_end_whichever_way() {
    for gone in SIDES {
        for end in [End::Clean, End::Reset] {
            let mut relay = discarding(gone, Stand::Ended, now());
            relay.ended(gone.other(), end, now());
            assert_eq!(relay.outcome(), done_by(gone), "{end:?}");
        }
    }
}

#[test]
fn a_talker_that_resets_before_it_took_everything_is_a_fault() {
    for gone in SIDES {
        for its in [Stand::Ending, Stand::EndingQueued] {
            let mut relay = discarding(gone, its, now());
            relay.ended(gone.other(), End::Reset, now());
            assert_eq!(relay.outcome(), reset_by(gone.other()), "found by reading: {its:?}");
            let mut relay = discarding(gone, its, now());
            relay.refused_bytes(gone.other(), Refused::Reset, now());
            assert_eq!(relay.outcome(), reset_by(gone.other()), "found by writing: {its:?}");
        }
    }
}

// SIMULATION_SEED=1380 found it: the shutdown fails with ENOTCONN, only reading says why.
#[test]
fn a_reset_that_kept_an_end_from_being_carried_is_a_fault() {
    for gone in SIDES {
        let mut relay = discarding(gone, Stand::Ending, now());
        relay.refused_bytes(gone.other(), Refused::Gone, now());
        assert_eq!(relay.outcome(), None);
        relay.ended(gone.other(), End::Reset, now());
        assert_eq!(relay.outcome(), reset_by(gone.other()));
    }
}

#[test]
fn discarding_ends_after_the_linger() {
    let start = now();
    let mut relay = discarding(Side::Downstream, Stand::Ended, start);
    assert_eq!(relay.deadline(), start + LINGER);
    relay.deadline_passed(start + LINGER - SECOND);
    assert_eq!(relay.outcome(), None, "too early");
    relay.deadline_passed(start + LINGER);
    assert_eq!(relay.outcome(), by_gateway(Closing::Done, None));
}

#[test]
fn the_linger_does_not_cut_bytes_that_are_on_their_way() {
    let start = now();
    let mut relay = discarding(Side::Downstream, Stand::EndingQueued, start);
    assert_eq!(relay.deadline(), start + LIMITS.half_closed);
    let late = start + 2 * LINGER;
    relay.deadline_passed(late);
    assert_eq!(relay.outcome(), None);
    relay.wrote(Side::Downstream, 0, late);
    relay.closed(Side::Downstream, late);
    assert_eq!(relay.deadline(), late + LINGER, "from when nothing else was left");
}

#[test]
fn bytes_stuck_beside_discarded_ones_end_in_a_reset() {
    let start = now();
    let mut relay = discarding(Side::Downstream, Stand::EndingQueued, start);
    relay.deadline_passed(start + LIMITS.half_closed);
    let outcome = by_gateway(Closing::Reset, Some(Reason::HalfClosedTimeout));
    assert_eq!(relay.outcome(), outcome);
}

#[test]
fn two_that_both_refuse_are_discarded_both() {
    let (mut relay, now) = (Relay::new(LIMITS, now()), now());
    for side in SIDES {
        relay.refused_bytes(side, Refused::Gone, now);
    }
    assert!(SIDES.iter().all(|side| relay.wish(*side) == Wish::Discard));
    assert_eq!(relay.deadline(), now + LINGER);
    relay.ended(Side::Upstream, End::Clean, now);
    relay.ended(Side::Downstream, End::Clean, now);
    assert_eq!(relay.outcome().map(|outcome| outcome.reason), Some(None));
}

#[test]
fn an_idle_session_ends_politely_or_by_reset_where_bytes_are_stuck() {
    for (its, how) in [(Stand::Open, Closing::Polite), (Stand::OpenQueued, Closing::Reset)] {
        let (mut relay, start) = (Relay::new(LIMITS, now()), now() + SECOND);
        relay.moved(Side::Upstream, 0, start);
        its.bring(&mut relay, Side::Downstream, start);
        assert_eq!(relay.deadline(), start + LIMITS.idle);
        relay.deadline_passed(start + LIMITS.idle - SECOND);
        assert_eq!(relay.outcome(), None, "too early");
        relay.deadline_passed(start + LIMITS.idle);
        assert_eq!(relay.outcome(), by_gateway(how, Some(Reason::IdleTimeout)));
    }
}

// threat 23: a long quiet session whose one side ends must not be cut at once.
#[test]
fn the_half_closed_limit_counts_from_the_end_not_from_the_last_byte() {
    for side in SIDES {
        let (mut relay, start) = (Relay::new(LIMITS, now()), now());
        let quiet = start + LIMITS.half_closed * 2;
        relay.ended(side, End::Clean, quiet);
        assert_eq!(relay.deadline(), quiet + LIMITS.half_closed);
        relay.closed(side, quiet + SECOND);
        relay.moved(side.other(), 0, quiet + 2 * SECOND);
        assert_eq!(relay.deadline(), quiet + 2 * SECOND + LIMITS.half_closed);
        relay.deadline_passed(relay.deadline());
        let outcome = by_gateway(Closing::Polite, Some(Reason::HalfClosedTimeout));
        assert_eq!(relay.outcome(), outcome);
    }
}

// threat 27
#[test]
fn only_movement_puts_the_idle_deadline_off() {
    let (mut relay, start) = (Relay::new(LIMITS, now()), now());
    relay.moved(Side::Downstream, 10, start);
    let due = relay.deadline();
    relay.wrote(Side::Downstream, 10, start + SECOND);
    assert_eq!(relay.deadline(), due, "the reader took nothing");
    relay.wrote(Side::Upstream, 5, start + SECOND);
    assert_eq!(relay.deadline(), due, "a KeyUpdate that is owed is no movement");
    relay.wrote(Side::Downstream, 9, start + SECOND);
    assert_eq!(relay.deadline(), due + SECOND);
}

// threat 37
#[test]
fn a_drain_waits_for_bytes_that_are_on_their_way_unless_forced() {
    let draining = |how| by_gateway(how, Some(Reason::Draining));
    every_stand(|mut relay, _, its, others, _| {
        let queued = its.queued() + others.queued();
        assert_eq!(relay.drain(false), queued == 0, "{its:?} {others:?}");
        assert_eq!(relay.outcome(), if queued == 0 { draining(Closing::Polite) } else { None });
        assert!(relay.drain(true));
        let how = if queued == 0 { Closing::Polite } else { Closing::Reset };
        assert_eq!(relay.outcome(), draining(how));
    });
}

// threat 37
#[test]
fn a_forced_end_is_a_reset_even_where_no_byte_is_on_its_way() {
    every_stand(|mut relay, _, _, _, _| {
        assert!(relay.drain(true));
        assert_eq!(relay.outcome(), by_gateway(Closing::Reset, Some(Reason::Draining)));
    });
}

#[test]
fn an_outcome_is_for_good() {
    every_stand(|mut relay, side, _, _, now| {
        relay.ended(side, End::Reset, now);
        let outcome = relay.outcome();
        relay.ended(side.other(), End::Unclean, now);
        relay.refused_bytes(side, Refused::Reset, now);
        relay.refused_bytes(side.other(), Refused::Gone, now);
        relay.deadline_passed(relay.deadline());
        assert!(relay.drain(true));
        assert_eq!(relay.outcome(), outcome);
    });
}

#[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
fn now() -> Instant {
    Instant::now()
}
