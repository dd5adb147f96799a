//! Owns the command `attack`: hostile clients, bounded in number and time, against one's own
//! server. Reports how each connection ended, and what it cost the server. Read `hello.rs` for
//! hostile hellos, `session.rs` for hostile established sessions.

mod hello;
mod session;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::peer::{Peer, PeerFlags, runtime};
use crate::process::ProcessSample;
use crate::quantity::{self, float, show_bytes, show_micros};
use crate::result::Quantiles;
use crate::tally::histogram;
use crate::{clock, environment, outcome, output};

/// Hostile clients, bounded, against a server of one's own
#[derive(Debug, Clone, Args)]
pub struct Attack {
    /// What to do
    #[arg(value_enum)]
    pub name: Name,
    /// Against whom.
    #[command(flatten)]
    pub peer: PeerFlags,
    /// Connections in all
    #[arg(long, short = 'n', default_value_t = 200)]
    pub count: u32,
    /// Connections at once
    #[arg(long, default_value_t = 100)]
    pub concurrency: u32,
    /// Start no more after this
    #[arg(long, default_value = "10s", value_parser = quantity::duration)]
    pub duration: Duration,
    /// A connection that the server has not ended after this counts as still open
    #[arg(long, default_value = "15s", value_parser = quantity::duration)]
    pub patience: Duration,
    /// slow-hello: time between bytes
    #[arg(long, default_value = "1s", value_parser = quantity::duration)]
    pub every: Duration,
    /// key-update, empty-records: records per connection
    #[arg(long, default_value_t = 10_000)]
    pub records: u32,
    /// Seed of garbage
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Allow a target that is not on loopback
    #[arg(long)]
    pub i_own_this_target: bool,
    /// Write the result as JSON (attack/1)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// The hostile clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// A ClientHello at one byte a second
    SlowHello,
    /// A ClientHello in TLS records of one byte
    FragmentedHello,
    /// A ClientHello that claims 16 MiB, and goes on
    BigHello,
    /// Bytes that are no TLS
    Garbage,
    /// Connect and say nothing
    HalfOpen,
    /// A good hello, then gone as soon as the server has done its work
    HandshakeFlood,
    /// A hello with a ticket that was tampered with
    TicketGarbage,
    /// Established, then KeyUpdates that ask for KeyUpdates, never reading
    KeyUpdate,
    /// Established, then records without content
    EmptyRecords,
}

/// How a hostile connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// The server sent an alert.
    Alert(u8),
    /// The server closed.
    Closed,
    /// The server reset.
    Reset,
    /// The server answered as to a good client.
    Served,
    /// The server let it be until patience ran out.
    StillOpen,
    /// It never came as far as the attack: not connected, or no handshake.
    NotBegun,
    /// It was under way when the user ended the attack.
    Unfinished,
}

impl End {
    fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::TimedOut => Self::StillOpen,
            _ => Self::Closed,
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Alert(number) => match outcome::alert_name(number) {
                Some(name) => format!("alert {number} ({name})"),
                None => format!("alert {number}"),
            },
            Self::Closed => "closed".to_owned(),
            Self::Reset => "reset".to_owned(),
            Self::Served => "served".to_owned(),
            Self::StillOpen => "still open".to_owned(),
            Self::NotBegun => "not begun".to_owned(),
            Self::Unfinished => "unfinished".to_owned(),
        }
    }
}

/// What an attack did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AttackResult {
    /// `attack/1`.
    pub schema: String,
    /// The attack's name.
    pub name: String,
    /// Connections by how they ended.
    pub ends: BTreeMap<String, u64>,
    /// How long they lasted, microseconds.
    pub lasted_us: Quantiles,
    /// The whole attack, seconds.
    pub seconds: f64,
    /// CPU of the server per connection, microseconds.
    pub server_cpu_us: Option<f64>,
    /// Growth of the server's resident memory at the end of the attack.
    pub server_rss_growth: Option<i64>,
    /// Its largest resident memory.
    pub server_rss_peak: Option<u64>,
}

