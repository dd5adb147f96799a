//! What each worker carries, and what its thread has had of its core.

use std::fmt;

use super::encode::Families;
use crate::sys::thread::{self, Usage};
use crate::worker::Peer;

pub(super) fn encode(peers: &[Peer], families: &mut Families<'_, '_>) -> fmt::Result {
    let mut open = families
        .gauge("portcullis_worker_connections_open", "Client connections open now, by worker")?;
    for (at, peer) in peers.iter().enumerate() {
        open.sample(&[("worker", &at.to_string())], peer.counters.open.value())?;
    }
    let usages: Vec<(String, Usage)> = peers.iter().enumerate().filter_map(usage).collect();
    let mut running = families
        .counter("portcullis_worker_cpu_seconds", "Processor time that a worker's thread used")?;
    for (worker, usage) in &usages {
        running.sample(&[("worker", worker)], usage.running.as_secs_f64())?;
    }
    let mut waiting = families.counter(
        "portcullis_worker_wait_seconds",
        "Time that a worker's thread was ready to run and others had its core",
    )?;
    for (worker, usage) in &usages {
        waiting.sample(&[("worker", worker)], usage.waiting.as_secs_f64())?;
    }
    Ok(())
}

/// Missing where the thread has ended, or the kernel keeps no account.
fn usage((at, peer): (usize, &Peer)) -> Option<(String, Usage)> {
    Some((at.to_string(), thread::usage(peer.counters.thread.value())?))
}
