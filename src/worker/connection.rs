//! One client connection on its worker, from accept to close: carries out what the core's `Session`
//! wishes and reports how it went.
//!
//! `hello` reads the first bytes, `handshake` and `upstream` do the two TLS sides, `relay` the rest.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::accept::Arrival;
use super::census::{Card, Phase};
use super::flow::{Leg, Legs};
use super::generation::Entrance;
use super::hello::HelloNotes;
use super::in_flight::Handshaking;
use super::limits::Places;
use super::proxied::Proxied;
use super::relay::{self, Relayed};
use super::report::{Ending, Report, UpstreamReport};
use super::review::Review;
use super::socket::Socket;
use super::tally::Tally;
use super::upstream::{Cluster, Connected, Purpose, Seeker};
use super::{ChainCounters, ChainSeries, Worker, handshake, stream};
use crate::config::plan::HashBy;
use crate::core::balance::by_weight;
use crate::core::maglev;
use crate::core::refusal::{Blame, Reason, Refusal};
use crate::core::relay::{LINGER, Limits};
use crate::core::route::ChainId;
use crate::core::session::{Connect, Deadlines, Event, Session, Wish};
use crate::sys::{clock, socket};
use crate::tls::{ClientFacts, HelloFacts, unsealed_alert};

/// A client and what is known of it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    /// Its number, listener and source among the rest.
    pub(super) card: Rc<Card>,
    /// Since 1970.
    accepted: Duration,
    pub(super) proxied: Option<Box<Proxied>>,
    pub(super) down: Leg,
    pub(super) notes: HelloNotes,
    session: Session,
    limits: Limits,
    route: Option<Route>,
    pub(super) client: Option<Arc<ClientFacts>>,
    /// What trusts and filters in audit mode would have refused.
    pub(super) audits: Vec<Refusal>,
    /// Where limits of sources and of filters count it.
    pub(super) places: Places,
    upstream: Option<Connected>,
    /// What its upstream is told before its first byte, once that is made; until it is connected.
    ahead: Option<Vec<u8>>,
    /// Endpoints that failed this client.
    tried: RefCell<Vec<SocketAddr>>,
    /// Of the last of these: TCP stood, and TLS was waited for.
    stood: Cell<bool>,
    /// While a handshake runs.
    handshaking: Option<Handshaking>,
    /// From the first time that bytes may flow.
    open: Option<OpenSession>,
}

/// Where a client goes, once its filter chain is chosen. All that an established session holds of the
/// snapshot that it began with: one that lasts for days does not keep its lists and names in memory.
#[derive(Debug)]
struct Route {
    /// Of the configuration by which the client was let in.
    generation: u64,
    chain: Arc<ChainSeries>,
    cluster: Rc<Cluster>,
}

/// Where a connection stands in the gauges, and where its panic is noticed.
#[derive(Debug)]
struct Open {
    worker: Rc<Worker>,
    card: Rc<Card>,
    /// In the census.
    place: usize,
}

/// Serves an accepted connection in a task of its own, or refuses it where `refusal` says so.
pub(super) fn start(worker: &Rc<Worker>, arrival: Arrival, refusal: Option<Refusal>) {
    let listener = Arc::clone(arrival.entrance.counters());
    worker.counters.open.up();
    listener.of(worker.index).open.up();
    let card = Card::new(worker.next_id(), arrival.at, canonical(arrival.source), listener);
    let place = worker.census.enter(&card);
    let open = Open { worker: Rc::clone(worker), card, place };
    let Arrival { stream, source: _, at: _, entrance } = arrival;
    let mut connection = Connection::new(&open, &entrance, stream);
    if let Some(refusal) = refusal {
        // Closed without a word and without waiting for the client to go: a crowd that is over a
        // limit must not itself hold the limit.
        return connection.end(Ending::Refused(refusal));
    }
    // What a block captures it uses in place; arguments of an `async fn` would be there twice for as
    // long as the session lasts.
    tokio::task::spawn_local(async move {
        let _open = open;
        // Boxed, so that an idle session does not carry the memory of its handshake.
        let wish = Box::pin(connection.enter(entrance)).await;
        let ending = connection.run(wish).await;
        connection.end(ending);
    });
}

