//! The clients of the demonstration: handshakes that are proved by an echoed byte, streams that are
//! proved by a digest, and clients that must be refused.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::stage::{Stage, Tenant};
use super::{DemoError, Refused};
use crate::sys::clock;
use crate::tls::peer::{self, Kind, Tickets, TlsConnector};
use crate::worker::Ending;

/// Handshakes of one tenant and kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handshakes {
    pub(crate) full: u64,
    pub(crate) resumed: u64,
    pub(crate) failed: u64,
    pub(crate) took: Duration,
    /// The first failure, for the verdict.
    pub(crate) error: Option<String>,
}

/// One stream there and back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bulk {
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// What was lost or altered.
    pub(crate) error: Option<String>,
}

/// Clients at work at the same time.
const CLIENTS: usize = 8;

/// The longest that one small exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that a stream may stand still.
const STALL: Duration = Duration::from_secs(30);

const CHUNK_BYTES: usize = 256 * 1024;

/// Connects, proves the handshake by an echoed byte, closes, and again, for `time`.
pub(crate) async fn handshakes(
    stage: &Stage,
    tenant: &'static Tenant,
    tickets: Tickets,
    time: Duration,
) -> Result<Handshakes, DemoError> {
    let began = clock::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let connector = connector(stage, Some("alice"), tickets)?;
        clients.spawn_local(one_client(connector, stage.address(), tenant, began + time));
    }
    let mut all = Handshakes::default();
    while let Some(ended) = clients.join_next().await {
        let one = ended.unwrap_or_else(|error| Handshakes {
            failed: 1,
            error: Some(error.to_string()),
            ..Handshakes::default()
        });
        all.full += one.full;
        all.resumed += one.resumed;
        all.failed += one.failed;
        all.error = all.error.or(one.error);
    }
    all.took = clock::now().saturating_duration_since(began);
    Ok(all)
}

async fn one_client(
    connector: TlsConnector,
    address: SocketAddr,
    tenant: &Tenant,
    until: Instant,
) -> Handshakes {
    let mut counts = Handshakes::default();
    while clock::now() < until {
        let exchange = exchange(&connector, address, tenant.server_name);
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(Ok(Kind::Full)) => counts.full += 1,
            Ok(Ok(Kind::Resumed)) => counts.resumed += 1,
            Ok(Err(error)) => {
                counts.failed += 1;
                counts.error = counts.error.or(Some(error.to_string()));
            }
            Err(_elapsed) => {
                counts.failed += 1;
                counts.error = counts.error.or(Some(format!("no echo within {PATIENCE:?}")));
            }
        }
    }
    counts
}

/// One connection, one byte there and back, and a clean end.
async fn exchange(connector: &TlsConnector, to: SocketAddr, name: &str) -> io::Result<Kind> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut stream = peer::connect(connector, name, stream).await?;
    let kind = peer::kind(&stream);
    stream.write_all(b"?").await?;
    stream.flush().await?;
    let mut echoed = [0; 1];
    stream.read_exact(&mut echoed).await?;
    if &echoed != b"?" {
        return Err(io::Error::other("another byte came back than was sent"));
    }
    stream.shutdown().await?;
    match stream.read(&mut echoed).await? {
        0 => Ok(kind),
        _ => Err(io::Error::other("more came back than was sent")),
    }
}

