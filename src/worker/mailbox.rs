//! What reaches a worker from other threads: sockets handed over by its peers, orders from control.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::queue::{ArrayQueue, SegQueue};
use tokio::sync::Notify;

use super::snapshot::{ListenerKey, Snapshot};
use crate::core::pressure::Pressure;

/// Accepted sockets that may wait for a worker; a full queue means that it is not lighter after all.
const SOCKETS_MAX: usize = 1024;

/// One delivery.
#[derive(Debug)]
pub enum Mail {
    /// Handed over after accept, before a byte was read.
    Socket(Box<Handed>),
    /// From control.
    Order(Order),
}

/// What control wants of a worker.
#[derive(Debug)]
pub enum Order {
    /// Serve new connections by this snapshot, and accept on these sockets as well.
    Take(Arc<Snapshot>, Vec<(ListenerKey, TcpListener)>),
    /// Something was found out about endpoints: look at them again.
    Look,
    /// How hard memory presses.
    Memory(Pressure),
    /// Begin to drain; the schedule counts from `Instant`.
    Drain(Instant),
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

/// The mailbox of one worker, shared with everybody.
#[derive(Debug)]
pub struct Mailbox {
    sockets: ArrayQueue<Box<Handed>>,
    /// Without a bound, so that none is lost: control gives few, and waits for nobody.
    orders: SegQueue<Order>,
    arrived: Notify,
}

impl Mailbox {
    pub fn new() -> Arc<Self> {
        let sockets = ArrayQueue::new(SOCKETS_MAX);
        Arc::new(Self { sockets, orders: SegQueue::new(), arrived: Notify::new() })
    }

    /// # Errors
    /// The queue is full; the socket comes back.
    pub(super) fn hand(&self, handed: Box<Handed>) -> Result<(), Box<Handed>> {
        self.sockets.push(handed)?;
        self.arrived.notify_one();
        Ok(())
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
    pub(super) async fn receive(&self) -> Mail {
        loop {
            if let Some(order) = self.orders.pop() {
                return Mail::Order(order);
            }
            if let Some(handed) = self.sockets.pop() {
                return Mail::Socket(handed);
            }
            self.arrived.notified().await;
        }
    }
}