impl Connection {
    fn new(open: &Open, entrance: &Entrance, stream: Socket) -> Self {
        let timeouts = entrance.plan().timeouts;
        let deadlines = Deadlines { hello: timeouts.hello, handshake: timeouts.handshake };
        if let Some(limit) = timeouts.unacknowledged {
            // One that cannot take the option is gone already, which its next read tells.
            drop(socket::limit_unacknowledged(&stream, limit));
        }
        Self {
            handshaking: None,
            open: None,
            worker: Rc::clone(&open.worker),
            card: Rc::clone(&open.card),
            accepted: clock::wall(),
            proxied: None,
            down: Leg::new(stream),
            notes: HelloNotes::default(),
            session: Session::new(deadlines, open.card.accepted),
            limits: Limits { idle: timeouts.idle, half_closed: timeouts.half_closed },
            route: None,
            client: None,
            audits: Vec::new(),
            places: Places::new(),
            upstream: None,
            ahead: None,
            tried: RefCell::new(Vec::new()),
            stood: Cell::new(false),
        }
    }

    /// Hello and handshake, by the generation that the connection began with; returns the first wish
    /// that is neither.
    async fn enter(&mut self, entrance: Entrance) -> Wish {
        let worker = Rc::clone(&self.worker);
        let timers = &worker.timers;
        let mut wish = Wish::ReadHello;
        loop {
            let deadline = self.session.deadline();
            self.card.phase.set(phase(&wish));
            let makes_room = worker.crowd.has_to_go(clock::now());
            let makes_room = async { Ok(Event::Refused(makes_room.await)) };
            let event = match wish {
                Wish::ReadHello => {
                    let hello = pin!(self.read_hello(&entrance));
                    tokio::select! {
                        biased;
                        hello = timers.until(deadline, hello) => hello,
                        refused = makes_room => refused,
                    }
                }
                Wish::Handshake => {
                    let handshake = pin!(self.handshake(&entrance));
                    tokio::select! {
                        biased;
                        done = timers.until(deadline, handshake) => done,
                        refused = makes_room => refused,
                    }
                }
                Wish::Connect { .. } | Wish::Relay | Wish::Refuse(_) => return wish,
            };
            let event = event.unwrap_or(Event::Deadline);
            wish = self.session.handle(event, clock::now());
        }
    }

    /// Wish by wish to the end.
    async fn run(&mut self, mut wish: Wish) -> Ending {
        loop {
            self.card.phase.set(phase(&wish));
            let event = match wish {
                Wish::Relay => match self.relay().await {
                    Relayed::Over { outcome, mut detail, alert, kept } => {
                        self.audits.extend(kept);
                        if let Some(upstream) = &self.upstream {
                            upstream.explain(outcome.reason, &mut detail);
                        }
                        return Ending::Closed { outcome, detail, alert };
                    }
                    Relayed::ReadyDied => Event::ReadyDied,
                },
                Wish::Refuse(mut refusal) => {
                    self.refuse(&mut refusal).await;
                    return Ending::Refused(refusal);
                }
                Wish::Connect { may_be_ready, .. } => {
                    self.handshaking = None;
                    let timers = Rc::clone(&self.worker.timers);
                    let deadline = self.session.deadline();
                    // Boxed, so that an idle session does not carry the memory of its handshake.
                    let connect = Box::pin(self.connect(may_be_ready));
                    timers
                        .until(deadline, connect)
                        .await
                        .unwrap_or_else(|_elapsed| self.no_answer())
                }
                // These are over and do not come again.
                Wish::ReadHello | Wish::Handshake => Event::Deadline,
            };
            wish = self.session.handle(event, clock::now());
        }
    }

