//! Owns what the test peer has counted, and the page that shows it. Read `behaviour.rs` for who
//! counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::http;

/// Counters that all threads share.
#[derive(Debug, Default)]
pub struct Counts {
    /// TCP connections accepted.
    pub accepted: AtomicU64,
    /// TLS handshakes completed.
    pub handshakes: AtomicU64,
    /// Of these, resumed.
    pub resumed: AtomicU64,
    /// TLS handshakes that failed.
    pub handshakes_failed: AtomicU64,
    /// Payload bytes read.
    pub bytes_in: AtomicU64,
    /// Payload bytes written.
    pub bytes_out: AtomicU64,
    /// Connections that ended with the other's FIN (after close_notify, where TLS is spoken).
    pub ended: AtomicU64,
    /// Connections that the other side reset or truncated.
    pub broken: AtomicU64,
    /// Connections that are open now.
    pub open: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsSeen {
    /// As in [`Counts`], like the rest.
    pub accepted: u64,
    /// Handshakes.
    pub handshakes: u64,
    /// Resumed ones.
    pub resumed: u64,
    /// Failed ones.
    pub handshakes_failed: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Ended in order.
    pub ended: u64,
    /// Reset or truncated.
    pub broken: u64,
    /// Open now.
    pub open: u64,
}

impl Counts {
    /// Reads them all.
    #[must_use]
    pub fn seen(&self) -> CountsSeen {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CountsSeen {
            accepted: read(&self.accepted),
            handshakes: read(&self.handshakes),
            resumed: read(&self.resumed),
            handshakes_failed: read(&self.handshakes_failed),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            ended: read(&self.ended),
            broken: read(&self.broken),
            open: read(&self.open),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// The page's socket.
pub(super) async fn listen(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves the counts as JSON to whoever asks, until the end of the process.
pub(super) async fn serve(listener: &TcpListener, counts: &Arc<Counts>) {
    let counts = Arc::clone(counts);
    http::serve_json(listener, move || serde_json::json!(counts.seen()).to_string()).await;
}
