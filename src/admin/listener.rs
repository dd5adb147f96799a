//! The socket of the admin endpoint: TCP or a unix socket with its file.
//!
//! Replaces the file of a socket that nobody listens on, never one that is in use nor anything else;
//! removes its own at the end, unless another process goes on with the socket.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::plan::AdminAddress;

/// Bound and listening, not yet served.
#[derive(Debug)]
pub struct AdminListener {
    socket: BoundSocket,
    configured: AdminAddress,
    address: String,
}

/// A listening socket that somebody else has bound.
#[derive(Debug)]
pub enum AdminSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// The same socket, for a process that goes on with it.
#[derive(Debug)]
pub struct AdminShare {
    configured: AdminAddress,
    socket: OwnedFd,
    /// That of a unix socket belongs to the other process.
    is_let_go: Arc<AtomicBool>,
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
    is_let_go: Arc<AtomicBool>,
}

impl AdminListener {
    /// # Errors
    /// The address is in use or not ours, or the file cannot be made.
    pub fn bind(address: &AdminAddress) -> io::Result<Self> {
        match address {
            AdminAddress::Tcp(at) => {
                let listener = std::net::TcpListener::bind(at)?;
                listener.set_nonblocking(true)?;
                SockRef::from(&listener).listen(BACKLOG)?;
                Self::new(BoundSocket::Tcp(listener), address.clone())
            }
            AdminAddress::Unix(path) => {
                let (listener, file) = bind_unix(path)?;
                Self::new(BoundSocket::Unix(listener, file), address.clone())
            }
        }
    }

    /// With a socket that listens on `address` already. The file of a unix socket is removed at the end
    /// if it is ours.
    ///
    /// # Errors
    /// It is no such socket.
    pub fn given(socket: AdminSocket, address: &AdminAddress, owns_file: bool) -> io::Result<Self> {
        let socket = match (socket, address) {
            (AdminSocket::Tcp(listener), AdminAddress::Tcp(_)) => {
                listener.set_nonblocking(true)?;
                BoundSocket::Tcp(listener)
            }
            (AdminSocket::Unix(listener), AdminAddress::Unix(path)) => {
                listener.set_nonblocking(true)?;
                let file = SocketFile::at(path);
                file.is_let_go.store(!owns_file, Ordering::Relaxed);
                BoundSocket::Unix(listener, file)
            }
            (AdminSocket::Tcp(_) | AdminSocket::Unix(_), _) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        };
        Self::new(socket, address.clone())
    }

    fn new(socket: BoundSocket, configured: AdminAddress) -> io::Result<Self> {
        let address = match (&socket, &configured) {
            (BoundSocket::Tcp(listener), _) => listener.local_addr()?.to_string(),
            (BoundSocket::Unix(..), AdminAddress::Unix(path)) => format!("unix:{}", path.display()),
            (BoundSocket::Unix(..), AdminAddress::Tcp(address)) => address.to_string(),
        };
        Ok(Self { socket, configured, address })
    }

    /// # Errors
    /// No descriptor is left.
    pub fn share(&self) -> io::Result<AdminShare> {
        let (socket, is_let_go) = match &self.socket {
            BoundSocket::Tcp(listener) => (listener.as_fd(), Arc::default()),
            BoundSocket::Unix(listener, file) => (listener.as_fd(), Arc::clone(&file.is_let_go)),
        };
        let (configured, socket) = (self.configured.clone(), socket.try_clone_to_owned()?);
        Ok(AdminShare { configured, socket, is_let_go })
    }

    /// As the configuration writes it, with the port that the system chose.
    pub fn local_addr(&self) -> &str {
        &self.address
    }
}

impl AdminShare {
    /// As the configuration has it.
    pub fn address(&self) -> &AdminAddress {
        &self.configured
    }

    /// # Errors
    /// No descriptor is left.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Whether the file of a unix socket is removed at the end, by this process or the other.
    pub fn owns_file(&self) -> bool {
        !self.is_let_go.load(Ordering::Acquire)
    }

    /// The other process goes on with the socket, and with its file.
    pub fn let_go(self) {
        self.is_let_go.store(true, Ordering::Release);
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

impl SocketFile {
    fn at(path: &Path) -> Self {
        let identity = identity(path);
        Self { path: path.to_owned(), identity, is_let_go: Arc::default() }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_let_go.load(Ordering::Acquire) {
            return;
        }
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
    let file = SocketFile::at(path);
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

/// std asks for 128, which a crowd fills between two turns of the thread; then the system drops who comes, and a
/// probe tries again only a second later. The kernel has a limit of its own, `net.core.somaxconn`.
const BACKLOG: i32 = 1024;