    /// The hello has chosen a chain.
    pub(super) fn routed(&mut self, entrance: &Entrance, chain: ChainId) -> Event {
        #[cfg(test)]
        self.notes.server_name.iter().for_each(|name| super::panic_hook::look_at(name.as_bytes()));
        let snapshot = &entrance.generation.snapshot;
        let chosen = &entrance.plan().chains[usize::from(chain.0)];
        let series = &snapshot.counters.chains[snapshot.chain_index(entrance.listener, chain)];
        // Weights are not all 0: there is always one.
        let weights = chosen.clusters.iter().map(|one| one.weight);
        let place = by_weight(weights, self.worker.random()).unwrap_or(0);
        let id = chosen.clusters[place].cluster;
        let cluster = entrance.generation.cluster(id);
        self.card.learn(|known| {
            known.server_name = self.notes.server_name.clone();
            known.chain = Some(Arc::clone(series));
        });
        self.route = Some(Route {
            generation: snapshot.generation,
            chain: Arc::clone(series),
            cluster: Rc::clone(cluster),
        });
        // Where there is a handshake they come behind it.
        if chosen.tls.is_none()
            && let Err(refusal) = self.pass_filters(&entrance.plan().name, chosen)
        {
            return Event::Refused(refusal);
        }
        let connect = snapshot.plan.cluster(id).connect;
        Event::Routed {
            chain,
            terminate: chosen.tls.is_some(),
            connect: Connect { timeout: connect.timeout, attempts: connect.attempts },
        }
    }

    async fn handshake(&mut self, entrance: &Entrance) -> Event {
        let worker = Rc::clone(&self.worker);
        let material = &entrance.generation.snapshot.material;
        let chain = self.session.chain();
        let terms = chain.and_then(|chain| {
            let terms = material.downstream(entrance.listener, chain)?;
            Some((&entrance.plan().chains[usize::from(chain.0)], terms))
        });
        let Some((chain, terms)) = terms else {
            return Event::Refused(Refusal::new(Reason::Internal, "the chain has no TLS terms"));
        };
        // Only now: a client that is silent or slow with its hello costs no cryptography, and must
        // not take the place of one that does (threat 1).
        if let Some(refusal) = self.over_handshakes(entrance, chain) {
            return Event::Refused(refusal);
        }
        let handshaking = Handshaking::new(&worker);
        let given_up = handshaking.given_up();
        self.handshaking = Some(handshaking);
        let began = clock::now();
        let mut shake = terms.start(HelloFacts {
            sni: self.notes.server_name.as_deref(),
            prefers_chacha20: self.notes.prefers_chacha20,
            newest: self.notes.newest,
            takes_raw_keys_only: self.notes.takes_raw_keys_only,
            record_limit: self.notes.record_limit,
            groups: self.notes.groups,
        });
        shake.certificate().await;
        let driven = tokio::select! {
            biased;
            driven = handshake::drive(&worker, &mut self.down, &mut shake) => driven,
            () = given_up => Err(Refusal::new(Reason::HandshakeLimit, GIVEN_UP)),
        };
        if let Err(refusal) = driven {
            return Event::Refused(refusal);
        }
        match shake.finish() {
            Ok((wire, mut facts)) => {
                self.count_handshake(
                    entrance,
                    &facts,
                    clock::now().saturating_duration_since(began),
                );
                self.down.wire = wire;
                self.audits.extend(facts.audit.take());
                self.client = Some(Arc::new(facts));
                let passed = self.pass_filters(&entrance.plan().name, chain);
                self.card.learn(|known| known.client = self.client.clone());
                match passed {
                    Err(refusal) => Event::Refused(refusal),
                    Ok(()) => Event::Secured,
                }
            }
            Err(refusal) => Event::Refused(refusal),
        }
    }

