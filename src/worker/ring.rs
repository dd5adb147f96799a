//! A socket whose readiness the thread's io_uring tells; bytes move by plain system calls.
//!
//! The kernel is never given memory: what is submitted are polls and cancellations, which hold a
//! descriptor and no address. So nothing that is dropped, and no order of completions, can let it
//! write where another connection reads (docs/adr/0011-io-uring-for-readiness.md has the numbers).
//! `socket` is who uses it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, Runtime, UnsubmittedOneshot};

use super::socket::Way;
use crate::sys::{ring, socket};

/// The runtime of a worker on io_uring.
pub(super) fn runtime() -> io::Result<Runtime> {
    Runtime::new(tokio_uring::builder().entries(ring::ENTRIES).uring_builder(&ring::settings()))
}

/// A non-blocking socket, and what is known of its readiness.
#[derive(Debug)]
pub(super) struct RingSocket {
    /// Shared with what is in flight: the descriptor stays open, and its number this socket's, until
    /// the kernel has answered the last of it.
    socket: Rc<OwnedFd>,
    receive: Readiness,
    send: Readiness,
}

/// Where one direction stands.
enum Readiness {
    /// As far as is known a system call would not have to wait.
    Ready,
    /// It would: to be asked before the next.
    Spent,
    Asked(InFlightOneshot<Rc<OwnedFd>, Answer>),
}

/// Takes the answer of the kernel.
struct Answer;

impl RingSocket {
    /// A socket that is not ready to be received from, as far as is known, and may be sent to.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket: Rc::new(socket), receive: Readiness::Spent, send: Readiness::Ready }
    }

    /// A socket that connects: it may be sent to once it is through, or failed.
    pub(super) fn connecting(socket: OwnedFd) -> Self {
        let mut connecting = Self::new(socket);
        connecting.send = Readiness::Spent;
        connecting
    }

    /// The descriptor, for another runtime; another one of the same socket where the kernel was asked
    /// about this one, which its answer closes.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub(super) fn release(self) -> io::Result<OwnedFd> {
        let socket = Rc::clone(&self.socket);
        drop(self);
        Rc::try_unwrap(socket).or_else(|asked| asked.try_clone())
    }

    /// The next receive is to look for itself, even if it was never asked about.
    pub(super) fn doubt(&mut self) {
        if matches!(self.receive, Readiness::Spent) {
            self.receive = Readiness::Ready;
        }
    }

    /// Lets others have their turn: the task is woken once the kernel, asked again, says that there is more.
    pub(super) fn ask_anew(&mut self, cx: &mut Context<'_>) {
        self.spend(Way::Receive);
        if self.poll_ready(Way::Receive, cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Waits until `way` is ready, or its failure is there to be met.
    pub(super) fn poll_ready(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (readiness, events) = match way {
            Way::Receive => (&mut self.receive, PollFlags::IN),
            Way::Send => (&mut self.send, PollFlags::OUT),
        };
        loop {
            match readiness {
                Readiness::Ready => return Poll::Ready(Ok(())),
                Readiness::Spent => *readiness = Readiness::Asked(ask(&self.socket, events)),
                Readiness::Asked(asked) => {
                    let answer = ready!(Pin::new(asked).poll(cx));
                    *readiness = Readiness::Ready;
                    return Poll::Ready(answer);
                }
            }
        }
    }

    /// Calls `work` on the socket, which has shown itself ready; when it is not, it is asked anew
    /// before the next call.
    pub(super) fn try_io<T>(
        &mut self,
        way: Way,
        work: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let done = work(self.socket.as_fd());
        if done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.spend(way);
        }
        done
    }

    /// Waits until `way` is ready, and calls `work` until that does not say that it is not.
    pub(super) fn poll_io<T>(
        &mut self,
        way: Way,
        cx: &mut Context<'_>,
        mut work: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_ready(way, cx))?;
            match self.try_io(way, &mut work) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    pub(super) fn poll_receive(
        &mut self,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.poll_io(Way::Receive, cx, |socket| {
            let (received, _) = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?;
            Ok(received)
        }))?;
        // It had less than there was room for: it is empty now. At its end it stays ready.
        if 0 < received && received < buffer.len() {
            self.spend(Way::Receive);
        }
        Poll::Ready(Ok(received))
    }

    /// Looks at the next byte and leaves it; 0 is the end of the stream.
    pub(super) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_io(Way::Receive, cx, |socket| {
            let (peeked, _) = rustix::net::recv(socket, &mut [0; 1], RecvFlags::PEEK)?;
            Ok(peeked)
        })
    }

    pub(super) fn poll_send(
        &mut self,
        bytes: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(self.poll_io(Way::Send, cx, |socket| {
            Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)
        }))?;
        if sent < bytes.len() {
            self.spend(Way::Send);
        }
        Poll::Ready(Ok(sent))
    }

    /// The next connection of a listening socket.
    pub(super) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(OwnedFd, Option<SocketAddr>)>> {
        self.poll_io(Way::Receive, cx, |listener| socket::accept(listener))
    }

    fn spend(&mut self, way: Way) {
        match way {
            Way::Receive => self.receive = Readiness::Spent,
            Way::Send => self.send = Readiness::Spent,
        }
    }

    fn is_asked(&self) -> bool {
        [&self.receive, &self.send].into_iter().any(|one| matches!(one, Readiness::Asked(_)))
    }
}

