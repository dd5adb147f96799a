//! What control does for clusters while they serve: asks for the addresses of their names, and probes
//! their endpoints.
//!
//! It runs on control's thread and publishes what it finds; no worker ever waits for it. `names` asks;
//! `probe` is one exchange with one endpoint, `core::health` what many of them mean.

mod names;
mod probe;

pub(super) use self::names::settle;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use self::names::{Naming, Resolver};
use self::probe::Probing;
use crate::config::plan::{ClusterId, Health, Plan, ProxyHeader, UpstreamServerName};
use crate::core::health::{Checks, Opinion};
use crate::core::maglev;
use crate::core::prelude::Prelude;
use crate::sys::clock;
use crate::tls::UpstreamTerms;
use crate::worker::{Directory, EndpointHealth, Endpoints, Member, Order, Peer, Snapshot};

/// The probes of all clusters.
#[derive(Debug)]
pub(super) struct Upkeep {
    shared: Arc<Shared>,
    generation: u64,
    watched: Vec<Watched>,
    /// Whom names are asked of.
    resolvers: Vec<SocketAddr>,
    /// Of clusters with names, by their directories.
    naming: Vec<(Arc<Directory>, Naming)>,
}

/// What all tasks use.
#[derive(Debug)]
struct Shared {
    peers: Arc<[Peer]>,
    /// Probes that may run at a time.
    permits: Semaphore,
}

/// A cluster that is probed.
#[derive(Debug)]
struct Watched {
    recipe: Arc<Recipe>,
    directory: Arc<Directory>,
    /// For which there are tasks.
    endpoints: Option<Arc<Endpoints>>,
    tasks: Vec<(SocketAddr, Task)>,
}

/// How the endpoints of one cluster are probed.
#[derive(Debug)]
struct Recipe {
    cluster: Arc<str>,
    health: Health,
    sources: Vec<IpAddr>,
    /// With the name to verify, where an endpoint has none of its own.
    tls: Option<(Arc<UpstreamTerms>, Option<Arc<str>>)>,
    prelude: Option<Prelude>,
    header: Option<ProxyHeader>,
}

/// Ends with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Upkeep {
    pub(super) fn new(peers: &Arc<[Peer]>) -> Self {
        let permits = Semaphore::new(PROBES_MAX);
        let shared = Arc::new(Shared { peers: Arc::clone(peers), permits });
        Self {
            shared,
            generation: 0,
            watched: Vec::new(),
            resolvers: Vec::new(),
            naming: Vec::new(),
        }
    }

    /// Goes by `snapshot` from here on. To be called often: it costs little where nothing has changed.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        if snapshot.generation != self.generation {
            self.generation = snapshot.generation;
            self.adopt(snapshot);
            self.adopt_names(snapshot, names::resolver);
        }
        for watched in &mut self.watched {
            watched.look(&self.shared);
        }
    }

    /// Clusters that are reached as before keep their probes.
    fn adopt(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.watched);
        for (at, directory) in (0..).zip(snapshot.directories()) {
            let Some(recipe) = Recipe::of(snapshot, ClusterId(at)) else { continue };
            let same = before.iter().position(|it| Arc::ptr_eq(&it.directory, directory));
            self.watched.push(match same {
                Some(at) => before.swap_remove(at),
                None => Watched {
                    recipe: Arc::new(recipe),
                    directory: Arc::clone(directory),
                    endpoints: None,
                    tasks: Vec::new(),
                },
            });
        }
    }
}

