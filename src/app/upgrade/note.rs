//! What two processes say to each other when one takes the place of the other.
//!
//! The old one: `Hello`, each `Listener` with its sockets, `Admin`, `Tickets` and the keys as a message
//! of their own, `End`. The new one: `Ready` or `Failed`. The old one, having let go: `Go`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::plan::AdminAddress;
use crate::sys::channel::{Channel, Message};

/// Of these messages. A process that reads another one refuses to take over.
pub(super) const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Note {
    Hello {
        version: u32,
    },
    /// With its sockets; as many times as their number needs.
    Listener {
        name: String,
        configured: SocketAddr,
        address: SocketAddr,
    },
    /// With its socket.
    Admin {
        at: AdminAt,
        owns_file: bool,
    },
    Tickets,
    End,
    /// What of it the new process does not go on with.
    Ready {
        left: Vec<SocketAddr>,
        admin: bool,
    },
    Failed {
        why: String,
    },
    Go,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AdminAt {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Note {
    pub(super) fn send(&self, channel: &Channel, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        channel.send(&serde_json::to_vec(self)?, descriptors)
    }

    /// # Errors
    /// It is none of this version.
    pub(super) fn read(message: &Message) -> io::Result<Self> {
        Ok(serde_json::from_slice(&message.bytes)?)
    }
}

impl From<&AdminAddress> for AdminAt {
    fn from(address: &AdminAddress) -> Self {
        match address {
            AdminAddress::Tcp(address) => Self::Tcp(*address),
            AdminAddress::Unix(path) => Self::Unix(path.clone()),
        }
    }
}

impl From<AdminAt> for AdminAddress {
    fn from(at: AdminAt) -> Self {
        match at {
            AdminAt::Tcp(address) => Self::Tcp(address),
            AdminAt::Unix(path) => Self::Unix(path),
        }
    }
}
