//! Owns the command `upstream`: the peer behind (or in place of) the server under test, in several
//! tempers, counting what it saw so that both ends can be reconciled. Read `behaviour.rs` for what
//! it does on a connection, `counts.rs` for what it counts.

mod behaviour;
mod counts;
mod terms;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::exit::Exit;
use crate::{environment, flags, output, quantity};

pub use counts::{Counts, CountsSeen};

/// The test peer: counts what it saw and prints it when it is stopped
#[derive(Debug, Clone, Args)]
pub struct Upstream {
    /// Address to listen on; port 0 takes any and prints it
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: String,
    /// What it does on each connection
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    pub mode: Mode,
    /// Speak TLS with this chain (PEM)
    #[arg(long, value_name = "PEM", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The chain's key (PEM)
    #[arg(long, value_name = "PEM", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Require client certificates of these CAs (PEM)
    #[arg(long, value_name = "PEM", requires = "cert")]
    pub client_ca: Option<PathBuf>,
    /// Application protocols to accept
    #[arg(long, value_delimiter = ',', requires = "cert")]
    pub alpn: Vec<String>,
    /// Key-exchange groups to accept, the preferred one first; all by default
    #[arg(long, requires = "cert")]
    pub groups: Option<String>,
    /// Cipher suites to accept, by their IANA names; all of a TLS version of which none is named
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "cert")]
    pub cipher_suites: Vec<String>,
    /// Never issue session tickets
    #[arg(long, requires = "cert")]
    pub no_tickets: bool,
    /// slow: bytes read at a time
    #[arg(long, default_value = "1k", value_parser = quantity::size)]
    pub slow_bytes: u64,
    /// slow: time between reads
    #[arg(long, default_value = "100ms", value_parser = quantity::duration)]
    pub slow_every: Duration,
    /// Threads, each with a listener of its own
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// CPU of the first thread; the others follow
    #[arg(long, value_name = "CPU")]
    pub pin: Option<usize>,
    /// Also serve the counts over HTTP here; port 0 takes any and prints it behind `counts=`
    #[arg(long, value_name = "ADDR")]
    pub counts: Option<String>,
    /// Stop after this time
    #[arg(long, value_parser = quantity::duration)]
    pub duration: Option<Duration>,
}

/// What the peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Sends back what it gets; its FIN follows the other's
    Echo,
    /// Reads to the end, then answers with count and CRC-32, 8 bytes each, little endian
    Sink,
    /// Reads a length of 8 bytes, little endian, sends as many bytes, then FIN
    Source,
    /// Echo, but reads little and seldom
    Slow,
    /// Sends FIN at once, then reads to the end
    HalfClose,
    /// RST after the first bytes
    Rst,
    /// Accepts and does nothing more
    Stall,
    /// Echo of other bytes: a liar
    Wrong,
}

impl Upstream {
    /// Serves until a signal or the duration ends it, then prints the counts as JSON.
    ///
    /// # Errors
    /// Addresses in use, unusable certificates.
    pub fn execute(&self) -> Result<Exit> {
        let _ = environment::raise_descriptor_limit();
        let counts = Arc::new(Counts::default());
        let running = self.start(&counts)?;
        let runtime = runtime()?;
        let page = match &self.counts {
            Some(address) => Some(runtime.block_on(counts::listen(address))?),
            None => None,
        };
        match page.as_ref().map(TcpListener::local_addr).transpose()? {
            Some(at) => output::line(format_args!("ready {} counts={at}", running.address)),
            None => output::line(format_args!("ready {}", running.address)),
        }
        runtime.block_on(self.until_stopped(page, &counts))?;
        running.stop();
        output::line(serde_json::to_string(&counts.seen())?);
        Ok(Exit::Met)
    }

    /// Serves on threads of its own until the returned value is dropped or stopped.
    ///
    /// # Errors
    /// As [`Upstream::execute`].
    pub fn start(&self, counts: &Arc<Counts>) -> Result<Running> {
        environment::check_pin(self.pin, self.threads.max(1))?;
        let tls = terms::server(self)?;
        let wanted = flags::resolve(&self.listen)?;
        let (stop, stopped) = watch::channel(());
        // Threads share the port, and so would another peer that was forgotten there: half of the
        // connections would be its.
        drop(bind(wanted, false)?);
        let mut address = wanted;
        let mut threads = Vec::new();
        for index in 0..self.threads.max(1) {
            let listener = listen(address)?;
            address = listener.local_addr()?;
            let service = behaviour::Service {
                mode: self.mode,
                slow_bytes: usize::try_from(self.slow_bytes.clamp(1, 1 << 20)).unwrap_or(1024),
                slow_every: self.slow_every,
                counts: Arc::clone(counts),
                tls: tls.clone(),
            };
            let (stopped, pin) = (stopped.clone(), self.pin);
            let thread = std::thread::Builder::new()
                .name(format!("upstream-{index}"))
                .spawn(move || serve(listener, &Arc::new(service), stopped, pin, index))?;
            threads.push(thread);
        }
        Ok(Running { address, stop: Some(stop), threads })
    }

    async fn until_stopped(&self, page: Option<TcpListener>, counts: &Arc<Counts>) -> Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let page = async {
            match page {
                Some(page) => counts::serve(&page, counts).await,
                None => std::future::pending().await,
            }
        };
        let alarm = async {
            match self.duration {
                Some(span) => tokio::time::sleep(span).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            () = alarm => Ok(()),
            () = page => Ok(()),
        }
    }
}

/// An upstream at work.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Option<watch::Sender<()>>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Running {
    /// Ends it and waits for its threads.
    pub fn stop(mut self) {
        self.stop.take();
        for thread in self.threads.drain(..) {
            // A panic there has been printed; the counts are still good.
            let _ = thread.join();
        }
    }
}

fn serve(
    listener: std::net::TcpListener,
    service: &Arc<behaviour::Service>,
    mut stopped: watch::Receiver<()>,
    pin: Option<usize>,
    index: u32,
) -> Result<()> {
    if let Some(first) = pin {
        // That it can be was checked at the start.
        let _ = environment::pin_thread(first + index as usize);
    }
    let local = tokio::task::LocalSet::new();
    let runtime = runtime()?;
    local.block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let accepted: std::io::Result<(TcpStream, SocketAddr)> = tokio::select! {
                accepted = listener.accept() => accepted,
                // The sender is gone: time to stop.
                _ = stopped.changed() => return Ok(()),
            };
            match accepted {
                Ok((stream, _)) => {
                    let service = Arc::clone(service);
                    tokio::task::spawn_local(async move { service.connection(stream).await });
                }
                // Out of descriptors: accepting again at once would spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = bind(address, true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind(address: SocketAddr, is_shared: bool) -> Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    SockRef::from(&socket).set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.bind(&address.into()).with_context(|| format!("cannot listen on {address}"))?;
    Ok(socket)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")
}

const BACKLOG: i32 = 65_535;
