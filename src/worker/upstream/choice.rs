//! Which endpoint of a cluster a worker dials next: the published list, and what the worker knows of
//! each.
//!
//! The rules are `core::balance` and `core::maglev`; this keeps their state.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EndpointTls, Purpose, Seeker};
use crate::config::plan::{Balance, Cluster};
use crate::core::balance::{Candidate, LeastConnections, RoundRobin, at_random};
use crate::core::ejection::{Conduct, Ejection};
use crate::core::health::{FULL, Opinion};
use crate::core::refusal::Reason;
use crate::tls::UpstreamTerms;
use crate::worker::EndpointCounters;
use crate::worker::endpoints::{Directory, EndpointHealth, Endpoints, Member};
use crate::worker::series::EndpointSeries;

/// The endpoints of one cluster on one worker.
#[derive(Debug)]
pub(super) struct Chooser {
    worker: usize,
    directory: Arc<Directory>,
    terms: Option<Terms>,
    published: Arc<Endpoints>,
    /// In the order of `published`.
    endpoints: Vec<Rc<Endpoint>>,
    balance: Balance,
    balancer: Balancer,
    ejection: Option<Ejection>,
    slow_start: Duration,
    /// Filled for each choice; kept for its memory.
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<EndpointTls>,
    /// Instead of the one of the terms.
    pub(super) server_name: Option<Arc<str>>,
    /// Among them the open connections of this worker to it, ready ones and dials in flight included;
    /// those of a cluster of the same name before a reload, too.
    series: Arc<EndpointSeries>,
    health: Arc<EndpointHealth>,
    worker: usize,
}

/// How TLS is spoken with all endpoints of a cluster.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) tls: Arc<UpstreamTerms>,
    /// `None`: the name that the client asked for.
    pub(super) server_name: Option<Arc<str>>,
}

/// Whom a choice leaves out, beside those that were tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spare {
    Ejected,
    Nobody,
}

#[derive(Debug)]
enum Balancer {
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
    Random,
    Maglev,
}

impl Chooser {
    /// It begins its turns with the endpoint that the worker's number says, so that all workers do not
    /// begin with the same one.
    pub(super) fn new(
        worker: usize,
        cluster: &Cluster,
        directory: &Arc<Directory>,
        terms: Option<Terms>,
    ) -> Self {
        let published = Arc::clone(&directory.endpoints());
        let members = published.members.iter();
        let endpoints = members.map(|it| Rc::new(Endpoint::new(it, worker, terms.as_ref())));
        let blank = || vec![Conduct::default(); published.members.len()];
        Self {
            worker,
            directory: Arc::clone(directory),
            endpoints: endpoints.collect(),
            terms,
            balance: cluster.balance,
            balancer: Balancer::new(cluster.balance, worker),
            ejection: cluster.ejection.map(|rules| Ejection::new(rules, blank())),
            slow_start: cluster.health.as_ref().map_or(Duration::ZERO, |it| it.slow_start),
            candidates: Vec::with_capacity(published.members.len()),
            published,
        }
    }

    /// Goes by the list that is published now. Who is in both keeps what is known of it.
    pub(super) fn refresh(&mut self) {
        let current = self.directory.endpoints();
        if Arc::ptr_eq(&current, &self.published) {
            return;
        }
        let current = Arc::clone(&current);
        let places: HashMap<_, _> =
            self.endpoints.iter().enumerate().map(|(at, it)| (it.address, at)).collect();
        let mut endpoints = Vec::with_capacity(current.members.len());
        let mut conducts = Vec::with_capacity(current.members.len());
        for member in &current.members {
            let place = places.get(&member.address).copied();
            let before = place.map(|at| &self.endpoints[at]);
            let same = before.filter(|it| it.server_name == member.server_name);
            endpoints.push(same.map_or_else(
                || Rc::new(Endpoint::new(member, self.worker, self.terms.as_ref())),
                Rc::clone,
            ));
            let conduct = self.ejection.as_ref().zip(place).map(|(it, at)| it.conduct(at));
            conducts.push(conduct.unwrap_or_default());
        }
        if let Some(ejection) = &mut self.ejection {
            ejection.replace(conducts);
        }
        self.balancer = Balancer::new(self.balance, self.worker);
        self.endpoints = endpoints;
        self.published = current;
    }

    /// An endpoint that is not in `tried`, and adds it there; once all that may be chosen were tried,
    /// again one of those. One that is ejected is chosen for nobody but a client, and only if there is
    /// no other. `None` without endpoints that may be chosen.
    pub(super) fn choose(
        &mut self,
        seeker: Seeker<'_>,
        random: u64,
        now: Instant,
        tried: &mut Vec<SocketAddr>,
    ) -> Option<Rc<Endpoint>> {
        self.refresh();
        let spared = match seeker.purpose {
            Purpose::Ahead => &[Spare::Ejected][..],
            Purpose::Client => &[Spare::Ejected, Spare::Nobody],
        };
        for spare in spared {
            let mut chosen = self.balanced(seeker.hash, random, tried, *spare, now);
            if chosen.is_none() && !tried.is_empty() {
                // Every endpoint had its chance: what attempts are left begin again.
                chosen = self.balanced(seeker.hash, random, &[], *spare, now);
                if chosen.is_some() {
                    tried.clear();
                }
            }
            if let Some(chosen) = chosen {
                let endpoint = &self.endpoints[chosen];
                tried.push(endpoint.address);
                return Some(Rc::clone(endpoint));
            }
        }
        None
    }

