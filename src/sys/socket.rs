//! TCP sockets with the options that the gateway wants, from listening to the hard reset.
//!
//! Nothing here waits: every socket is non-blocking from its birth. Waiting is `worker`'s.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, SocketFlags};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::congestion;

/// Not the kernel's default of 128: a reconnect storm fills that in a millisecond.
/// The kernel clips it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A peer that vanished is noticed after about two minutes instead of the kernel's two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// A listening socket of one worker. SO_REUSEPORT lets every worker have its own on one address;
/// accepted sockets inherit TCP_NODELAY and keepalive from it.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != std::net::Ipv6Addr::UNSPECIFIED)?;
    }
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket)?;
    congestion::unpace_local(&socket, address.ip());
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Makes a listening socket that somebody else has opened like one of `listen`.
///
/// # Errors
/// It does not listen.
pub fn adopt(listener: &TcpListener) -> io::Result<()> {
    if !rustix::net::sockopt::socket_acceptconn(listener)? {
        return Err(io::Error::other("a socket does not listen"));
    }
    let socket = SockRef::from(listener);
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    congestion::unpace_local(listener, listener.local_addr()?.ip());
    keep_alive(listener)
}

/// Has a client accepted once its first bytes are there, which spares a worker to be woken for it twice; or, without
/// `is_wanted`, at once. The kernel asks one that says nothing once more, after a second, and has it accepted then
/// (TCP_DEFER_ACCEPT, tcp(7)).
///
/// # Errors
/// The system does not know the option, and accepts at once.
pub fn defer_accept(listener: &impl AsFd, is_wanted: bool) -> io::Result<()> {
    Ok(setsockopt(listener, DeferAccept, &libc::c_int::from(is_wanted))?)
}

/// What `defer_accept` has set.
#[cfg(test)]
pub fn is_accept_deferred(listener: &impl AsFd) -> bool {
    nix::sys::socket::getsockopt(listener, DeferAccept).unwrap() > 0
}

/// Fails when somebody else already listens on the address. SO_REUSEPORT would let two gateways of
/// one user share a port by mistake and split the clients between them without a word.
pub fn ensure_free(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    probe.set_reuse_address(true)?;
    probe.bind(&address.into())?;
    probe.listen(1)
}

/// The next connection of a listening socket, already non-blocking.
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    Ok((socket, peer.and_then(|peer: SocketAddrAny| SocketAddr::try_from(peer).ok())))
}

/// Why a dial did not even begin.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("it is none of this machine's addresses")]
    ForeignSource,
    #[error("every local port of net.ipv4.ip_local_port_range is in use for it")]
    NoPort,
    #[error(transparent)]
    Other(#[from] io::Error),
}

/// A socket on its way to its peer.
#[derive(Debug)]
pub struct Dialled {
    /// Writable once it is through (or failed).
    pub socket: OwnedFd,
    /// It is through.
    pub is_through: bool,
    /// So many of the first bytes are gone.
    pub sent: usize,
}

/// What the caller has to say on a socket that it dials.
#[derive(Debug, Clone, Copy)]
pub enum Opening<'a> {
    /// These bytes, as soon as it is through.
    Bytes(&'a [u8]),
    /// Bytes that are likely there by then; else the caller calls `acknowledge`.
    Soon,
    /// Nothing, or not at once.
    Nothing,
}

/// A socket that is connecting to `address`, from `source` if there is one. To a loopback address it is
/// through within `connect`, and the bytes of `opening` are sent here.
///
/// # Errors
/// It cannot even begin.
pub fn dial(
    address: SocketAddr,
    source: Option<IpAddr>,
    opening: Opening<'_>,
) -> Result<Dialled, DialError> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen by `connect`, which knows the other end: one port serves for a connection
        // to each endpoint. Where a kernel does not know the option (gVisor), `bind` takes a port that
        // serves once.
        let _is_known = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
        socket.bind(&SocketAddr::new(source, 0).into()).map_err(|error| match errno(&error) {
            Some(Errno::ADDRNOTAVAIL) => DialError::ForeignSource,
            Some(Errno::ADDRINUSE) => DialError::NoPort,
            _ => DialError::Other(error),
        })?;
    }
    if !matches!(opening, Opening::Nothing) {
        // The third packet of the handshake is not sent alone, but with the first bytes; without any the
        // kernel waits for 200 ms.
        socket.set_tcp_quickack(false)?;
    }
    congestion::unpace_local(&socket, address.ip());
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) => match errno(&error) {
            Some(Errno::INPROGRESS) => {}
            Some(Errno::ADDRNOTAVAIL) => return Err(DialError::NoPort),
            _ => return Err(DialError::Other(error)),
        },
    }
    // Over loopback the other end has answered by now.
    let is_local = address.ip().is_loopback();
    let mut sent = 0;
    if let Opening::Bytes(first) = opening
        && is_local
    {
        sent = send(&socket, first).map_err(DialError::Other)?;
    }
    // An unconnected socket has no peer (getpeername(2)).
    let is_through = sent > 0 || is_local && rustix::net::getpeername(&socket).is_ok();
    Ok(Dialled { socket: socket.into(), is_through, sent })
}

