//! The upstream connections of one worker: choosing an endpoint, dialling, handshaking, and keeping
//! some ready ahead of need.
//!
//! A connection that carried one client's bytes never serves another: what is pooled was used by
//! nobody. `choice` says which endpoint, `dial` opens the connection, `ready` makes connections ahead of need, `lend` moves them from
//! worker to worker.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

mod choice;
mod dial;
mod lend;
mod ready;
mod sources;

use self::choice::{Chooser, Endpoint, Terms};
pub(super) use self::lend::{Parcel, answer};
pub(super) use self::ready::keep_ready;
use self::sources::Sources;
use super::flow::Leg;
use super::{
    AnchorSeries, ClusterCounters, ClusterSeries, EndpointSeries, Snapshot, Worker, handshake,
    prelude,
};
use crate::config::plan::{
    Balance, ClusterLimits, HashBy, HeaderPlace, ProxyHeader, UpstreamServerName,
};
use crate::core::pool::{ReadyLimits, ReadyPool};
use crate::core::prelude::Prelude;
use crate::core::refusal::{Blame, Reason, Refusal};
use crate::sys::clock;
use crate::sys::socket::{self, Opening};
use crate::tls::{Dialler, UpstreamFacts};
use crate::worker::snapshot::ClusterKey;

/// One cluster: its endpoints, their use by this worker, and the connections made ahead of need.
#[derive(Debug)]
pub(super) struct Cluster {
    key: ClusterKey,
    /// Its place in the series of its name.
    worker: usize,
    series: Arc<ClusterSeries>,
    /// Of the trust that its upstreams are verified by.
    anchors: Vec<Arc<AnchorSeries>>,
    timeout: Duration,
    prelude: Option<Prelude>,
    ready_max: usize,
    proxy_header: Option<ProxyHeader>,
    balance: Balance,
    limits: ClusterLimits,
    unacknowledged: Option<Duration>,
    sources: Sources,
    /// Every endpoint has a name to be verified by, whatever the client asks for.
    is_named: bool,
    chooser: RefCell<Chooser>,
    ready: RefCell<ReadyPool<Connected>>,
    /// Ready connections of other workers that were asked for and have not come.
    asked: Cell<u64>,
    /// Dials for the pool whose tasks have not begun: nothing else counts them yet.
    starting: Cell<usize>,
    /// The pool was used: it may want to dial.
    used: Notify,
    /// No client that comes now is for it: nothing is made ready any more.
    retired: Cell<bool>,
}

/// Who is to be connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeker<'a> {
    /// The name that the client asked for.
    pub(super) sni: Option<&'a str>,
    /// What goes ahead of the client's bytes.
    pub(super) ahead: &'a [u8],
    /// The client's first bytes, as far as they are there and may go to an upstream as they are.
    pub(super) opening: &'a [u8],
    /// Of what keeps the client with its endpoint, where the cluster goes by it.
    pub(super) hash: Option<u64>,
    /// Where to note that TCP stands, before TLS: who waits in vain is told for which of the two.
    pub(super) stood: Option<&'a Cell<bool>>,
    pub(super) purpose: Purpose,
}

/// For whom a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Client,
    /// For the pool, ahead of need.
    Ahead,
}

#[derive(Debug)]
struct EndpointTls {
    dialler: Dialler,
    /// `None`: the name that the client asked for.
    server_name: Option<Arc<str>>,
}

/// A connection to an endpoint, handshaken where the cluster speaks TLS, used by nobody yet.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) leg: Leg,
    pub(super) facts: Option<Box<UpstreamFacts>>,
    pub(super) address: SocketAddr,
    /// It was made ahead of need.
    pub(super) ready: bool,
    /// So many of the client's first bytes it has been sent already.
    pub(super) opened: usize,
    /// Counts the connection as one of its endpoint's as long as it lives.
    active: Active,
}

/// One connection in the count of its endpoint.
#[derive(Debug)]
pub(super) struct Active {
    cluster: Rc<Cluster>,
    endpoint: Rc<Endpoint>,
}

/// A dial that counts as failed unless it ends well.
struct Dialling<'a> {
    cluster: &'a Cluster,
    endpoint: Rc<Endpoint>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Connected,
    Failed,
    /// It failed, and not by the endpoint's fault.
    Ours,
    /// Its client went: nobody knows how it would have ended.
    GivenUp,
}

/// A client that waits for a dial.
#[derive(Debug)]
pub(super) struct Pending<'a>(&'a ClusterCounters);

