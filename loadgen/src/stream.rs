//! Owns the command `stream`: bulk bytes and round trips with every byte checked, to the last one
//! before FIN. The other end is `upstream --mode sink|source|echo`. Read `pattern.rs` for the
//! bytes, `peer.rs` for the connections.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::exit::Exit;
use crate::peer::{Peer, PeerFlags, runtime};
use crate::process::ProcessSample;
use crate::quantity::{self, float, show_bytes, show_micros};
use crate::result::Quantiles;
use crate::tally::histogram;
use crate::{clock, environment, output, pattern};

/// Send and receive bytes with checksums; not one may be lost at FIN
#[derive(Debug, Clone, Args)]
pub struct Stream {
    /// Whom to talk to.
    #[command(flatten)]
    pub peer: PeerFlags,
    /// Which way the bytes go
    #[arg(long, value_enum, default_value_t = Direction::Duplex)]
    pub direction: Direction,
    /// Connections at once
    #[arg(long, default_value_t = 1)]
    pub streams: u32,
    /// Connections in all, at least --streams: short ones show bytes lost at FIN
    #[arg(long, default_value_t = 1)]
    pub sessions: u32,
    /// Bytes per connection; with ping-pong, round trips of --write bytes up to this
    #[arg(long, default_value = "64m", value_parser = quantity::size)]
    pub bytes: u64,
    /// Bytes per write
    #[arg(long, default_value = "64k", value_parser = quantity::size)]
    pub write: u64,
    /// Bytes that each connection sends in a second, up or duplex; without it, as many as go
    #[arg(long, value_name = "BYTES", value_parser = quantity::size)]
    pub rate: Option<u64>,
    /// A connection that makes no progress for this long has failed
    #[arg(long, default_value = "30s", value_parser = quantity::duration)]
    pub timeout: Duration,
    /// A FIN without close_notify is an end too: the bytes have their own counts and checksums
    #[arg(long)]
    pub unclean_end_ok: bool,
    /// Write the result as JSON (stream/1)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To a sink, which answers with count and checksum
    Up,
    /// From a source
    Down,
    /// Both ways at once, through an echo
    Duplex,
    /// A write, its echo, the next write
    PingPong,
}

/// What `stream` found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StreamResult {
    /// `stream/1`.
    pub schema: String,
    /// Connections whose every byte arrived and that ended in order.
    pub intact: u64,
    /// Connections that did not.
    pub broken: u64,
    /// What was wrong with them, the first few.
    pub why: Vec<String>,
    /// Payload bytes to the server.
    pub bytes_up: u64,
    /// Payload bytes from the server.
    pub bytes_down: u64,
    /// From the first byte, when the first connections stand, to the last FIN.
    pub seconds: f64,
    /// Both directions together, payload.
    pub bytes_per_second: f64,
    /// Round trips of ping-pong, microseconds.
    pub round_trip_us: Option<Quantiles>,
    /// CPU of the server in that time per payload byte (each direction counts), nanoseconds.
    pub server_cpu_ns_per_byte: Option<f64>,
    /// Resident bytes of the server at the end.
    pub server_rss: Option<u64>,
}

type Connection = TlsStream<TcpStream>;

#[derive(Debug)]
struct Session {
    up: u64,
    down: u64,
    round_trips: Histogram<u64>,
}

