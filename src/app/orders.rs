//! Carries out what the admin endpoint asks of control, and puts into words what came of it.
//!
//! Runs in control's loop, between two signals. A reload is answered by `reload` once it is done.

use serde_json::{Value, json};

use super::gateway::ReloadReport;
use super::reload::Reloads;
use crate::admin::{AdminOrder, Ordered, Told, level_name};
use crate::config::error::Problem;
use crate::telemetry::access_log::Reopen;
use crate::telemetry::log::LogVolume;

/// What control goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Serve,
    Drain,
}

/// The logs, as far as they can be told to change.
#[derive(Debug)]
pub(super) struct Logs {
    pub volume: LogVolume,
    pub reopen: Reopen,
}

/// While the gateway serves.
pub(super) fn carry_out(ordered: Ordered, reloads: &mut Reloads, logs: &Logs) -> Then {
    let Ordered { order, answer } = ordered;
    let told = match order {
        AdminOrder::Reload => {
            tracing::info!("a reload was asked for over the admin endpoint");
            reloads.ask_for(answer);
            return Then::Serve;
        }
        AdminOrder::Drain => {
            tracing::info!("a drain was asked for over the admin endpoint");
            // Whoever asked may have gone: it is done all the same.
            drop(answer.send(Told::done(json!({ "draining": true }))));
            return Then::Drain;
        }
        AdminOrder::LogLevel(_) | AdminOrder::LogReopen => of_log(order, logs),
    };
    drop(answer.send(told));
    Then::Serve
}

/// While it drains.
pub(super) fn carry_out_late(ordered: Ordered, logs: &Logs) {
    let Ordered { order, answer } = ordered;
    let told = match order {
        AdminOrder::Reload => Told::refused("the process drains and ends: nothing is loaded"),
        AdminOrder::Drain => Told::done(json!({ "draining": true })),
        AdminOrder::LogLevel(_) | AdminOrder::LogReopen => of_log(order, logs),
    };
    drop(answer.send(told));
}

fn of_log(order: AdminOrder, logs: &Logs) -> Told {
    match order {
        AdminOrder::LogLevel(level) => {
            logs.volume.set(level);
            tracing::warn!(?level, "the log level was set over the admin endpoint, until a reload");
            Told::done(json!({ "level": level_name(level), "until": "the next reload" }))
        }
        AdminOrder::LogReopen | AdminOrder::Reload | AdminOrder::Drain => {
            logs.reopen.reopen();
            Told::done(json!({ "reopening": true }))
        }
    }
}

/// A configuration that went live. `fixed` are keys that a start alone reads; `changes` is what differs.
pub(super) fn reloaded(report: &ReloadReport, fixed: &[&str], changes: &Value) -> Told {
    let opened: Vec<Value> = report
        .opened
        .iter()
        .map(|(name, address)| json!({ "listener": &**name, "address": address.to_string() }))
        .collect();
    let closed: Vec<&str> = report.closed.iter().map(|name| &**name).collect();
    Told::done(json!({
        "generation": report.generation,
        "changes": changes,
        "opened": opened,
        "closed": closed,
        "ticket_keys_changed": report.tickets_changed,
        "with_next_start_only": fixed,
    }))
}

/// One that did not, and every reason.
pub(super) fn not_reloaded(problems: &[Problem], generation: u64) -> Told {
    let shown = problems.iter().take(PROBLEMS_MAX).map(|problem| {
        json!({
            "file": problem.at.file.display().to_string(),
            "line": problem.at.line,
            "column": problem.at.column,
            "key": &*problem.at.key,
            "message": problem.message,
            "help": problem.help,
        })
    });
    Told::wrong(json!({
        "error": "nothing has changed: mend what stands in `problems`",
        "generation": generation,
        "problem_count": problems.len(),
        "problems": shown.collect::<Vec<_>>(),
    }))
}

const PROBLEMS_MAX: usize = 100;