impl Cluster {
    /// The cluster at a place of the plan, for one worker.
    pub(super) fn new(index: usize, snapshot: &Snapshot, worker: usize) -> Self {
        let (plan, material) = (&snapshot.plan, &snapshot.material);
        let cluster = &plan.clusters[index];
        let limits = ReadyLimits {
            ready_min: usize::from(cluster.pool.ready_min),
            ready_max: usize::from(cluster.pool.ready_max),
            idle: cluster.pool.idle,
            age: cluster.pool.age,
        };
        let trust = cluster.tls.map(|id| usize::from(plan.upstream_tls(id).trust.0));
        let anchors = trust.and_then(|trust| snapshot.counters.anchors.get(trust).cloned());
        let terms = cluster.tls.map(|id| Terms {
            tls: Arc::clone(material.upstream(id)),
            server_name: match &plan.upstream_tls(id).server_name {
                UpstreamServerName::Fixed(name) => Some(Arc::clone(name)),
                UpstreamServerName::ClientSni => None,
            },
        });
        let needs_no_name = terms.as_ref().is_none_or(|terms| terms.server_name.is_some());
        let is_named = needs_no_name || cluster.endpoints.iter().all(|it| it.server_name.is_some());
        let chooser = Chooser::new(worker, cluster, &snapshot.directories()[index], terms);
        Self {
            key: snapshot.cluster_keys()[index],
            worker,
            series: Arc::clone(&snapshot.counters.clusters[index]),
            anchors: anchors.unwrap_or_default(),
            timeout: cluster.connect.timeout,
            prelude: cluster.prelude,
            ready_max: limits.ready_max,
            proxy_header: cluster.proxy_header.clone(),
            balance: cluster.balance,
            limits: cluster.limits,
            unacknowledged: cluster.connect.unacknowledged,
            sources: Sources::new(&cluster.sources, worker),
            is_named,
            chooser: RefCell::new(chooser),
            ready: RefCell::new(ReadyPool::new(limits)),
            asked: Cell::new(0),
            starting: Cell::new(0),
            used: Notify::new(),
            retired: Cell::new(false),
        }
    }

    /// What keeps a client with its endpoint; `None` where nothing does.
    pub(super) fn hash_by(&self) -> Option<HashBy> {
        match self.balance {
            Balance::Maglev(hash_by) => Some(hash_by),
            Balance::RoundRobin | Balance::LeastConnections | Balance::Random => None,
        }
    }

    pub(super) fn counters(&self) -> &ClusterCounters {
        self.series.of(self.worker)
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.series.name
    }

    /// Closes every ready connection and makes none any more: clients are now for another cluster,
    /// or the worker drains. Who is here already may still dial.
    pub(super) fn retire(&self) {
        if self.retired.replace(true) {
            return;
        }
        let mut pool = self.ready.borrow_mut();
        if !pool.is_empty() {
            pool.empty().for_each(drop);
            self.counters().ready.set(0);
        }
        drop(pool);
        self.chooser.borrow().retire(clock::now());
        self.used.notify_one();
    }

    /// A connection that this worker has made ahead of need and is still alive.
    pub(super) fn take_ready(&self, worker: &Worker) -> Option<Connected> {
        if self.retired.get() || !self.can_be_ready() {
            return None;
        }
        let counters = self.counters();
        self.used.notify_one();
        loop {
            let taken = self.ready.borrow_mut().take(clock::now());
            counters.ready.set(self.ready.borrow().len());
            let mut connected = taken?;
            let is_good = self.chooser.borrow().is_good(&connected.active.endpoint);
            if is_good && connected.is_alive(worker) {
                counters.ready_hits.increment();
                return Some(connected);
            }
            counters.ready_discarded.increment();
        }
    }

    /// Dials an endpoint that is not in `tried` (and adds it there), shakes hands, and sends
    /// `seeker.ahead` in its place. The caller bounds the time. `departure` ends it, with nothing held
    /// against the endpoint.
    ///
    /// # Errors
    /// Why this endpoint did not serve; the departure.
    pub(super) async fn dial(
        self: &Rc<Self>,
        worker: &Worker,
        seeker: Seeker<'_>,
        tried: &RefCell<Vec<SocketAddr>>,
        departure: impl Future<Output = Refusal>,
    ) -> Result<Connected, Refusal> {
        let endpoint = self.choose(worker, seeker, &mut tried.borrow_mut())?;
        self.dial_to(worker, seeker, endpoint, departure).await
    }

