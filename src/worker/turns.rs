//! Whose turn it is on a worker, where sessions never pause: each gets a share, and between two rounds the
//! runtime is asked what came for the others.
//!
//! A task that wakes itself comes up again before sockets are looked at: tokio looks once in 61 tasks, and
//! tokio-uring hands nothing to the kernel before a thread has nothing left to do. So who goes on waits until
//! that has been done.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;

use super::ring;
use super::scratch::RECEIVE_BYTES_MAX;
use crate::config::plan::Io;

/// The sessions of one worker that go on.
#[derive(Debug)]
pub(super) struct Turns {
    io: Io,
    busy: Rc<Cell<usize>>,
    /// On io_uring: who goes on in the next round.
    waiting: RefCell<Vec<Waker>>,
    begun: Notify,
}

/// A session that goes on, as long as it is kept.
#[derive(Debug)]
pub(super) struct Busy(Rc<Cell<usize>>);

impl Turns {
    pub(super) fn new(io: Io) -> Self {
        Self { io, busy: Rc::default(), waiting: RefCell::default(), begun: Notify::new() }
    }

    /// Bytes that one session may move in one poll.
    pub(super) fn share(&self) -> usize {
        (ROUND_BYTES / self.busy.get().max(1)).clamp(SHARE_MIN, RECEIVE_BYTES_MAX)
    }

    pub(super) fn enter(&self) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(&self.busy))
    }

    /// Wakes the task once the runtime has looked at sockets and timers.
    pub(super) fn after_others(&self, cx: &mut Context<'_>) {
        match self.io {
            Io::Epoll => {
                // Its first poll leaves the waker with the runtime, for when it has looked.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
            }
            Io::IoUring => {
                self.waiting.borrow_mut().push(cx.waker().clone());
                self.begun.notify_one();
            }
        }
    }

    /// Begins the rounds on io_uring: asks for a descriptor that is always ready, as all is handed to the kernel
    /// that others ask for.
    ///
    /// # Errors
    /// There is no such descriptor, or the kernel does not tell of it.
    pub(super) async fn drive(&self) -> io::Result<()> {
        let ready: Rc<OwnedFd> = Rc::new(eventfd(1, EventfdFlags::CLOEXEC)?);
        loop {
            self.begun.notified().await;
            ring::readable(&ready).await?;
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What a round may take, if all go on: some five milliseconds of work.
const ROUND_BYTES: usize = 8 * 1024 * 1024;

/// Less at once costs more than it moves.
const SHARE_MIN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_shared_by_those_who_go_on() {
        let turns = Turns::new(Io::Epoll);
        assert_eq!(turns.share(), RECEIVE_BYTES_MAX);
        let mut busy: Vec<_> = (0..64).map(|_| turns.enter()).collect();
        assert_eq!(turns.share(), ROUND_BYTES / 64);
        busy.extend((0..1_000).map(|_| turns.enter()));
        assert_eq!(turns.share(), SHARE_MIN);
        drop(busy);
        assert_eq!(turns.share(), RECEIVE_BYTES_MAX);
    }
}