impl AsFd for RingSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for RingSocket {
    /// What the kernel was asked holds the socket open, whoever closes the descriptor: the peer would
    /// see no end before it sends something. So it is taken back, and the answer closes.
    fn drop(&mut self) {
        if self.is_asked() {
            let socket = Fd(self.socket.as_raw_fd());
            let all = opcode::AsyncCancel2::new(CancelBuilder::fd(socket).all()).build();
            drop(UnsubmittedOneshot::new(Rc::clone(&self.socket), Answer, all).submit());
        }
    }
}

impl OneshotOutputTransform for Answer {
    type Output = io::Result<()>;
    type StoredData = Rc<OwnedFd>;

    fn transform_oneshot_output(self, _: Rc<OwnedFd>, answer: cqueue::Entry) -> io::Result<()> {
        match answer.result() {
            0.. => Ok(()),
            error => Err(Errno::from_raw_os_error(-error).into()),
        }
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ready => "Ready",
            Self::Spent => "Spent",
            Self::Asked(_) => "Asked",
        })
    }
}

/// Asks the kernel to tell once one of `events` is there, or an error, or is already.
fn ask(socket: &Rc<OwnedFd>, events: PollFlags) -> InFlightOneshot<Rc<OwnedFd>, Answer> {
    let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), u32::from(events.bits())).build();
    UnsubmittedOneshot::new(Rc::clone(socket), Answer, poll).submit()
}

