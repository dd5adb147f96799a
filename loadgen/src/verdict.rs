//! Owns the judgement of the generator on itself: whether a run may be believed. A run in which
//! the generator was late, short of ports or short of CPU measured the generator. Pure. Read
//! `handshakes.rs` for the exit code that follows.

use std::time::Duration;

use crate::outcome::Failure;
use crate::plan::{Loop, RunPlan};
use crate::quantity::{self, show_micros};
use crate::result::RunResult;
use crate::run::Outcome;
use crate::scrape::Reconciled;
use crate::trial::let_nobody_in;

/// Fills in `valid`, `why` and `warnings`.
pub fn judge(plan: &RunPlan, outcome: &Outcome, result: &mut RunResult) {
    let is_open = matches!(plan.pace, Loop::Open { .. });
    result.why = reasons(plan, outcome, result, is_open);
    result.valid = result.why.is_empty();
    result.warnings = warnings(outcome, result, is_open);
}

/// Why the run may not be believed.
fn reasons(plan: &RunPlan, outcome: &Outcome, result: &RunResult, is_open: bool) -> Vec<String> {
    let mut why = Vec::new();
    let counts = &result.counts;
    if counts.imbalance != 0 {
        why.push(format!("{} attempts are not accounted for", counts.imbalance));
    }
    if let Some(local) = outcome.tally.failures.get(&Failure::Local) {
        let reason = outcome.tally.reasons.get(&Failure::Local);
        let reason = reason.map_or("no descriptor, port or memory", String::as_str);
        why.push(format!("{local} attempts failed on this host: {reason}"));
    }
    if outcome.server_lost {
        why.push("the server process vanished or was replaced during the run".to_owned());
    }
    // Counters only ever rise.
    if let Some(scrape) = result.scrape.as_ref().filter(|scrape| scrape.server < 0.0) {
        let counter = scrape.compared.as_deref().unwrap_or_default();
        why.push(format!("the server was restarted during the run: its {counter} fell"));
    }
    if counts.attempted == 0 {
        why.push("no attempt fell into the measured window".to_owned());
    }
    if is_open && result.lag_p99_us > micros(plan.lag_max) {
        why.push(format!(
            "behind schedule: starts were {} late at the 99th percentile (at most {} allowed)",
            show_micros(result.lag_p99_us),
            show_micros(micros(plan.lag_max)),
        ));
    }
    why
}

/// What a reader should know all the same.
fn warnings(outcome: &Outcome, result: &RunResult, is_open: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let (counts, resumed) = (&result.counts, &result.resumed);
    if outcome.interrupted {
        warnings.push("ended early by the user".to_owned());
    }
    if let_nobody_in(result) {
        warnings.push(
            "not one handshake was confirmed: the errors are all that was measured".to_owned(),
        );
    }
    let generator = &result.generator;
    // Whoever stands in line for a core has no more of it to give than whoever has it.
    if generator.cpu_share + generator.wait_share > CPU_SHARE_MAX {
        let share = generator.cpu_share * 100.0;
        let waiting = match generator.wait_share * 100.0 {
            waited if waited >= 1.0 => format!(", and waited for them {waited:.0} % of the time"),
            _ => String::new(),
        };
        warnings.push(if is_open {
            format!("the generator used {share:.0} % of its cores{waiting}: little is left")
        } else {
            format!(
                "the generator used {share:.0} % of its cores{waiting}: the rate is the \
                 generator's limit, not the server's"
            )
        });
    }
    if counts.wrongly_accepted > 0 {
        let count = counts.wrongly_accepted;
        warnings.push(format!("{count} clients were let in that had to be refused"));
    }
    if result.confirm == "none" {
        warnings.push("handshakes were not confirmed: refused clients may be counted".to_owned());
    }
    if result.generator.cheap_client {
        warnings.push("cheap client: no certificate verification, reused key shares".to_owned());
    }
    let (asked, got) = (resumed.asked * 100.0, resumed.got * 100.0);
    let allowed = 2.0 + 100.0 * scatter(resumed.asked, counts.confirmed);
    if asked > 0.0 && (got - asked).abs() > allowed {
        warnings.push(format!("resumption: {asked:.1} % asked, {got:.1} % got"));
    }
    if resumed.retried > 0.01 {
        let share = resumed.retried * 100.0;
        warnings.push(format!(
            "{share:.1} % of full handshakes took a HelloRetryRequest: --groups does not match the \
             server"
        ));
    }
    // That no counter was found is said where it would have stood.
    let disagrees =
        |scrape: &Reconciled| scrape.compared.is_some() && scrape.server >= 0.0 && !scrape.agrees;
    if result.scrape.as_ref().is_some_and(disagrees) {
        warnings.push("the server's counters do not agree with ours".to_owned());
    }
    warnings
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;

    fn warned(cpu_share: f64, wait_share: f64) -> String {
        let outcome = Outcome {
            tally: Tally::new(0),
            ticks: Vec::new(),
            begun_unix_ms: 0,
            measured: Duration::from_secs(1),
            server: None,
            sampled: Duration::from_secs(1),
            server_lost: false,
            process_kernel: Duration::ZERO,
            interrupted: false,
        };
        let mut result = RunResult::default();
        result.generator.cpu_share = cpu_share;
        result.generator.wait_share = wait_share;
        warnings(&outcome, &result, false).join("\n")
    }

    #[test]
    fn a_generator_that_has_no_more_cpu_to_give_says_so_whoever_has_it() {
        assert!(warned(0.99, 0.0).contains("the generator's limit"));
        let shared = warned(0.60, 0.38);
        assert!(shared.contains("60 %") && shared.contains("waited for them 38 %"), "{shared}");
        assert_eq!(warned(0.60, 0.10), "");
    }
}
