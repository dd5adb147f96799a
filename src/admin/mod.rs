//! The admin endpoint: what the gateway is and does, over HTTP/1.1, for people and machines close by;
//! and a few orders to it.
//!
//! Bound to loopback or a unix socket, and still careful: bounded in connections, bytes and time, and
//! closed to pages of other sites. On a thread of its own, so that neither a worker nor control waits for
//! whoever asks. It changes nothing itself: orders go to control. `listener` is the socket, `crowd` who
//! makes room for whom, `access` says whom, `answer` what each path says; `assets/` is the live page.

mod access;
mod answer;
mod certs;
mod clusters;
mod connections;
mod crowd;
mod effective;
mod listener;
mod listeners;
mod orders;
mod process;
mod stats;
#[cfg(test)]
mod tests;
mod tickets;
mod trust;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use self::effective::{effective_config, level_name};
pub use self::listener::{AdminListener, AdminShare, AdminSocket};
pub use self::orders::{AdminOrder, Ordered, Orders, Outcome, Told, orders};
pub use self::process::UpgradeReport;

use self::access::Reach;
use self::crowd::{Crowd, Guest, Source, Watched};
use self::listener::{Accepted, Acceptor};
use crate::core::seldom::Seldom;
use crate::sys::{clock, shortage};
use crate::tls::StekKeys;
use crate::worker::{ListenerKey, Peer, Snapshot};

/// What the answers are made from.
#[derive(Debug)]
pub struct AdminState {
    metrics: Registry,
    shown: Shown,
    orders: Orders,
    crowd: Crowd,
    /// Of pages that are in memory.
    places: Arc<Semaphore>,
    /// Whoever makes a page: one at a time, with a turn for all others in between.
    making: Mutex<()>,
    /// Whoever has workers list their connections.
    listing: Mutex<()>,
    readiness: AtomicU8,
    upgrade: ArcSwap<UpgradeReport>,
    /// True once another process answers in the place of this one.
    retired: watch::Sender<bool>,
}

/// What of the gateway is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    pub current: Arc<ArcSwap<Snapshot>>,
    pub peers: Arc<[Peer]>,
    pub stek: Arc<StekKeys>,
    /// Where each listener really listens.
    pub bound: Arc<ArcSwap<Vec<(ListenerKey, SocketAddr)>>>,
    /// Unix seconds.
    pub started: u64,
}

/// The endpoint while it serves; ends when it is dropped.
#[derive(Debug)]
pub struct AdminThread {
    stop: Option<oneshot::Sender<()>>,
    over: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
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

/// Serves on a thread of its own until the state is retired, or until what is returned is dropped;
/// connections end with it.
///
/// # Errors
/// There is no thread, or its runtime does not take the listening socket.
pub fn start(listener: AdminListener, state: Arc<AdminState>) -> io::Result<AdminThread> {
    start_with(PATIENCE, listener, state)
}

fn start_with(
    patience: Patience,
    listener: AdminListener,
    state: Arc<AdminState>,
) -> io::Result<AdminThread> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let acceptor = {
        let _inside = runtime.enter();
        Acceptor::new(listener)?
    };
    let (stop, stopped) = oneshot::channel();
    let (ending, over) = oneshot::channel();
    let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = serve(acceptor, patience, state) => {}
                _ = stopped => {}
            }
        });
        drop::<oneshot::Sender<()>>(ending);
    })?;
    Ok(AdminThread { stop: Some(stop), over, thread: Some(thread) })
}