    fn count_handshake(&self, entrance: &Entrance, facts: &ClientFacts, took: Duration) {
        let listener = self.card.listener.of(self.worker.index);
        match facts.negotiated.resumed {
            true => listener.resumed_handshake.observe(took),
            false => listener.full_handshake.observe(took),
        }
        if let Some(counters) = self.chain_counters() {
            counters.handshakes.count(facts.negotiated.resumed, facts.memo);
        }
        if let Some(anchor) = facts.anchor {
            let counters = &entrance.generation.snapshot.counters;
            counters.vouched(anchor, self.worker.index, clock::unix_now());
        }
    }

    /// Finds an upstream connection for the client.
    async fn connect(&mut self, may_be_ready: bool) -> Event {
        self.upstream = None;
        let Some(cluster) = self.route.as_ref().map(|route| Rc::clone(&route.cluster)) else {
            return Event::Refused(Refusal::new(Reason::Internal, "no chain was chosen"));
        };
        // Once for all attempts.
        if self.ahead.is_none() {
            self.ahead = Some(self.announcement(cluster.proxy_header()));
        }
        match self.find_upstream(&cluster, may_be_ready).await {
            Ok(upstream) => {
                self.ahead = None;
                self.connected(upstream)
            }
            Err(event) => event,
        }
    }

    /// The deadline of a dial has come.
    fn no_answer(&self) -> Event {
        let stood = self.stood.get();
        let tried = self.tried.borrow();
        tried
            .last()
            .map_or(Event::Deadline, |endpoint| Event::NoAnswer { endpoint: *endpoint, stood })
    }

    /// One made ahead of need, by this worker or by another one, or a new one.
    async fn find_upstream(
        &self,
        cluster: &Rc<Cluster>,
        may_be_ready: bool,
    ) -> Result<Connected, Event> {
        let worker = &self.worker;
        let ahead = self.ahead.as_deref().unwrap_or_default();
        while may_be_ready && let Some(mut ready) = cluster.take_ready(worker) {
            // One that does not even take these is as dead as one that has ended.
            if ready.leg.send_ahead(worker, ahead).await.is_ok() {
                return Ok(ready);
            }
        }
        let mut loan = may_be_ready.then(|| cluster.ask(worker)).flatten();
        let hash = cluster.hash_by().map(|by| self.hash(by));
        // Who was let through once is not refused in between.
        let is_first = self.tried.borrow().is_empty();
        let pending = if is_first { cluster.pending() } else { Ok(cluster.wait()) };
        let _pending = match (pending, &mut loan) {
            (Ok(pending), _) => pending,
            (Err(refusal), None) => return Err(Event::Refused(refusal)),
            // One that another worker has counts already.
            (Err(refusal), Some(loan)) => {
                return loan.comes_soon(worker, ahead).await.ok_or(Event::Refused(refusal));
            }
        };
        let sni = self.notes.server_name.as_deref();
        let (opening, stood) = (self.down.opening(), Some(&self.stood));
        self.stood.set(false);
        let seeker = Seeker { sni, hash, ahead, opening, stood, purpose: Purpose::Client };
        let dialled = match loan {
            Some(loan) => tokio::select! {
                biased;
                found = cluster.dial_or_borrow(worker, loan, seeker, &self.tried) => found,
                gone = self.departure() => Err(gone),
            },
            None => cluster.dial(worker, seeker, &self.tried, self.departure()).await,
        };
        dialled.map_err(|refusal| match (refusal.reason, refusal.reason.blame()) {
            // No other endpoint would do.
            (Reason::Draining, _) | (_, Blame::Client) => Event::Refused(refusal),
            _ => Event::DialFailed(refusal),
        })
    }

    fn connected(&mut self, upstream: Connected) -> Event {
        if upstream.opened > 0
            && let Some(route) = &self.route
        {
            let (chain, opened) = (route.chain.of(self.worker.index), upstream.opened as u64);
            chain.bytes_received.add(opened);
            self.card.received.set(self.down.received + opened);
            self.down.opened(&self.worker, upstream.opened);
        }
        let audit = upstream.facts.as_ref().and_then(|facts| facts.audit.clone());
        self.audits.extend(audit.map(upstream_audit));
        self.card.learn(|known| known.endpoint = Some(Arc::clone(upstream.endpoint())));
        self.upstream = Some(upstream);
        Event::Connected
    }