    /// `dial`, to this endpoint.
    async fn dial_to(
        self: &Rc<Self>,
        worker: &Worker,
        seeker: Seeker<'_>,
        endpoint: Rc<Endpoint>,
        departure: impl Future<Output = Refusal>,
    ) -> Result<Connected, Refusal> {
        #[cfg(test)]
        crate::worker::panic_hook::look_at(self.name().as_bytes());
        let counters = self.counters();
        counters.dialled.increment();
        endpoint.counters().dialled.increment();
        // Dropped at the caller's deadline, too: a black hole is a failure.
        let mut dialling =
            Dialling { cluster: self, endpoint: Rc::clone(&endpoint), end: End::Failed };
        // Counted from here on, so that dials in flight weigh when the next one is placed.
        let active = Active::new(self, endpoint);
        let began = clock::now();
        let opened = tokio::select! {
            biased;
            opened = self.open(worker, seeker, active) => opened,
            gone = departure => Err(gone),
        };
        let connected = opened.inspect_err(|refusal| {
            let waited = clock::now().saturating_duration_since(began);
            dialling.end = match refusal.reason.blame() {
                Blame::Upstream if dialling.endpoint.is_answer_to_a_name(refusal.reason) => {
                    End::Ours
                }
                Blame::Upstream => End::Failed,
                // Or a black hole would never be found out by clients that wait less than it takes.
                Blame::Client if waited >= self.timeout / 2 => End::Failed,
                Blame::Client => End::GivenUp,
                Blame::Operator | Blame::Load => End::Ours,
            };
        })?;
        dialling.end = End::Connected;
        if let Some(facts) = &connected.facts {
            counters.handshakes.count(facts.negotiated.resumed, facts.memo);
            if let Some(series) = facts.anchor.and_then(|place| self.anchors.get(place.anchor)) {
                series.of(self.worker).used(clock::unix_now());
            }
            if facts.audit.is_some() {
                counters.audits.increment();
            }
        }
        Ok(connected)
    }

    async fn open(
        &self,
        worker: &Worker,
        seeker: Seeker<'_>,
        active: Active,
    ) -> Result<Connected, Refusal> {
        let endpoint = Rc::clone(&active.endpoint);
        if let Some(tls) = &endpoint.tls {
            // Boxed, so that a dial to a plain upstream has not the size of a handshake.
            return Box::pin(self.open_tls(worker, seeker, active, tls)).await;
        }
        let address = endpoint.address;
        let first = match seeker.ahead {
            [] => Cow::Borrowed(seeker.opening),
            ahead => Cow::Owned([ahead, seeker.opening].concat()),
        };
        let opening = match (&*first, seeker.purpose) {
            ([], Purpose::Client) => Opening::Soon,
            ([], Purpose::Ahead) => Opening::Nothing,
            (bytes, _) => Opening::Bytes(bytes),
        };
        let leg = self.connect(worker, address, opening).await?;
        let opened = seeker.opening.len();
        Ok(Connected { leg, facts: None, address, ready: false, opened, active })
    }

    async fn open_tls(
        &self,
        worker: &Worker,
        seeker: Seeker<'_>,
        active: Active,
        tls: &EndpointTls,
    ) -> Result<Connected, Refusal> {
        let address = active.endpoint.address;
        let name = tls.server_name.as_deref().or(seeker.sni).ok_or_else(|| {
            let detail = format!("cluster {} takes the client's name", self.name());
            Refusal::new(Reason::UpstreamNoName, detail)
        })?;
        let mut shake = tls.dialler.start(name)?;
        let before_tls = if self.announces_before_tls() { seeker.ahead } else { NONE };
        let opening = match (before_tls, self.prelude) {
            ([], None) => Cow::Owned(handshake::opening(&mut shake)?),
            (ahead, _) => Cow::Borrowed(ahead),
        };
        let opening = match &*opening {
            // The prelude is sent at once.
            [] => Opening::Soon,
            bytes => Opening::Bytes(bytes),
        };
        let mut leg = self.connect(worker, address, opening).await?;
        if let Some(stood) = seeker.stood {
            stood.set(true);
        }
        let here = |refusal| dial::at_endpoint(refusal, address);
        if self.prelude == Some(Prelude::Postgres) {
            prelude::ask_postgres(worker, &mut leg).await.map_err(here)?;
        }
        handshake::drive(worker, &mut leg, &mut shake).await.map_err(here)?;
        let (wire, facts) = shake.finish().map_err(here)?;
        leg.wire = wire;
        let inside = if before_tls.is_empty() { seeker.ahead } else { NONE };
        let sent = leg.send_ahead(worker, inside).await;
        sent.map_err(|error| dial::failure(&error, address))?;
        let facts = Some(Box::new(facts));
        Ok(Connected { leg, facts, address, ready: false, opened: 0, active })
    }