impl Stream {
    /// Streams, prints, exits with 2 if anything was lost.
    ///
    /// # Errors
    /// Usage; nobody at the target.
    pub fn execute(&self) -> Result<Exit> {
        self.check_rate()?;
        let _ = environment::raise_descriptor_limit();
        output::check_files([self.out.as_deref()])?;
        let peer = Arc::new(self.peer.peer()?);
        let runtime = runtime()?;
        let first = runtime.block_on(Box::pin(self.connect(&peer)));
        if let Some(Err(error)) = first.iter().find(|_| first.iter().all(Result::is_err)) {
            bail!("no connection to {} was established: {error}", self.peer.target);
        }
        let before = self.peer.server_pid.map(ProcessSample::take).transpose()?;
        let start = clock::now();
        let result = runtime.block_on(self.run(&peer, first));
        let seconds = clock::now().duration_since(start).as_secs_f64();
        let after = self.peer.server_pid.and_then(|pid| ProcessSample::take(pid).ok());
        let mut result = StreamResult { schema: "stream/1".to_owned(), seconds, ..result };
        let bytes = float(result.bytes_up + result.bytes_down);
        result.bytes_per_second = bytes / seconds.max(1e-9);
        if let (Some(before), Some(after)) = (before, after) {
            let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            result.server_cpu_ns_per_byte = Some(cpu * 1e9 / bytes.max(1.0));
            result.server_rss = Some(after.rss);
        }
        print(self.direction, &result);
        if let Some(path) = &self.out {
            std::fs::write(path, serde_json::to_string(&result)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(if result.broken == 0 { Exit::Met } else { Exit::Missed })
    }

    fn check_rate(&self) -> Result<()> {
        match (self.rate, self.direction) {
            (None, _) | (Some(1..), Direction::Up | Direction::Duplex) => Ok(()),
            (Some(0), _) => bail!("--rate 0 sends nothing: write 1 or more, as 100m"),
            (Some(_), _) => {
                bail!("--rate is for bytes that are sent: use it with --direction up or duplex")
            }
        }
    }

    /// The connections that begin together, before anything is measured.
    async fn connect(&self, peer: &Peer) -> Vec<io::Result<Connection>> {
        let mut connections = Vec::new();
        for _ in 0..self.streams.max(1) {
            connections.push(peer.tls(self.timeout).await);
        }
        connections
    }

    async fn run(&self, peer: &Arc<Peer>, first: Vec<io::Result<Connection>>) -> StreamResult {
        let mut first = first.into_iter();
        let sessions = self.sessions.max(self.streams).max(1);
        let mut running = tokio::task::JoinSet::new();
        let local = tokio::task::LocalSet::new();
        let mut result = StreamResult::default();
        let mut round_trips = histogram();
        local
            .run_until(async {
                let mut started = 0;
                while started < sessions || !running.is_empty() {
                    while started < sessions && running.len() < self.streams.max(1) as usize {
                        let (flags, peer) = (self.clone(), Arc::clone(peer));
                        let connected = first.next();
                        running.spawn_local(async move {
                            let stream = match connected {
                                Some(connected) => connected?,
                                None => peer.tls(flags.timeout).await?,
                            };
                            Box::pin(flags.session(stream)).await
                        });
                        started += 1;
                    }
                    match running.join_next().await {
                        Some(Ok(Ok(session))) => {
                            result.intact += 1;
                            result.bytes_up += session.up;
                            result.bytes_down += session.down;
                            let _ = round_trips.add(&session.round_trips);
                        }
                        Some(Ok(Err(error))) => {
                            result.broken += 1;
                            if result.why.len() < REASONS_MAX {
                                result.why.push(error.to_string());
                            }
                        }
                        Some(Err(_)) => result.broken += 1,
                        None => break,
                    }
                }
            })
            .await;
        if !round_trips.is_empty() {
            result.round_trip_us = Some(Quantiles::of(&round_trips));
        }
        result
    }

    async fn session(&self, stream: Connection) -> io::Result<Session> {
        let (read, write) = tokio::io::split(stream);
        match self.direction {
            Direction::Up => self.up(read, write).await,
            Direction::Down => self.down(read, write).await,
            Direction::Duplex => self.duplex(read, write).await,
            Direction::PingPong => self.ping_pong(read, write).await,
        }
    }

    async fn up(&self, mut read: impl Reader, write: impl Writer) -> io::Result<Session> {
        let checksum = self.send_all(write).await?;
        let (mut receipt, mut part) = (Vec::new(), [0; 64]);
        while receipt.len() < part.len() {
            match self.receive(&mut read, &mut part).await? {
                0 => break,
                count => receipt.extend_from_slice(&part[..count]),
            }
        }
        let mut wanted = self.bytes.to_le_bytes().to_vec();
        wanted.extend_from_slice(&u64::from(checksum).to_le_bytes());
        if receipt != wanted {
            let got = receipt.first_chunk().map_or(0, |count| u64::from_le_bytes(*count));
            return Err(broken(format!(
                "sent {} bytes, the sink counted {got}, or others",
                self.bytes
            )));
        }
        Ok(Session { up: self.bytes, down: 16, round_trips: histogram() })
    }

    async fn down(&self, mut read: impl Reader, mut write: impl Writer) -> io::Result<Session> {
        write.write_u64_le(self.bytes).await?;
        write.flush().await?;
        self.receive_all(&mut read).await?;
        self.within(write.shutdown()).await?;
        Ok(Session { up: 8, down: self.bytes, round_trips: histogram() })
    }

    async fn duplex(&self, mut read: impl Reader, write: impl Writer) -> io::Result<Session> {
        let (sent, received) = tokio::join!(self.send_all(write), self.receive_all(&mut read));
        sent?;
        received?;
        Ok(Session { up: self.bytes, down: self.bytes, round_trips: histogram() })
    }

    async fn ping_pong(
        &self,
        mut read: impl Reader,
        mut write: impl Writer,
    ) -> io::Result<Session> {
        let mut round_trips = histogram();
        let mut position = 0;
        let mut buffer = vec![0; self.write_size()];
        while position < self.bytes {
            let left = usize::try_from(self.bytes - position).unwrap_or(buffer.len());
            let part = left.min(buffer.len());
            let chunk = &mut buffer[..part];
            pattern::fill(chunk, position);
            let sent = clock::now();
            write.write_all(chunk).await?;
            write.flush().await?;
            self.within(read.read_exact(chunk)).await?;
            let span = quantity::micros(clock::now().duration_since(sent));
            round_trips.saturating_record(span.max(1));
            check(chunk, position)?;
            position += chunk.len() as u64;
        }
        self.within(write.shutdown()).await?;
        self.expect_end(&mut read).await?;
        Ok(Session { up: position, down: position, round_trips })
    }

    /// Sends everything and FIN; returns the CRC-32.
    async fn send_all(&self, mut write: impl Writer) -> io::Result<u32> {
        let mut hash = crc32fast::Hasher::new();
        let mut buffer = vec![0; self.write_size()];
        let mut position = 0;
        let start = clock::now();
        while position < self.bytes {
            if let Some(rate) = self.rate {
                tokio::time::sleep_until((start + due(position, rate)).into()).await;
            }
            let left = usize::try_from(self.bytes - position).unwrap_or(buffer.len());
            let part = left.min(buffer.len());
            let chunk = &mut buffer[..part];
            pattern::fill(chunk, position);
            hash.update(chunk);
            self.within(write.write_all(chunk)).await?;
            position += chunk.len() as u64;
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
            check(&buffer[..count], position)?;
            position += count as u64;
            if position > self.bytes {
                return Err(broken("more bytes came back than were sent".to_owned()));
            }
        }
        if position != self.bytes {
            return Err(broken(format!("{position} of {} bytes arrived before FIN", self.bytes)));
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
            Err(error) if self.unclean_end_ok && error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(0)
            }
            received => received,
        }
    }

    async fn within<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::time::timeout(self.timeout, work).await.map_err(io::Error::from)?
    }

