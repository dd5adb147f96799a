//! A connected or listening socket of a worker, on whichever driver the process runs.
//!
//! On epoll it is tokio's, and its `poll_read` and `poll_write`; `ring` is the other one. Which of
//! them, is asked at every call: one comparison, and neither a call through a table nor a second copy
//! of all that is above. Next: `stream`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::ring::RingSocket;
use crate::config::plan::Io;

/// A socket of this worker's runtime.
#[derive(Debug)]
pub(crate) enum Socket {
    Epoll(TcpStream),
    /// Boxed, so that a socket on epoll is no larger for it.
    Ring(Box<RingSocket>),
}

/// A listening socket of this worker's runtime.
#[derive(Debug)]
pub(super) enum Listener {
    Epoll(tokio::net::TcpListener),
    Ring { socket: RingSocket, turns: u32 },
}

/// A direction of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Receive,
    Send,
}

impl Socket {
    /// From a non-blocking descriptor.
    pub(super) fn new(io: Io, socket: OwnedFd) -> io::Result<Self> {
        Ok(match io {
            Io::Epoll => Self::Epoll(TcpStream::from_std(socket.into())?),
            Io::IoUring => Self::Ring(Box::new(RingSocket::new(socket))),
        })
    }

    /// From a non-blocking descriptor that connects; `Way::Send` is ready once it is through, or failed.
    pub(super) fn connecting(io: Io, socket: OwnedFd) -> io::Result<Self> {
        match io {
            Io::Epoll => Self::new(io, socket),
            Io::IoUring => Ok(Self::Ring(Box::new(RingSocket::connecting(socket)))),
        }
    }

    /// A descriptor of the socket, for another runtime.
    pub(super) fn release(self) -> io::Result<OwnedFd> {
        match self {
            Self::Epoll(stream) => stream.into_std().map(OwnedFd::from),
            Self::Ring(socket) => socket.release(),
        }
    }

    /// Receives into `buffer`; 0 is the end of the stream. Not `try_read`: on a partial read tokio
    /// knows that the socket is empty and spares the EAGAIN.
    pub(super) fn poll_receive(
        &mut self,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Epoll(stream) => {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
            Self::Ring(socket) => socket.poll_receive(buffer, cx),
        }
    }

    /// For whoever receives without waiting: the next receive finds what is there, even where nobody
    /// waited for it before. On epoll the runtime has it from the kernel all the time.
    pub(super) fn doubt(&mut self) {
        match self {
            Self::Epoll(_) => {}
            Self::Ring(socket) => socket.doubt(),
        }
    }

    /// Looks at the next byte and leaves it; 0 is the end of the stream.
    pub(super) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Epoll(stream) => {
                let mut byte = [std::mem::MaybeUninit::uninit(); 1];
                stream.poll_peek(cx, &mut ReadBuf::uninit(&mut byte))
            }
            Self::Ring(socket) => socket.poll_peek(cx),
        }
    }

    /// Sends some of `bytes`.
    pub(super) fn poll_send(
        &mut self,
        bytes: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Epoll(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Ring(socket) => socket.poll_send(bytes, cx),
        }
    }

    /// Waits until a system call in this direction need not.
    pub(super) fn poll_ready(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match (self, way) {
            (Self::Epoll(stream), Way::Receive) => stream.poll_read_ready(cx),
            (Self::Epoll(stream), Way::Send) => stream.poll_write_ready(cx),
            (Self::Ring(socket), way) => socket.poll_ready(way, cx),
        }
    }

    /// Calls `work` on a socket that is ready; `WouldBlock` says that it is not any more.
    pub(super) fn try_io<T>(
        &mut self,
        way: Way,
        work: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        match (self, way) {
            (Self::Epoll(stream), Way::Receive) => {
                stream.try_io(Interest::READABLE, || work(stream.as_fd()))
            }
            (Self::Epoll(stream), Way::Send) => {
                stream.try_io(Interest::WRITABLE, || work(stream.as_fd()))
            }
            (Self::Ring(socket), way) => socket.try_io(way, work),
        }
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        let address = rustix::net::getsockname(self).ok()?;
        SocketAddr::try_from(address).ok()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Epoll(stream) => stream.as_fd(),
            Self::Ring(socket) => socket.as_fd(),
        }
    }
}

impl Listener {
    pub(super) fn new(io: Io, socket: TcpListener) -> io::Result<Self> {
        Ok(match io {
            Io::Epoll => Self::Epoll(tokio::net::TcpListener::from_std(socket)?),
            Io::IoUring => Self::Ring { socket: RingSocket::new(socket.into()), turns: 0 },
        })
    }

    /// The next connection. In a flood others get their turn in between: on epoll the runtime sees to
    /// it.
    pub(super) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Socket, SocketAddr)>> {
        let (socket, turns) = match self {
            Self::Epoll(listener) => {
                let (stream, source) = ready!(listener.poll_accept(cx))?;
                return Poll::Ready(Ok((Socket::Epoll(stream), source)));
            }
            Self::Ring { socket, turns } => (socket, turns),
        };
        if *turns >= TURNS_MAX {
            *turns = 0;
            socket.ask_anew(cx);
            return Poll::Pending;
        }
        let Poll::Ready(accepted) = socket.poll_accept(cx) else {
            *turns = 0;
            return Poll::Pending;
        };
        *turns += 1;
        let (socket, source) = accepted?;
        // Only one that is gone already has no address.
        let source = source.ok_or(io::ErrorKind::ConnectionAborted)?;
        Poll::Ready(Ok((Socket::new(Io::IoUring, socket)?, source)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Epoll(listener) => listener.as_fd(),
            Self::Ring { socket, .. } => socket.as_fd(),
        }
    }
}

/// Connections that one listening socket gives in a row, about what tokio allows a task.
const TURNS_MAX: u32 = 64;
