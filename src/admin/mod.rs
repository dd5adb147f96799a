//! The admin endpoint: liveness, readiness, metrics and certificates over HTTP/1.1, for machines close
//! by.
//!
//! Read-only; bound to loopback or a unix socket, and still careful: bounded in connections, header
//! bytes and time, and closed to pages in a browser. Runs on control's runtime, never on a worker.
//! `listener` is the socket, `answer` what each path says.

mod answer;
mod certs;
mod listener;
#[cfg(test)]
mod tests;
mod tickets;
mod trust;

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use self::listener::AdminListener;

use self::listener::{Accepted, Acceptor, Reach};
use crate::sys::clock;
use crate::tls::StekKeys;
use crate::worker::Snapshot;

/// What the answers are made from.
#[derive(Debug)]
pub struct AdminState {
    metrics: Registry,
    current: Arc<ArcSwap<Snapshot>>,
    stek: Arc<StekKeys>,
    readiness: AtomicU8,
}

/// Whether new clients should be sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not every listener is bound yet.
    Starting,
    Ready,
    /// The process is going to end.
    Draining,
}

/// Serves until it is dropped; connections end with it. Needs tokio's time and I/O.
///
/// # Errors
/// The runtime does not take the listening socket. A failing `accept` is logged and tried again.
pub async fn serve(listener: AdminListener, state: Arc<AdminState>) -> io::Result<()> {
    let acceptor = Acceptor::new(listener)?;
    let mut connections = JoinSet::new();
    loop {
        // Who comes when all places are taken waits in the backlog: each place has an end.
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let state = Arc::clone(&state);
        match accepted {
            Ok(Accepted::Tcp(stream)) => {
                connections.spawn(converse(stream, Reach::Network, PATIENCE, state))
            }
            Ok(Accepted::Unix(stream)) => {
                connections.spawn(converse(stream, Reach::File, PATIENCE, state))
            }
            Err(error) => {
                tracing::warn!(%error, "the admin endpoint could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
    }
}

impl AdminState {
    /// Begins as `Readiness::Starting`.
    pub fn new(metrics: Registry, current: Arc<ArcSwap<Snapshot>>, stek: Arc<StekKeys>) -> Self {
        Self { metrics, current, stek, readiness: AtomicU8::new(Readiness::Starting as u8) }
    }

    pub fn set_readiness(&self, readiness: Readiness) {
        self.readiness.store(readiness as u8, Ordering::Release);
    }

    pub fn readiness(&self) -> Readiness {
        match self.readiness.load(Ordering::Acquire) {
            READY => Readiness::Ready,
            DRAINING => Readiness::Draining,
            _ => Readiness::Starting,
        }
    }
}

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For the head of a request, and idle between two.
    header: Duration,
    /// Then it is told to close; one that does not read is cut `header` later.
    age_max: Duration,
}

/// One connection, with an end in time whatever the other side does.
async fn converse<S>(stream: S, reach: Reach, patience: Patience, state: Arc<AdminState>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| {
        let answer = answer::answer(&request, reach, &state, clock::unix_now());
        ready(Ok::<_, Infallible>(answer))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also how long an idle connection is kept: it begins when the last answer is out.
        .header_read_timeout(patience.header)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // What goes wrong here is the business of whoever asked.
    if timeout(patience.age_max, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(patience.header, connection).await;
    }
}

const READY: u8 = Readiness::Ready as u8;
const DRAINING: u8 = Readiness::Draining as u8;

/// A few scrapers and probes; a page of metrics takes up to a megabyte for each.
const CONNECTIONS_MAX: usize = 64;

const HEADER_BYTES_MAX: usize = 16 * 1024;

const PATIENCE: Patience =
    Patience { header: Duration::from_secs(10), age_max: Duration::from_secs(60) };

/// Out of descriptors, `accept` fails at once and for ever: not a reason to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