    async fn connect(
        &self,
        worker: &Worker,
        address: SocketAddr,
        opening: Opening<'_>,
    ) -> Result<Leg, Refusal> {
        let stream = dial::connect(worker.io, address, &self.sources, opening).await?;
        if let Some(limit) = self.unacknowledged {
            let limited = socket::limit_unacknowledged(&stream, limit);
            limited.map_err(|error| dial::failure(&error, address))?;
        }
        let mut leg = Leg::new(stream);
        leg.holds_acknowledgement = matches!(opening, Opening::Soon);
        Ok(leg)
    }

    fn choose(
        &self,
        worker: &Worker,
        seeker: Seeker<'_>,
        tried: &mut Vec<SocketAddr>,
    ) -> Result<Rc<Endpoint>, Refusal> {
        let mut chooser = self.chooser.borrow_mut();
        let chosen = chooser.choose(seeker, worker.random(), clock::now(), tried);
        chosen.ok_or_else(|| {
            let detail = match chooser.is_empty() {
                true => "has no endpoint: none of its names has an address",
                false => "has no endpoint that is not ejected",
            };
            let detail = format!("cluster {} {detail}", self.name());
            Refusal::new(Reason::UpstreamConnect, detail)
        })
    }

    /// Notes how a dial to an endpoint ended, for whoever is placed next.
    fn dialled(&self, endpoint: &Rc<Endpoint>, has_failed: bool) {
        let now = clock::now();
        let ejected = self.chooser.borrow_mut().dialled(endpoint, has_failed, now);
        if let Some(until) = ejected {
            self.ejected(endpoint, now, until, "its dials fail");
        }
    }

    /// Says and shows that an endpoint is ejected, and closes what it has ready.
    fn ejected(&self, endpoint: &Endpoint, now: Instant, until: Instant, why: &str) {
        let pause = until.saturating_duration_since(now);
        let counters = endpoint.counters();
        counters.ejections.increment();
        if !self.retired.get() {
            let until = clock::unix_now().saturating_add(pause.as_secs().max(1));
            counters.ejected_until.set_to(until);
        }
        let (cluster, address) = (self.name(), endpoint.address);
        tracing::warn!(%cluster, endpoint = %address, ?pause, "ejected: {why}");
        self.discard_ready(|other| other.address == endpoint.address);
    }

    /// Control has found out something about endpoints.
    pub(super) fn look(&self) {
        self.chooser.borrow_mut().refresh();
        let chooser = self.chooser.borrow();
        self.discard_ready(|endpoint| !chooser.has(endpoint) || !chooser.is_good(endpoint));
    }

    /// Closes every ready connection: its memory is needed.
    pub(super) fn discard_all_ready(&self) {
        if !self.ready.borrow().is_empty() {
            self.discard_ready(|_| true);
        }
    }

    /// Closes ready connections to these endpoints.
    fn discard_ready(&self, is_gone: impl Fn(&Endpoint) -> bool) {
        if self.retired.get() {
            // It has none, and the gauge is that of the next generation's.
            return;
        }
        let mut pool = self.ready.borrow_mut();
        let gone = pool.remove(|connected| is_gone(&connected.active.endpoint));
        let counters = self.counters();
        counters.ready_discarded.add(gone.len() as u64);
        counters.ready.set(pool.len());
        drop(pool);
        self.used.notify_one();
    }