impl Attack {
    /// Attacks and prints; exit 2 if the server let connections stay open.
    ///
    /// # Errors
    /// Usage; a target that is not on loopback without leave.
    pub fn execute(&self) -> Result<Exit> {
        let _ = environment::raise_descriptor_limit();
        output::check_files([self.out.as_deref()])?;
        let peer = Rc::new(self.peer.peer()?);
        if !peer.target.ip().is_loopback() && !self.i_own_this_target {
            bail!("{} is not on loopback: say --i-own-this-target if you do", peer.target);
        }
        let before = self.peer.server_pid.map(ProcessSample::take).transpose()?;
        let start = clock::now();
        let local = tokio::task::LocalSet::new();
        let mut result = local.block_on(&runtime()?, Box::pin(self.run(&peer, start)))?;
        result.seconds = clock::now().duration_since(start).as_secs_f64();
        let total: u64 = result.ends.values().sum();
        if let (Some(before), Some(pid)) = (before, self.peer.server_pid) {
            let after = ProcessSample::take(pid).context("the attack killed the server")?;
            let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            result.server_cpu_us = Some(cpu * 1e6 / float(total.max(1)));
            result.server_rss_growth = Some(after.rss.cast_signed() - before.rss.cast_signed());
            result.server_rss_peak = Some(after.rss_peak);
        }
        print(&result);
        if let Some(path) = &self.out {
            std::fs::write(path, serde_json::to_string(&result)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let count = |end: End| result.ends.get(&end.describe()).copied().unwrap_or_default();
        if count(End::NotBegun) == total {
            return Ok(Exit::NoConnection);
        }
        Ok(if count(End::StillOpen) > 0 { Exit::Missed } else { Exit::Met })
    }

    async fn run(&self, peer: &Rc<Peer>, start: Instant) -> Result<AttackResult> {
        let ticket_hello = match self.name {
            Name::TicketGarbage => Some(hello::with_ticket(peer, self.patience).await?),
            _ => None,
        };
        let ammunition = Rc::new(Ammunition { flags: self.clone(), ticket_hello });
        let interrupt = Interrupt::listen();
        output::note(format_args!("{:?} against {}; Ctrl-C ends it", self.name, peer.target));
        let mut running = tokio::task::JoinSet::new();
        let mut result = AttackResult {
            schema: "attack/1".to_owned(),
            name: format!("{:?}", self.name),
            ..AttackResult::default()
        };
        let mut lasted = histogram();
        let mut started = 0;
        loop {
            let may_start = clock::now() < start + self.duration;
            while may_start && started < self.count && running.len() < self.concurrency as usize {
                let (peer, ammunition, number) = (Rc::clone(peer), Rc::clone(&ammunition), started);
                running.spawn_local(async move {
                    let begin = clock::now();
                    let end = Box::pin(ammunition.fire(&peer, number)).await;
                    (end, clock::now().duration_since(begin))
                });
                started += 1;
            }
            let done = tokio::select! {
                done = running.join_next() => done,
                () = interrupt.wanted() => {
                    output::note("ended early by the user");
                    result.ends.insert(End::Unfinished.describe(), running.len() as u64);
                    None
                }
            };
            let Some(done) = done else { break };
            if let Ok((end, span)) = done {
                *result.ends.entry(end.describe()).or_default() += 1;
                lasted.saturating_record(quantity::micros(span).max(1));
            }
        }
        result.lasted_us = Quantiles::of(&lasted);
        Ok(result)
    }
}

struct Ammunition {
    flags: Attack,
    ticket_hello: Option<Vec<u8>>,
}

impl Ammunition {
    async fn fire(&self, peer: &Peer, number: u32) -> End {
        match self.flags.name {
            Name::KeyUpdate => return session::key_updates(peer, &self.flags).await,
            Name::EmptyRecords => return session::empty_records(peer, &self.flags).await,
            Name::SlowHello
            | Name::FragmentedHello
            | Name::BigHello
            | Name::Garbage
            | Name::HalfOpen
            | Name::HandshakeFlood
            | Name::TicketGarbage => {}
        }
        let Ok(mut stream) = peer.tcp().await else { return End::NotBegun };
        let seed = self.flags.seed.wrapping_add(u64::from(number));
        let attack = async {
            match self.flags.name {
                Name::SlowHello => hello::slowly(&mut stream, peer, self.flags.every).await,
                Name::FragmentedHello => hello::fragmented(&mut stream, peer).await,
                Name::BigHello => hello::big(&mut stream).await,
                Name::Garbage => hello::garbage(&mut stream, seed).await,
                Name::HandshakeFlood => hello::flood(&mut stream, peer).await,
                Name::TicketGarbage => {
                    hello::tampered(&mut stream, self.ticket_hello.as_deref(), seed).await
                }
                Name::HalfOpen | Name::KeyUpdate | Name::EmptyRecords => {
                    Ok(answer(&mut stream).await)
                }
            }
        };
        match tokio::time::timeout(self.flags.patience, attack).await {
            Ok(Ok(end)) => end,
            Ok(Err(error)) => End::from_io(&error),
            Err(_) => End::StillOpen,
        }
    }
}

/// Waits for the server's first words, or its end.
async fn answer(stream: &mut TcpStream) -> End {
    let mut head = [0; 7];
    let mut filled = 0;
    while filled < head.len() {
        match stream.read(&mut head[filled..]).await {
            Ok(0) => return End::Closed,
            Ok(count) => filled += count,
            Err(error) => return End::from_io(&error),
        }
    }
    // A record of type alert (21) with two bytes: level and description (RFC 8446 §6).
    match head {
        [21, _, _, 0, 2, _, description] => End::Alert(description),
        _ => End::Served,
    }
}

fn print(result: &AttackResult) {
    let ends: Vec<String> =
        result.ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
    output::line(format_args!(" {}: {} in {:.1} s", result.name, ends.join(", "), result.seconds));
    output::line(format_args!(
        " lasted      p50 {}  p99 {}  max {}",
        show_micros(float(result.lasted_us.p50)),
        show_micros(float(result.lasted_us.p99)),
        show_micros(float(result.lasted_us.max))
    ));
    if let (Some(cpu), Some(growth), Some(peak)) =
        (result.server_cpu_us, result.server_rss_growth, result.server_rss_peak)
    {
        output::line(format_args!(
            " server      {cpu:.0} cpu-us per connection; rss {}{}, peak {}",
            if growth < 0 { "-" } else { "+" },
            show_bytes(float(growth.unsigned_abs())),
            show_bytes(float(peak))
        ));
    }
}
