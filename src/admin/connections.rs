//! `/connections`: who is connected now, some at a time, as JSON.
//!
//! Workers are asked by mail and answer between two clients, so nothing on the data path is locked; one
//! that does not answer in time is named. One question is asked at a time, whoever asks.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::AdminState;
use crate::worker::{Listed, Listing, Order, Row};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    limit: usize,
    /// A worker, and the place on it to go on from.
    after: (usize, usize),
    listener: Option<String>,
    chain: Option<String>,
}

impl Asked {
    /// # Errors
    /// What a field may be.
    pub(super) fn read(fields: &HashMap<String, String>, workers: usize) -> Result<Self, String> {
        for name in fields.keys() {
            if !["limit", "after", "listener", "chain"].contains(&name.as_str()) {
                return Err("fields: limit, after, listener, chain".to_owned());
            }
        }
        let limit = match fields.get("limit").map(|limit| limit.parse()) {
            None => LIMIT_DEFAULT,
            Some(Ok(limit @ 1..=LIMIT_MAX)) => limit,
            Some(_) => return Err(format!("limit is a number from 1 to {LIMIT_MAX}")),
        };
        let after = match fields.get("after") {
            None => Some((0, 0)),
            Some(after) => after
                .split_once('.')
                .and_then(|(worker, place)| Some((worker.parse().ok()?, place.parse().ok()?)))
                .filter(|(worker, _)| *worker < workers),
        };
        let after = after.ok_or("after is the `next` of the page before")?;
        let of = |name: &str| fields.get(name).cloned();
        Ok(Self { limit, after, listener: of("listener"), chain: of("chain") })
    }
}

/// One page.
pub(super) async fn page(state: &AdminState, asked: Asked) -> String {
    let until = Instant::now() + PATIENCE;
    let turn = timeout_at(until, state.listing.lock()).await;
    let peers = &state.shown.peers;
    let (mut worker, mut place) = asked.after;
    let mut rows = Vec::new();
    let mut silent = Vec::new();
    let mut is_late = turn.is_err();
    while !is_late && worker < peers.len() && rows.len() < asked.limit {
        let (answer, answered) = oneshot::channel();
        let listing = Listing {
            from: place,
            rows_max: asked.limit - rows.len(),
            listener: asked.listener.clone(),
            chain: asked.chain.clone(),
            answer,
        };
        peers[worker].mailbox.order(Order::List(Box::new(listing)));
        let by = until.min(Instant::now() + WORKER_PATIENCE);
        let next = match timeout_at(by, answered).await {
            Ok(Ok(Listed { rows: some, next })) => {
                rows.extend(some.iter().map(|it| row(worker, it)));
                next
            }
            // Busy for as long, or gone.
            Ok(Err(_)) | Err(_) => {
                silent.push(worker);
                None
            }
        };
        (worker, place) = next.map_or((worker + 1, 0), |next| (worker, next));
        is_late = Instant::now() >= until;
    }
    let next = (worker < peers.len()).then(|| format!("{worker}.{place}"));
    let open: u64 = peers.iter().fold(0, |sum, peer| sum.wrapping_add(peer.counters.open.value()));
    let page = json!({ "open": open, "connections": rows, "next": next, "workers_silent": silent });
    format!("{page:#}\n")
}

fn row(worker: usize, row: &Row) -> Value {
    let client = row.client.as_ref();
    json!({
        "id": format!("{:016x}", row.id),
        "worker": worker,
        "phase": row.phase.name(),
        "age_seconds": row.age.as_secs_f64(),
        "source": row.source.to_string(),
        "listener": &*row.listener.name,
        "server_name": row.server_name.as_deref(),
        "chain": row.chain.as_ref().map(|chain| &*chain.name.chain),
        "client": client.and_then(|client| client.name()),
        "tls": client.map(|client| client.negotiated.version.name()),
        "resumed": client.map(|client| client.negotiated.resumed),
        "upstream": row.endpoint.map(|endpoint| endpoint.to_string()),
        "bytes_received": row.received,
        "bytes_sent": row.sent,
    })
}

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// For one page. A page that is not full by then says where to go on.
const PATIENCE: Duration = Duration::from_secs(2);

/// For one worker to answer one question.
const WORKER_PATIENCE: Duration = Duration::from_secs(1);