/// Waits until the descriptor can be read.
///
/// # Errors
/// The kernel does not watch it.
pub(super) async fn readable(descriptor: &Rc<OwnedFd>) -> io::Result<()> {
    ask(descriptor, PollFlags::IN).await
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::task::Waker;

    use portcullis_kit::{PATIENCE, has_io_uring, missing};

    use super::*;

    /// Runs `test` with a socket of the ring and its peer, unless the kernel forbids rings.
    fn on_ring<F: Future<Output = ()>>(test: impl FnOnce(RingSocket, TcpStream) -> F) {
        if !has_io_uring() {
            return missing("io_uring", "a kernel and a sandbox that allow it");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        runtime().unwrap().block_on(async {
            let test = test(RingSocket::new(near.into()), peer);
            tokio::time::timeout(PATIENCE, test).await.expect("a test that ends");
        });
    }

    /// Lets what was submitted go to the kernel, and its answers come.
    async fn turn() {
        for _ in 0..3 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    async fn receive(socket: &mut RingSocket, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| socket.poll_receive(buffer, cx)).await
    }

    #[test]
    fn bytes_are_received_as_they_come_and_the_end_is_zero() {
        on_ring(|mut socket, mut peer| async move {
            let mut buffer = [0; 4];
            for part in [&b"1234"[..], b"5", b"678"] {
                peer.write_all(part).unwrap();
                let received = receive(&mut socket, &mut buffer).await.unwrap();
                assert_eq!(&buffer[..received], part);
            }
            drop(peer);
            assert_eq!(receive(&mut socket, &mut buffer).await.unwrap(), 0);
            assert_eq!(receive(&mut socket, &mut buffer).await.unwrap(), 0, "it stays the end");
        });
    }

    #[test]
    fn a_peek_takes_nothing() {
        on_ring(|mut socket, mut peer| async move {
            peer.write_all(b"x").unwrap();
            assert_eq!(poll_fn(|cx| socket.poll_peek(cx)).await.unwrap(), 1);
            assert_eq!(receive(&mut socket, &mut [0; 4]).await.unwrap(), 1);
        });
    }

    #[test]
    fn a_full_socket_is_waited_for_and_loses_nothing() {
        on_ring(|mut socket, mut peer| async move {
            let bytes = vec![7; 64 * 1024];
            let mut sent = 0;
            let mut context = Context::from_waker(Waker::noop());
            while let Poll::Ready(taken) = socket.poll_send(&bytes, &mut context) {
                sent += taken.unwrap();
            }
            assert!(matches!(socket.send, Readiness::Asked(_)));
            let reader = std::thread::spawn(move || {
                let mut received = Vec::new();
                peer.read_to_end(&mut received).unwrap();
                received.len()
            });
            sent += poll_fn(|cx| socket.poll_send(&bytes, cx)).await.unwrap();
            drop(socket);
            assert_eq!(reader.join().unwrap(), sent);
        });
    }

    // Without the cancellation the kernel's poll would hold the socket open until the peer speaks.
    #[test]
    fn a_silent_peer_sees_the_end_of_a_socket_that_is_dropped_while_asked_about() {
        on_ring(|mut socket, mut peer| async move {
            let mut context = Context::from_waker(Waker::noop());
            assert!(socket.poll_receive(&mut [0; 4], &mut context).is_pending());
            turn().await;
            drop(socket);
            turn().await;
            assert_eq!(peer.read(&mut [0; 4]).unwrap(), 0);
        });
    }

    #[test]
    fn a_number_is_not_given_to_another_socket_while_the_kernel_is_asked_about_it() {
        on_ring(|mut socket, _peer| async move {
            let number = socket.as_fd().as_raw_fd();
            let mut context = Context::from_waker(Waker::noop());
            assert!(socket.poll_receive(&mut [0; 4], &mut context).is_pending());
            drop(socket);
            // Neither the poll nor what takes it back is with the kernel yet.
            let other = TcpListener::bind("127.0.0.1:0").unwrap();
            assert_ne!(other.as_raw_fd(), number);
            turn().await;
        });
    }

    #[test]
    fn a_socket_that_was_asked_about_is_released_under_another_number() {
        on_ring(|mut socket, mut peer| async move {
            let number = socket.as_fd().as_raw_fd();
            let mut context = Context::from_waker(Waker::noop());
            assert!(socket.poll_receive(&mut [0; 4], &mut context).is_pending());
            let released = socket.release().unwrap();
            assert_ne!(released.as_raw_fd(), number);
            turn().await;
            let mut socket = RingSocket::new(released);
            peer.write_all(b"x").unwrap();
            assert_eq!(receive(&mut socket, &mut [0; 4]).await.unwrap(), 1);
            drop(socket);
            assert_eq!(peer.read(&mut [0; 4]).unwrap(), 0, "nothing else holds it open");
        });
    }

    #[test]
    fn a_socket_that_was_not_asked_about_is_released_as_it_is() {
        on_ring(|socket, mut peer| async move {
            let mut socket = RingSocket::new(socket.release().unwrap());
            peer.write_all(b"x").unwrap();
            assert_eq!(receive(&mut socket, &mut [0; 4]).await.unwrap(), 1);
        });
    }
}