/// Streams `bytes` up while they come back, and compares the digests of both.
pub(crate) async fn bulk(
    stage: &Stage,
    tenant: &'static Tenant,
    bytes: u64,
) -> Result<Bulk, DemoError> {
    let connector = connector(stage, Some("alice"), Tickets::Refuse)?;
    let began = clock::now();
    let streamed = stream(&connector, stage.address(), tenant.server_name, bytes).await;
    let took = clock::now().saturating_duration_since(began);
    let error = match streamed {
        Ok((sent, returned)) if sent.as_ref() == returned.as_ref() => None,
        Ok(_) => Some("what came back is not what was sent".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    Ok(Bulk { bytes, took, error })
}

async fn stream(
    connector: &TlsConnector,
    to: SocketAddr,
    name: &str,
    bytes: u64,
) -> io::Result<(Digest, Digest)> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut from, mut to) = split(peer::connect(connector, name, stream).await?);
    let send = async {
        let mut digest = Context::new(&SHA256);
        let mut pattern = Pattern::new();
        let mut left = bytes;
        while left > 0 {
            let chunk = pattern.next(usize::try_from(left).unwrap_or(usize::MAX));
            digest.update(chunk);
            left -= chunk.len() as u64;
            unless_stalled(to.write_all(chunk)).await?;
        }
        unless_stalled(to.shutdown()).await?;
        io::Result::Ok(digest.finish())
    };
    let receive = async {
        let mut digest = Context::new(&SHA256);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut total = 0;
        loop {
            let received = unless_stalled(from.read(&mut buffer)).await?;
            if received == 0 {
                break;
            }
            total += received as u64;
            digest.update(&buffer[..received]);
        }
        if total == bytes {
            io::Result::Ok(digest.finish())
        } else {
            Err(io::Error::other(format!("{total} of {bytes} bytes came back")))
        }
    };
    tokio::try_join!(send, receive)
}

async fn unless_stalled<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let stalled = |_| io::Error::other(format!("the stream stood still for {STALL:?}"));
    tokio::time::timeout(STALL, work).await.map_err(stalled)?
}

/// Bytes that never repeat within a chunk in a way that could hide a swap of records.
struct Pattern {
    chunk: Vec<u8>,
    state: u64,
}

impl Pattern {
    fn new() -> Self {
        Self { chunk: vec![0; CHUNK_BYTES], state: 0x9E37_79B9_7F4A_7C15 }
    }

    fn next(&mut self, at_most: usize) -> &[u8] {
        for word in self.chunk.chunks_exact_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            word.copy_from_slice(&self.state.to_le_bytes());
        }
        &self.chunk[..at_most.min(CHUNK_BYTES)]
    }
}

/// Two clients that must not get in, with what they saw and what the gateway wrote down.
pub(crate) async fn refusals(stage: &Stage) -> Result<Vec<Refused>, DemoError> {
    let cases =
        [("a client without a certificate", None), ("a client of another CA", Some("mallory"))];
    let mut refused = Vec::new();
    for (who, client) in cases {
        let connector = connector(stage, client, Tickets::Refuse)?;
        let no_socket = |source| DemoError::Io { what: "the gateway was not reached", source };
        let socket = TcpStream::connect(stage.address()).await.map_err(no_socket)?;
        let source = socket.local_addr().map_err(no_socket)?;
        stage.forget_reports();
        let alert = match knock(&connector, socket).await {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        };
        let report = stage.report_of(source).await;
        let reason = report.and_then(|report| match report.ending {
            Ending::Refused(refusal) => Some(refusal.to_string()),
            Ending::Closed { .. } => None,
        });
        refused.push(Refused { who, alert, reason });
    }
    Ok(refused)
}

/// Tries to get a byte through.
async fn knock(connector: &TlsConnector, socket: TcpStream) -> io::Result<()> {
    let name = super::stage::TENANTS[0].server_name;
    let mut stream = peer::connect(connector, name, socket).await?;
    stream.write_all(b"?").await?;
    stream.flush().await?;
    let mut echoed = [0; 1];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut echoed)).await;
    read.map_err(io::Error::other)?.map(drop)
}

fn connector(
    stage: &Stage,
    client: Option<&str>,
    tickets: Tickets,
) -> Result<TlsConnector, DemoError> {
    let paths = client.map(|name| stage.client(name));
    let pair = paths.as_ref().map(super::stage::Paths::pair);
    peer::connector(&stage.ca(), pair, tickets)
        .map_err(|source| DemoError::Io { what: "a client could not be made", source })
}
