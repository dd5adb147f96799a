//! What is counted of a session while its bytes flow: payload, as it passes, and how long its upstream
//! took to answer.
//!
//! A few stores into this worker's own memory for each receive, nothing shared.

use std::time::Instant;

use super::census::Card;
use super::{ChainCounters, ClusterCounters};
use crate::core::relay::Side;

/// Where one session is counted.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    pub(super) chain: &'a ChainCounters,
    pub(super) cluster: &'a ClusterCounters,
    pub(super) card: &'a Card,
    /// When bytes could flow.
    pub(super) since: Instant,
}

impl Tally<'_> {
    /// `payload` bytes have come from this side, which had sent `before`.
    pub(super) fn moved(&self, from: Side, before: u64, payload: u64, now: Instant) {
        let (counter, shown) = match from {
            Side::Downstream => (&self.chain.bytes_received, &self.card.received),
            Side::Upstream => (&self.chain.bytes_sent, &self.card.sent),
        };
        counter.add(payload);
        shown.set(before + payload);
        if before == 0 && payload > 0 && from == Side::Upstream {
            self.cluster.first_byte.observe(now.saturating_duration_since(self.since));
        }
    }
}