    fn write_size(&self) -> usize {
        usize::try_from(self.write.clamp(1, 16 << 20)).unwrap_or(64 * 1024)
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

fn check(bytes: &[u8], position: u64) -> io::Result<()> {
    match pattern::first_wrong(bytes, position) {
        None => Ok(()),
        Some(at) => Err(broken(format!("byte {at} is not the one that was sent"))),
    }
}

fn broken(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn print(direction: Direction, result: &StreamResult) {
    output::line(format_args!(
        " {direction:?}: {} intact, {} broken; {} up, {} down in {:.2} s: {}/s",
        result.intact,
        result.broken,
        show_bytes(float(result.bytes_up)),
        show_bytes(float(result.bytes_down)),
        result.seconds,
        show_bytes(result.bytes_per_second),
    ));
    if let Some(times) = &result.round_trip_us {
        output::line(format_args!(
            " round trip  p50 {}  p99 {}  max {}  ({} of them)",
            show_micros(float(times.p50)),
            show_micros(float(times.p99)),
            show_micros(float(times.max)),
            times.count,
        ));
    }
    if let (Some(cpu), Some(rss)) = (result.server_cpu_ns_per_byte, result.server_rss) {
        output::line(format_args!(
            " server      {cpu:.3} cpu-ns per byte; rss {}",
            show_bytes(float(rss))
        ));
    }
    for why in &result.why {
        output::line(format_args!(" broken      {why}"));
    }
}

const REASONS_MAX: usize = 8;

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