    /// Counts a client that is to be dialled for.
    ///
    /// # Errors
    /// The limit that is reached, over all workers. They count at the same time: as many as there are
    /// other workers may be too many.
    pub(super) fn pending(&self) -> Result<Pending<'_>, Refusal> {
        let refused = |reason, key: &str, limit: NonZeroUsize, what: &str| {
            let detail = format!("cluster.{}.limits.{key} = {limit} {what}", self.name());
            Err(Refusal::new(reason, detail))
        };
        let ClusterLimits { connections, pending } = self.limits;
        if let Some(limit) = connections
            && self.series.sum(|it| it.active.value()) >= limit.get() as u64
        {
            return refused(Reason::ClusterConnectionLimit, "connections", limit, "are open");
        }
        if let Some(limit) = pending
            && self.series.sum(|it| it.pending.value()) >= limit.get() as u64
        {
            return refused(Reason::ClusterPendingLimit, "pending", limit, "wait for a dial");
        }
        Ok(self.wait())
    }

    /// As `pending`, for a client that was let through before.
    pub(super) fn wait(&self) -> Pending<'_> {
        self.counters().pending.up();
        Pending(self.counters())
    }

    /// How many connections may be made ready: they leave half of the limit to clients.
    fn ready_room(&self) -> usize {
        if self.chooser.borrow().is_empty() {
            // `look` comes when there is an endpoint.
            return 0;
        }
        let Some(limit) = self.limits.connections else { return usize::MAX };
        let active = usize::try_from(self.series.sum(|it| it.active.value()));
        let taken = active.unwrap_or(usize::MAX).saturating_add(self.starting.get());
        (limit.get() / 2).saturating_sub(taken)
    }

    /// What every endpoint is told of each client.
    pub(super) fn proxy_header(&self) -> Option<&ProxyHeader> {
        self.proxy_header.as_ref()
    }

    fn announces_before_tls(&self) -> bool {
        self.proxy_header().is_some_and(|header| header.place == HeaderPlace::BeforeTls)
    }

    /// Ready connections need a name before a client is there, and nothing that only a client knows.
    fn can_be_ready(&self) -> bool {
        self.ready_max > 0 && self.is_named && !self.announces_before_tls()
    }
}

impl Seeker<'_> {
    /// A dial for the pool.
    const NOBODY: Self = Self {
        sni: None,
        hash: None,
        ahead: NONE,
        opening: NONE,
        stood: None,
        purpose: Purpose::Ahead,
    };
}

impl Connected {
    pub(super) fn endpoint(&self) -> &Arc<EndpointSeries> {
        self.active.endpoint.series()
    }

    /// Its session got bytes of the endpoint.
    pub(super) fn served(&self) {
        let Active { cluster, endpoint } = &self.active;
        cluster.chooser.borrow_mut().served(endpoint);
    }

    /// Its session was turned away by an alert. That counts as a dial that failed, which it is but for
    /// the order of TLS 1.3.
    pub(super) fn rejected(&self) {
        let Active { cluster, endpoint } = &self.active;
        cluster.counters().dial_failures.increment();
        endpoint.counters().dial_failures.increment();
        if endpoint.is_answer_to_a_name(Reason::UpstreamAlert) {
            return;
        }
        let now = clock::now();
        let ejected = cluster.chooser.borrow_mut().rejected(endpoint, now);
        if let Some(until) = ejected {
            cluster.ejected(
                endpoint,
                now,
                until,
                "it ends sessions by an alert before their first byte",
            );
        }
    }

    /// Adds to why the upstream ended its session before the first byte what it got when it asked for our
    /// certificate, if it may not have liked that.
    pub(super) fn explain(&self, reason: Option<Reason>, detail: &mut String) {
        let is_its_doing = reason.is_some_and(|reason| reason.blame() == Blame::Upstream);
        if let Some(facts) = self.facts.as_ref().filter(|_| is_its_doing && self.leg.received == 0)
        {
            facts.explain(detail);
        }
    }

    /// Looks whether the upstream has closed meanwhile, without waiting. What it sent by itself
    /// (tickets, a greeting) is kept for the session.
    fn is_alive(&mut self, worker: &Worker) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.leg.stream.doubt();
        while self.leg.partial.len() < EARLY_BYTES_MAX {
            match self.leg.poll_fill(worker, &mut context) {
                Poll::Pending => return true,
                Poll::Ready(Ok(0) | Err(_)) => return false,
                Poll::Ready(Ok(_)) => {}
            }
        }
        true
    }
}

impl Active {
    fn new(cluster: &Rc<Cluster>, endpoint: Rc<Endpoint>) -> Self {
        endpoint.counters().active.up();
        cluster.counters().active.up();
        Self { cluster: Rc::clone(cluster), endpoint }
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        if matches!(self.end, End::Failed | End::Ours) {
            self.cluster.counters().dial_failures.increment();
            self.endpoint.counters().dial_failures.increment();
        }
        match self.end {
            End::Connected => self.cluster.dialled(&self.endpoint, false),
            End::Failed => self.cluster.dialled(&self.endpoint, true),
            End::Ours | End::GivenUp => {}
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.down();
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.endpoint.counters().active.down();
        self.cluster.counters().active.down();
    }
}

/// Nothing goes ahead.
const NONE: &[u8] = &[];

/// What is read of an upstream that speaks before its client is there: a greeting, not a stream.
const EARLY_BYTES_MAX: usize = 64 * 1024;
