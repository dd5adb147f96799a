//! Owns the command `hold`: many idle connections, what each costs the server, whether they
//! survive, and how long a storm of reconnecting clients takes to settle. Read `peer.rs` for the
//! connections.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;

use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::outcome::Failure;
use crate::peer::{Peer, PeerFlags, runtime};
use crate::process::ProcessSample;
use crate::quantity::{self, float, show_bytes, show_micros};
use crate::result::Quantiles;
use crate::tally::histogram;
use crate::{clock, environment, output};

/// Hold idle connections; measure bytes per connection, survival and a reconnect storm
#[derive(Debug, Clone, Args)]
pub struct Hold {
    /// Whom to talk to; an echo must answer.
    #[command(flatten)]
    pub peer: PeerFlags,
    /// Connections to hold
    #[arg(long, default_value_t = 1000)]
    pub conns: u32,
    /// So many more are there before memory is measured: a server's first connections also pay for
    /// what it keeps
    #[arg(long, default_value_t = 0)]
    pub base: u32,
    /// How long they stay idle
    #[arg(long, default_value = "5s", value_parser = quantity::duration)]
    pub idle: Duration,
    /// Handshakes at once while connecting
    #[arg(long, default_value_t = 64)]
    pub concurrency: u32,
    /// At the end reset all connections and bring them back at once
    #[arg(long)]
    pub reconnect_storm: bool,
    /// In the storm, clients present the tickets they have
    #[arg(long, requires = "reconnect_storm")]
    pub storm_resumes: bool,
    /// A client in the storm gives up after this and tries again
    #[arg(long, default_value = "10s", value_parser = quantity::duration)]
    pub timeout: Duration,
    /// The storm has failed if not all are back after this
    #[arg(long, default_value = "60s", value_parser = quantity::duration)]
    pub storm_max: Duration,
    /// Write the result as JSON (hold/1)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What `hold` found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HoldResult {
    /// `hold/1`.
    pub schema: String,
    /// Connections that were established and proven by an echo.
    pub held: u64,
    /// Attempts that failed while connecting.
    pub failed: u64,
    /// Why, each reason once, the first few.
    pub why: Vec<String>,
    /// Held connections that still echoed after the idle time.
    pub survived: u64,
    /// Time that connecting all took, seconds.
    pub connect_seconds: f64,
    /// Growth of the server's resident memory per connection beyond those of `--base`.
    pub server_bytes_per_connection: Option<f64>,
    /// CPU share of the server while all were idle.
    pub server_idle_cpu_share: Option<f64>,
    /// The reconnect storm.
    pub storm: Option<Storm>,
}

/// A reconnect storm.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Storm {
    /// Clients that came back.
    pub recovered: u64,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    /// From the reset until half of the clients were back, seconds.
    pub half_seconds: f64,
    /// Until 99 % were.
    pub most_seconds: f64,
    /// Until the last was.
    pub all_seconds: f64,
    /// Time to recover per client from the start of the storm, microseconds.
    pub client_us: Quantiles,
}

type Connection = TlsStream<TcpStream>;