/// Until the state is retired. A failing `accept` is logged and tried again.
async fn serve(acceptor: Acceptor, patience: Patience, state: Arc<AdminState>) {
    let mut connections = JoinSet::new();
    let (mut crowding, mut failing) = (Seldom::default(), Seldom::default());
    let mut accepted_in_a_row = 0;
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = state.is_retired() => break,
        };
        // Nobody waits for a place. Who is sent away is gone at its next turn, which this waits for.
        while connections.len() >= CONNECTIONS_MAX {
            if let Some(source) = state.crowd.make_room() {
                tell_of_crowding(&mut crowding, source);
            }
            connections.join_next().await;
        }
        let state = Arc::clone(&state);
        match accepted {
            Ok(Accepted::Tcp(stream, peer)) => {
                let guest = state.crowd.enter(Source::of(peer), clock::now());
                connections.spawn(host(stream, guest, Reach::of(peer), patience, state));
            }
            Ok(Accepted::Unix(stream)) => {
                let guest = state.crowd.enter(Source::File, clock::now());
                connections.spawn(host(stream, guest, Reach::File, patience, state));
            }
            Err(error) => {
                tell_of_failing(&mut failing, &error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        // Their questions may have come with them: they have a turn long before others need their places.
        accepted_in_a_row = (accepted_in_a_row + 1) % IN_A_ROW_MAX;
        if accepted_in_a_row == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(acceptor);
    while connections.join_next().await.is_some() {}
}

/// Connections make room for others.
fn tell_of_crowding(crowding: &mut Seldom, source: Source) {
    let Some(closed) = crowding.one_more(clock::now(), CROWDING_PAUSE) else { return };
    tracing::warn!(
        closed, %source,
        "the admin endpoint closes connections to make room for new ones: {CONNECTIONS_MAX} are open, most of \
         them idle or slow; let fewer machines reach `admin.listen`"
    );
}

fn tell_of_failing(failing: &mut Seldom, error: &io::Error) {
    let Some(failures) = failing.one_more(clock::now(), FAILING_PAUSE) else { return };
    let remedy = shortage::remedy_of_accept(error);
    tracing::warn!(%error, failures, "the admin endpoint could not accept a connection: {remedy}");
}

impl AdminThread {
    /// Waits for the last answers of one that is retired, for so long at most.
    pub async fn finish(mut self, patience: Duration) {
        // Late or not, what is left of it ends now.
        drop(timeout(patience, &mut self.over).await);
    }
}

impl Drop for AdminThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin endpoint panicked; please report it with what stands above");
        }
    }
}

impl Readiness {
    /// What `/readyz` says.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

impl AdminState {
    /// Begins as `Readiness::Starting`. What is asked of control goes to `orders`.
    pub fn new(metrics: Registry, shown: Shown, orders: Orders) -> Self {
        Self {
            metrics,
            shown,
            orders,
            crowd: Crowd::new(clock::now()),
            places: Arc::new(Semaphore::new(PAGES_MAX)),
            making: Mutex::new(()),
            listing: Mutex::new(()),
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

/// One connection, until another needs its place.
async fn host<S>(
    stream: S,
    guest: Arc<Guest>,
    reach: Reach,
    patience: Patience,
    state: Arc<AdminState>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = Watched { stream, guest: Arc::clone(&guest) };
    tokio::select! {
        () = converse(stream, reach, patience, &state) => {}
        () = guest.is_sent_away() => {}
    }
}

/// One connection, with an end in time whatever the other side does.
async fn converse<S>(stream: Watched<S>, reach: Reach, patience: Patience, state: &AdminState)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let guest = Arc::clone(&stream.guest);
    let guest = &*guest;
    let service = service_fn(async |request| {
        guest.asks(clock::now());
        let answer = answer::answer(&request, reach, state, clock::unix_now()).await;
        guest.is_answered(clock::now());
        Ok::<_, Infallible>(answer)
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

/// A few scrapers, probes and people.
const CONNECTIONS_MAX: usize = 64;

/// Connections that are accepted before those that are there have their turn.
const IN_A_ROW_MAX: usize = CONNECTIONS_MAX / 4;

/// Pages that are in memory at once, from their making until their last byte is out. With ten thousand
/// chains the metrics take ten megabytes.
const PAGES_MAX: usize = 8;

const HEADER_BYTES_MAX: usize = 16 * 1024;

const PATIENCE: Patience =
    Patience { header: Duration::from_secs(10), age_max: Duration::from_secs(60) };

/// Between two lines of the log about connections that make room.
const CROWDING_PAUSE: Duration = Duration::from_secs(60);

/// Between two lines of the log about connections that cannot be accepted.
const FAILING_PAUSE: Duration = Duration::from_secs(10);

/// Out of descriptors, `accept` fails at once and for ever: not a reason to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