    /// What keeps this client with its endpoint. Its address stands in for a name that it has not.
    fn hash(&self, by: HashBy) -> u64 {
        let client = self.client.as_ref().filter(|_| by == HashBy::Client);
        let client = client.and_then(|client| client.lasting_name());
        let name = self.notes.server_name.as_deref().filter(|_| by == HashBy::ServerName);
        match (client, name) {
            (Some(client), _) => maglev::hash(&client),
            (None, Some(name)) => maglev::hash(name.as_bytes()),
            (None, None) => maglev::hash(self.card.source.get().ip().to_string().as_bytes()),
        }
    }

    async fn relay(&mut self) -> Relayed {
        // Once a client: a ready connection that was dead is no session of its own.
        if let (None, Some(route)) = (&self.open, &self.route) {
            self.open = Some(OpenSession::new(self.worker.index, &route.chain));
        }
        let (Some(upstream), Some(route)) = (&mut self.upstream, &self.route) else {
            return Relayed::ReadyDied;
        };
        let (up, ready) = (&mut upstream.leg, upstream.ready);
        let review = Review::new(
            &route.chain,
            self.card.source.get(),
            self.client.as_deref(),
            route.generation,
        );
        let tally = Tally {
            chain: route.chain.of(self.worker.index),
            cluster: route.cluster.counters(),
            card: &self.card,
            since: clock::now(),
        };
        let legs = Legs { down: &mut self.down, up };
        let mut session =
            relay::Session::new(&self.worker, legs, ready, self.limits, review, tally);
        let relayed = session.run().await;
        drop(session);
        match &relayed {
            Relayed::Over { .. } if upstream.leg.received > 0 => upstream.served(),
            Relayed::Over { outcome, .. } if outcome.reason == Some(Reason::UpstreamAlert) => {
                upstream.rejected();
            }
            Relayed::Over { .. } | Relayed::ReadyDied => {}
        }
        relayed
    }

    /// Tells the client why it goes (as far as TLS has a word for it), and closes so that the word
    /// arrives. Notes the alert that was sent.
    async fn refuse(&mut self, refusal: &mut Refusal) {
        self.handshaking = None;
        self.open = None;
        if refusal.reason.blame() == Blame::Load && !self.down.wire.has_close_semantics() {
            // Staying to say goodbye is what there is no room for (threat 31).
            return;
        }
        let until = Some(clock::now() + LINGER);
        let timers = Rc::clone(&self.worker.timers);
        let worker = Rc::clone(&self.worker);
        let goodbye = pin!(async {
            if self.down.wire.has_close_semantics() {
                // Authenticated, but not served: the client must not take it for a clean end. An alert
                // that an upstream got is none for the client.
                let own = refusal.alert.filter(|_| refusal.reason.blame() == Blame::Client);
                let alert = own.unwrap_or(INTERNAL_ERROR);
                refusal.alert = None;
                let sent = poll_fn(|cx| Poll::Ready(self.down.send_alert(&worker, alert, cx)));
                if !sent.await {
                    stream::reset(&self.down.stream);
                    return Ok(());
                }
                refusal.alert = Some(alert);
            } else if let Some(alert) =
                refusal.alert.filter(|_| self.session.marks().hello.is_none())
            {
                let record = unsealed_alert(alert);
                stream::send_all(&mut self.down.stream, &record).await?;
            }
            stream::linger(&worker, &mut self.down.stream).await;
            std::io::Result::Ok(())
        });
        // Whether a refused client waits for its answer is its own affair.
        let makes_room = self.worker.crowd.has_to_go(clock::now());
        tokio::select! {
            _ = timers.until(until, goodbye) => {}
            _ = makes_room => {}
        }
    }

