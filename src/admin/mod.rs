//! The admin endpoint: liveness, readiness, metrics and certificates over HTTP/1.1, for machines close
//! by.
//!
//! Read-only; bound to loopback or a unix socket, and still careful: bounded in connections, header
//! bytes and time, and closed to pages in a browser. Runs on control's runtime, never on a worker.
//! `listener` is the socket, `answer` what each path says.

mod answer;
mod certs;
mod listener;
mod process;
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
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use self::listener::{AdminListener, AdminShare, AdminSocket};
pub use self::process::UpgradeReport;

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
    upgrade: ArcSwap<UpgradeReport>,
    /// True once another process answers in the place of this one.
    retired: watch::Sender<bool>,
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

/// Serves until the state is retired, or until it is dropped; connections end with it. Needs tokio's time and I/O.
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
            () = state.is_retired() => break,
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
    drop(acceptor);
    while connections.join_next().await.is_some() {}
    Ok(())
}

impl AdminState {
    /// Begins as `Readiness::Starting`.
    pub fn new(metrics: Registry, current: Arc<ArcSwap<Snapshot>>, stek: Arc<StekKeys>) -> Self {
        Self {
            metrics,
            current,
            stek,
            readiness: AtomicU8::new(Readiness::Starting as u8),
            upgrade: ArcSwap::default(),
            retired: watch::Sender::default(),
        }
    }

    pub fn set_readiness(&self, readiness: Readiness) {
        self.readiness.store(readiness as u8, Ordering::Release);
    }

    /// What `/process` says of upgrades from now on.
    pub fn set_upgrade(&self, report: UpgradeReport) {
        self.upgrade.store(Arc::new(report));
    }

    pub fn upgrade(&self) -> Arc<UpgradeReport> {
        self.upgrade.load_full()
    }

    /// Answers who is connected, and nobody else any more.
    pub fn retire(&self) {
        self.retired.send_replace(true);
    }

    pub fn was_retired(&self) -> bool {
        *self.retired.borrow()
    }

    async fn is_retired(&self) {
        // The sender is part of this.
        let _ = self.retired.subscribe().wait_for(|is| *is).await;
    }

    /// Who has connected just before has asked by then, or has no question now.
    async fn is_long_retired(&self) {
        self.is_retired().await;
        tokio::time::sleep(RETIRED_PATIENCE).await;
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
    let state = &*state;
    let service = service_fn(|request| {
        let answer = answer::answer(&request, reach, state, clock::unix_now());
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
    let is_over = tokio::select! {
        result = timeout(patience.age_max, connection.as_mut()) => result.is_ok(),
        () = state.is_long_retired() => false,
    };
    if !is_over {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(patience.header, connection).await;
    }
}

const READY: u8 = Readiness::Ready as u8;
const DRAINING: u8 = Readiness::Draining as u8;

const RETIRED_PATIENCE: Duration = Duration::from_millis(500);

/// A few scrapers and probes; a page of metrics takes up to a megabyte for each.
const CONNECTIONS_MAX: usize = 64;

const HEADER_BYTES_MAX: usize = 16 * 1024;

const PATIENCE: Patience =
    Patience { header: Duration::from_secs(10), age_max: Duration::from_secs(60) };

/// Out of descriptors, `accept` fails at once and for ever: not a reason to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
