//! One client connection on its worker, from accept to close: carries out what the core's `Session`
//! wishes and reports how it went.
//!
//! `hello` reads the first bytes, `handshake` and `upstream` do the two TLS sides, `relay` the rest.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::flow::Leg;
use super::hello::HelloNotes;
use super::mailbox::Arrival;
use super::relay::{self, Relayed};
use super::report::{Ending, Report, UpstreamReport};
use super::upstream::{Cluster, Connected};
use super::{ChainCounters, Worker, filters, handshake, limits, stream};
use crate::config::plan::Chain;
use crate::core::refusal::{Blame, Reason, Refusal};
use crate::core::relay::{LINGER, Limits};
use crate::core::session::{Deadlines, Event, Session, Wish};
use crate::sys::clock;
use crate::tls::{ClientFacts, HelloFacts, Memo};

/// A client and what is known of it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: usize,
    pub(super) source: SocketAddr,
    pub(super) down: Leg,
    pub(super) notes: HelloNotes,
    session: Session,
    client: Option<Box<ClientFacts>>,
    /// What trusts and filters in audit mode would have refused.
    audits: Vec<Refusal>,
    upstream: Option<Connected>,
    /// Endpoints that failed this client.
    tried: RefCell<Vec<usize>>,
    /// While a handshake runs.
    handshaking: Option<Handshaking>,
    /// From the first time that bytes may flow.
    open: Option<OpenSession>,
}

/// Where a connection stands in the gauges, and where its panic is noticed.
#[derive(Debug)]
struct Open {
    worker: Rc<Worker>,
    listener: usize,
}

#[derive(Debug)]
struct Handshaking(Rc<Worker>);

/// Serves an accepted connection in a task of its own, or refuses it where `refusal` says so.
pub(super) fn start(worker: &Rc<Worker>, arrival: Arrival<TcpStream>, refusal: Option<Refusal>) {
    worker.counters.open.up();
    worker.counters.listeners[arrival.listener].up();
    let open = Open { worker: Rc::clone(worker), listener: arrival.listener };
    tokio::task::spawn_local(serve(open, arrival, refusal));
}

async fn serve(open: Open, arrival: Arrival<TcpStream>, refusal: Option<Refusal>) {
    let worker = &open.worker;
    let accepted = clock::wall();
    let mut connection = Connection::new(
        Rc::clone(worker),
        open.listener,
        arrival.source,
        arrival.stream,
        arrival.at,
    );
    let ending = connection.run(refusal).await;
    connection.count(&ending);
    let duration = clock::now().saturating_duration_since(arrival.at);
    worker.report(|| connection.into_report(accepted, duration, ending));
}

impl Connection {
    fn new(
        worker: Rc<Worker>,
        listener: usize,
        source: SocketAddr,
        stream: TcpStream,
        accepted: Instant,
    ) -> Self {
        let timeouts = worker.snapshot.plan.listeners[listener].timeouts;
        let deadlines = Deadlines { hello: timeouts.hello, handshake: timeouts.handshake };
        Self {
            handshaking: None,
            open: None,
            worker,
            listener,
            source: canonical(source),
            down: Leg::new(stream),
            notes: HelloNotes::default(),
            session: Session::new(deadlines, accepted),
            client: None,
            audits: Vec::new(),
            upstream: None,
            tried: RefCell::new(Vec::new()),
        }
    }

    /// Wish by wish to the end.
    async fn run(&mut self, refusal: Option<Refusal>) -> Ending {
        if let Some(refusal) = refusal {
            // Closed without a word and without waiting for the client to go: a crowd that is over
            // a limit must not itself hold the limit.
            return Ending::Refused(refusal);
        }
        let mut wish = Wish::ReadHello;
        loop {
            let event = match wish {
                Wish::Relay => match self.relay().await {
                    Relayed::Over { outcome, detail } => return Ending::Closed(outcome, detail),
                    Relayed::ReadyDied => Event::ReadyDied,
                },
                Wish::Refuse(mut refusal) => {
                    self.refuse(&mut refusal).await;
                    return Ending::Refused(refusal);
                }
                // Boxed, so that an idle session does not carry the memory of its handshake.
                wish @ (Wish::ReadHello | Wish::Handshake | Wish::Connect { .. }) => {
                    Box::pin(self.prepare(wish)).await
                }
            };
            wish = self.session.handle(event, clock::now());
        }
    }

