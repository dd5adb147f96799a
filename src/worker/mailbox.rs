//! What reaches a worker from other threads: sockets handed over by its peers, orders from control.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::queue::ArrayQueue;
use tokio::sync::Notify;

/// Accepted sockets that may wait for a worker; a full queue means that it is not lighter after all.
const MAIL_MAX: usize = 1024;

/// One delivery.
#[derive(Debug)]
pub enum Mail {
    /// Handed over after accept, before a byte was read.
    Socket(Arrival<std::net::TcpStream>),
    /// Begin to drain; the schedule counts from `Instant`.
    Drain(Instant),
    /// Close everything now.
    Stop,
}

/// An accepted connection; `S` is its socket, in a runtime or in none.
#[derive(Debug)]
pub struct Arrival<S> {
    pub stream: S,
    pub source: SocketAddr,
    pub listener: usize,
    pub at: Instant,
}

/// The mailbox of one worker, shared with everybody.
#[derive(Debug)]
pub struct Mailbox {
    queue: ArrayQueue<Mail>,
    arrived: Notify,
}

impl Mailbox {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { queue: ArrayQueue::new(MAIL_MAX), arrived: Notify::new() })
    }

    /// # Errors
    /// The queue is full; the mail comes back.
    pub fn send(&self, mail: Mail) -> Result<(), Mail> {
        self.queue.push(mail)?;
        self.arrived.notify_one();
        Ok(())
    }

    /// Deliveries not taken yet.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Waits for the next mail.
    pub async fn receive(&self) -> Mail {
        loop {
            if let Some(mail) = self.queue.pop() {
                return mail;
            }
            self.arrived.notified().await;
        }
    }
}