impl Upkeep {
    /// Clusters that are reached as before go on as they did, unless somebody else is to be asked.
    /// `find` says who, if that can be found out.
    fn adopt_names(&mut self, snapshot: &Snapshot, find: impl Fn(&Plan) -> Option<Resolver>) {
        let mut before = std::mem::take(&mut self.naming);
        if self.resolvers != snapshot.plan.runtime.resolvers {
            self.resolvers.clone_from(&snapshot.plan.runtime.resolvers);
            before.clear();
        }
        let mut resolver = None;
        for (cluster, directory) in snapshot.plan.clusters.iter().zip(snapshot.directories()) {
            if cluster.hosts().next().is_none() {
                continue;
            }
            if let Some(at) = before.iter().position(|(it, _)| Arc::ptr_eq(it, directory)) {
                self.naming.push(before.swap_remove(at));
                continue;
            }
            let resolver = resolver.get_or_insert_with(|| find(&snapshot.plan));
            // Without one, the clusters behind this one go on as they did all the same.
            let Some(resolver) = resolver else { continue };
            let naming = Naming::start(cluster, directory, resolver, &self.shared.peers);
            self.naming.push((Arc::clone(directory), naming));
        }
    }
}

impl Watched {
    /// One task for each endpoint that there is now.
    fn look(&mut self, shared: &Arc<Shared>) {
        let current = self.directory.endpoints();
        let is_same = self.endpoints.as_ref().is_some_and(|it| Arc::ptr_eq(it, &current));
        let is_whole = self.tasks.iter().all(|(_, task)| !task.0.is_finished());
        if is_same && is_whole {
            return;
        }
        let mut tasks = Vec::with_capacity(current.members.len());
        for member in &current.members {
            let mut runs = self.tasks.iter();
            let runs = runs.position(|(at, task)| *at == member.address && !task.0.is_finished());
            tasks.push(match runs {
                Some(at) => self.tasks.swap_remove(at),
                None => (member.address, self.start(member, shared)),
            });
        }
        self.tasks = tasks;
        self.endpoints = Some(Arc::clone(&current));
    }

    fn start(&self, member: &Member, shared: &Arc<Shared>) -> Task {
        let tls = self.recipe.tls.as_ref().and_then(|(terms, name)| {
            let name = member.server_name.as_ref().or(name.as_ref())?;
            Some((terms.dialler(), Arc::clone(name)))
        });
        let mut sources = self.recipe.sources.iter().copied();
        let source = sources.find(|source| source.is_ipv4() == member.address.is_ipv4());
        let Recipe { prelude, header, .. } = &*self.recipe;
        let (prelude, header) = (*prelude, header.clone());
        let probing = Probing { address: member.address, source, tls, prelude, header };
        let watch = Watch {
            recipe: Arc::clone(&self.recipe),
            directory: Arc::clone(&self.directory),
            health: Arc::clone(&member.health),
            shared: Arc::clone(shared),
        };
        Task(tokio::spawn(watch.run(probing)))
    }
}

/// What the task of one endpoint knows.
#[derive(Debug)]
struct Watch {
    recipe: Arc<Recipe>,
    directory: Arc<Directory>,
    health: Arc<EndpointHealth>,
    shared: Arc<Shared>,
}

impl Watch {
    async fn run(self, probing: Probing) {
        let Health { probe, interval, timeout, thresholds, .. } = &self.recipe.health;
        let mut checks = Checks::new(*thresholds, self.health.opinion());
        let mut random =
            maglev::hash(format!("{} {:?}", probing.address, clock::wall()).as_bytes());
        // Not all at once, and all of them soon.
        let mut pause = share((*interval).min(FIRST_WITHIN), random % 1024);
        loop {
            tokio::time::sleep(pause).await;
            random = maglev::hash(&random.to_be_bytes());
            pause = *interval - share(*interval, random % 256);
            let Ok(permit) = self.shared.permits.acquire().await else { return };
            // Behind it nobody is blamed any more.
            let until = clock::now() + *timeout / 4 * 3;
            let ended = tokio::time::timeout(*timeout, probing.probe(probe, until)).await;
            drop(permit);
            let found = match ended {
                Ok(found) => found,
                Err(_elapsed) => Err(format!("no answer within {timeout:?}")),
            };
            self.health.probed(found.is_ok());
            if let Some(opinion) = checks.observe(found.is_ok()) {
                self.publish(opinion, probing.address, found);
            }
        }
    }

