//! Owns one attempt as a load thread sees it: a socket, the session on it, and what was drawn for
//! it. Never counts. Read `worker.rs` for who drives it, `session.rs` for what happens above TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::clients::Draw;
use crate::session::Session;

/// An attempt.
#[derive(Debug)]
pub struct Attempt {
    /// Its socket, non-blocking.
    pub socket: Socket,
    /// TLS and the script.
    pub session: Session,
    /// Its name, certificate and so on.
    pub draw: Draw,
    /// Whether it counts: it was due in the measured window.
    pub measured: bool,
    /// Where it stands.
    pub life: Life,
    /// When the server was heard last.
    pub heard: Instant,
}

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// TCP is not established.
    Connecting,
    /// On its way to the proof.
    Running,
    /// Proven; doing what comes after.
    Confirmed,
    /// Done and counted; waits for the server's FIN so that nothing is reset.
    Lingering,
}

impl Attempt {
    /// Begins to connect.
    ///
    /// # Errors
    /// Those of the kernel: no descriptor, no port, refused.
    pub fn connect(
        target: SocketAddr,
        source: Option<Ipv4Addr>,
        reset: bool,
    ) -> io::Result<Socket> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if reset {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        if let Some(source) = source {
            socket.bind(&SockAddr::from(SocketAddr::new(IpAddr::V4(source), 0)))?;
        }
        match socket.connect(&SockAddr::from(target)) {
            Ok(()) => Ok(socket),
            Err(error) if error.raw_os_error() == Some(EINPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        }
    }

    /// Whether TCP stands, given what epoll said.
    ///
    /// # Errors
    /// Why it does not.
    pub fn is_connected(&self, flags: EventFlags) -> io::Result<bool> {
        if flags.intersects(EventFlags::ERR | EventFlags::HUP)
            && let Some(error) = self.socket.take_error()?
        {
            return Err(error);
        }
        Ok(flags.contains(EventFlags::OUT))
    }

    /// Neither proven nor failed yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self.life, Life::Connecting | Life::Running)
    }

    /// Only waiting for the server's FIN.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.life == Life::Lingering
    }

    /// Version, suite and group, for the result.
    #[must_use]
    pub fn negotiated(&self) -> String {
        let tls = self.session.tls();
        let version =
            tls.protocol_version().and_then(|version| version.as_str().map(str::to_owned));
        let suite = tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let group = tls.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
        let parts = [version, suite, group];
        parts
            .into_iter()
            .map(|part| part.unwrap_or_else(|| "-".to_owned()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

const EINPROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();
