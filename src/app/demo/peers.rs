//! The upstreams of the demonstration: they send back what they get, over mTLS or plain TCP.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::tls::peer::{self, Pair, TlsAcceptor};

/// An upstream on a thread of its own, so that it shares no runtime with the clients.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

const BUFFER_BYTES: usize = 256 * 1024;

/// Echoes what clients with a certificate of `ca` send.
pub(crate) async fn tls_echo(ca: &Path, pair: Pair<'_>) -> io::Result<Upstream> {
    start(Some(peer::acceptor(ca, pair)?)).await
}

/// Echoes what anybody sends.
pub(crate) async fn plain_echo() -> io::Result<Upstream> {
    start(None).await
}

async fn start(acceptor: Option<TlsAcceptor>) -> io::Result<Upstream> {
    let (stop, stopped) = oneshot::channel();
    let (started, starting) = oneshot::channel();
    let thread = std::thread::Builder::new().name("upstream".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                LocalSet::new().block_on(&runtime, listen(acceptor, started, stopped));
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    let address = starting.await.map_err(io::Error::other)??;
    Ok(Upstream { address, stop: Some(stop), thread: Some(thread) })
}

async fn listen(
    acceptor: Option<TlsAcceptor>,
    started: oneshot::Sender<io::Result<SocketAddr>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let listener = match TcpListener::bind("127.0.0.1:0").await {
        Ok(listener) => listener,
        Err(error) => return drop(started.send(Err(error))),
    };
    if started.send(listener.local_addr()).is_err() {
        return;
    }
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::task::spawn_local(serve(stream, acceptor.clone()));
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>) {
    // A client that leaves early is the load's business: it counts what did not come back.
    drop(stream.set_nodelay(true));
    let ended = match acceptor {
        None => echo(stream).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => echo(stream).await,
            Err(error) => Err(error),
        },
    };
    drop(ended);
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        // Small connections do not pay for a large buffer.
        if buffer.len() < BUFFER_BYTES {
            buffer.resize((buffer.len() * 4).clamp(1024, BUFFER_BYTES), 0);
        }
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..received]).await?;
        stream.flush().await?;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
