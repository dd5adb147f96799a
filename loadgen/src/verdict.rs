//! Owns the judgement of the generator on itself: whether a run may be believed. A run in which
//! the generator was late, short of ports or short of CPU measured the generator. Pure. Read
//! `handshakes.rs` for the exit code that follows.

use std::time::Duration;

use crate::outcome::Failure;
use crate::plan::{Loop, RunPlan};
use crate::quantity::{self, show_micros};
use crate::result::RunResult;
use crate::run::Outcome;

/// Fills in `valid`, `why` and `warnings`.
pub fn judge(plan: &RunPlan, outcome: &Outcome, result: &mut RunResult) {
    let mut why = Vec::new();
    let mut warnings = Vec::new();
    let counts = &result.counts;
    if counts.imbalance != 0 {
        why.push(format!("{} attempts are not accounted for", counts.imbalance));
    }
    if let Some(local) = outcome.tally.failures.get(&Failure::Local) {
        why.push(format!("{local} attempts failed on this host: no descriptor, port or memory"));
    }
    if outcome.server_lost {
        why.push("the server process vanished or was replaced during the run".to_owned());
    }
    if outcome.interrupted {
        warnings.push("ended early by the user".to_owned());
    }
    if counts.attempted == 0 {
        why.push("no attempt fell into the measured window".to_owned());
    }
    let is_open = matches!(plan.pace, Loop::Open { .. });
    if is_open && result.lag_p99_us > micros(plan.lag_max) {
        why.push(format!(
            "behind schedule: starts were {} late at the 99th percentile (at most {} allowed)",
            show_micros(result.lag_p99_us),
            show_micros(micros(plan.lag_max)),
        ));
    }
    if result.generator.cpu_share > CPU_SHARE_MAX {
        let share = result.generator.cpu_share * 100.0;
        if is_open {
            warnings.push(format!("the generator used {share:.0} % of its cores: little is left"));
        } else {
            warnings.push(format!(
                "the generator used {share:.0} % of its cores: the rate is the generator's limit, \
                 not the server's"
            ));
        }
    }
    if counts.wrongly_accepted > 0 {
        warnings.push(format!(
            "{} clients were let in that had to be refused",
            counts.wrongly_accepted
        ));
    }
    if result.confirm == "none" {
        warnings.push("handshakes were not confirmed: refused clients may be counted".to_owned());
    }
    if result.generator.cheap_client {
        warnings.push("cheap client: no certificate verification, reused key shares".to_owned());
    }
    let off = (result.resumed.got - result.resumed.asked).abs();
    if result.resumed.asked > 0.0 && off > 0.02 + scatter(result.resumed.asked, counts.confirmed) {
        warnings.push(format!(
            "resumption: {:.1} % asked, {:.1} % got",
            result.resumed.asked * 100.0,
            result.resumed.got * 100.0
        ));
    }
    if result.resumed.retried > 0.01 {
        warnings.push(format!(
            "{:.1} % of full handshakes took a HelloRetryRequest: --groups does not match the server",
            result.resumed.retried * 100.0
        ));
    }
    if result.scrape.as_ref().is_some_and(|scrape| !scrape.agrees) {
        warnings.push("the server's counters do not agree with ours".to_owned());
    }
    result.valid = why.is_empty();
    result.why = why;
    result.warnings = warnings;
}

/// Three standard deviations of a share that was drawn `count` times: chance, not the server.
fn scatter(share: f64, count: u64) -> f64 {
    3.0 * (share * (1.0 - share) / quantity::float(count.max(1))).sqrt()
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// Above this a load thread has no reserve left for a burst.
const CPU_SHARE_MAX: f64 = 0.95;
