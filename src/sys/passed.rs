//! Listening sockets that systemd opened and passed (sd_listen_fds(3)).

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use super::program::variable;

/// One of them.
#[derive(Debug)]
pub struct Passed {
    /// `FileDescriptorName=` of the socket unit; the name of the unit where it says none.
    pub name: String,
    pub socket: PassedSocket,
}

#[derive(Debug)]
pub enum PassedSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Takes all of them. To be called once, before there is a second thread: it changes the environment.
///
/// # Errors
/// One is neither a TCP nor a unix socket.
pub fn take() -> io::Result<Vec<Passed>> {
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::with_capacity(passed.len());
    for at in 0..passed.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let socket = match passed.take_unix_listener(at) {
            Ok(socket) => socket.map(PassedSocket::Unix),
            Err(_not_unix) => passed.take_tcp_listener(at)?.map(PassedSocket::Tcp),
        };
        sockets.extend(socket.map(|socket| Passed { name, socket }));
    }
    Ok(sockets)
}