impl Hold {
    /// Holds, prints; exit 2 if connections were lost or the storm did not settle.
    ///
    /// # Errors
    /// Usage; nobody at the target; not enough descriptors.
    pub fn execute(&self) -> Result<Exit> {
        let descriptors = environment::raise_descriptor_limit();
        output::check_files([self.out.as_deref()])?;
        let wanted = u64::from(self.conns) + u64::from(self.base);
        if wanted + 64 > descriptors {
            bail!("{wanted} connections need more than the {descriptors} descriptors allowed");
        }
        let mut clients = Clients::new(self.peer.peers()?);
        let local = tokio::task::LocalSet::new();
        let result = local.block_on(&runtime()?, Box::pin(self.run(&mut clients)))?;
        print(&result);
        if let Some(path) = &self.out {
            std::fs::write(path, serde_json::to_string(&result)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let settled = result.storm.as_ref().is_none_or(|storm| storm.recovered == wanted);
        let all = result.held == wanted && result.survived == wanted && settled;
        Ok(if all { Exit::Met } else { Exit::Missed })
    }

    async fn run(&self, clients: &mut Clients) -> Result<HoldResult> {
        let interrupt = Interrupt::listen();
        let sample = || self.peer.server_pid.map(ProcessSample::take).transpose();
        let mut result = HoldResult { schema: "hold/1".to_owned(), ..HoldResult::default() };
        let mut held = self.connect(clients, self.base, &mut result).await;
        let based = held.len() as u64;
        let empty = sample()?;
        let start = clock::now();
        held.extend(self.connect(clients, self.conns, &mut result).await);
        result.connect_seconds = clock::now().duration_since(start).as_secs_f64();
        result.held = held.len() as u64;
        if held.is_empty() {
            let (target, why) = (&self.peer.target, result.why.join("; "));
            bail!("not one connection to {target} was established: {why}");
        }
        let idle_start = sample()?;
        let (held_now, idle) = (result.held, self.idle);
        output::note(format_args!(
            "{held_now} connections stand, idle for {idle:?}; Ctrl-C ends it"
        ));
        let idle_since = clock::now();
        if tokio::time::timeout(self.idle, interrupt.wanted()).await.is_ok() {
            output::note("ended early by the user: survivors are counted, and there is no storm");
        }
        let idle_seconds = clock::now().duration_since(idle_since).as_secs_f64();
        let idle_end = sample()?;
        if let (Some(empty), Some(before), Some(after)) = (empty, idle_start, idle_end) {
            let growth = float(after.rss) - float(empty.rss);
            result.server_bytes_per_connection = Some(growth / float((result.held - based).max(1)));
            let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            result.server_idle_cpu_share = Some(cpu / idle_seconds.max(1e-9));
        }
        result.survived = self.survivors(&mut held).await;
        if self.reconnect_storm && !interrupt.is_wanted() {
            result.storm = Some(self.storm(clients, held).await);
        }
        Ok(result)
    }

    async fn connect(
        &self,
        clients: &mut Clients,
        count: u32,
        result: &mut HoldResult,
    ) -> Vec<Connection> {
        let gate = Rc::new(Semaphore::new(self.concurrency.max(1) as usize));
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (peer, gate, timeout) = (clients.next(), Rc::clone(&gate), self.timeout);
            running.spawn_local(async move {
                let _pass = gate.acquire().await;
                Box::pin(establish(&peer, timeout)).await
            });
        }
        let mut held = Vec::new();
        while let Some(done) = running.join_next().await {
            match done {
                Ok(Ok(connection)) => held.push(connection),
                Ok(Err(error)) => {
                    result.failed += 1;
                    let why = Failure::explain_io(&error);
                    if result.why.len() < REASONS_MAX && !result.why.contains(&why) {
                        result.why.push(why);
                    }
                }
                Err(_) => result.failed += 1,
            }
        }
        held
    }

    /// How many of them still echo. All at once: each that is dead costs the whole timeout.
    async fn survivors(&self, held: &mut Vec<Connection>) -> u64 {
        let mut running = tokio::task::JoinSet::new();
        for mut connection in held.drain(..) {
            let timeout = self.timeout;
            running.spawn_local(async move {
                let echoed = tokio::time::timeout(timeout, Box::pin(echo(&mut connection))).await;
                (connection, matches!(echoed, Ok(Ok(()))))
            });
        }
        let mut alive = 0;
        while let Some(done) = running.join_next().await {
            let Ok((connection, echoed)) = done else { continue };
            held.push(connection);
            alive += u64::from(echoed);
        }
        alive
    }

    async fn storm(&self, clients: &mut Clients, held: Vec<Connection>) -> Storm {
        let count = held.len();
        for connection in &held {
            // Processes that die or hosts that fail over do not say goodbye.
            let _ = SockRef::from(connection.get_ref().0).set_linger(Some(Duration::ZERO));
        }
        drop(held);
        clients.resume(self.storm_resumes);
        let start = clock::now();
        let end = start + self.storm_max;
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (peer, timeout) = (clients.next(), self.timeout);
            running.spawn_local(async move { Box::pin(come_back(&peer, timeout, end)).await });
        }
        let mut storm = Storm::default();
        let mut times = histogram();
        let mut back = Vec::new();
        while let Some(done) = running.join_next().await {
            let Ok((connection, retries)) = done else { continue };
            storm.retries += retries;
            if let Some((connection, at)) = connection {
                let span = at.duration_since(start);
                times.saturating_record(quantity::micros(span).max(1));
                back.push(connection);
            }
        }
        storm.recovered = back.len() as u64;
        storm.half_seconds = float(times.value_at_quantile(0.5)) / 1e6;
        storm.most_seconds = float(times.value_at_quantile(0.99)) / 1e6;
        storm.all_seconds = float(times.max()) / 1e6;
        storm.client_us = Quantiles::of(&times);
        storm
    }
}

