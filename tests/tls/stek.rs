//! Tickets across nodes: what one node seals another opens, with clocks that are not the same, and no
//! longer than key and certificate allow.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portcullis::config::plan::{ClientAuth, TicketSource};
use portcullis::core::refusal::Reason;
use portcullis::core::route::ChainId;
use portcullis::core::ticket_roots::TicketRoots;
use portcullis::tls::UnixClock;
use portcullis::tls::downstream::DownstreamTerms;
use portcullis::tls::material::Material;
use portcullis::tls::stek::{Reloaded, StekKeys, random_root};
use portcullis_kit::{Authority, ClientSpec, Validity};
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::support::*;

const HOUR: u64 = 3600;
const ROTATE: Duration = Duration::from_secs(HOUR);
const LIFETIME: Duration = Duration::from_secs(12 * HOUR);

/// A plan that several nodes run, and a folder for their key files.
struct Fleet {
    world: World,
    chain: ChainId,
    clients: Authority,
    servers: Authority,
    folder: TempDir,
}

impl Fleet {
    fn new() -> Self {
        let (clients, servers) = (Authority::new("Clients"), Authority::new("Servers"));
        let server = servers.server(&[NAME]);
        let mut world = World::new();
        let trust = world.trust(&clients);
        let chain = world.chain("a", &server, ClientAuth::Require(trust));
        Self { world, chain, clients, servers, folder: TempDir::new().unwrap() }
    }

    /// A file of mode 0600 as a source of keys.
    fn write(&self, name: &str, bytes: &[u8]) -> portcullis::config::plan::FileRef {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        file(&path)
    }

    fn root(&self, name: &str) -> TicketSource {
        let roots = TicketRoots::new(&random_root().unwrap());
        TicketSource::Root(self.write(name, roots.render().as_bytes()))
    }

    fn key(&self, name: &str) -> portcullis::config::plan::FileRef {
        let halves = [random_root().unwrap(), random_root().unwrap()];
        self.write(name, &[&halves[0][..], &halves[1][..16]].concat())
    }

    fn client(&self, validity: Validity, version: usize) -> Arc<ClientConfig> {
        let alice = self.clients.client(&ClientSpec::new("alice").validity(validity));
        Arc::new(client_config(self.servers.roots(), VERSIONS[version], Some(&alice)))
    }

    /// A node of its own: its keys by its clock.
    fn node(&self, source: &TicketSource, clock: UnixClock) -> Node {
        let keys = Arc::new(StekKeys::load(source, ROTATE, LIFETIME, clock()).unwrap());
        self.node_with(keys, clock)
    }

    fn node_with(&self, keys: Arc<StekKeys>, clock: UnixClock) -> Node {
        let material = Material::load(&self.world.plan, &keys, 1, clock, None).unwrap();
        let terms = Arc::clone(material.downstream(0, self.chain).unwrap());
        Node { keys, terms }
    }
}

struct Node {
    keys: Arc<StekKeys>,
    terms: Arc<DownstreamTerms>,
}

impl Node {
    fn resumes(&self, config: &Arc<ClientConfig>) -> bool {
        let done = handshake(&self.terms, &mut client(config, NAME), NAME);
        done.map_err(|error| error.0).unwrap().facts.negotiated.resumed
    }
}

/// The next change of keys, seen from the start of the test: its clocks stand around it.
fn change() -> u64 {
    static CHANGE: OnceLock<u64> = OnceLock::new();
    *CHANGE.get_or_init(|| (unix_now() / HOUR + 1) * HOUR)
}

fn minutes_before() -> u64 {
    change() - 240
}

fn minutes_after() -> u64 {
    change() + 240
}

#[test]
fn nodes_whose_clocks_are_minutes_apart_resume_each_others_sessions() {
    let fleet = Fleet::new();
    let source = fleet.root("stek.root");
    // A change of keys lies between the two.
    let behind = fleet.node(&source, minutes_before);
    let ahead = fleet.node(&source, minutes_after);
    assert_ne!(behind.keys.status()[0].id, ahead.keys.status()[0].id);
    for version in 0..VERSIONS.len() {
        let client = fleet.client(Validity::Current, version);
        assert!(!behind.resumes(&client));
        for node in [&ahead, &behind, &ahead, &ahead, &behind, &behind] {
            assert!(node.resumes(&client), "version {version}");
        }
    }
}

