//! Lets the bytes of a fast flow gather in its socket (SO_RCVLOWAT), as `core::coalescing` says.
//!
//! Only a flow that has carried a mebibyte has anything here. What does not come up to the mark is
//! fetched by a timer of the runtime, finer than those of `timers`.

use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use tokio::time::Sleep;

use super::socket::Socket;
use crate::core::coalescing::{Coalescing, NO_MARK};
use crate::core::relay::Side;
use crate::sys::{clock, socket};

/// From so many bytes on a flow is looked at.
const FROM: u64 = 1024 * 1024;

/// The flows of a session that are looked at, by the side that their bytes come from.
#[derive(Debug, Default)]
pub(super) struct Gathers {
    flows: [Option<Box<Gather>>; 2],
}

#[derive(Debug)]
struct Gather {
    coalescing: Coalescing,
    /// Set once there has been a mark.
    hold: Option<Pin<Box<Sleep>>>,
}

impl Gathers {
    /// `bytes` came from the source; with those before they are `so_far`.
    pub(super) fn received(
        &mut self,
        from: Side,
        source: &Socket,
        so_far: u64,
        bytes: u64,
        now: Instant,
    ) {
        if bytes > 0
            && let Some(answered) = &mut self.flows[from.other() as usize]
        {
            answered.coalescing.answer();
        }
        if so_far < FROM {
            return;
        }
        let gather = self.flows[from as usize].get_or_insert_with(|| {
            Box::new(Gather { coalescing: Coalescing::new(now), hold: None })
        });
        if let Some(mark) = gather.coalescing.received(bytes, now) {
            // A socket that cannot have it is woken for each piece, as any other.
            drop(socket::receive_low_water(source, mark));
        }
    }

    /// Nothing more can be received at this moment. Sees to it that what gathers does not wait for long:
    /// once it has, the mark is taken away, and the socket tells of what it has.
    pub(super) fn hold(
        &mut self,
        from: Side,
        source: &Socket,
        is_wanted: bool,
        cx: &mut Context<'_>,
    ) {
        let Some(gather) = &mut self.flows[from as usize] else { return };
        match is_wanted {
            true => gather.coalescing.want(clock::now()),
            false => gather.coalescing.hold_up(),
        }
        let Some(deadline) = gather.coalescing.deadline() else { return };
        let at = deadline.into();
        let hold = gather.hold.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if hold.deadline() != at {
            hold.as_mut().reset(at);
        }
        if hold.as_mut().poll(cx).is_ready() {
            gather.coalescing.overdue(clock::now());
            drop(socket::receive_low_water(source, NO_MARK));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::task::Poll;
    use std::time::Duration;

    use super::*;
    use crate::config::plan::Io;

    /// Whether `hold` tells of bytes below the mark by itself: no more of them come.
    #[tokio::test]
    async fn what_does_not_come_up_to_the_mark_is_told_all_the_same() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        accepted.set_nonblocking(true).unwrap();
        let mut socket = Socket::new(Io::Epoll, OwnedFd::from(accepted)).unwrap();
        let mut gathers = Gathers::default();
        let mut now = clock::now();
        for _ in 0..200 {
            now += Duration::from_micros(100);
            gathers.received(Side::Upstream, &socket, FROM, 100_000, now);
        }
        let marked = |gathers: &Gathers| {
            gathers.flows[Side::Upstream as usize].as_ref().unwrap().coalescing.deadline()
        };
        assert!(marked(&gathers).is_some());
        peer.write_all(b"a few bytes").unwrap();
        let mut buffer = [0; 64];
        let mut has_waited = false;
        let received = poll_fn(|cx| {
            match socket.poll_receive(&mut buffer, cx) {
                Poll::Ready(received) => return Poll::Ready(received),
                Poll::Pending => has_waited |= marked(&gathers).is_some(),
            }
            gathers.hold(Side::Upstream, &socket, true, cx);
            Poll::Pending
        });
        let received = tokio::time::timeout(Duration::from_secs(20), received).await;
        assert_eq!(received.unwrap().unwrap(), 11);
        assert!(has_waited, "the mark was never set on the socket");
        assert_eq!(marked(&gathers), None);
    }
}
