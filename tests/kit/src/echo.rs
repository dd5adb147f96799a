//! Upstreams for tests: a plain and a TLS server that echo, one thread a connection, and count what
//! they saw. They stop, and their threads end, when dropped. `tls` makes their configurations.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection, StreamOwned};

use crate::connect::reset;
use crate::deadline::{Deadline, PATIENCE};

/// A TCP server on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct PlainEcho(Server);

/// A TLS server on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct TlsEcho(Server);

/// What a server does with a connection, once TLS is done.
#[derive(Debug, Clone, Default)]
pub enum Behaviour {
    /// Every byte back; at the client's end, its own end.
    #[default]
    Echo,
    /// These bytes first, as databases do, then echo.
    Greet(Vec<u8>),
    /// These bytes, then the end, whatever the client says.
    Say(Vec<u8>),
    /// Reads nothing and writes nothing until it is dropped. Then it closes, as the system does for a
    /// process that dies: with a RST where bytes were left unread.
    Stall,
    /// Reads to the end and writes nothing but its own end.
    Sink,
    /// RST after the first bytes that come; sent once the server's last handle on it is gone.
    Reset,
}

/// What a server saw so far.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// TCP connections accepted.
    pub accepted: u64,
    /// TLS handshakes that failed.
    pub refused: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Application bytes read.
    pub bytes: u64,
    /// TLS handshakes that succeeded, in the order they did.
    pub handshakes: Vec<Handshake>,
}

/// What a TLS server learned in a handshake.
#[derive(Debug, Clone)]
pub struct Handshake {
    pub server_name: Option<String>,
    pub alpn: Option<Vec<u8>>,
    pub version: Option<ProtocolVersion>,
    pub kind: Option<HandshakeKind>,
    /// The client's chain, leaf first; empty when it showed none.
    pub client_chain: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    behaviour: Behaviour,
    tls: Option<Arc<ServerConfig>>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    open: HashMap<u64, TcpStream>,
    stopping: bool,
}

impl PlainEcho {
    pub fn start() -> Self {
        Self::with(Behaviour::Echo)
    }

    pub fn with(behaviour: Behaviour) -> Self {
        Self(Server::start(any_port(), None, behaviour))
    }

    /// Listens on this address.
    ///
    /// # Panics
    /// When it is taken.
    pub fn on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("an address that is free");
        Self(Server::start(listener, None, Behaviour::Echo))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub fn counts(&self) -> Counts {
        self.0.shared.state().counts.clone()
    }

    /// Waits until the counts satisfy `is_met` and returns them.
    ///
    /// # Panics
    /// When they do not within `PATIENCE`.
    pub fn wait(&self, what: &str, is_met: impl FnMut(&Counts) -> bool) -> Counts {
        self.0.wait(what, is_met)
    }
}

impl TlsEcho {
    pub fn start(config: Arc<ServerConfig>) -> Self {
        Self::with(config, Behaviour::Echo)
    }

