//! Owns the exit codes, which scripts rely on.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, every threshold met.
    Met,
    /// 1: wrong usage, no connection, or not one client let in that should have been.
    NoConnection,
    /// 2: a threshold was missed, or a comparison came out worse.
    Missed,
    /// 3: the run measured the generator or its host; throw it away.
    Invalid,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Met => Self::from(0),
            Exit::NoConnection => Self::from(1),
            Exit::Missed => Self::from(2),
            Exit::Invalid => Self::from(3),
        }
    }
}
