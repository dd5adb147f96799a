//! Owns the bare forwarder of TCP that the floor is made from: one thread, edge-triggered epoll, one
//! large buffer or a pipe for each direction, and nothing else. It is no gateway: it gives up a
//! connection at the first error.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Forwards TCP and does nothing else: what any gateway costs at least
#[derive(Debug, Args)]
pub(crate) struct Forwarder {
    #[arg(value_enum)]
    how: How,
    /// Where to listen and whom to dial, LISTEN=TO
    #[arg(required = true, value_parser = route)]
    routes: Vec<(SocketAddr, SocketAddr)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    ReadWrite,
    Splice,
}

/// Two sockets, and for each what waits to be written to the other.
struct Pair {
    sides: [TcpStream; 2],
    waiting: [Waiting; 2],
    ended: [bool; 2],
}

enum Waiting {
    Bytes(Vec<u8>),
    Pipe { read: OwnedFd, write: OwnedFd, filled: usize },
}

fn route(text: &str) -> Result<(SocketAddr, SocketAddr)> {
    let (listen, to) = text.split_once('=').context("LISTEN=TO")?;
    Ok((listen.parse()?, to.parse()?))
}

impl Forwarder {
    /// Never ends by itself.
    pub(crate) fn execute(&self) -> Result<()> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::new();
        for (number, (listen, to)) in self.routes.iter().enumerate() {
            let listener = TcpListener::bind(listen)?;
            listener.set_nonblocking(true)?;
            let token = EventData::new_u64(LISTENER | number as u64);
            epoll::add(&poll, &listener, token, EventFlags::IN)?;
            listeners.push((listener, *to));
        }
        let mut pairs: HashMap<u64, Pair> = HashMap::new();
        let mut last = 0;
        let mut scratch = vec![0; BUFFER_BYTES];
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let token = event.data.u64();
                if token & LISTENER != 0 {
                    let at = usize::try_from(token & !LISTENER)?;
                    let Some((listener, to)) = listeners.get(at) else { continue };
                    while let Ok((client, _)) = listener.accept() {
                        if let Ok(pair) = Pair::new(client, *to, self.how) {
                            last += 1;
                            pair.register(&poll, last)?;
                            pairs.insert(last, pair);
                        }
                    }
                } else if let Some(pair) = pairs.get_mut(&(token / 2)) {
                    let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
                    let flags = event.flags;
                    let is_ending = flags.intersects(ends);
                    let from = usize::from(token % 2 == 1);
                    if pair.turn(from, is_ending, &mut scratch).is_err() || pair.is_over() {
                        pairs.remove(&(token / 2));
                    }
                }
            }
        }
    }
}

impl Pair {
    fn new(client: TcpStream, to: SocketAddr, how: How) -> Result<Self> {
        // On loopback this does not wait.
        let upstream = TcpStream::connect(to)?;
        for side in [&client, &upstream] {
            side.set_nonblocking(true)?;
            side.set_nodelay(true)?;
        }
        let waiting = [Waiting::new(how)?, Waiting::new(how)?];
        Ok(Self { sides: [client, upstream], waiting, ended: [false; 2] })
    }

    fn register(&self, poll: &OwnedFd, id: u64) -> Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (side, token) in self.sides.iter().zip(id * 2..) {
            epoll::add(poll, side, EventData::new_u64(token), flags)?;
        }
        Ok(())
    }

    /// Something happened at a side: it can be read, or be written to again.
    fn turn(&mut self, from: usize, is_ending: bool, scratch: &mut [u8]) -> io::Result<()> {
        self.forward(from, is_ending, scratch)?;
        let other = 1 - from;
        if self.waiting[other].is_empty() { Ok(()) } else { self.forward(other, true, scratch) }
    }

    /// Moves what a side has; all of it if `to_the_end`, else until a read comes back short.
    fn forward(&mut self, from: usize, to_the_end: bool, scratch: &mut [u8]) -> io::Result<()> {
        let (source, target) = (&self.sides[from], &self.sides[1 - from]);
        while !self.ended[from] {
            match self.waiting[from].step(source, target, scratch) {
                Ok(0) => {
                    self.ended[from] = true;
                    // The other side may be gone already.
                    let _ = target.shutdown(Shutdown::Write);
                }
                Ok(count) if count < scratch.len() && !to_the_end => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.ended == [true; 2]
    }
}

impl Waiting {
    fn new(how: How) -> Result<Self> {
        if how == How::ReadWrite {
            return Ok(Self::Bytes(Vec::new()));
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&write, BUFFER_BYTES)?;
        Ok(Self::Pipe { read, write, filled: 0 })
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Pipe { filled, .. } => *filled == 0,
        }
    }

    /// Writes what waits, reads once, writes that; what it read, 0 at the end.
    fn step(
        &mut self,
        mut source: &TcpStream,
        mut target: &TcpStream,
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        match self {
            Self::Bytes(waiting) => {
                while !waiting.is_empty() {
                    let count = target.write(waiting)?;
                    waiting.drain(..count);
                }
                let read = source.read(scratch)?;
                let mut rest = &scratch[..read];
                while !rest.is_empty() {
                    match target.write(rest) {
                        Ok(count) => rest = &rest[count..],
                        Err(error) => {
                            waiting.extend_from_slice(rest);
                            return Err(error);
                        }
                    }
                }
                Ok(read)
            }
            Self::Pipe { read, write, filled } => {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                while *filled > 0 {
                    *filled -= splice(&*read, None, target, None, *filled, flags)?;
                }
                let count = splice(source, None, &*write, None, BUFFER_BYTES, flags)?;
                *filled = count;
                while *filled > 0 {
                    *filled -= splice(&*read, None, target, None, *filled, flags)?;
                }
                Ok(count)
            }
        }
    }
}

/// As much as the gateway receives at once.
const BUFFER_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 256;
const LISTENER: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_the_end_of_them_go_both_ways() {
        for how in [How::ReadWrite, How::Splice] {
            let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let forwarder = Forwarder { how, routes: vec![(free, upstream.local_addr().unwrap())] };
            std::thread::spawn(move || forwarder.execute());
            let mut client = loop {
                if let Ok(client) = TcpStream::connect(free) {
                    break client;
                }
            };
            let sent: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
            let expected = sent.clone();
            let echo = std::thread::spawn(move || {
                let (mut stream, _) = upstream.accept().unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                stream.write_all(&got).unwrap();
            });
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            echo.join().unwrap();
            assert!(got == expected, "{how:?}: {} bytes", got.len());
        }
    }
}
