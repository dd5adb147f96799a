//! Host names of endpoints: asked again and again on control's thread, and published when their
//! addresses change. No worker waits for an answer.
//!
//! When to ask, and what holds while nobody answers, is `core::discovery`'s to say.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::task::JoinSet;

use super::{Task, tell_all};
use crate::config::plan::{Cluster, HostPort, Plan};
use crate::core::discovery::{Answer, Discovery, Family, Silence, TTL_MIN};
use crate::core::maglev;
use crate::sys::clock;
use crate::worker::{Directory, Peer, Snapshot};

/// Whom names are asked of.
#[derive(Debug, Clone)]
pub(super) struct Resolver(TokioResolver);

/// The names of one cluster, for as long as this lives.
#[derive(Debug)]
pub(super) struct Naming {
    _tasks: Vec<Task>,
}

/// What the tasks of one cluster share. Control's alone.
#[derive(Debug)]
struct Names {
    cluster: Cluster,
    directory: Arc<Directory>,
    known: Mutex<HashMap<HostPort, Discovery>>,
    resolver: Resolver,
    peers: Arc<[Peer]>,
}

impl Resolver {
    /// # Errors
    /// The system's configuration cannot be read.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        let text = |error: NetError| error.to_string();
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(text)?
        } else {
            let servers = servers.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config, provider);
            *builder.options_mut() = ResolverOpts::default();
            builder.options_mut().timeout = ASK_PATIENCE;
            builder
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // What an answer is worth, and how long, is said in one place only.
        options.cache_size = 0;
        Ok(Self(builder.build().map_err(text)?))
    }

    /// What addresses a name has, where `known` are those that it had.
    async fn ask(&self, host: &str, known: &[IpAddr]) -> Result<Answer, String> {
        let asked = tokio::time::timeout(LOOKUP_PATIENCE, self.0.lookup_ip(host)).await;
        let found = match asked {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(words(host, &error)),
            Err(_elapsed) => return Err(nobody_answers()),
        };
        let records = found.as_lookup().answers();
        let ttl = records.iter().map(|record| record.ttl).min();
        let ttl = ttl.map_or(TTL_MIN, |seconds| Duration::from_secs(seconds.into()));
        let mut answer = Answer { addresses: found.iter().collect(), ttl, silence: None };
        let is_missing = |family: &Family| {
            let has = |addresses: &[IpAddr]| addresses.iter().any(|it| family.has(*it));
            has(known) && !has(&answer.addresses)
        };
        if let Some(family) = Family::BOTH.into_iter().find(is_missing) {
            // The other family's answer is one, whatever came of this one's.
            match self.ask_again(found.query().name(), family).await {
                Ok(addresses) => answer.addresses.extend(addresses),
                Err(error) => {
                    answer.silence = Some(Silence { family, cause: words(host, &error) });
                }
            }
        }
        Ok(answer)
    }

    /// The addresses of one family; none if the name has none.
    async fn ask_again(&self, name: &Name, family: Family) -> Result<Vec<IpAddr>, NetError> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let asked = self.0.lookup(name.clone(), kind);
        match tokio::time::timeout(LOOKUP_PATIENCE, asked).await {
            Ok(Ok(found)) => {
                Ok(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
            }
            Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => Ok(Vec::new()),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(NetError::Timeout),
        }
    }
}

/// Asks once for every name that has no address yet, so that no client comes before them; for at most
/// so long. Clusters whose names have no answer serve without them until there is one.
pub(in crate::app) async fn settle(snapshot: &Snapshot, limit: Duration) {
    let wanted = |cluster: &Cluster, directory: &Directory| {
        let endpoints = directory.endpoints();
        cluster.hosts().any(|host| endpoints.of_host(host).is_empty())
    };
    let clusters = snapshot.plan.clusters.iter().zip(snapshot.directories());
    let new: Vec<_> = clusters.filter(|(cluster, directory)| wanted(cluster, directory)).collect();
    if new.is_empty() {
        return;
    }
    let Some(resolver) = resolver(&snapshot.plan) else { return };
    let mut asking = JoinSet::new();
    let mut late = HashSet::new();
    for (cluster, directory) in &new {
        let endpoints = directory.endpoints();
        for host in cluster.hosts().filter(|host| endpoints.of_host(host).is_empty()) {
            late.insert(host);
            let (resolver, host) = (resolver.clone(), host.clone());
            asking.spawn(async move {
                let mut discovery = Discovery::new(Vec::new(), clock::now());
                let answer = resolver.ask(&host.host, discovery.addresses()).await;
                let answer = answer.map(|answer| discovery.answered(answer, clock::now()));
                (answer.map(|_step| discovery), host)
            });
        }
    }
    let mut found = HashMap::new();
    let all = async {
        while let Some(asked) = asking.join_next().await {
            let Ok((answer, host)) = asked else { continue };
            late.remove(&host);
            if let Ok(discovery) = answer {
                found.insert(host, discovery.addresses().to_vec());
            }
        }
    };
    // What is late is found by the tasks that go on asking.
    drop(tokio::time::timeout(limit, all).await);
    for host in late {
        tracing::warn!(
            name = %host.host,
            "nobody has said yet what addresses the name has, after {limit:?}: its clusters serve without"
        );
    }
    for (cluster, directory) in new {
        // What a running generation has found meanwhile is newer.
        directory.publish(cluster, |known, host| match known.of_host(host) {
            none if none.is_empty() => found.get(host).cloned().unwrap_or_default(),
            known => known,
        });
    }
}