    /// Carries out one wish of the time before the relay, within its deadline.
    async fn prepare(&mut self, wish: Wish) -> Event {
        let timers = Rc::clone(&self.worker.timers);
        let deadline = self.session.deadline();
        let event = match wish {
            Wish::ReadHello => timers.until(deadline, self.read_hello()).await,
            Wish::Handshake => timers.until(deadline, self.handshake()).await,
            Wish::Connect { may_be_ready, .. } => {
                self.handshaking = None;
                timers.until(deadline, self.connect(may_be_ready)).await
            }
            Wish::Relay | Wish::Refuse(_) => return Event::Deadline,
        };
        event.unwrap_or(Event::Deadline)
    }

    async fn handshake(&mut self) -> Event {
        let worker = Rc::clone(&self.worker);
        // Only now: a client that is silent or slow with its hello costs no cryptography, and must
        // not take the place of one that does (threat 1).
        if let Some(refusal) = limits::over_handshakes(&worker) {
            return Event::Refused(refusal);
        }
        self.handshaking = Some(Handshaking::new(&worker));
        let terms = self
            .session
            .chain()
            .and_then(|chain| worker.snapshot.material.downstream(self.listener, chain));
        let Some(terms) = terms else {
            return Event::Refused(Refusal::new(Reason::Internal, "the chain has no TLS terms"));
        };
        let mut shake = terms.start(HelloFacts {
            sni: self.notes.server_name.as_deref(),
            prefers_chacha20: self.notes.prefers_chacha20,
        });
        shake.certificate().await;
        if let Err(refusal) = handshake::drive(&worker, &mut self.down, &mut shake).await {
            return Event::Refused(refusal);
        }
        match shake.finish() {
            Ok((wire, mut facts)) => {
                if let Some(counters) = self.chain_counters() {
                    let resumed = facts.negotiated.resumed;
                    let kind = match resumed {
                        true => &counters.handshakes_resumed,
                        false => &counters.handshakes_full,
                    };
                    kind.increment();
                    match facts.memo {
                        Some(Memo::Hit) => counters.chain_memo_hits.increment(),
                        Some(Memo::Miss) => counters.chain_memo_misses.increment(),
                        None => {}
                    }
                }
                self.down.wire = wire;
                let filters = self.chain().map(|chain| &chain.filters[..]).unwrap_or_default();
                let passage = filters::pass(filters, &mut facts);
                self.audits.extend(facts.audit.take());
                self.audits.extend(passage.audits);
                self.client = Some(Box::new(facts));
                match passage.refusal {
                    Some(refusal) => Event::Refused(refusal),
                    None => Event::Secured,
                }
            }
            Err(refusal) => Event::Refused(refusal),
        }
    }

    /// Finds an upstream connection for the client: one made ahead of need, or a new one.
    async fn connect(&mut self, may_be_ready: bool) -> Event {
        self.upstream = None;
        let Some(cluster) = self.cluster() else {
            return Event::Refused(Refusal::new(Reason::Internal, "no chain was chosen"));
        };
        let worker = Rc::clone(&self.worker);
        if may_be_ready && let Some(ready) = cluster.take_ready(&worker) {
            self.upstream = Some(ready);
            return Event::Connected;
        }
        let sni = self.notes.server_name.as_deref();
        match cluster.dial(&worker, sni, &self.tried).await {
            Ok(connected) => {
                self.upstream = Some(connected);
                Event::Connected
            }
            Err(refusal) => Event::DialFailed(refusal),
        }
    }

    async fn relay(&mut self) -> Relayed {
        let timeouts = self.worker.snapshot.plan.listeners[self.listener].timeouts;
        let limits = Limits { idle: timeouts.idle, half_closed: timeouts.half_closed };
        // Once a client: a ready connection that was dead is no session of its own.
        if let (None, Some(chain)) = (&self.open, self.session.chain()) {
            let chain = self.worker.snapshot.chain_index(self.listener, chain);
            self.open = Some(OpenSession::new(&self.worker, chain));
        }
        let Some(upstream) = &mut self.upstream else { return Relayed::ReadyDied };
        let (up, ready) = (&mut upstream.leg, upstream.ready);
        relay::Session::new(&self.worker, &mut self.down, up, ready, limits).run().await
    }

