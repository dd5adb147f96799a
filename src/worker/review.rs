//! Whether a session that runs would still be let in, once the configuration has changed under it.
//!
//! Each session asks for itself, when the reload wakes it: by look-ups, and the rules about its leaf
//! (`tls::DownstreamTerms::reconsider`). `on_change` of the trust says what becomes of one that would
//! not be. `relay` carries it out.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ChainSeries, Worker};
use crate::config::plan::OnChange;
use crate::core::drain::{Drain, SessionDrain, Wish};
use crate::core::refusal::Refusal;
use crate::tls::ClientFacts;

/// One session, and what it was last measured by.
#[derive(Debug)]
pub(super) struct Review<'a> {
    chain: &'a ChainSeries,
    source: SocketAddr,
    /// `None`: nobody was asked for a certificate, or the bytes are not opened.
    client: Option<&'a ClientFacts>,
    /// The generation that the client was let in by, or looked at last.
    seen: u64,
    verdict: Option<Verdict>,
}

/// What becomes of a session that would not be let in now.
#[derive(Debug)]
enum Verdict {
    /// It goes on, and its record tells.
    Kept(Refusal),
    Leaving {
        schedule: SessionDrain,
        why: String,
    },
}

impl<'a> Review<'a> {
    /// For a client of `chain` that was let in by generation `seen`.
    pub(super) fn new(
        chain: &'a ChainSeries,
        source: SocketAddr,
        client: Option<&'a ClientFacts>,
        seen: u64,
    ) -> Self {
        Self { chain, source, client, seen, verdict: None }
    }

    /// Looks at the client again if the configuration has changed since.
    pub(super) fn look(&mut self, worker: &Worker, now: Instant) {
        let current = worker.generation.borrow().snapshot.generation;
        if current != self.seen {
            self.seen = current;
            self.judge(worker, now);
        }
    }

    /// What is to be done now; `None`: nothing, ever.
    pub(super) fn wish(&self, now: Instant) -> Option<Wish> {
        match &self.verdict {
            Some(Verdict::Leaving { schedule, .. }) => Some(schedule.wish(now)),
            Some(Verdict::Kept(_)) | None => None,
        }
    }

    /// Why the session has to go, for its record.
    pub(super) fn why(&self) -> &str {
        match &self.verdict {
            Some(Verdict::Leaving { why, .. }) => why,
            Some(Verdict::Kept(_)) | None => "",
        }
    }

    /// What the session was let go on in spite of.
    pub(super) fn kept(&mut self) -> Option<Refusal> {
        match self.verdict.take() {
            Some(Verdict::Kept(refusal)) => Some(refusal),
            Some(Verdict::Leaving { .. }) | None => None,
        }
    }

    fn judge(&mut self, worker: &Worker, now: Instant) {
        // Once it has to leave, no later change brings it back: its client comes again and is asked.
        if matches!(self.verdict, Some(Verdict::Leaving { .. })) {
            return;
        }
        self.verdict = None;
        let Some(client) = self.client else { return };
        let snapshot = Arc::clone(&worker.generation.borrow().snapshot);
        // Of a chain that is gone, sessions go on: nothing says that their clients are not trusted.
        let Some(terms) = snapshot.terms(&self.chain.name) else { return };
        let Some(trust) = terms.trust() else { return };
        let Err(refusal) = terms.reconsider(client) else { return };
        let drain = snapshot.plan.runtime.drain;
        let action = match trust.on_change {
            OnChange::Keep => "kept",
            OnChange::Drain => "draining",
            OnChange::Close => "closed",
        };
        tracing::warn!(
            listener = %self.chain.name.listener,
            chain = %self.chain.name.chain,
            source = %self.source,
            detail = %refusal.detail,
            action,
            "a live session would not be let in any more"
        );
        let leaving = |spread, deadline| {
            let schedule = Drain::new(now, Duration::ZERO, spread, deadline);
            let schedule = schedule.session(worker.random());
            Verdict::Leaving { schedule, why: refusal.detail.clone() }
        };
        self.verdict = Some(match trust.on_change {
            OnChange::Keep => Verdict::Kept(refusal),
            OnChange::Drain => leaving(drain.spread, drain.deadline),
            OnChange::Close => leaving(Duration::ZERO, Duration::ZERO),
        });
    }
}

/// Wakes the sessions of this worker, some at a time, so that each looks at its client.
pub(super) async fn all(worker: Rc<Worker>) {
    let mut from = 0;
    while let Some(next) = worker.roster.wake(from, WOKEN_AT_ONCE) {
        from = next;
        tokio::task::yield_now().await;
    }
}

/// A review costs 1 µs where nothing changed and 10 µs where rules did: others wait 3 ms at most.
const WOKEN_AT_ONCE: usize = 256;