    pub fn with(config: Arc<ServerConfig>, behaviour: Behaviour) -> Self {
        Self(Server::start(any_port(), Some(config), behaviour))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub fn counts(&self) -> Counts {
        self.0.shared.state().counts.clone()
    }

    /// As `PlainEcho::wait`.
    ///
    /// # Panics
    /// When the counts do not satisfy `is_met` within `PATIENCE`.
    pub fn wait(&self, what: &str, is_met: impl FnMut(&Counts) -> bool) -> Counts {
        self.0.wait(what, is_met)
    }
}

impl Server {
    fn start(listener: TcpListener, tls: Option<Arc<ServerConfig>>, behaviour: Behaviour) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            behaviour,
            tls,
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    fn wait(&self, what: &str, mut is_met: impl FnMut(&Counts) -> bool) -> Counts {
        let deadline = Deadline::after(PATIENCE);
        let mut state = self.shared.state();
        while !is_met(&state.counts) {
            assert!(!deadline.is_over(), "{what}: still {:?}", state.counts);
            state = self
                .shared
                .changed
                .wait_timeout(state, deadline.left())
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        state.counts.clone()
    }
}

fn any_port() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

impl Drop for Server {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.stopping = true;
            // One that stalls reads nothing, so no shutdown is needed to wake it. And behind a shutdown
            // Linux opens no closed window again: a peer with bytes for it would learn of the end in a
            // minute, when the last trace of the connection is gone.
            if !matches!(self.shared.behaviour, Behaviour::Stall) {
                for socket in state.open.values() {
                    drop(socket.shutdown(Shutdown::Both));
                }
            }
        }
        self.shared.changed.notify_all();
        // Wakes the acceptor, which sees `stopping` and ends with its connections' threads.
        drop(TcpStream::connect_timeout(&self.address, PATIENCE));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

impl Shared {
    /// A panicking test thread may poison the lock; the counts stay readable for the others.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => {
                let mut stream = socket;
                self.behave(&mut stream)?;
                self.end(stream)
            }
            Some(config) => {
                let mut stream = self.handshake(Arc::clone(config), socket)?;
                self.behave(&mut stream)?;
                if !matches!(self.behaviour, Behaviour::Reset) {
                    stream.conn.send_close_notify();
                    while stream.conn.wants_write() {
                        stream.conn.write_tls(&mut stream.sock)?;
                    }
                }
                self.end(stream.sock)
            }
        }
    }

    fn end(&self, mut socket: TcpStream) -> io::Result<()> {
        match self.behaviour {
            Behaviour::Reset => reset(socket),
            Behaviour::Stall => drop(socket),
            Behaviour::Echo | Behaviour::Greet(_) | Behaviour::Say(_) | Behaviour::Sink => {
                socket.shutdown(Shutdown::Write)?;
                drain(&mut socket)?;
            }
        }
        Ok(())
    }

    fn handshake(
        &self,
        config: Arc<ServerConfig>,
        mut socket: TcpStream,
    ) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            let progress = connection.complete_io(&mut socket);
            if !matches!(progress, Ok(bytes) if bytes != (0, 0)) {
                self.update(|state| state.counts.refused += 1);
                // The alert is on its way; reading to the end keeps it from being lost to a RST.
                drop(socket.shutdown(Shutdown::Write));
                drain(&mut socket)?;
                return Err(progress.err().unwrap_or_else(|| ErrorKind::UnexpectedEof.into()));
            }
        }
        let seen = Handshake {
            server_name: connection.server_name().map(str::to_owned),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            version: connection.protocol_version(),
            kind: connection.handshake_kind(),
            client_chain: connection
                .peer_certificates()
                .map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect())
                .unwrap_or_default(),
        };
        self.update(|state| state.counts.handshakes.push(seen));
        Ok(StreamOwned::new(connection, socket))
    }

    fn behave(&self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        match &self.behaviour {
            Behaviour::Echo => self.echo(stream),
            Behaviour::Greet(greeting) => {
                stream.write_all(greeting)?;
                stream.flush()?;
                self.echo(stream)
            }
            Behaviour::Say(words) => {
                stream.write_all(words)?;
                stream.flush()
            }
            Behaviour::Stall => {
                let mut state = self.state();
                while !state.stopping {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Ok(())
            }
            Behaviour::Sink => self.read_all(stream, |_, _| Ok(())),
            Behaviour::Reset => {
                let length = stream.read(&mut [0; 4096])?;
                self.update(|state| state.counts.bytes += count(length));
                Ok(())
            }
        }
    }

    fn echo<S: Read + Write>(&self, stream: &mut S) -> io::Result<()> {
        self.read_all(stream, |stream, bytes| {
            stream.write_all(bytes)?;
            stream.flush()
        })
    }

    fn read_all<S: Read>(
        &self,
        stream: &mut S,
        mut answer: impl FnMut(&mut S, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            self.update(|state| state.counts.bytes += count(length));
            answer(stream, &buffer[..length])?;
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for id in 0.. {
        let Ok((socket, _)) = listener.accept() else { break };
        let watched = socket.try_clone().expect("a socket can be duplicated");
        {
            // Under one lock: `drop` closes every connection that is in `open` when it says stop.
            let mut state = shared.state();
            if state.stopping {
                break;
            }
            state.counts.accepted += 1;
            state.open.insert(id, watched);
        }
        shared.changed.notify_all();
        let shared = Arc::clone(shared);
        // One that has ended keeps its stack until somebody lets go of it.
        threads.retain(|thread: &JoinHandle<()>| !thread.is_finished());
        threads.push(thread::spawn(move || {
            // How a connection failed is the peer's to assert; here it only ends.
            drop(shared.serve(socket));
            shared.update(|state| {
                state.open.remove(&id);
                state.counts.closed += 1;
            });
        }));
    }
    for thread in threads {
        drop(thread.join());
    }
}

/// Until the peer's FIN, so that closing does not turn into a RST that eats what was sent.
fn drain(socket: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while socket.read(&mut buffer)? > 0 {}
    Ok(())
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