    fn count(&self, ending: &Ending, life: Duration) {
        self.card.listener.of(self.worker.index).life.observe(life);
        let reason = match ending {
            Ending::Refused(refusal) => Some(refusal.reason),
            Ending::Closed { outcome, .. } => outcome.reason,
        };
        if let Some(reason) = reason {
            self.card.listener.of(self.worker.index).refused(reason);
        }
        for audit in &self.audits {
            self.card.listener.of(self.worker.index).audited(audit.reason);
        }
    }

    /// Counts how it ended, and reports it.
    fn end(self, ending: Ending) {
        let duration = clock::now().saturating_duration_since(self.card.accepted);
        self.count(&ending, duration);
        let refused = match &ending {
            Ending::Refused(refusal) => Some(refusal.reason),
            Ending::Closed { .. } => None,
        };
        let worker = Rc::clone(&self.worker);
        worker.report(refused, || self.into_report(duration, ending));
    }

    fn into_report(self, duration: Duration, ending: Ending) -> Report {
        let route = self.route.as_ref();
        Report {
            id: self.card.id,
            accepted: self.accepted,
            duration,
            listener: Arc::clone(&self.card.listener.name),
            source: self.card.source.get(),
            proxy: self.proxied.as_ref().map(|proxied| proxied.by),
            local: self.local(),
            chain: route.map(|route| Arc::clone(&route.chain.name.chain)),
            marks: self.session.marks(),
            bytes_received: self.down.received,
            bytes_sent: self.sent(),
            cluster: route.map(|route| Arc::clone(route.cluster.name())),
            upstream: self.upstream.map(|up| UpstreamReport {
                address: up.address,
                ready: up.ready,
                tls: up.facts,
            }),
            server_name: self.notes.server_name,
            client: self.client,
            audits: self.audits,
            suppressed: 0,
            ending,
        }
    }

    /// Where the client, or the balancer before it, connected to.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.down.stream.local_addr().map(canonical)
    }

    /// Payload bytes to the client.
    fn sent(&self) -> u64 {
        self.upstream.as_ref().map_or(0, |up| up.leg.received)
    }

    fn chain_counters(&self) -> Option<&ChainCounters> {
        self.route.as_ref().map(|route| route.chain.of(self.worker.index))
    }
}

/// Where a connection stands while it does what is wished.
fn phase(wish: &Wish) -> Phase {
    match wish {
        Wish::ReadHello => Phase::Hello,
        Wish::Handshake => Phase::Handshake,
        Wish::Connect { .. } => Phase::Connecting,
        Wish::Relay => Phase::Relaying,
        Wish::Refuse(_) => Phase::Refused,
    }
}

/// What a trust in audit mode has against an upstream, by the reason that it would be refused for.
fn upstream_audit(refusal: Refusal) -> Refusal {
    Refusal { reason: Reason::UpstreamUntrusted, ..refusal }
}

/// An IPv4 client of a listener on `[::]` by the address that people know it by.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An established session in the gauge of its chain.
#[derive(Debug)]
struct OpenSession {
    worker: usize,
    chain: Arc<ChainSeries>,
}

impl OpenSession {
    fn new(worker: usize, chain: &Arc<ChainSeries>) -> Self {
        let counters = chain.of(worker);
        counters.sessions.increment();
        counters.open.up();
        Self { worker, chain: Arc::clone(chain) }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.chain.of(self.worker).open.down();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut handoff = self.worker.handoff.get();
        handoff.closed();
        self.worker.handoff.set(handoff);
        self.worker.counters.open.down();
        self.card.listener.of(self.worker.index).open.down();
        self.worker.census.leave(self.place);
        if std::thread::panicking() {
            self.worker.counters.panics.increment();
        }
    }
}

const GIVEN_UP: &str = "the client was waited for the longest of all, as limits.handshakes_in_flight were \
                        running, and another took its place";

/// RFC 8446 §6.2.
const INTERNAL_ERROR: u8 = 80;
