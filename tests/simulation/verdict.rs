//! What must hold of a run at its end: no byte lost behind a clean end, no break unseen.

use std::time::{Duration, Instant};

use portcullis::core::refusal::Reason;
use portcullis::core::relay::{ClosedBy, Closing, End, LINGER, Outcome, Refused, Side};

use super::world::{LIMITS, Leg};

/// Closes both sides as `outcome` says and judges what each peer then knows.
pub(crate) fn check(legs: &mut [Leg; 2], outcome: Outcome, now: Instant, last_activity: Instant) {
    check_outcome(outcome, now.saturating_duration_since(last_activity));
    for leg in &mut *legs {
        match outcome.how {
            Closing::Done => leg.peer.saw_fin = true,
            Closing::Reset => leg.peer.saw_reset = true,
            Closing::Polite => {
                assert!(leg.queue.is_empty(), "a polite end with bytes on their way");
            }
        }
    }
    for side in [Side::Downstream, Side::Upstream] {
        let (from, to) = (&legs[side as usize], &legs[side.other() as usize]);
        check_flow(from, to, outcome);
    }
}

/// Two peers that keep to the rules, and time enough: everything arrives.
pub(crate) fn check_calm(legs: &[Leg; 2], outcome: Outcome) {
    assert_eq!((outcome.how, outcome.reason), (Closing::Done, None));
    assert_ne!(outcome.closed_by, ClosedBy::Gateway);
    for (from, to) in [(&legs[0], &legs[1]), (&legs[1], &legs[0])] {
        assert!(from.is_carried);
        assert_eq!(to.peer.delivered, from.peer.to_send);
    }
}

fn check_outcome(outcome: Outcome, quiet: Duration) {
    let limit = match outcome.reason {
        Some(Reason::IdleTimeout) => LIMITS.idle,
        Some(Reason::HalfClosedTimeout) => LIMITS.half_closed,
        None if outcome.closed_by == ClosedBy::Gateway => LINGER,
        Some(_) | None => Duration::ZERO,
    };
    assert!(quiet >= limit, "{outcome:?} after only {quiet:?}");
    let is_ours = matches!(
        outcome.reason,
        Some(Reason::IdleTimeout | Reason::HalfClosedTimeout | Reason::Draining)
    );
    assert!(!is_ours || outcome.closed_by == ClosedBy::Gateway, "{outcome:?}");
    let is_done = outcome.how == Closing::Done;
    assert_eq!(is_done, outcome.reason.is_none(), "{outcome:?}");
}

/// The flow from `from` to `to`.
fn check_flow(from: &Leg, to: &Leg, outcome: Outcome) {
    let (source, taker) = (&from.peer, &to.peer);
    if from.is_carried {
        assert!(source.said_its_end(), "an end was made up");
        assert!(taker.delivered == source.sent || taker.rst, "an end overtook bytes");
    }
    if outcome.how == Closing::Done {
        // Of bytes that nobody wants, the last and the reset behind them need not be read in time.
        let lingered = outcome.closed_by == ClosedBy::Gateway;
        let is_over = taker.fin || to.end == Some(End::Clean) || (lingered && taker.rst);
        let wanted_no_more = to.refused.is_some() && is_over;
        assert!(from.is_carried || wanted_no_more, "a flow was cut: {outcome:?}");
    }
    let broke_off = matches!(from.end, Some(End::Reset | End::Unclean | End::BadRecord))
        || (from.refused == Some(Refused::Reset) && from.end.is_none());
    // Who is gone and has got through everything of its own misses nothing.
    let is_missed = !(to.refused.is_some() && to.is_carried);
    if broke_off && is_missed {
        assert!(taker.saw_reset, "a break went unseen: {outcome:?}");
    }
    let is_ours = outcome.closed_by == ClosedBy::Gateway && outcome.how == Closing::Polite;
    if taker.believes_in_the_end() && to.refused.is_none() && !is_ours {
        assert_eq!(taker.delivered, source.sent, "a clean end hides lost bytes: {outcome:?}");
    }
}
