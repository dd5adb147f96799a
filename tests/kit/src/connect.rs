//! Blocking clients with deadlines: connect, say something, hear it back, end it one way or another.
//!
//! Every socket has read and write timeouts of `PATIENCE`, so a peer that hangs fails its test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, StreamOwned};

use crate::deadline::PATIENCE;

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// How a peer turned a client away.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// A fatal TLS alert.
    Alert(AlertDescription),
    /// The client's own TLS refused the server.
    Server(rustls::Error),
    /// End of stream, with close_notify or without.
    Closed,
    Reset,
    /// Nobody listens there.
    NotConnected,
}

/// A TCP connection with timeouts on it.
///
/// # Errors
/// What `connect` says.
pub fn connect_plain(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// As `connect_plain`, from this one of the addresses of loopback.
///
/// # Errors
/// What the calls say.
pub fn connect_plain_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // As those of std: a gateway that is started meanwhile would hold the connection open.
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    rustix::net::connect(&socket, &address)?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Connects and completes the client's side of the handshake. In TLS 1.3 that is before the server
/// has looked at the client's certificate: a refusal comes with the first read (see `refusal`).
///
/// # Errors
/// From the socket as they are; from TLS as `InvalidData` with a `rustls::Error` inside.
pub fn connect_tls(
    address: SocketAddr,
    server_name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream> {
    handshake(connect_plain(address)?, server_name, config)
}

/// `connect_tls` on a socket that is connected.
///
/// # Errors
/// As `connect_tls`.
pub fn handshake(
    mut socket: TcpStream,
    server_name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream> {
    let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
    let mut connection =
        ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        if connection.complete_io(&mut socket)? == (0, 0) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(StreamOwned::new(connection, socket))
}

/// Connects, expecting to be turned away, and says how.
///
/// # Panics
/// When the server lets the client in: it answers with data, or with nothing for `PATIENCE`.
pub fn refusal(address: SocketAddr, server_name: &str, config: &Arc<ClientConfig>) -> Refusal {
    let mut stream = match connect_tls(address, server_name, config) {
        Ok(stream) => stream,
        Err(error) => return refusal_of(&error),
    };
    // A server that lets clients in and waits for them to speak first would keep silent.
    if let Err(error) = stream.write_all(b"let me in").and_then(|()| stream.flush()) {
        return refusal_of(&error);
    }
    match stream.read(&mut [0; 64]) {
        Ok(0) => Refusal::Closed,
        Ok(length) => panic!("the server let the client in and answered with {length} bytes"),
        Err(error) => refusal_of(&error),
    }
}

/// Writes `bytes` while reading as many back, and returns what came: both directions at once, so
/// that no window fills up.
///
/// # Errors
/// What the stream says; `UnexpectedEof` when the peer ended early.
pub fn round_trip(stream: &mut (impl Read + Write), bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut back = vec![0; bytes.len()];
    for (sent, received) in bytes.chunks(CHUNK).zip(back.chunks_mut(CHUNK)) {
        stream.write_all(sent)?;
        stream.flush()?;
        stream.read_exact(received)?;
    }
    Ok(back)
}

/// Ends the client's direction properly: close_notify, then FIN. The other one stays open.
///
/// # Errors
/// What the socket says.
pub fn close_write(stream: &mut TlsStream) -> io::Result<()> {
    stream.conn.send_close_notify();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock)?;
    }
    stream.sock.shutdown(Shutdown::Write)
}

/// Reads until the peer's close_notify.
///
/// # Errors
/// `UnexpectedEof` when the stream ends without one, and what the socket says.
pub fn read_to_end(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Ends a connection with RST (RFC 9293 §3.10.7.4: the peer's unread data is lost).
pub fn reset(socket: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&socket, Some(std::time::Duration::ZERO))
        .expect("a TCP socket takes SO_LINGER");
    drop(socket);
}

fn refusal_of(error: &io::Error) -> Refusal {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, error.kind()) {
        (Some(rustls::Error::AlertReceived(alert)), _) => Refusal::Alert(*alert),
        (Some(other), _) => Refusal::Server(other.clone()),
        (None, ErrorKind::UnexpectedEof) => Refusal::Closed,
        (None, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Refusal::Reset,
        (None, ErrorKind::ConnectionRefused) => Refusal::NotConnected,
        (None, _) => panic!("neither let in nor refused: {error}"),
    }
}

/// Fits the smallest send buffer that Linux starts with, so a peer may echo it in one go.
const CHUNK: usize = 16 * 1024;
