//! Owns the command `stream`: bulk bytes and round trips with every byte checked, to the last one
//! before FIN. The other end is `upstream --mode sink|source|echo`. Read `session.rs` for one
//! connection, `peer.rs` for how it is made.

mod session;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::peer::{Peer, PeerFlags, runtime};
use crate::process::ProcessSample;
use crate::quantity::{self, float, show_bytes, show_micros};
use crate::result::Quantiles;
use crate::{clock, environment, output};
use session::{Moved, Session};

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

impl Direction {
    /// What has to stand behind the server.
    fn wants(self) -> &'static str {
        match self {
            Self::Up => "a sink (`upstream --mode sink`)",
            Self::Down => "a source (`upstream --mode source`)",
            Self::Duplex | Self::PingPong => "an echo (`upstream`)",
        }
    }
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
    /// Connections that were under way when the user ended it.
    pub unfinished: u64,
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

impl Stream {
    /// Streams, prints, exits with 2 if anything was lost.
    ///
    /// # Errors
    /// Usage; nobody at the target.
    pub fn execute(&self) -> Result<Exit> {
        self.check_rate()?;
        let _ = environment::raise_descriptor_limit();
        output::check_files([self.out.as_deref()])?;
        let peer = Rc::new(self.peer.peer()?);
        let runtime = runtime()?;
        let first = runtime.block_on(Box::pin(self.connect(&peer)));
        if let Some(Err(error)) = first.iter().find(|_| first.iter().all(Result::is_err)) {
            bail!("no connection to {} was established: {error}", self.peer.target);
        }
        let interrupt = Interrupt::listen();
        let before = self.peer.server_pid.map(ProcessSample::take).transpose()?;
        let start = clock::now();
        let local = tokio::task::LocalSet::new();
        let result = local.block_on(&runtime, Box::pin(self.run(&peer, first, &interrupt)));
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

    async fn run(
        &self,
        peer: &Rc<Peer>,
        first: Vec<io::Result<Connection>>,
        interrupt: &Interrupt,
    ) -> StreamResult {
        let mut first = first.into_iter();
        let sessions = self.sessions.max(self.streams).max(1);
        let (flags, moved) = (Rc::new(self.clone()), Rc::new(Moved::nothing()));
        output::note(format_args!("{sessions} connections to {}; Ctrl-C ends it", peer.target));
        let mut running = tokio::task::JoinSet::new();
        let mut result = StreamResult::default();
        let mut started = 0;
        loop {
            while started < sessions && running.len() < self.streams.max(1) as usize {
                let session = Session { flags: Rc::clone(&flags), moved: Rc::clone(&moved) };
                let (peer, connected) = (Rc::clone(peer), first.next());
                running.spawn_local(async move {
                    let stream = match connected {
                        Some(connected) => connected?,
                        None => peer.tls(session.flags.timeout).await?,
                    };
                    Box::pin(session.run(stream)).await
                });
                started += 1;
            }
            let done = tokio::select! {
                done = running.join_next() => done,
                () = interrupt.wanted() => {
                    output::note("ended early by the user");
                    result.unfinished = running.len() as u64;
                    None
                }
            };
            match done {
                Some(Ok(Ok(()))) => result.intact += 1,
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
        (result.bytes_up, result.bytes_down) = (moved.up.get(), moved.down.get());
        let round_trips = moved.round_trips.borrow();
        if !round_trips.is_empty() {
            result.round_trip_us = Some(Quantiles::of(&round_trips));
        }
        result
    }
}

fn print(direction: Direction, result: &StreamResult) {
    let unfinished = match result.unfinished {
        0 => String::new(),
        count => format!(", {count} unfinished"),
    };
    output::line(format_args!(
        " {direction:?}: {} intact, {} broken{unfinished}; {} up, {} down in {:.2} s: {}/s",
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
