//! Receiving and sending on a connected socket within one poll, on the thread's scratch.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::Worker;
use crate::sys::socket;

/// A socket of this worker's runtime from a non-blocking descriptor.
pub(crate) fn register(socket: OwnedFd) -> io::Result<TcpStream> {
    TcpStream::from_std(socket.into())
}

/// Receives into `buffer`; 0 is the end of the stream. Not `try_read`: on a partial read tokio knows
/// that the socket is empty and spares the EAGAIN.
pub(crate) fn poll_receive(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    match Pin::new(stream).poll_read(cx, &mut buffer) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}

/// Sends what the socket takes of `bytes`; returns how many are left, 0 where all went.
pub(crate) fn poll_send(
    stream: &mut TcpStream,
    bytes: &[u8],
    cx: &mut Context<'_>,
) -> io::Result<usize> {
    let mut left = bytes;
    while !left.is_empty() {
        match Pin::new(&mut *stream).poll_write(cx, left) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(sent)) => left = &left[sent..],
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    Ok(left.len())
}

/// Sends all of `bytes`.
/// As `poll_send`, for bytes that the end of this direction follows at once: see
/// `socket::send_before_end`.
pub(crate) fn poll_send_last(
    stream: &mut TcpStream,
    bytes: &[u8],
    cx: &mut Context<'_>,
) -> io::Result<usize> {
    while stream.poll_write_ready(cx)?.is_ready() {
        match stream.try_io(Interest::WRITABLE, || socket::send_before_end(stream, bytes)) {
            Ok(sent) => return poll_send(stream, &bytes[sent..], cx),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes.len())
}

pub(crate) async fn send_all(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    poll_fn(|cx| {
        let left = poll_send(stream, &bytes[sent..], cx)?;
        sent = bytes.len() - left;
        if left == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// Says goodbye without eating what was sent: FIN, then reads to the end of the stream (so that the
/// kernel does not answer unread bytes with a reset), then closes. The caller bounds the time.
pub(crate) async fn linger(worker: &Worker, stream: &mut TcpStream) {
    if socket::shutdown_write(stream).is_err() {
        return;
    }
    let mut dropped = 0;
    while dropped < LINGER_BYTES_MAX {
        let received = poll_fn(|cx| {
            let scratch = &mut *worker.scratch.borrow_mut();
            poll_receive(stream, &mut scratch.input, cx)
        })
        .await;
        match received {
            Ok(0) | Err(_) => return,
            Ok(received) => dropped += received,
        }
    }
}

/// The coming close is to be a reset.
pub(crate) fn reset(stream: &TcpStream) {
    // A socket that can no longer take the option is reset already.
    drop(socket::reset_on_close(stream));
}

/// What is dropped of a peer that was refused and goes on sending.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
