//! Owns one measured run from plan to judged result, for every command that makes several. Read
//! `run.rs` for the run itself, `find.rs`, `ab.rs` and `sweep.rs` for who repeats it.

use std::sync::Arc;

use anyhow::Result;

use crate::environment::Environment;
use crate::outcome;
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

/// Whether all that failed was answered, and the answer was no: nothing timed out or ran out.
#[must_use]
pub fn is_turned_away(result: &RunResult) -> bool {
    let is_answer = |class: &String| {
        class.starts_with("alert-") || ["tls", "closed", "unexpected-eof"].contains(&&**class)
    };
    !result.errors.is_empty() && result.errors.keys().all(is_answer)
}

/// The errors of a result in one line, each with its name or the reason of the first, and what to look at:
/// `alert-116 113 (certificate_required), timeout 2: the server ...`.
#[must_use]
pub fn errors(result: &RunResult) -> String {
    let classes = result.errors.iter().map(|(class, count)| {
        let first = result.reasons.get(class).map(String::as_str);
        match first.or_else(|| outcome::alert_name_of(class)) {
            Some(what) => format!("{class} {count} ({what})"),
            None => format!("{class} {count}"),
        }
    });
    let errors = classes.collect::<Vec<_>>().join(", ");
    match advice(result) {
        Some(advice) => format!("{errors}: {advice}"),
        None => errors,
    }
}

/// What is most likely wrong where nobody was let in, by what most errors are.
fn advice(result: &RunResult) -> Option<&'static str> {
    let (class, _) = result.errors.iter().max_by_key(|(_, count)| **count)?;
    let reason = result.reasons.get(class).map_or("", String::as_str);
    let advice = match class.as_str() {
        "alert-116" => {
            "the server wants a client certificate: give one with --client-cert or --tenants-from"
        }
        "alert-112" => "the server has nothing by this name: see --sni, or --tenants-from",
        "alert-42" | "alert-43" | "alert-44" | "alert-45" | "alert-46" | "alert-48"
        | "alert-49" => {
            "the server does not accept the certificate of --client-cert: its log should say why"
        }
        "alert-40" | "alert-70" | "alert-71" => {
            "no TLS version, cipher suite or group in common (--tls, --cipher-suites, --groups), or the \
             server wants a client certificate (--client-cert)"
        }
        "alert-120" => "the server speaks none of --alpn",
        "alert-80" => "the server cannot serve the client: is what stands behind it up?",
        "tls" if reason.contains("peer certificate") => {
            "the server's certificate is none of --ca for this --sni"
        }
        "tls" if reason.contains("corrupt message") || reason.contains("unexpected") => {
            "is TLS spoken on this port?"
        }
        "bad-data" => "no echo stands behind the server: write --confirm ticket, or close",
        "timeout" | "closed" | "unexpected-eof" if result.confirm == "echo" => {
            "not one byte came back: where no echo stands behind the server, write --confirm ticket, or \
             close; and some servers turn clients away without an alert (--client-cert, --sni)"
        }
        _ => return None,
    };
    Some(advice)
}

/// Whether an attempt to talk to the target was in vain from first to last.
#[must_use]
pub fn found_nobody(result: &RunResult) -> bool {
    let refused = result.errors.get("refused").copied().unwrap_or_default();
    result.counts.attempted > 0 && refused == result.counts.attempted
}
