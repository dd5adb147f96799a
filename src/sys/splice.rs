//! `splice(2)`: bytes from socket to socket through a pipe, without entering this process.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What one pipe holds: the kernel's unprivileged maximum is 1 MiB, but a user's pipes together are
/// limited (pipe-user-pages-soft, 64 MiB), and 256 KiB already amortises the two system calls.
const PIPE_BYTES: usize = 256 * 1024;

/// Idle pipes kept for the next taker.
const POOL_MAX: usize = 32;

/// A pipe with `filled` bytes in it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    filled: usize,
    capacity: usize,
}

/// The empty pipes of one worker.
#[derive(Debug, Default)]
pub struct PipePool {
    idle: RefCell<Vec<Pipe>>,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Over the user's limit the pipe keeps its 64 KiB: smaller, not wrong.
        let capacity = fcntl_setpipe_size(&write, PIPE_BYTES).unwrap_or(64 * 1024);
        Ok(Self { read, write, filled: 0, capacity })
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

impl PipePool {
    /// An empty pipe.
    ///
    /// # Errors
    /// Out of descriptors or pipe pages; the caller goes on with receive and send.
    pub fn take(&self) -> io::Result<Pipe> {
        match self.idle.borrow_mut().pop() {
            Some(pipe) => Ok(pipe),
            None => Pipe::new(),
        }
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
    }
}
