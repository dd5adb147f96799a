//! The upstream connections of one worker: choosing an endpoint, dialling, handshaking, and keeping
//! some ready ahead of need.
//!
//! A connection that carried one client's bytes never serves another: what is pooled was used by
//! nobody. The policy is `core::pool` and `core::balance`; this drives their sockets.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::flow::Leg;
use super::{
    AnchorSeries, ClusterCounters, ClusterSeries, Snapshot, Worker, handshake, prelude, stream,
};
use crate::config::plan::{self, HeaderPlace, ProxyHeader, UpstreamServerName};
use crate::core::balance::{LeastConnections, RoundRobin};
use crate::core::pool::{ReadyLimits, ReadyPool};
use crate::core::prelude::Prelude;
use crate::core::refusal::{Reason, Refusal};
use crate::sys::{clock, socket};
use crate::tls::{Dialler, Memo, UpstreamFacts};

/// One cluster: its endpoints, their use by this worker, and the connections made ahead of need.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Its place in the series of its name.
    worker: usize,
    series: Arc<ClusterSeries>,
    /// Of the trust that its upstreams are verified by.
    anchors: Vec<Arc<AnchorSeries>>,
    timeout: Duration,
    prelude: Option<Prelude>,
    ready_max: usize,
    proxy_header: Option<ProxyHeader>,
    endpoints: Vec<Endpoint>,
    balancer: RefCell<Balancer>,
    ready: RefCell<ReadyPool<Connected>>,
    /// The pool was used: it may want to dial.
    used: Notify,
    /// No client that comes now is for it: nothing is made ready any more.
    retired: Cell<bool>,
}

#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    tls: Option<EndpointTls>,
    /// Open connections of this worker to it, ready ones and dials in flight included; those of a
    /// cluster of the same name before a reload, too.
    active: Rc<Cell<u32>>,
}

#[derive(Debug)]
enum Balancer {
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
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
    /// Counts the connection as one of its endpoint's as long as it lives.
    _active: Active,
}

/// One connection in the count of its endpoint.
#[derive(Debug)]
pub(super) struct Active {
    cluster: Rc<Cluster>,
    endpoint: usize,
}

/// A dial that counts as failed unless it ends well.
struct Dialling<'a> {
    counters: &'a ClusterCounters,
    has_failed: bool,
}

impl Cluster {
    /// The cluster at a place of the plan, for one worker. It begins its turns with the endpoint that
    /// the worker's number says, so that all workers do not begin with the same one. `before` is what
    /// had its name.
    pub(super) fn new(
        index: usize,
        snapshot: &Snapshot,
        worker: usize,
        before: Option<&Self>,
    ) -> Self {
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
        let endpoints = cluster.endpoints.iter().map(|endpoint| {
            let tls = cluster.tls.map(|id| EndpointTls {
                dialler: material.upstream(id).dialler(),
                server_name: endpoint.server_name.clone().or_else(|| {
                    match &plan.upstream_tls(id).server_name {
                        UpstreamServerName::Fixed(name) => Some(Arc::clone(name)),
                        UpstreamServerName::ClientSni => None,
                    }
                }),
            });
            let address = endpoint.address;
            let same = before.and_then(|it| it.endpoints.iter().find(|it| it.address == address));
            let active = same.map(|endpoint| Rc::clone(&endpoint.active)).unwrap_or_default();
            Endpoint { address, tls, active }
        });
        Self {
            worker,
            series: Arc::clone(&snapshot.counters.clusters[index]),
            anchors: anchors.unwrap_or_default(),
            timeout: cluster.connect.timeout,
            prelude: cluster.prelude,
            ready_max: limits.ready_max,
            proxy_header: cluster.proxy_header.clone(),
            endpoints: endpoints.collect(),
            balancer: RefCell::new(match cluster.balance {
                plan::Balance::RoundRobin => Balancer::RoundRobin(RoundRobin::new(worker)),
                plan::Balance::LeastConnections => {
                    Balancer::LeastConnections(LeastConnections::new(worker))
                }
            }),
            ready: RefCell::new(ReadyPool::new(limits)),
            used: Notify::new(),
            retired: Cell::new(false),
        }
    }

    fn counters(&self) -> &ClusterCounters {
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
        self.used.notify_one();
    }

