//! How often, and when last, each trust anchor vouched for somebody: those that nobody needs any more are
//! found by it.

use std::fmt;

use super::encode::{Families, Name};
use crate::worker::{AnchorSeries, CounterTable};

pub(super) fn encode(counters: &CounterTable, families: &mut Families<'_, '_>) -> fmt::Result {
    let mut uses = families.counter(
        "portcullis_trust_anchor_uses",
        "Handshakes, full and resumed, of whom a trust anchor vouched for",
    )?;
    for series in counters.anchors.iter().flatten() {
        let labels = Labels::of(series);
        uses.sample(&labels.pairs(), series.sum(|counters| counters.uses.value()))?;
    }
    let mut used_at = families.gauge(
        "portcullis_trust_anchor_last_use_timestamp_seconds",
        "Unix time when a trust anchor last vouched for somebody; 0 if it has not since the start",
    )?;
    for series in counters.anchors.iter().flatten() {
        let labels = Labels::of(series);
        used_at.sample(&labels.pairs(), series.max(|counters| counters.used_at.value()))?;
    }
    Ok(())
}

struct Labels {
    trust: Name,
    fingerprint: String,
}

impl Labels {
    /// Half a fingerprint tells anchors of one file apart, and a subject is not sure to.
    fn of(series: &AnchorSeries) -> Self {
        let fingerprint = series.name.fingerprint.iter().take(16).map(|byte| format!("{byte:02x}"));
        Self { trust: Name::new(&series.name.trust), fingerprint: fingerprint.collect() }
    }

    fn pairs(&self) -> [(&str, &str); 2] {
        [("trust", self.trust.as_str()), ("fingerprint", &self.fingerprint)]
    }
}