    /// Tells the client why it goes (as far as TLS has a word for it), and closes so that the word
    /// arrives. Notes the alert that was sent.
    async fn refuse(&mut self, refusal: &mut Refusal) {
        self.handshaking = None;
        self.open = None;
        if refusal.reason.blame() == Blame::Load {
            // Staying to say goodbye is what there is no room for (threat 31).
            return;
        }
        let until = Some(clock::now() + LINGER);
        let timers = Rc::clone(&self.worker.timers);
        let worker = Rc::clone(&self.worker);
        let goodbye = async {
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
                let record = [ALERT_RECORD, 3, 3, 0, 2, FATAL, alert];
                stream::send_all(&mut self.down.stream, &record).await?;
            }
            stream::linger(&worker, &mut self.down.stream).await;
            std::io::Result::Ok(())
        };
        // Whether a refused client waits for its answer is its own affair.
        drop(timers.until(until, goodbye).await);
    }

    fn count(&self, ending: &Ending) {
        let reason = match ending {
            Ending::Refused(refusal) => Some(refusal.reason),
            Ending::Closed(outcome, _) => outcome.reason,
        };
        if let Some(reason) = reason {
            self.worker.counters.refused(self.listener, reason);
        }
        for audit in &self.audits {
            self.worker.counters.audited(self.listener, audit.reason);
        }
        if let Some(counters) = self.chain_counters() {
            counters.bytes_received.add(self.down.received);
            counters.bytes_sent.add(self.sent());
        }
    }

    fn into_report(self, accepted: Duration, duration: Duration, ending: Ending) -> Report {
        let plan = &self.worker.snapshot.plan;
        let cluster = self.cluster().map(|cluster| Arc::clone(cluster.name()));
        Report {
            id: self.worker.next_id(),
            accepted,
            duration,
            listener: Arc::clone(&plan.listeners[self.listener].name),
            source: self.source,
            local: self.down.stream.local_addr().ok().map(canonical),
            chain: self.chain().map(|chain| Arc::clone(&chain.name)),
            marks: self.session.marks(),
            bytes_received: self.down.received,
            bytes_sent: self.sent(),
            cluster,
            upstream: self.upstream.map(|up| UpstreamReport {
                address: up.address,
                ready: up.ready,
                tls: up.facts,
            }),
            server_name: self.notes.server_name,
            client: self.client,
            audits: self.audits,
            ending,
        }
    }

    /// Payload bytes to the client.
    fn sent(&self) -> u64 {
        self.upstream.as_ref().map_or(0, |up| up.leg.received)
    }

    fn chain(&self) -> Option<&Chain> {
        let chains = &self.worker.snapshot.plan.listeners[self.listener].chains;
        self.session.chain().map(|chain| &chains[usize::from(chain.0)])
    }

    fn cluster(&self) -> Option<Rc<Cluster>> {
        self.chain().map(|chain| Rc::clone(self.worker.upstreams.cluster(chain.cluster)))
    }

    fn chain_counters(&self) -> Option<&ChainCounters> {
        let chain = self.session.chain()?;
        Some(&self.worker.counters.chains[self.worker.snapshot.chain_index(self.listener, chain)])
    }
}

/// An IPv4 client of a listener on `[::]` by the address that people know it by.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An established session in the gauge of its chain.
#[derive(Debug)]
struct OpenSession {
    worker: Rc<Worker>,
    chain: usize,
}

impl OpenSession {
    fn new(worker: &Rc<Worker>, chain: usize) -> Self {
        let counters = &worker.counters.chains[chain];
        counters.sessions.increment();
        counters.open.up();
        Self { worker: Rc::clone(worker), chain }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.worker.counters.chains[self.chain].open.down();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut handoff = self.worker.handoff.get();
        handoff.closed();
        self.worker.handoff.set(handoff);
        self.worker.counters.open.down();
        self.worker.counters.listeners[self.listener].down();
        if std::thread::panicking() {
            self.worker.counters.panics.increment();
        }
    }
}

impl Handshaking {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.counters.handshaking.up();
        Self(Rc::clone(worker))
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.0.counters.handshaking.down();
    }
}

/// RFC 8446 §5.1, §6 and §6.2.
const ALERT_RECORD: u8 = 21;
const FATAL: u8 = 2;
const INTERNAL_ERROR: u8 = 80;