    /// A connection that was made ahead of need and is still alive.
    pub(super) fn take_ready(&self, worker: &Worker) -> Option<Connected> {
        if self.retired.get() || !self.can_be_ready() {
            return None;
        }
        let counters = self.counters();
        self.used.notify_one();
        loop {
            let taken = self.ready.borrow_mut().take(clock::now());
            counters.ready.set(self.ready.borrow().len());
            let Some(mut connected) = taken else {
                counters.ready_misses.increment();
                return None;
            };
            if connected.is_alive(worker) {
                counters.ready_hits.increment();
                return Some(connected);
            }
            counters.ready_discarded.increment();
        }
    }

    /// Dials an endpoint that is not in `tried` (and adds it there), shakes hands, and sends what goes
    /// `ahead` of the client's bytes in its place. The caller bounds the time.
    ///
    /// # Errors
    /// Why this endpoint did not serve.
    pub(super) async fn dial(
        self: &Rc<Self>,
        worker: &Worker,
        sni: Option<&str>,
        tried: &RefCell<Vec<usize>>,
        ahead: &[u8],
    ) -> Result<Connected, Refusal> {
        let endpoint = self.choose(worker, &mut tried.borrow_mut())?;
        let counters = self.counters();
        counters.dialled.increment();
        // Dropped at the caller's deadline, too: a black hole is a failure.
        let mut dialling = Dialling { counters, has_failed: true };
        // Counted from here on, so that dials in flight weigh when the next one is placed.
        let active = Active::new(self, endpoint);
        let connected = self.open(worker, sni, active, ahead).await?;
        dialling.has_failed = false;
        if let Some(facts) = &connected.facts {
            match facts.negotiated.resumed {
                true => counters.handshakes_resumed.increment(),
                false => counters.handshakes_full.increment(),
            }
            match facts.memo {
                Some(Memo::Hit) => counters.chain_memo_hits.increment(),
                Some(Memo::Miss) => counters.chain_memo_misses.increment(),
                None => {}
            }
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
        sni: Option<&str>,
        active: Active,
        ahead: &[u8],
    ) -> Result<Connected, Refusal> {
        let endpoint = &self.endpoints[active.endpoint];
        let address = endpoint.address;
        let mut leg = Leg::new(connect(address).await?);
        let failed = |error: std::io::Error| dial_failure(&error, address);
        let (before_tls, first) =
            if self.announces_before_tls() { (ahead, NONE) } else { (NONE, ahead) };
        leg.send_ahead(worker, before_tls).await.map_err(failed)?;
        let facts = match &endpoint.tls {
            None => None,
            Some(tls) => {
                if self.prelude == Some(Prelude::Postgres) {
                    let asked = prelude::ask_postgres(worker, &mut leg).await;
                    asked.map_err(|refusal| at_endpoint(refusal, address))?;
                }
                let name = tls.server_name.as_deref().or(sni).ok_or_else(|| {
                    let detail = format!("cluster {} takes the client's name", self.name());
                    Refusal::new(Reason::UpstreamNoName, detail)
                })?;
                let mut shake = tls.dialler.start(name)?;
                handshake::drive(worker, &mut leg, &mut shake)
                    .await
                    .map_err(|refusal| at_endpoint(refusal, address))?;
                let finished = shake.finish().map_err(|refusal| at_endpoint(refusal, address));
                let (wire, facts) = finished?;
                leg.wire = wire;
                Some(Box::new(facts))
            }
        };
        leg.send_ahead(worker, first).await.map_err(failed)?;
        Ok(Connected { leg, facts, address, ready: false, _active: active })
    }

    fn choose(&self, worker: &Worker, tried: &mut Vec<usize>) -> Result<usize, Refusal> {
        if tried.len() >= self.endpoints.len() {
            // Every endpoint had its chance: what attempts are left begin again.
            tried.clear();
        }
        let chosen = match &mut *self.balancer.borrow_mut() {
            Balancer::RoundRobin(turns) => turns.choose(self.endpoints.len(), tried),
            Balancer::LeastConnections(least) => {
                let open: Vec<u32> = self.endpoints.iter().map(|it| it.active.get()).collect();
                least.choose(&open, tried, worker.random())
            }
        };
        let chosen = chosen.ok_or_else(|| {
            Refusal::new(
                Reason::UpstreamConnect,
                format!("cluster {} has no endpoint", self.name()),
            )
        })?;
        tried.push(chosen);
        Ok(chosen)
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
        let named = |tls: &EndpointTls| tls.server_name.is_some();
        self.ready_max > 0
            && !self.announces_before_tls()
            && self.endpoints.iter().all(|endpoint| endpoint.tls.as_ref().is_none_or(named))
    }
}

impl Connected {
    /// Looks whether the upstream has closed meanwhile, without waiting. What it sent by itself
    /// (tickets, a greeting) is kept for the session.
    fn is_alive(&mut self, worker: &Worker) -> bool {
        let mut context = Context::from_waker(Waker::noop());
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
    fn new(cluster: &Rc<Cluster>, endpoint: usize) -> Self {
        let active = &cluster.endpoints[endpoint].active;
        active.set(active.get() + 1);
        cluster.counters().active.up();
        Self { cluster: Rc::clone(cluster), endpoint }
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        if self.has_failed {
            self.counters.dial_failures.increment();
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let active = &self.cluster.endpoints[self.endpoint].active;
        active.set(active.get().saturating_sub(1));
        self.cluster.counters().active.down();
    }
}

/// Starts the task that keeps connections of a cluster ready, where it may have them.
pub(super) fn keep_ready(worker: &Rc<Worker>, cluster: &Rc<Cluster>) {
    if cluster.can_be_ready() {
        tokio::task::spawn_local(fill(Rc::clone(worker), Rc::clone(cluster)));
    }
}

/// Keeps the pool of one cluster as full as it wants to be, until the cluster is retired.
async fn fill(worker: Rc<Worker>, cluster: Rc<Cluster>) {
    let counters = cluster.counters();
    while !cluster.retired.get() && worker.drain.get().is_none() {
        let now = clock::now();
        let mut expired = 0;
        cluster.ready.borrow_mut().expire(now).for_each(|connection| {
            drop(connection);
            expired += 1;
        });
        counters.ready_discarded.add(expired);
        counters.ready.set(cluster.ready.borrow().len());
        let want = cluster.ready.borrow().want(now);
        for _ in 0..want {
            cluster.ready.borrow_mut().dial_started();
            tokio::task::spawn_local(dial_ahead(Rc::clone(&worker), Rc::clone(&cluster)));
        }
        let next = cluster.ready.borrow().next_deadline(now);
        drop(worker.timers.until(next, cluster.used.notified()).await);
    }
}

/// One dial for the pool.
async fn dial_ahead(worker: Rc<Worker>, cluster: Rc<Cluster>) {
    let began = clock::now();
    let tried = RefCell::new(Vec::new());
    let dial = cluster.dial(&worker, None, &tried, NONE);
    let dialled = worker.timers.until(Some(began + cluster.timeout), dial).await;
    if cluster.retired.get() {
        return;
    }
    let now = clock::now();
    let mut pool = cluster.ready.borrow_mut();
    let failed = match dialled {
        Ok(Ok(mut connected)) => {
            connected.ready = true;
            pool.dial_done(now.saturating_duration_since(began));
            drop(pool.put(connected, now, worker.random()));
            None
        }
        Ok(Err(refusal)) => Some(refusal),
        Err(_elapsed) => Some(Refusal::new(Reason::UpstreamTimeout, "connect.timeout is over")),
    };
    if let Some(refusal) = failed {
        // Nobody else would say it before the first client is refused.
        if pool.dial_failed(now, worker.random()) {
            tracing::warn!(cluster = %cluster.name(), %refusal, "no ready connections, trying on");
        } else {
            tracing::debug!(cluster = %cluster.name(), %refusal, "no ready connection");
        }
    }
    cluster.counters().ready.set(pool.len());
    drop(pool);
    cluster.used.notify_one();
}

/// A TCP connection to `address`.
async fn connect(address: SocketAddr) -> Result<TcpStream, Refusal> {
    let failed = |error: std::io::Error| dial_failure(&error, address);
    let stream = stream::register(socket::dial(address).map_err(failed)?).map_err(failed)?;
    pin!(stream.ready(Interest::WRITABLE)).await.map_err(failed)?;
    socket::take_error(&stream).map_err(failed)?;
    Ok(stream)
}

fn dial_failure(error: &std::io::Error, address: SocketAddr) -> Refusal {
    use rustix::io::Errno;
    let local = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    let is_local = local.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    let reason = if is_local { Reason::LocalResources } else { Reason::UpstreamConnect };
    Refusal::new(reason, format!("{address}: {error}"))
}

fn at_endpoint(mut refusal: Refusal, address: SocketAddr) -> Refusal {
    refusal.detail = format!("{address}: {}", refusal.detail);
    refusal
}

/// Nothing goes ahead.
const NONE: &[u8] = &[];

/// What is read of an upstream that speaks before its client is there: a greeting, not a stream.
const EARLY_BYTES_MAX: usize = 64 * 1024;
