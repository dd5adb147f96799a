//! Whether the driver that the configuration asks for is one that this machine lets us use.
//!
//! `run` asks before it has workers, as the user and in the sandbox that theirs will be; `check`
//! beforehand. Nobody who writes "io_uring" gets epoll without a word.

use crate::config::error::Problem;
use crate::config::plan::{Io, Plan};
use crate::sys::ring::{self, Forbidden};

/// What stands in the way of `runtime.io`.
pub(super) fn problem(plan: &Plan) -> Option<Problem> {
    match (plan.runtime.io, &plan.runtime.io_at) {
        (Io::IoUring, Some(at)) => {
            let forbidden = ring::probe().err()?;
            Some(Problem { at: at.clone(), message: message(&forbidden), help: help(&forbidden) })
        }
        (Io::IoUring, None) | (Io::Epoll, _) => None,
    }
}

fn message(forbidden: &Forbidden) -> String {
    let cause = std::error::Error::source(forbidden);
    let cause = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
    format!("io_uring cannot be used here: {forbidden}{cause}")
}

fn help(forbidden: &Forbidden) -> String {
    format!("{}; or write \"auto\", which is epoll and measured no slower", forbidden.help())
}