/// Whom this plan asks; told and `None` if that cannot be found out.
pub(super) fn resolver(plan: &Plan) -> Option<Resolver> {
    match Resolver::new(&plan.runtime.resolvers) {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::error!(
                %error,
                "no host name can be looked up: write runtime.resolvers, or mend /etc/resolv.conf"
            );
            None
        }
    }
}

impl Naming {
    /// Goes on asking for every name of the cluster.
    pub(super) fn start(
        cluster: &Cluster,
        directory: &Arc<Directory>,
        resolver: &Resolver,
        peers: &Arc<[Peer]>,
    ) -> Self {
        let now = clock::now();
        let endpoints = directory.endpoints();
        let known = cluster.hosts();
        let known = known.map(|host| (host.clone(), Discovery::new(endpoints.of_host(host), now)));
        let names = Arc::new(Names {
            cluster: cluster.clone(),
            directory: Arc::clone(directory),
            known: Mutex::new(known.collect()),
            resolver: resolver.clone(),
            peers: Arc::clone(peers),
        });
        let task = |host: &HostPort| {
            let (names, host) = (Arc::clone(&names), host.clone());
            Task(tokio::spawn(async move { names.follow(host).await }))
        };
        Self { _tasks: cluster.hosts().map(task).collect() }
    }
}

impl Names {
    async fn follow(&self, host: HostPort) {
        loop {
            let known = self.known().get(&host).map(|it| it.addresses().to_vec());
            let answer = self.resolver.ask(&host.host, &known.unwrap_or_default()).await;
            let pause = self.take(&host, answer);
            let random = maglev::hash(format!("{} {:?}", host.host, clock::wall()).as_bytes());
            // Never before the time is over: up to an eighth later.
            let late = u32::try_from(random % 128).unwrap_or(0);
            tokio::time::sleep(pause + pause / 1024 * late).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<HostPort, Discovery>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes by an answer; returns when to ask again.
    fn take(&self, host: &HostPort, answer: Result<Answer, String>) -> Duration {
        let (cluster, name) = (&self.cluster.name, &host.host);
        let mut known = self.known();
        let Some(discovery) = known.get_mut(host) else { return TTL_MIN };
        let now = clock::now();
        let step = match answer {
            Ok(answer) => {
                let (before, silence) = (discovery.silent(), answer.silence.clone());
                let step = discovery.answered(answer, now);
                if let Some(Silence { family, cause }) = silence
                    && before.is_none()
                    && discovery.silent().is_some()
                {
                    let kept = discovery.addresses().iter().filter(|it| family.has(**it)).count();
                    let family = family.name();
                    tracing::warn!(
                        %cluster, %name, %family, %cause, kept,
                        "the name server does not say what addresses of this family the name has: \
                         look there; those that it had are kept for a day"
                    );
                }
                step
            }
            Err(cause) => {
                let step = discovery.failed(now);
                let kept = discovery.addresses().len();
                if discovery.is_news() {
                    tracing::warn!(%cluster, %name, %cause, kept, "the name cannot be looked up");
                } else {
                    tracing::debug!(%cluster, %name, %cause, kept, "the name cannot be looked up");
                }
                step
            }
        };
        if step.has_changed {
            self.directory.publish(&self.cluster, |_, host| {
                known.get(host).map_or_else(Vec::new, |it| it.addresses().to_vec())
            });
            tell_all(&self.peers);
            // Behind it: whoever reads the line may count on it.
            let addresses = known.get(host).map_or(&[][..], |it| it.addresses());
            tracing::info!(%cluster, %name, ?addresses, "the name has other addresses");
        }
        step.pause
    }
}

/// Why there is no address, for whoever has to do something about it.
fn words(host: &str, error: &NetError) -> String {
    match error {
        NetError::Timeout | NetError::NoConnections | NetError::Io(_) => nobody_answers(),
        error if error.is_nx_domain() => {
            format!("{host} does not exist: correct the endpoint, or add the record")
        }
        error if error.is_no_records_found() => {
            format!("{host} has no address: correct the endpoint, or add an A or AAAA record")
        }
        error => error.to_string(),
    }
}

fn nobody_answers() -> String {
    "no name server answers: see runtime.resolvers, or /etc/resolv.conf".to_owned()
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(with_port);
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// For an answer of one of `runtime.resolvers`; the system's configuration has its own.
const ASK_PATIENCE: Duration = Duration::from_secs(2);
/// For a look-up in all: a name server that says nothing of one family is waited for thrice, for five
/// seconds each by resolv.conf(5), and an answer about the other lies there meanwhile.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_no_missing_name() {
        for error in [NetError::Timeout, NetError::NoConnections] {
            assert!(words("db.test", &error).contains("resolv.conf"), "{error}");
        }
        let other = NetError::Msg("what the library says".to_owned());
        assert_eq!(words("db.test", &other), "what the library says");
    }
}
