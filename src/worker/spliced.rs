//! Bytes that nobody opens, in bulk: `splice(2)` from socket to socket through a pooled pipe.
//!
//! Small streams go by receive and send, which cost one system call less; a flow that has carried
//! 64 KiB is bulk (0.22 CPU-ns a byte against 0.5). A pipe is held only while bytes are in it.

use std::io;
use std::task::{Context, Poll, ready};

use super::flow::Leg;
use super::socket::{Socket, Way};
use crate::core::relay::Side;
use crate::sys::splice::{Pipe, PipePool};
use crate::tls::Wire;

/// From here on a flow counts as bulk.
const SPLICE_FROM: u64 = 64 * 1024;

/// The pipes of one session that hold bytes, by the side that their flow comes from.
#[derive(Debug, Default)]
pub(super) struct Splices {
    pipes: [Option<Pipe>; 2],
}

/// What one pass did.
#[derive(Debug)]
pub(super) struct Passed {
    /// 0: the end of the stream.
    pub(super) received: usize,
    /// Bytes left in the pipe.
    pub(super) queued: usize,
    /// Why the destination takes no more.
    pub(super) refused: Option<io::Error>,
}

impl Splices {
    /// Whether the flow is one to splice: plain on both legs, bulk, nothing kept in between.
    pub(super) fn serve(source: &Leg, to: &Leg) -> bool {
        matches!((&source.wire, &to.wire), (Wire::Plain, Wire::Plain))
            && source.received >= SPLICE_FROM
            && source.partial.is_empty()
    }

    /// Receives into a pipe and sends from it. Called only while the flow's pipe is empty.
    pub(super) fn pass(
        &mut self,
        from: Side,
        source: &mut Socket,
        to: &mut Socket,
        pool: &PipePool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Passed>> {
        let mut pipe = loop {
            ready!(source.poll_ready(Way::Receive, cx))?;
            let mut pipe = pool.take()?;
            match source.try_io(Way::Receive, |source| pipe.fill_from(&source)) {
                Ok(0) => {
                    pool.put(pipe);
                    let end = Passed { received: 0, queued: 0, refused: None };
                    return Poll::Ready(Ok(end));
                }
                Ok(_) => break pipe,
                Err(error) => {
                    pool.put(pipe);
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        };
        let received = pipe.filled();
        let drained = empty(&mut pipe, to, cx);
        let queued = pipe.filled();
        if queued == 0 || drained.is_err() {
            pool.put(pipe);
        } else {
            self.pipes[from as usize] = Some(pipe);
        }
        Poll::Ready(Ok(Passed { received, queued, refused: drained.err() }))
    }

    /// Sends what is in the flow's pipe; returns how much is left.
    pub(super) fn drain(
        &mut self,
        from: Side,
        to: &mut Socket,
        pool: &PipePool,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        let Some(mut pipe) = self.pipes[from as usize].take() else { return Ok(0) };
        empty(&mut pipe, to, cx)?;
        let left = pipe.filled();
        if left == 0 {
            pool.put(pipe);
        } else {
            self.pipes[from as usize] = Some(pipe);
        }
        Ok(left)
    }

    /// Bytes in the flow's pipe.
    pub(super) fn queued(&self, from: Side) -> usize {
        self.pipes[from as usize].as_ref().map_or(0, Pipe::filled)
    }
}

/// Sends from the pipe until it is empty or the socket is full.
fn empty(pipe: &mut Pipe, to: &mut Socket, cx: &mut Context<'_>) -> io::Result<()> {
    while !pipe.is_empty() {
        match to.poll_ready(Way::Send, cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(ready) => ready?,
        }
        match to.try_io(Way::Send, |to| pipe.drain_to(&to)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
