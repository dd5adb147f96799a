//! What reaches a worker from other threads: sockets that its peers hand over, what they ask for, and
//! orders from control.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Instant;

use crossbeam::queue::{ArrayQueue, SegQueue};
use tokio::sync::{Notify, oneshot};

use super::census::Listing;
use super::snapshot::{ClusterKey, ListenerKey, Snapshot};
use super::upstream::Parcel;
use crate::core::drain::Drain;
use crate::core::pool::Ready;
use crate::core::pressure::Pressure;

/// Accepted sockets that may wait for a worker; a full queue means that it is not lighter after all.
const SOCKETS_MAX: usize = 1024;

/// Workers that may wait for a ready connection of this one; who finds the queue full dials.
const ASKS_MAX: usize = 256;

/// One delivery.
#[derive(Debug)]
pub enum Mail {
    /// Handed over after accept, before a byte was read.
    Socket(Box<Handed>),
    /// Another worker has a client and no ready connection for it.
    Ask(Ask),
    /// From control.
    Order(Order),
}

/// What control, or another worker now and then, wants of a worker.
#[derive(Debug)]
pub enum Order {
    /// Serve new connections by this snapshot, and accept on these sockets as well.
    Take(Arc<Snapshot>, Vec<(ListenerKey, TcpListener)>),
    /// Something was found out about endpoints: look at them again.
    Look,
    /// Say which connections there are.
    List(Box<Listing>),
    /// How hard memory presses.
    Memory(Pressure),
    /// As many connections are open as may be: see `crowd`.
    MakeRoom,
    /// Say that you live: see `WorkerCounters::beats`.
    Beat,
    /// Begin to drain. Another process goes on with the sockets of these listeners.
    Drain(Drain, Arc<[ListenerKey]>),
    /// Close everything now.
    Stop,
}

/// A connection that another worker accepted. It is served as the snapshot of that worker says, which
/// may be a generation older or newer than the one of the worker that gets it.
#[derive(Debug)]
pub struct Handed {
    pub(super) stream: OwnedFd,
    pub(super) source: SocketAddr,
    pub(super) at: Instant,
    pub(super) snapshot: Arc<Snapshot>,
    /// Its place in the plan of `snapshot`.
    pub(super) listener: usize,
}

/// For a ready connection of a cluster. Dropped without an answer, it is a no.
#[derive(Debug)]
pub struct Ask {
    pub(super) cluster: ClusterKey,
    pub(super) answer: oneshot::Sender<Ready<Parcel>>,
}

/// The mailbox of one worker, shared with everybody.
#[derive(Debug)]
pub struct Mailbox {
    sockets: ArrayQueue<Box<Handed>>,
    asks: ArrayQueue<Ask>,
    /// Without a bound, so that none is lost: few are given, in times of their own, and nobody waits.
    orders: SegQueue<Order>,
    arrived: Notify,
    /// Its worker has ended, or is about to.
    is_closed: AtomicBool,
}

impl Mailbox {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            sockets: ArrayQueue::new(SOCKETS_MAX),
            asks: ArrayQueue::new(ASKS_MAX),
            orders: SegQueue::new(),
            arrived: Notify::new(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// # Errors
    /// The queue is full, or its worker takes nothing more; a socket comes back, this one or another worker's.
    pub(super) fn hand(&self, handed: Box<Handed>) -> Result<(), Box<Handed>> {
        self.sockets.push(handed)?;
        // Either this worker sees that the mailbox is closed, or whoever closed it sees the socket.
        fence(Ordering::SeqCst);
        if self.is_closed.load(Ordering::Relaxed)
            && let Some(back) = self.sockets.pop()
        {
            return Err(back);
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Its worker is about to end: the sockets that came all the same. No other comes once there is none.
    pub(super) fn close(&self) -> Vec<Handed> {
        self.is_closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        std::iter::from_fn(|| self.sockets.pop()).map(|handed| *handed).collect()
    }

    /// False where too many ask already.
    pub(super) fn ask(&self, ask: Ask) -> bool {
        let is_asked = self.asks.push(ask).is_ok();
        if is_asked {
            self.arrived.notify_one();
        }
        is_asked
    }

    pub fn order(&self, order: Order) {
        self.orders.push(order);
        self.arrived.notify_one();
    }

    /// Sockets not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.sockets.len()
    }

    /// Waits for the next mail.
    pub async fn receive(&self) -> Mail {
        loop {
            if let Some(order) = self.orders.pop() {
                return Mail::Order(order);
            }
            // Before sockets: an answer takes microseconds, and a client waits for it.
            if let Some(ask) = self.asks.pop() {
                return Mail::Ask(ask);
            }
            if let Some(handed) = self.sockets.pop() {
                return Mail::Socket(handed);
            }
            self.arrived.notified().await;
        }
    }
}
