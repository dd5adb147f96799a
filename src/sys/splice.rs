//! `splice(2)`: bytes from socket to socket through a pipe, without entering this process.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What one pipe holds: the kernel's unprivileged maximum is 1 MiB, but a user's pipes together are
/// limited (pipe-user-pages-soft, 64 MiB), and 256 KiB already amortises the two system calls.
const PIPE_BYTES: usize = 256 * 1024;

/// Idle pipes kept for the next taker.
const POOL_MAX: usize = 32;

/// Pipes of one worker, idle ones and those that hold bytes for a reader that stalls. Flows beyond
/// go by receive and send: stalling must not be a way to take every descriptor (threat 31).
pub const PIPES_MAX: usize = 64;

/// Descriptors of one pipe.
pub const PIPE_DESCRIPTORS: usize = 2;

/// A pipe with `filled` bytes in it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    filled: usize,
    capacity: usize,
    /// Counts this pipe as long as it lives.
    _alive: Alive,
}

/// One pipe in the count of its pool.
#[derive(Debug)]
struct Alive(Rc<Cell<usize>>);

/// The empty pipes of one worker.
#[derive(Debug, Default)]
pub struct PipePool {
    idle: RefCell<Vec<Pipe>>,
    /// Idle or not.
    alive: Rc<Cell<usize>>,
}

impl Pipe {
    fn new(alive: Alive) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Over the user's limit the pipe keeps its 64 KiB: smaller, not wrong.
        let capacity = fcntl_setpipe_size(&write, PIPE_BYTES).unwrap_or(64 * 1024);
        Ok(Self { read, write, filled: 0, capacity, _alive: alive })
    }

    /// Moves bytes from a socket into the pipe. `Ok(0)` is the end of the stream.
    pub fn fill_from(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let room = self.capacity - self.filled;
        let moved = splice(socket, None, &self.write, None, room, flags())?;
        self.filled += moved;
        Ok(moved)
    }

    /// Moves bytes from the pipe into a socket.
    pub fn drain_to(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let moved = splice(&self.read, None, socket, None, self.filled, flags())?;
        self.filled -= moved;
        Ok(moved)
    }

    /// Bytes in the pipe.
    pub fn filled(&self) -> usize {
        self.filled
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

impl Alive {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl PipePool {
    /// Whether `take` has a pipe to give. Where not (`PIPES_MAX`, or out of descriptors or pipe
    /// pages) the caller goes on with receive and send.
    pub fn has_one(&self) -> bool {
        if !self.idle.borrow().is_empty() {
            return true;
        }
        match self.make() {
            Ok(pipe) => {
                self.put(pipe);
                true
            }
            Err(_) => false,
        }
    }

    /// An empty pipe.
    ///
    /// # Errors
    /// Never after `has_one`.
    pub fn take(&self) -> io::Result<Pipe> {
        let idle = self.idle.borrow_mut().pop();
        idle.map_or_else(|| self.make(), Ok)
    }

    fn make(&self) -> io::Result<Pipe> {
        if self.alive.get() >= PIPES_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Pipe::new(Alive::new(&self.alive))
    }

    /// Takes a pipe back; one that still holds bytes is closed instead.
    pub fn put(&self, pipe: Pipe) {
        let mut idle = self.idle.borrow_mut();
        if pipe.is_empty() && idle.len() < POOL_MAX {
            idle.push(pipe);
        }
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::NONBLOCK | SpliceFlags::MOVE
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_pass_in_order_and_the_end_is_zero() {
        let (mut client, inside) = pair();
        let (outside, mut server) = pair();
        client.write_all(b"through the pipe").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let pool = PipePool::default();
        let mut pipe = pool.take().unwrap();
        let mut moved = 0;
        while moved < 16 {
            moved += pipe.fill_from(&inside).unwrap();
        }
        while !pipe.is_empty() {
            pipe.drain_to(&outside).unwrap();
        }
        assert_eq!(pipe.fill_from(&inside).unwrap(), 0);
        let mut got = [0; 16];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"through the pipe");
        pool.put(pipe);
        assert_eq!(pool.idle.borrow().len(), 1);
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_not_pooled() {
        let (mut client, inside) = pair();
        client.write_all(b"left over").unwrap();
        let pool = PipePool::default();
        let mut pipe = pool.take().unwrap();
        pipe.fill_from(&inside).unwrap();
        pool.put(pipe);
        assert!(pool.idle.borrow().is_empty());
        assert_eq!(pool.alive.get(), 0);
    }

    // threat 31
    #[test]
    fn pipes_that_are_held_are_bounded_and_counted() {
        let pool = PipePool::default();
        let mut held: Vec<Pipe> = (0..PIPES_MAX).map(|_| pool.take().unwrap()).collect();
        assert!(!pool.has_one());
        assert!(pool.take().is_err());
        held.pop();
        assert!(pool.has_one());
        held.clear();
        assert_eq!(pool.alive.get(), 1, "the idle one");
    }
}