    /// A dial to an endpoint ended. Until when the endpoint is ejected, where that was one too many.
    pub(super) fn dialled(
        &mut self,
        endpoint: &Rc<Endpoint>,
        has_failed: bool,
        now: Instant,
    ) -> Option<Instant> {
        let ejection = self.ejection.as_mut()?;
        let at = self.endpoints.iter().position(|it| Rc::ptr_eq(it, endpoint))?;
        if has_failed {
            return ejection.failed(at, now);
        }
        ejection.succeeded(at);
        None
    }

    /// A session got bytes of an endpoint.
    pub(super) fn served(&mut self, endpoint: &Rc<Endpoint>) {
        let Some(ejection) = &mut self.ejection else { return };
        if let Some(at) = self.endpoints.iter().position(|it| Rc::ptr_eq(it, endpoint)) {
            ejection.served(at);
        }
    }

    /// As `dialled`, for a session that an endpoint has turned away.
    pub(super) fn rejected(&mut self, endpoint: &Rc<Endpoint>, now: Instant) -> Option<Instant> {
        let ejection = self.ejection.as_mut()?;
        let at = self.endpoints.iter().position(|it| Rc::ptr_eq(it, endpoint))?;
        ejection.rejected(at, now)
    }

    /// Nobody goes by these ejections any more: they are shown no longer.
    pub(super) fn retire(&self, now: Instant) {
        let Some(ejection) = &self.ejection else { return };
        for (at, endpoint) in self.endpoints.iter().enumerate() {
            // Those of a cluster of the same name that has taken this one's place are its own.
            if ejection.is_ejected(at, now) {
                endpoint.counters().ejected_until.set_to(0);
            }
        }
    }

    /// Whether a connection that was made ahead of need may be used.
    pub(super) fn is_good(&self, endpoint: &Endpoint) -> bool {
        endpoint.health.opinion() != Opinion::Unhealthy || !self.is_any_healthy()
    }

    /// The endpoint of a connection that another worker has made ahead of need, if it may be used
    /// here.
    pub(super) fn endpoint_of(
        &mut self,
        address: SocketAddr,
        server_name: Option<&str>,
        now: Instant,
    ) -> Option<Rc<Endpoint>> {
        self.refresh();
        let at = self.endpoints.iter().position(|it| it.address == address)?;
        let endpoint = &self.endpoints[at];
        let is_ejected = self.ejection.as_ref().is_some_and(|it| it.is_ejected(at, now));
        let is_same = endpoint.server_name.as_deref() == server_name;
        (is_same && !is_ejected && self.is_good(endpoint)).then(|| Rc::clone(endpoint))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Whether the endpoint is in the list.
    pub(super) fn has(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.iter().any(|it| it.address == endpoint.address)
    }

    fn is_any_healthy(&self) -> bool {
        let mut members = self.published.members.iter();
        members.any(|member| member.health.opinion() != Opinion::Unhealthy)
    }

    fn balanced(
        &mut self,
        hash: Option<u64>,
        random: u64,
        tried: &[SocketAddr],
        spare: Spare,
        now: Instant,
    ) -> Option<usize> {
        self.candidates.clear();
        // With nobody healthy, rather whoever is there than nobody.
        let in_panic = !self.is_any_healthy();
        let endpoints = self.published.members.iter().zip(&self.endpoints).enumerate();
        for (at, (member, endpoint)) in endpoints {
            let is_spared = spare == Spare::Ejected
                && self.ejection.as_ref().is_some_and(|it| it.is_ejected(at, now));
            let share = match is_spared || tried.contains(&member.address) {
                true => 0,
                false if in_panic => FULL,
                false => member.health.percent(now, self.slow_start),
            };
            let weight = member.weight * share;
            self.candidates.push(Candidate { weight, active: endpoint.active() });
        }
        let candidates = &self.candidates;
        match &mut self.balancer {
            Balancer::RoundRobin(turns) => turns.choose(candidates),
            Balancer::LeastConnections(least) => least.choose(candidates, random),
            Balancer::Random => at_random(candidates, random),
            Balancer::Maglev => {
                let table = self.published.maglev.as_ref()?;
                table.choose(hash.unwrap_or(random), |at| candidates[at].weight > 0)
            }
        }
    }
}

impl Endpoint {
    pub(super) fn series(&self) -> &Arc<EndpointSeries> {
        &self.series
    }

    fn new(member: &Member, worker: usize, terms: Option<&Terms>) -> Self {
        let (series, health) = (Arc::clone(&member.series), Arc::clone(&member.health));
        let server_name = member.server_name.clone();
        let tls = terms.map(|terms| EndpointTls {
            dialler: terms.tls.dialler(),
            server_name: server_name.clone().or_else(|| terms.server_name.clone()),
        });
        Self { address: member.address, tls, server_name, series, health, worker }
    }

    pub(super) fn counters(&self) -> &EndpointCounters {
        self.series.of(self.worker)
    }

    /// Whether a dial or a session may have failed for the name that a client asked for, of which the
    /// endpoint knows nothing: that is not held against it, or who asks for names that nobody has could
    /// have endpoints ejected.
    pub(super) fn is_answer_to_a_name(&self, reason: Reason) -> bool {
        let answers = [Reason::UpstreamUntrusted, Reason::UpstreamAlert, Reason::UpstreamTls];
        let is_of_client = self.tls.as_ref().is_some_and(|tls| tls.server_name.is_none());
        is_of_client && answers.contains(&reason)
    }

    fn active(&self) -> u32 {
        u32::try_from(self.counters().active.value()).unwrap_or(u32::MAX)
    }
}

impl Balancer {
    fn new(balance: Balance, worker: usize) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin(RoundRobin::new(worker)),
            Balance::LeastConnections => Self::LeastConnections(LeastConnections::new(worker)),
            Balance::Random => Self::Random,
            Balance::Maglev(_) => Self::Maglev,
        }
    }
}
