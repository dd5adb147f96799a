//! The process: its workers and what drives their sockets, who it becomes, and how it ends.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use super::{Account, Sandbox};
use crate::config::error::Location;

#[derive(Debug, Clone)]
pub struct Runtime {
    pub workers: Workers,
    pub io: Io,
    /// Where io_uring is asked for, if it is.
    pub io_at: Option<Location>,
    /// Whether a change of a file reloads the configuration.
    pub watch: bool,
    pub drain: Drain,
    /// How long another process may take to be ready to take the place of this one.
    pub upgrade_deadline: Duration,
    /// Whom host names are asked of; empty: whom the system asks.
    pub resolvers: Vec<SocketAddr>,
    /// Who to become before anything is served; `None`: whoever started the process.
    pub account: Option<Account>,
    pub sandbox: Sandbox,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One for each core that this process may use.
    Auto,
    Count(NonZeroU16),
}

/// How sockets are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    Epoll,
    IoUring,
}

/// What SIGTERM sets off: `/readyz` turns red at once, new connections are taken for `grace`, then
/// sessions are closed at moments spread over `spread`, and whatever is left at `deadline` (counted
/// from the signal) is reset.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    pub grace: Duration,
    pub spread: Duration,
    pub deadline: Duration,
}

impl Io {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }
}
