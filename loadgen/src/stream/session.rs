//! Owns one connection of `stream`: what it sends and receives, and the check of each byte. Read
//! `pattern.rs` for the bytes.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Connection, Direction, Stream};
use crate::quantity::{self, float};
use crate::tally::histogram;
use crate::{clock, pattern};

/// What all connections have done so far.
#[derive(Debug)]
pub(super) struct Moved {
    /// Payload bytes to the server.
    pub(super) up: Cell<u64>,
    /// Payload bytes from the server.
    pub(super) down: Cell<u64>,
    /// Microseconds.
    pub(super) round_trips: RefCell<Histogram<u64>>,
}

impl Moved {
    pub(super) fn nothing() -> Self {
        Self { up: Cell::new(0), down: Cell::new(0), round_trips: RefCell::new(histogram()) }
    }

    fn up(&self, bytes: u64) {
        self.up.set(self.up.get() + bytes);
    }

    fn down(&self, bytes: u64) {
        self.down.set(self.down.get() + bytes);
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) flags: Rc<Stream>,
    pub(super) moved: Rc<Moved>,
}

impl Session {
    /// Done when every byte arrived and the end was in order.
    pub(super) async fn run(&self, stream: Connection) -> io::Result<()> {
        let (read, write) = tokio::io::split(stream);
        match self.flags.direction {
            Direction::Up => self.up(read, write).await,
            Direction::Down => self.down(read, write).await,
            Direction::Duplex => self.duplex(read, write).await,
            Direction::PingPong => self.ping_pong(read, write).await,
        }
    }

    async fn up(&self, mut read: impl Reader, write: impl Writer) -> io::Result<()> {
        let checksum = self.send_all(write).await?;
        let (mut receipt, mut part) = (Vec::new(), [0; 64]);
        while receipt.len() < part.len() {
            match self.receive(&mut read, &mut part).await? {
                0 => break,
                count => receipt.extend_from_slice(&part[..count]),
            }
        }
        let mut wanted = self.flags.bytes.to_le_bytes().to_vec();
        wanted.extend_from_slice(&u64::from(checksum).to_le_bytes());
        if receipt != wanted {
            let sent = self.flags.bytes;
            let got = receipt.first_chunk().map(|count| u64::from_le_bytes(*count));
            return Err(broken(match got {
                Some(got) if receipt.len() == wanted.len() => {
                    format!("sent {sent} bytes, the sink counted {got}, or others")
                }
                Some(_) | None => format!(
                    "sent {sent} bytes, and what came back is no receipt: is {} behind the server?",
                    self.flags.direction.wants()
                ),
            }));
        }
        self.moved.down(receipt.len() as u64);
        Ok(())
    }

    async fn down(&self, mut read: impl Reader, mut write: impl Writer) -> io::Result<()> {
        write.write_u64_le(self.flags.bytes).await?;
        write.flush().await?;
        self.moved.up(8);
        self.receive_all(&mut read).await?;
        self.within(write.shutdown()).await
    }

    async fn duplex(&self, mut read: impl Reader, write: impl Writer) -> io::Result<()> {
        let (sent, received) = tokio::join!(self.send_all(write), self.receive_all(&mut read));
        sent?;
        received
    }

    async fn ping_pong(&self, mut read: impl Reader, mut write: impl Writer) -> io::Result<()> {
        let mut position = 0;
        let mut buffer = vec![0; self.write_size()];
        while position < self.flags.bytes {
            let left = usize::try_from(self.flags.bytes - position).unwrap_or(buffer.len());
            let part = left.min(buffer.len());
            let chunk = &mut buffer[..part];
            pattern::fill(chunk, position);
            let sent = clock::now();
            write.write_all(chunk).await?;
            write.flush().await?;
            self.within(read.read_exact(chunk)).await?;
            let span = quantity::micros(clock::now().duration_since(sent));
            self.moved.round_trips.borrow_mut().saturating_record(span.max(1));
            self.check(chunk, position)?;
            position += chunk.len() as u64;
            self.moved.up(chunk.len() as u64);
            self.moved.down(chunk.len() as u64);
        }
        self.within(write.shutdown()).await?;
        self.expect_end(&mut read).await
    }

    /// Sends everything and FIN; returns the CRC-32.
    async fn send_all(&self, mut write: impl Writer) -> io::Result<u32> {
        let mut hash = crc32fast::Hasher::new();
        let mut buffer = vec![0; self.write_size()];
        let mut position = 0;
        let start = clock::now();
        while position < self.flags.bytes {
            if let Some(rate) = self.flags.rate {
                tokio::time::sleep_until((start + due(position, rate)).into()).await;
            }
            let left = usize::try_from(self.flags.bytes - position).unwrap_or(buffer.len());
            let part = left.min(buffer.len());
            let chunk = &mut buffer[..part];
            pattern::fill(chunk, position);
            hash.update(chunk);
            self.within(write.write_all(chunk)).await?;
            position += chunk.len() as u64;
            self.moved.up(chunk.len() as u64);
        }
        self.within(write.flush()).await?;
        self.within(write.shutdown()).await?;
        Ok(hash.finalize())
    }

    async fn receive_all(&self, read: &mut impl Reader) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut position = 0;
        loop {
            let count = self.receive(read, &mut buffer).await?;
            if count == 0 {
                break;
            }
            self.check(&buffer[..count], position)?;
            position += count as u64;
            self.moved.down(count as u64);
            if position > self.flags.bytes {
                return Err(broken("more bytes came back than were sent".to_owned()));
            }
        }
        if position != self.flags.bytes {
            return Err(broken(format!(
                "{position} of {} bytes arrived before FIN",
                self.flags.bytes
            )));
        }
        Ok(())
    }

    async fn expect_end(&self, read: &mut impl Reader) -> io::Result<()> {
        let mut more = [0; 1];
        if self.receive(read, &mut more).await? == 0 {
            return Ok(());
        }
        Err(broken("more bytes came back than were sent".to_owned()))
    }

    /// What one read brings; 0 at an end.
    async fn receive(&self, read: &mut impl Reader, buffer: &mut [u8]) -> io::Result<usize> {
        match self.within(read.read(buffer)).await {
            Err(error)
                if self.flags.unclean_end_ok && error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Ok(0)
            }
            received => received,
        }
    }

    async fn within<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::time::timeout(self.flags.timeout, work).await.map_err(io::Error::from)?
    }

    fn check(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        match pattern::first_wrong(bytes, position) {
            None => Ok(()),
            // The first of all is as good as never lost on the way.
            Some(0) => Err(broken(format!(
                "byte 0 is not the one that was sent: is {} behind the server?",
                self.flags.direction.wants()
            ))),
            Some(at) => Err(broken(format!("byte {at} is not the one that was sent"))),
        }
    }

    fn write_size(&self) -> usize {
        usize::try_from(self.flags.write.clamp(1, 16 << 20)).unwrap_or(64 * 1024)
    }
}

trait Reader: AsyncRead + Unpin {}
impl<T: AsyncRead + Unpin> Reader for T {}
trait Writer: AsyncWrite + Unpin {}
impl<T: AsyncWrite + Unpin> Writer for T {}

/// When the byte at `position` is to be sent, from the first on: what was held up is made up for.
fn due(position: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(float(position) / float(rate))
}

fn broken(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_due_by_their_place_in_the_stream() {
        let cases =
            [(0, 1_000, 0), (500, 1_000, 500), (3_000, 1_000, 3_000), (1 << 30, 1 << 30, 1_000)];
        for (position, rate, milliseconds) in cases {
            assert_eq!(due(position, rate), Duration::from_millis(milliseconds));
        }
    }
}
