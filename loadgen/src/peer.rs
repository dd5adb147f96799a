//! Owns asynchronous TLS connections for the commands that need few of them or need them long:
//! `stream`, `hold`, `attack`. The handshake load itself goes through `worker.rs` instead.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clients::server_name;
use crate::flags;
use crate::identity::Identity;
use crate::server_trust::ServerTrustFlags;
use crate::source::{Source, Sources};
use crate::ticket_pool::{Holder, TicketPool};
use crate::tls_client::{TlsClients, TlsTerms, Version};

/// Whom to talk to and as whom.
#[derive(Debug, Clone, Args)]
pub struct PeerFlags {
    /// Server to connect to, HOST:PORT
    #[arg(long, value_name = "ADDR")]
    pub target: String,
    /// Server name
    #[arg(long, default_value = "localhost")]
    pub sni: String,
    /// Client certificate: FILE, or CHAIN,KEY; with `hold` also DIR (NAME.crt beside NAME.key), each
    /// connection with the next
    #[arg(long, value_name = "DIR|FILE[,KEY]")]
    pub client_cert: Option<String>,
    /// Whether the server is believed.
    #[command(flatten)]
    pub server: ServerTrustFlags,
    /// TLS version: 1.3 or 1.2
    #[arg(long, default_value = "1.3")]
    pub tls: String,
    /// Key-exchange groups, the preferred one first
    #[arg(long, default_value = "x25519,secp256r1,secp384r1")]
    pub groups: String,
    /// Cipher suites to offer, by their IANA names; all of a TLS version of which none is named
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub cipher_suites: Vec<String>,
    /// Application protocols to offer
    #[arg(long, value_delimiter = ',')]
    pub alpn: Vec<String>,
    /// Local addresses: ADDRESS/BITS, off, or auto (127.9.0.0/16 for loopback targets)
    #[arg(long, default_value = "auto")]
    pub source: Source,
    /// Process id of the server: reports its CPU and memory
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
}

/// Makes one client's connections to one server.
#[derive(Debug)]
pub struct Peer {
    /// The server.
    pub target: SocketAddr,
    /// What it is called.
    pub name: ServerName<'static>,
    /// How TLS is spoken.
    pub config: Arc<ClientConfig>,
    tickets: Arc<TicketPool>,
    sources: Arc<Mutex<Sources>>,
}

impl PeerFlags {
    /// The first of the clients that the flags describe. Resumption is off until [`Peer::resume`].
    ///
    /// # Errors
    /// As [`PeerFlags::peers`].
    pub fn peer(&self) -> Result<Peer> {
        let mut identities = self.identities()?;
        identities.truncate(1);
        self.clients(identities)?.pop().context("no certificate")
    }

    /// All of them, one for each certificate.
    ///
    /// # Errors
    /// Files that cannot be read, names that do not resolve.
    pub fn peers(&self) -> Result<Vec<Peer>> {
        self.clients(self.identities()?)
    }

    fn identities(&self) -> Result<Vec<Identity>> {
        self.client_cert.as_deref().map_or_else(|| Ok(vec![Identity::none()]), Identity::load)
    }

    fn clients(&self, identities: Vec<Identity>) -> Result<Vec<Peer>> {
        let terms = TlsTerms {
            groups: self.groups.clone(),
            cipher_suites: self.cipher_suites.clone(),
            alpn: self.alpn.clone(),
            roots: self.server.roots(|| Ok(Vec::new()))?,
            cheap: false,
        };
        let version = match self.tls.as_str() {
            "1.3" => Version::Tls13,
            "1.2" => Version::Tls12,
            other => bail!("--tls: {other:?} is neither 1.2 nor 1.3"),
        };
        let target = flags::resolve(&self.target)?;
        let name = server_name(&self.sni)?;
        let sources = Arc::new(Mutex::new(Sources::new(self.source, target, 0)));
        let client = |identity| {
            // A ticket is good with the certificate alone that it was given for.
            let tickets = Arc::new(TicketPool::default());
            tickets.turn(Holder(0), false);
            let clients = TlsClients::new(&terms, &[identity], &tickets)?;
            Ok(Peer {
                target,
                name: name.clone(),
                config: clients.config(0, version).context("no configuration")?,
                tickets,
                sources: Arc::clone(&sources),
            })
        };
        identities.into_iter().map(client).collect()
    }
}

impl Peer {
    /// Whether connections made from now on may resume.
    pub fn resume(&self, may_resume: bool) {
        self.tickets.turn(Holder(0), may_resume);
    }

    /// A TCP connection.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn tcp(&self) -> io::Result<TcpStream> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(self.target), kind, Some(Protocol::TCP))?;
        let source = {
            let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources.next_address()
        };
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        TcpSocket::from_std_stream(std::net::TcpStream::from(socket)).connect(self.target).await
    }

    /// A TLS connection, within `timeout`.
    ///
    /// # Errors
    /// Those of the kernel or of TLS; too slow.
    pub async fn tls(&self, timeout: Duration) -> io::Result<TlsStream<TcpStream>> {
        let connect = async {
            let stream = self.tcp().await?;
            let connector = TlsConnector::from(Arc::clone(&self.config));
            connector.connect(self.name.clone(), stream).await
        };
        tokio::time::timeout(timeout, Box::pin(connect)).await.map_err(io::Error::from)?
    }
}

/// A runtime for one command, on the calling thread.
///
/// # Errors
/// No epoll.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")
}
