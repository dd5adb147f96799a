//! Owns one measured run from plan to judged result, for every command that makes several. Read
//! `run.rs` for the run itself, `find.rs`, `ab.rs` and `sweep.rs` for who repeats it.

use std::sync::Arc;

use anyhow::Result;

use crate::environment::Environment;
use crate::plan::RunPlan;
use crate::result::RunResult;
use crate::run::{self, Watch};
use crate::verdict;

/// Runs a plan and judges the result.
///
/// # Errors
/// As [`run::run`].
pub fn trial(
    plan: &Arc<RunPlan>,
    server_pid: Option<u32>,
    arguments: &[String],
    watch: &mut dyn Watch,
) -> Result<RunResult> {
    let env = Environment::look(arguments.to_vec());
    let outcome = run::run(plan, server_pid, watch)?;
    let mut result = RunResult::new(plan, &outcome, env)?;
    verdict::judge(plan, &outcome, &mut result);
    Ok(result)
}

/// Whether nobody was let in although somebody should have been.
#[must_use]
pub fn let_nobody_in(result: &RunResult) -> bool {
    let counts = &result.counts;
    counts.confirmed == 0 && counts.wrongly_accepted == 0 && counts.errors + counts.in_flight > 0
}

/// The errors of a result in one line, each with the reason of the first: `alert-116 113 (...), timeout 2`.
#[must_use]
pub fn errors(result: &RunResult) -> String {
    let classes = result.errors.iter().map(|(class, count)| match result.reasons.get(class) {
        Some(first) => format!("{class} {count} ({first})"),
        None => format!("{class} {count}"),
    });
    classes.collect::<Vec<_>>().join(", ")
}

/// Whether an attempt to talk to the target was in vain from first to last.
#[must_use]
pub fn found_nobody(result: &RunResult) -> bool {
    let refused = result.errors.get("refused").copied().unwrap_or_default();
    result.counts.attempted > 0 && refused == result.counts.attempted
}
