//! The connections of one worker, as whoever asks may see them.
//!
//! Each has a card, which its own task writes: no lock, and nothing of it is made before somebody asks.
//! Control asks by mail (`Order::List`) for a few places at a time, and the answer is copies.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{ChainSeries, EndpointSeries, ListenerSeries};
use crate::tls::ClientFacts;

/// The cards of one worker.
#[derive(Debug, Default)]
pub(super) struct Census {
    places: RefCell<Vec<Option<Rc<Card>>>>,
    free: RefCell<Vec<usize>>,
}

/// What is known of one connection while it lives.
#[derive(Debug)]
pub(super) struct Card {
    /// Unique in this process, and what the access log calls it.
    pub(super) id: u64,
    pub(super) accepted: Instant,
    pub(super) listener: Arc<ListenerSeries>,
    /// Who connected, until a PROXY header says for whom.
    pub(super) source: Cell<SocketAddr>,
    pub(super) phase: Cell<Phase>,
    /// Payload from the client, and to it.
    pub(super) received: Cell<u64>,
    pub(super) sent: Cell<u64>,
    known: RefCell<Known>,
}

/// What a connection learns on its way.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    pub(super) server_name: Option<Arc<str>>,
    pub(super) chain: Option<Arc<ChainSeries>>,
    pub(super) client: Option<Arc<ClientFacts>>,
    pub(super) endpoint: Option<Arc<EndpointSeries>>,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its first bytes are awaited.
    Hello,
    Handshake,
    /// It waits for an upstream.
    Connecting,
    Relaying,
    /// It is being told that it is refused.
    Refused,
}

/// A question about the connections of one worker.
#[derive(Debug)]
pub struct Listing {
    /// The first place to look at.
    pub from: usize,
    /// Rows at most; as many places are looked at as `PLACES_MAX`, whatever is in them.
    pub rows_max: usize,
    /// Of this listener only.
    pub listener: Option<String>,
    /// Of chains with this name only.
    pub chain: Option<String>,
    pub answer: oneshot::Sender<Listed>,
}

/// The answer.
#[derive(Debug)]
pub struct Listed {
    pub rows: Vec<Row>,
    /// Where to go on; `None`: that was all.
    pub next: Option<usize>,
}

/// One connection, as it was when the worker was asked.
#[derive(Debug)]
pub struct Row {
    pub id: u64,
    pub age: Duration,
    pub phase: Phase,
    pub source: SocketAddr,
    pub listener: Arc<ListenerSeries>,
    pub server_name: Option<Arc<str>>,
    pub chain: Option<Arc<ChainSeries>>,
    pub client: Option<Arc<ClientFacts>>,
    pub endpoint: Option<SocketAddr>,
    pub received: u64,
    pub sent: u64,
}

impl Census {
    /// Takes a card in; `leave` with its place.
    pub(super) fn enter(&self, card: &Rc<Card>) -> usize {
        let mut places = self.places.borrow_mut();
        let at = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(None);
            places.len() - 1
        });
        places[at] = Some(Rc::clone(card));
        at
    }

    pub(super) fn leave(&self, at: usize) {
        self.places.borrow_mut()[at] = None;
        self.free.borrow_mut().push(at);
    }

    /// Answers a question, unless nobody waits for it any more.
    pub(super) fn tell(&self, listing: Listing, now: Instant) {
        if listing.answer.is_closed() {
            return;
        }
        let listed = self.list(&listing, now);
        // Whoever asked may have gone meanwhile.
        drop(listing.answer.send(listed));
    }

    fn list(&self, listing: &Listing, now: Instant) -> Listed {
        let places = self.places.borrow();
        let from = listing.from.min(places.len());
        let mut rows = Vec::new();
        let mut next = from;
        for card in places[from..].iter().take(PLACES_MAX) {
            if rows.len() == listing.rows_max {
                break;
            }
            next += 1;
            rows.extend(card.as_ref().filter(|card| card.fits(listing)).map(|card| card.row(now)));
        }
        Listed { rows, next: (next < places.len()).then_some(next) }
    }
}

