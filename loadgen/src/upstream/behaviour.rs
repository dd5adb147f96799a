//! Owns what the test peer does on one connection, plain or TLS. Read `mod.rs` for the tempers it
//! can have.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Mode;
use super::counts::{Counts, add};
use crate::pattern;

/// What a thread's connections share.
pub(super) struct Service {
    pub(super) mode: Mode,
    pub(super) slow_bytes: usize,
    pub(super) slow_every: Duration,
    pub(super) counts: Arc<Counts>,
    pub(super) tls: Option<TlsAcceptor>,
}

impl Service {
    /// Serves a connection to its end.
    pub(super) async fn connection(&self, stream: TcpStream) {
        add(&self.counts.accepted, 1);
        add(&self.counts.open, 1);
        let _ = stream.set_nodelay(true);
        match Box::pin(self.talk(stream)).await {
            Ok(()) => add(&self.counts.ended, 1),
            Err(_) => add(&self.counts.broken, 1),
        }
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }

    async fn talk(&self, stream: TcpStream) -> io::Result<()> {
        let linger = Linger(SockRef::from(&stream).try_clone().ok());
        match &self.tls {
            None => self.act(stream, &linger).await,
            Some(acceptor) => match acceptor.accept(stream).await {
                Ok(stream) => {
                    add(&self.counts.handshakes, 1);
                    let kind = stream.get_ref().1.handshake_kind();
                    if kind == Some(rustls::HandshakeKind::Resumed) {
                        add(&self.counts.resumed, 1);
                    }
                    self.act(stream, &linger).await
                }
                Err(error) => {
                    add(&self.counts.handshakes_failed, 1);
                    Err(error)
                }
            },
        }
    }

    async fn act<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        linger: &Linger,
    ) -> io::Result<()> {
        match self.mode {
            Mode::Echo => self.echo(&mut stream, 0).await,
            Mode::Wrong => self.echo(&mut stream, 1).await,
            Mode::Slow => self.slow(&mut stream).await,
            Mode::Sink => self.sink(&mut stream).await,
            Mode::Source => self.source(&mut stream).await,
            Mode::HalfClose => {
                stream.shutdown().await?;
                self.drain(&mut stream).await
            }
            Mode::Rst => {
                let mut buffer = [0; 1024];
                let count = stream.read(&mut buffer).await?;
                add(&self.counts.bytes_in, count as u64);
                linger.reset();
                Ok(())
            }
            Mode::Stall => {
                // Until the other side gives up; its bytes stay in the kernel.
                std::future::pending().await
            }
        }
    }

    async fn echo<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        offset: u8,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            buffer.reserve(CHUNK_BYTES_FIRST);
            let mut count = stream.read_buf(&mut buffer).await?;
            if count == 0 {
                return stream.shutdown().await;
            }
            if count == buffer.capacity() {
                // A bulk stream: fewer, larger turns from here on.
                buffer.reserve(CHUNK_BYTES);
                count = buffer.len();
            }
            add(&self.counts.bytes_in, count as u64);
            for byte in buffer.iter_mut().filter(|_| offset != 0) {
                *byte = byte.wrapping_add(offset);
            }
            stream.write_all(&buffer).await?;
            stream.flush().await?;
            add(&self.counts.bytes_out, count as u64);
        }
    }

    async fn slow<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        let mut buffer = vec![0; self.slow_bytes];
        loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                return stream.shutdown().await;
            }
            add(&self.counts.bytes_in, count as u64);
            stream.write_all(&buffer[..count]).await?;
            stream.flush().await?;
            add(&self.counts.bytes_out, count as u64);
            tokio::time::sleep(self.slow_every).await;
        }
    }

    async fn sink<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut hash = crc32fast::Hasher::new();
        let mut total = 0_u64;
        loop {
            let count = match stream.read(&mut buffer).await {
                // An end without close_notify, as nginx gives it. What is missing shows in the receipt.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                read => read?,
            };
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            total += count as u64;
            add(&self.counts.bytes_in, count as u64);
        }
        let mut receipt = [0; 16];
        receipt[..8].copy_from_slice(&total.to_le_bytes());
        receipt[8..].copy_from_slice(&u64::from(hash.finalize()).to_le_bytes());
        stream.write_all(&receipt).await?;
        add(&self.counts.bytes_out, receipt.len() as u64);
        stream.shutdown().await
    }

    async fn source<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        let total = stream.read_u64_le().await?;
        add(&self.counts.bytes_in, 8);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut sent = 0_u64;
        while sent < total {
            let left = usize::try_from(total - sent).unwrap_or(CHUNK_BYTES);
            let part = &mut buffer[..left.min(CHUNK_BYTES)];
            pattern::fill(part, sent);
            stream.write_all(part).await?;
            sent += part.len() as u64;
            add(&self.counts.bytes_out, part.len() as u64);
        }
        stream.shutdown().await?;
        self.drain(stream).await
    }

    async fn drain<S: AsyncRead + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES_FIRST];
        loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            add(&self.counts.bytes_in, count as u64);
        }
    }
}

/// A second descriptor of the socket, by which it can be made to end with RST from under TLS.
struct Linger(Option<socket2::Socket>);

impl Linger {
    fn reset(&self) {
        if let Some(socket) = &self.0 {
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

/// Most connections carry one byte.
const CHUNK_BYTES_FIRST: usize = 4 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
