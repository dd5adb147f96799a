//! The socket of the admin endpoint: TCP or a unix socket with its file.
//!
//! Replaces the file of a socket that nobody listens on, never one that is in use nor anything else;
//! removes its own at the end.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::plan::AdminAddress;

/// Bound and listening, not yet served.
#[derive(Debug)]
pub struct AdminListener {
    socket: BoundSocket,
    address: String,
}

#[derive(Debug)]
enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

/// The listening socket in a runtime.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(TcpListener),
    /// The file goes when the listener does.
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

/// The file of a bound unix socket; removed at drop, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: Option<(u64, u64)>,
}

impl AdminListener {
    /// # Errors
    /// The address is in use or not ours, or the file cannot be made.
    pub fn bind(address: &AdminAddress) -> io::Result<Self> {
        match address {
            AdminAddress::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?.to_string();
                Ok(Self { socket: BoundSocket::Tcp(listener), address })
            }
            AdminAddress::Unix(path) => {
                let (listener, file) = bind_unix(path)?;
                let address = format!("unix:{}", path.display());
                Ok(Self { socket: BoundSocket::Unix(listener, file), address })
            }
        }
    }

    /// As the configuration writes it, with the port that the system chose.
    pub fn local_addr(&self) -> &str {
        &self.address
    }
}

impl Acceptor {
    /// # Errors
    /// The runtime does not take the socket.
    pub(super) fn new(listener: AdminListener) -> io::Result<Self> {
        Ok(match listener.socket {
            BoundSocket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            BoundSocket::Unix(listener, file) => {
                Self::Unix { listener: UnixListener::from_std(listener)?, _file: file }
            }
        })
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, peer.ip()))
            }
            Self::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| Accepted::Unix(stream))
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Left behind, it is found stale at the next start.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    use std::os::unix::net::UnixListener;
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path)? => {
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    let file = SocketFile { path: path.to_owned(), identity: identity(path) };
    listener.set_nonblocking(true)?;
    // For the group too: a collector of metrics is seldom the same user.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok((listener, file))
}

/// Whether this is a socket that nobody listens on.
fn is_stale(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    // Without waiting: a full backlog is somebody who listens.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    let refused = probe.connect(&SockAddr::unix(path)?);
    Ok(refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