/// Whose connections are held, one for each certificate, and whose turn it is.
struct Clients {
    all: Vec<Rc<Peer>>,
    turn: usize,
}

impl Clients {
    fn new(peers: Vec<Peer>) -> Self {
        Self { all: peers.into_iter().map(Rc::new).collect(), turn: 0 }
    }

    fn next(&mut self) -> Rc<Peer> {
        let next = Rc::clone(&self.all[self.turn]);
        self.turn = (self.turn + 1) % self.all.len();
        next
    }

    /// In the storm the first comes first again.
    fn resume(&mut self, may_resume: bool) {
        self.turn = 0;
        for peer in &self.all {
            peer.resume(may_resume);
        }
    }
}

async fn establish(peer: &Peer, timeout: Duration) -> io::Result<Connection> {
    let mut connection = peer.tls(timeout).await?;
    let echoed = tokio::time::timeout(timeout, echo(&mut connection)).await;
    match echoed.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(()) => Ok(connection),
        // In TLS 1.3 an alert to a client that is turned away comes with the first read.
        Err(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            Err(error)
        }
        Err(error) => {
            let why = format!("{error}: no byte came back, is an echo behind the server?");
            Err(io::Error::new(error.kind(), why))
        }
    }
}

async fn come_back(
    peer: &Peer,
    timeout: Duration,
    end: Instant,
) -> (Option<(Connection, Instant)>, u64) {
    let mut retries = 0;
    while clock::now() < end {
        if let Ok(connection) = Box::pin(establish(peer, timeout)).await {
            return (Some((connection, clock::now())), retries);
        }
        retries += 1;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    (None, retries)
}

async fn echo(connection: &mut Connection) -> io::Result<()> {
    connection.write_all(b"?").await?;
    connection.flush().await?;
    let mut answer = [0; 1];
    connection.read_exact(&mut answer).await?;
    if answer == *b"?" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn print(result: &HoldResult) {
    output::line(format_args!(
        " held        {} ({} failed) in {:.2} s; {} survived",
        result.held, result.failed, result.connect_seconds, result.survived
    ));
    for why in &result.why {
        output::line(format_args!(" failed      {why}"));
    }
    if let (Some(bytes), Some(cpu)) =
        (result.server_bytes_per_connection, result.server_idle_cpu_share)
    {
        output::line(format_args!(
            " server      {} per connection; {:.1} % cpu while idle",
            show_bytes(bytes),
            cpu * 100.0
        ));
    }
    if let Some(storm) = &result.storm {
        output::line(format_args!(
            " storm       {} back, {} retries; half in {:.2} s, 99 % in {:.2} s, all in {:.2} s; client p50 {}",
            storm.recovered,
            storm.retries,
            storm.half_seconds,
            storm.most_seconds,
            storm.all_seconds,
            show_micros(float(storm.client_us.p50)),
        ));
    }
}

const REASONS_MAX: usize = 8;
/// A client that was refused waits this long, as most drivers do at first.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