    fn publish(&self, opinion: Opinion, endpoint: SocketAddr, found: Result<(), String>) {
        self.health.set(opinion, clock::now());
        let cluster = &self.recipe.cluster;
        match found {
            Ok(()) => tracing::info!(%cluster, %endpoint, "healthy"),
            Err(cause) => tracing::warn!(%cluster, %endpoint, %cause, "unhealthy"),
        }
        let endpoints = self.directory.endpoints();
        let mut members = endpoints.members.iter();
        if opinion == Opinion::Unhealthy
            && members.all(|member| member.health.opinion() == Opinion::Unhealthy)
        {
            tracing::warn!(%cluster, "no endpoint is healthy: all are used as if they were");
        }
        tell_all(&self.shared.peers);
    }
}

impl Recipe {
    /// `None`: the cluster is not probed.
    fn of(snapshot: &Snapshot, id: ClusterId) -> Option<Self> {
        let cluster = snapshot.plan.cluster(id);
        let tls = cluster.tls.map(|id| {
            let name = match &snapshot.plan.upstream_tls(id).server_name {
                UpstreamServerName::Fixed(name) => Some(Arc::clone(name)),
                UpstreamServerName::ClientSni => None,
            };
            (Arc::clone(snapshot.material.upstream(id)), name)
        });
        Some(Self {
            cluster: Arc::clone(&cluster.name),
            health: cluster.health.clone()?,
            sources: cluster.sources.clone(),
            tls,
            prelude: cluster.prelude,
            header: cluster.proxy_header.clone(),
        })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Something was found out about endpoints.
pub(super) fn tell_all(peers: &[Peer]) {
    peers.iter().for_each(|peer| peer.mailbox.order(Order::Look));
}

/// So many 1,024ths of `whole`.
fn share(whole: Duration, parts: u64) -> Duration {
    whole / 1024 * u32::try_from(parts).unwrap_or(0)
}

/// Each is a socket, and in TLS a handshake on control's thread.
const PROBES_MAX: usize = 256;
const FIRST_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::gateway::Gateway;
    use crate::config;

    #[test] // threat 39
    fn names_are_followed_on_though_nobody_is_found_to_ask_for_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portcullis.toml");
        let plan = |clusters: &[&str]| {
            let first = clusters[0];
            let mut text = format!(
                "[runtime]\nworkers = 1\n[listener.edge]\naddress = \"127.0.0.1:0\"\n\
                 [listener.edge.chain.all]\ncluster = \"{first}\"\n"
            );
            for name in clusters {
                text.push_str(&format!(
                    "[cluster.{name}]\ndiscovery = \"dns\"\nendpoints = [\"{name}.test:1\"]\n"
                ));
            }
            std::fs::write(&file, text).unwrap();
            config::load(&file).unwrap()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        // Nobody is asked: the runtime does not run.
        let nameserver = SocketAddr::from(([127, 0, 0, 1], 1));
        let found = |_: &Plan| Resolver::new(&[nameserver]).ok();
        let mut gateway = Gateway::start(plan(&["old"]), None).unwrap();
        let mut upkeep = Upkeep::new(gateway.peers());
        upkeep.adopt_names(&gateway.current().load(), found);
        let old = Arc::clone(&upkeep.naming[0].0);

        gateway.reload(plan(&["new", "newer", "old"])).unwrap();
        upkeep.adopt_names(&gateway.current().load(), |_| None);
        assert_eq!(upkeep.naming.len(), 1);
        assert!(Arc::ptr_eq(&upkeep.naming[0].0, &old));

        gateway.reload(plan(&["new", "newer", "old"])).unwrap();
        upkeep.adopt_names(&gateway.current().load(), found);
        assert_eq!(upkeep.naming.len(), 3);
        gateway.stop().unwrap();
    }
}