// threat 21
#[test]
fn nodes_with_different_roots_resume_nothing_of_each_other() {
    let fleet = Fleet::new();
    let nodes = [fleet.root("one"), fleet.root("two")].map(|root| fleet.node(&root, unix_now));
    for version in 0..VERSIONS.len() {
        let client = fleet.client(Validity::Current, version);
        for node in [&nodes[0], &nodes[1], &nodes[0]] {
            assert!(!node.resumes(&client));
        }
    }
}

/// A clock of the tests below, in seconds after now.
static LATER: AtomicU64 = AtomicU64::new(0);

fn later() -> u64 {
    unix_now() + LATER.load(Ordering::Relaxed)
}

#[test]
fn a_ticket_of_another_node_outlives_neither_its_lifetime_nor_its_certificate() {
    let fleet = Fleet::new();
    let source = fleet.root("stek.root");
    let short = || Validity::For(Duration::from_secs(1000));
    for version in 0..VERSIONS.len() {
        for (validity, alive, dead) in
            [(short(), 900, 1100), (Validity::Current, 12 * HOUR - 100, 12 * HOUR + 100)]
        {
            LATER.store(0, Ordering::Relaxed);
            let first = fleet.node(&source, later);
            let client = fleet.client(validity, version);
            assert!(!first.resumes(&client));
            LATER.store(alive, Ordering::Relaxed);
            // One that has run on, and one that has only just started.
            first.keys.rotate(later());
            let second = fleet.node(&source, later);
            assert!(second.resumes(&client) && first.resumes(&client), "after {alive}");
            LATER.store(dead, Ordering::Relaxed);
            let third = fleet.node(&source, later);
            match handshake(&third.terms, &mut crate::support::client(&client, NAME), NAME) {
                Ok(done) => assert!(!done.facts.negotiated.resumed, "after {dead}"),
                Err((refusal, _)) => assert_eq!(refusal.reason, Reason::CertificateExpired),
            }
        }
    }
}

#[test]
fn a_ticket_does_not_outlive_its_key() {
    let fleet = Fleet::new();
    let [one, two, three] = ["one", "two", "three"].map(|name| fleet.key(name));
    let keys = |files: [&portcullis::config::plan::FileRef; 2]| {
        TicketSource::Keys(files.into_iter().cloned().collect())
    };
    for version in 0..VERSIONS.len() {
        // `one` seals, then `two`, and then `one` is gone.
        let node = fleet.node(&keys([&two, &one]), unix_now);
        let client = fleet.client(Validity::Current, version);
        assert!(!node.resumes(&client));
        let reload =
            |source: &TicketSource| node.keys.reload(source, ROTATE, LIFETIME, unix_now()).unwrap();
        assert_eq!(reload(&keys([&two, &one])), Reloaded::Same);
        assert!(node.resumes(&client));
        assert_eq!(reload(&keys([&three, &two])), Reloaded::Changed);
        assert!(!node.resumes(&client), "sealed with a key that is gone");
        assert!(node.resumes(&client));
        let root = fleet.root("stek.root");
        assert_eq!(reload(&root), Reloaded::Changed);
        assert!(!node.resumes(&client));
        assert!(node.resumes(&client));
        // A revocation: another root in the same file.
        assert_eq!(reload(&fleet.root("stek.root")), Reloaded::Changed);
        assert!(!node.resumes(&client));
    }
}

#[test]
fn a_reload_that_fails_leaves_every_ticket_as_good_as_it_was() {
    let fleet = Fleet::new();
    let source = fleet.root("stek.root");
    let node = fleet.node(&source, unix_now);
    let client = fleet.client(Validity::Current, 0);
    assert!(!node.resumes(&client));
    fs::write(fleet.folder.path().join("stek.root"), "half a fi").unwrap();
    let found = node.keys.reload(&source, ROTATE, LIFETIME, unix_now()).unwrap_err();
    assert!(found[0].message.contains("stek.root does not begin with"), "{}", found[0]);
    assert!(node.resumes(&client));
}