/// Sends what the socket takes of `bytes` now, whether or not it is known to be ready.
pub fn send(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => Ok(0),
        sent => Ok(sent?),
    }
}

/// Sends the acknowledgement that `Opening::Soon` holds back, for no bytes have come to carry it.
pub fn acknowledge(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_quickack(true)
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// The pending error of a socket: how a `dial` ended.
pub fn take_error(socket: &impl AsFd) -> io::Result<()> {
    match SockRef::from(socket).take_error()? {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// Whether the peer has sent its end and nothing before it that was not read. Looks without waiting and
/// takes nothing.
pub fn is_at_end(socket: &impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(socket, &mut [0_u8; 1], flags), Ok((_, 0)))
}

/// How long the kernel lets bytes stay unacknowledged, or unsent as the peer does not read.
pub fn limit_unacknowledged(socket: &impl AsFd, limit: Duration) -> io::Result<()> {
    SockRef::from(socket).set_tcp_user_timeout(Some(limit))
}

/// Sends FIN; what the peer still sends can be read.
pub fn shutdown_write(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).shutdown(Shutdown::Write)
}

/// Makes the coming `close` a reset (RST), so that the peer sees that the stream was cut short.
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// Sends bytes that more, or the end of this direction, soon follows: they go with that in one packet. Where
/// nothing does, the kernel sends them when its time for a retransmission is up, after 200 ms or more (MSG_MORE,
/// send(2)).
pub fn send_before_more(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)?)
}

sockopt_impl!(
    /// For so many seconds a client without bytes is not accepted.
    DeferAccept,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    libc::c_int
);

sockopt_impl!(
    /// Bytes that make a socket readable.
    ReceiveLowWater,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    libc::c_int
);

/// The socket counts as readable from so many bytes on, or at its end. What it has already is told at
/// once, if it is enough by the new mark.
pub fn receive_low_water(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    Ok(setsockopt(socket, ReceiveLowWater, &bytes)?)
}

/// Has the system find out that the peer is gone while nothing flows: four system calls, which a short
/// connection is spared.
pub fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;

    use portcullis_kit::{PATIENCE, eventually};

    use super::*;
    use crate::sys::clock;

    #[test]
    fn an_address_in_use_is_noticed_before_binding_with_reuseport() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(ensure_free(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        listen(address).unwrap();
        drop(first);
    }

    #[test]
    fn who_has_said_something_is_accepted_before_who_has_not() {
        // Where the machine is so slow that the silent one is asked once more meanwhile, the scene is played again.
        let (listener, silent, speaking) = eventually(PATIENCE, "a scene without a pause", || {
            let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
            defer_accept(&listener, true).unwrap();
            let began = clock::now();
            let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (silent, mut speaking) = (connect(), connect());
            speaking.write_all(b"x").unwrap();
            let is_in_time = began.elapsed() < Duration::from_millis(700);
            is_in_time.then_some((listener, silent, speaking))
        });
        let next = || {
            eventually(PATIENCE, "a client", || match accept(&listener) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                accepted => Some(accepted.unwrap().1.unwrap()),
            })
        };
        assert_eq!(next(), speaking.local_addr().unwrap());
        assert_eq!(next(), silent.local_addr().unwrap(), "who says nothing is accepted as well");
    }

    #[test]
    fn a_dial_reports_refusal_as_the_pending_error() {
        let free = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let error = match dial(address, None, Opening::Nothing) {
            Ok(dialled) => {
                assert!(!dialled.is_through);
                take_error(&dialled.socket).unwrap_err()
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_dial_to_loopback_sends_what_is_first_and_its_end_goes_with_the_last_bytes() {
        use std::io::Read;
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let dialled =
            dial(listener.local_addr().unwrap(), None, Opening::Bytes(b"first ")).unwrap();
        assert!(dialled.is_through);
        assert_eq!(dialled.sent, 6);
        take_error(&dialled.socket).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(send_before_more(&dialled.socket, b"and last").unwrap(), 8);
        shutdown_write(&dialled.socket).unwrap();
        let mut all = Vec::new();
        accepted.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"first and last");
    }

    #[test]
    fn a_dial_with_bytes_soon_is_known_to_its_peer_by_them_or_once_it_is_acknowledged() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let dial = || {
            let dialled = dial(address, None, Opening::Soon).unwrap();
            assert!(dialled.is_through);
            dialled.socket
        };
        let is_known = || match listener.accept() {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        let silent = dial();
        take_error(&silent).unwrap();
        assert!(!is_known(), "nothing holds its acknowledgement back");
        acknowledge(&silent).unwrap();
        assert!(is_known());
        let talking = dial();
        assert_eq!(send(&talking, b"first").unwrap(), 5);
        assert!(is_known());
    }

    #[test]
    fn a_dial_comes_from_its_source_and_from_no_address_of_others() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let ours = "127.0.0.7".parse().unwrap();
        let socket = Socket::from(dial(address, Some(ours), Opening::Nothing).unwrap().socket);
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(local.ip(), ours);
        // TEST-NET-1 (RFC 5737) is no machine's.
        let error =
            dial(address, Some("192.0.2.1".parse().unwrap()), Opening::Nothing).unwrap_err();
        assert!(matches!(error, DialError::ForeignSource), "{error:?}");
    }
}