impl Card {
    pub(super) fn new(
        id: u64,
        accepted: Instant,
        source: SocketAddr,
        listener: Arc<ListenerSeries>,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            accepted,
            listener,
            source: Cell::new(source),
            phase: Cell::new(Phase::Hello),
            received: Cell::new(0),
            sent: Cell::new(0),
            known: RefCell::default(),
        })
    }

    pub(super) fn learn(&self, what: impl FnOnce(&mut Known)) {
        what(&mut self.known.borrow_mut());
    }

    fn fits(&self, listing: &Listing) -> bool {
        let is_of_listener =
            listing.listener.as_ref().is_none_or(|wanted| *self.listener.name == **wanted);
        is_of_listener
            && listing.chain.as_ref().is_none_or(|wanted| {
                let known = self.known.borrow();
                known.chain.as_ref().is_some_and(|chain| *chain.name.chain == **wanted)
            })
    }

    fn row(&self, now: Instant) -> Row {
        let Known { server_name, chain, client, endpoint } = self.known.borrow().clone();
        Row {
            id: self.id,
            age: now.saturating_duration_since(self.accepted),
            phase: self.phase.get(),
            source: self.source.get(),
            listener: Arc::clone(&self.listener),
            server_name,
            chain,
            client,
            endpoint: endpoint.map(|endpoint| endpoint.name),
            received: self.received.get(),
            sent: self.sent.get(),
        }
    }
}

impl Phase {
    /// On the admin page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Handshake => "handshake",
            Self::Connecting => "connecting",
            Self::Relaying => "relaying",
            Self::Refused => "refused",
        }
    }
}

/// Looking at a place takes 20 ns, a row 100: a worker's clients wait half a millisecond at most.
const PLACES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::super::Series;
    use super::*;

    fn card(census: &Census, id: u64, listener: &str) -> usize {
        let series = Series::new(listener.into(), 1);
        let source = "127.0.0.1:1".parse().expect("an address");
        census.enter(&Card::new(id, crate::sys::clock::now(), source, series))
    }

    fn list(census: &Census, from: usize, rows_max: usize, listener: Option<&str>) -> Listed {
        let (answer, mut answered) = oneshot::channel();
        let listener = listener.map(str::to_owned);
        let listing = Listing { from, rows_max, listener, chain: None, answer };
        census.tell(listing, crate::sys::clock::now());
        answered.try_recv().expect("an answer")
    }

    fn ids(listed: &Listed) -> Vec<u64> {
        listed.rows.iter().map(|row| row.id).collect()
    }

    #[test]
    fn pages_hold_every_connection_once() {
        let census = Census::default();
        for id in 0..10 {
            card(&census, id, "edge");
        }
        census.leave(3);
        let (mut from, mut seen) = (Some(0), Vec::new());
        while let Some(at) = from {
            let page = list(&census, at, 4, None);
            assert!(page.rows.len() <= 4);
            seen.extend(ids(&page));
            from = page.next;
        }
        assert_eq!(seen, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert!(list(&census, 1_000, 4, None).rows.is_empty());
        assert_eq!(card(&census, 10, "edge"), 3, "a place is used again");
    }

    #[test]
    fn a_question_looks_at_a_bounded_number_of_places_whatever_it_finds() {
        let census = Census::default();
        for id in 0..PLACES_MAX as u64 {
            card(&census, id, "edge");
        }
        card(&census, 9_999, "side");
        let first = list(&census, 0, 10, Some("side"));
        assert_eq!((ids(&first), first.next), (Vec::new(), Some(PLACES_MAX)));
        let second = list(&census, PLACES_MAX, 10, Some("side"));
        assert_eq!((ids(&second), second.next), (vec![9_999], None));
    }

    #[test]
    fn nobody_is_listed_for_whom_nobody_waits() {
        let census = Census::default();
        let (answer, answered) = oneshot::channel();
        drop(answered);
        census.tell(
            Listing { from: 0, rows_max: 1, listener: None, chain: None, answer },
            crate::sys::clock::now(),
        );
    }
}
