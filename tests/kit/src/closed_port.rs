//! A port at which nobody listens, and nobody else will while a test runs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A port that refuses connections and is kept for a test meanwhile: a socket that is bound and does not
/// listen. One that is only found free is somebody else's a moment later, a client's on its way out most
/// often.
#[derive(Debug)]
pub struct ClosedPort {
    pub address: SocketAddr,
    socket: OwnedFd,
}

impl ClosedPort {
    /// # Panics
    /// When there is no free port on loopback.
    #[expect(clippy::new_without_default, reason = "each is another port")]
    pub fn new() -> Self {
        // No program that is started meanwhile has it.
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
            .expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        rustix::net::bind(&socket, &any).expect("a free port");
        let address = rustix::net::getsockname(&socket).expect("a bound socket has an address");
        let address = address.try_into().expect("an address of IPv4");
        Self { address, socket }
    }

    /// From now on it accepts.
    ///
    /// # Panics
    /// When it cannot.
    pub fn open(self) -> TcpListener {
        self.open_for(128)
    }

    /// As `open`, with a queue for so many clients.
    ///
    /// # Panics
    /// When it cannot.
    pub fn open_for(self, queued: i32) -> TcpListener {
        rustix::net::listen(&self.socket, queued).expect("a bound socket listens");
        self.socket.into()
    }
}
