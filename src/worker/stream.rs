//! Sending on a connected socket, and leaving it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use super::Worker;
use super::socket::{Socket, Way};
use crate::sys::socket;

/// Sends what the socket takes of `bytes`; returns how many are left, 0 where all went.
pub(crate) fn poll_send(
    stream: &mut Socket,
    bytes: &[u8],
    cx: &mut Context<'_>,
) -> io::Result<usize> {
    let mut left = bytes;
    while !left.is_empty() {
        match stream.poll_send(left, cx) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(sent)) => left = &left[sent..],
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    Ok(left.len())
}

/// As `poll_send`, for bytes that others, or the end of this direction, soon follow: see
/// `socket::send_before_more`.
pub(crate) fn poll_send_with_more(
    stream: &mut Socket,
    bytes: &[u8],
    cx: &mut Context<'_>,
) -> io::Result<usize> {
    while !bytes.is_empty() && stream.poll_ready(Way::Send, cx)?.is_ready() {
        match stream.try_io(Way::Send, |socket| socket::send_before_more(&socket, bytes)) {
            Ok(sent) => return poll_send(stream, &bytes[sent..], cx),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes.len())
}

/// Sends all of `bytes`.
pub(crate) async fn send_all(stream: &mut Socket, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    poll_fn(|cx| {
        let left = poll_send(stream, &bytes[sent..], cx)?;
        sent = bytes.len() - left;
        if left == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// As `send_all`, for bytes that soon have others behind them: see `socket::send_before_more`.
pub(crate) async fn send_with_more(stream: &mut Socket, bytes: &[u8]) -> io::Result<()> {
    let left = poll_fn(|cx| Poll::Ready(poll_send_with_more(stream, bytes, cx))).await?;
    send_all(stream, &bytes[bytes.len() - left..]).await
}

/// Says goodbye without eating what was sent: FIN, then reads to the end of the stream (so that the
/// kernel does not answer unread bytes with a reset), then closes. The caller bounds the time.
pub(crate) async fn linger(worker: &Worker, stream: &mut Socket) {
    if socket::shutdown_write(stream).is_err() {
        return;
    }
    let mut dropped = 0;
    while dropped < LINGER_BYTES_MAX {
        let received = poll_fn(|cx| {
            let scratch = &mut *worker.scratch.borrow_mut();
            stream.poll_receive(&mut scratch.input, cx)
        })
        .await;
        match received {
            Ok(0) | Err(_) => return,
            Ok(received) => dropped += received,
        }
    }
}

/// The coming close is to be a reset.
pub(crate) fn reset(stream: &Socket) {
    // A socket that can no longer take the option is reset already.
    drop(socket::reset_on_close(stream));
}

/// What is dropped of a peer that was refused and goes on sending.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
