//! Every resumption is authorised afresh: what has changed since the ticket was sealed, in TLS 1.2 and
//! 1.3, on the same worker, on another one, and in another process with the same ticket keys.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis::config::plan::*;
use portcullis::core::refusal::Reason;
use portcullis::core::route::ChainId;
use portcullis::core::ticket_roots::TicketRoots;
use portcullis::core::trust::rule::NameKind;
use portcullis::core::trust::{Authorize, KeyRule, Matcher, NameRule, Pin};
use portcullis::tls::downstream::DownstreamTerms;
use portcullis::tls::material::Material;
use portcullis::tls::stek::{StekKeys, random_root};
use portcullis_kit::{Authority, ClientSpec, Identity, Validity};
use rustls::{ClientConfig, HandshakeKind};

use crate::support::*;

/// What a client met with.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    Resumed,
    /// Let in by a full handshake.
    Full,
    /// Not let in: by the handshake, or by the filter after it.
    Refused(Reason),
}

struct Case {
    world: World,
    /// The file with the root of the ticket keys.
    root: TicketSource,
    chain: ChainId,
    clients: Authority,
    intermediate: Authority,
    alice: Identity,
}

/// A change after which alice's ticket is worth nothing, and what she meets with then.
struct Change {
    name: &'static str,
    make: fn(&mut Case),
    expected: Met,
}

const CHANGES: &[Change] = &[
    Change {
        name: "the list revokes the leaf",
        make: |case| {
            let list = case.intermediate.revocation_list(&[&case.alice]);
            case.set_lists(&[list, case.clients.revocation_list(&[])]);
        },
        expected: Met::Refused(Reason::CertificateRevoked),
    },
    Change {
        name: "the list revokes the intermediate",
        make: |case| {
            let serial = case.intermediate.serial();
            let list = case.clients.revocation_list_of(&[serial], Validity::Current);
            case.set_lists(&[list, case.intermediate.revocation_list(&[])]);
        },
        expected: Met::Refused(Reason::CertificateRevoked),
    },
    Change {
        name: "the list is out of date",
        make: |case| {
            let list = case.intermediate.revocation_list_of(&[], Validity::Expired);
            case.set_lists(&[list, case.clients.revocation_list(&[])]);
        },
        expected: Met::Refused(Reason::RevocationStale),
    },
    Change {
        name: "a list is gone",
        make: |case| case.set_lists(&[case.clients.revocation_list(&[])]),
        expected: Met::Refused(Reason::RevocationUnknown),
    },
    Change {
        name: "the CA is removed",
        make: |case| {
            let other = Authority::new("Other");
            let path = case.clients.write("other", "crt", &other.ca_pem());
            case.trust().anchors = vec![file(&path)];
        },
        expected: Met::Refused(Reason::UnknownIssuer),
    },
    Change {
        name: "the CA is swapped for one of the same name",
        make: |case| {
            let namesake = Authority::new("Clients");
            let path = case.clients.write("namesake", "crt", &namesake.ca_pem());
            let list = namesake.revocation_list(&[]);
            case.trust().anchors = vec![file(&path)];
            case.set_lists(&[list, case.intermediate.revocation_list(&[])]);
        },
        expected: Met::Refused(Reason::UnknownIssuer),
    },
    Change {
        name: "the list is another CA's of the same name",
        make: |case| {
            let namesake = Authority::new("Clients");
            let path = case.clients.write("namesake", "crt", &namesake.ca_pem());
            case.trust().anchors.push(file(&path));
            let list = namesake.revocation_list(&[]);
            case.set_lists(&[list, case.intermediate.revocation_list(&[])]);
        },
        expected: Met::Refused(Reason::RevocationUnknown),
    },
    Change {
        name: "the list is that of another key of the intermediate's",
        make: |case| {
            let namesake = case.clients.intermediate("Clients below");
            case.set_lists(&[case.clients.revocation_list(&[]), namesake.revocation_list(&[])]);
        },
        expected: Met::Refused(Reason::RevocationUnknown),
    },
    Change {
        name: "the names that are asked for change",
        make: |case| case.trust().leaf.san = vec![rule(NameKind::Dns, "bob.test")],
        expected: Met::Refused(Reason::SanNotAllowed),
    },
    Change {
        name: "the names that are asked for change, and hers still does",
        make: |case| case.trust().leaf.san = vec![rule(NameKind::Dns, "*.test")],
        expected: Met::Full,
    },
    Change {
        name: "another certificate is pinned",
        make: |case| case.trust().leaf.pins = vec![Pin([7; 32])],
        expected: Met::Refused(Reason::NotPinned),
    },
    Change {
        name: "her kind of key is not taken any more",
        make: |case| case.trust().leaf.keys = vec![KeyRule::Ed25519],
        expected: Met::Refused(Reason::KeyNotAllowed),
    },
    Change {
        name: "chains may not be as deep any more",
        make: |case| case.trust().depth_max = 0,
        expected: Met::Refused(Reason::ChainTooDeep),
    },
    Change {
        name: "a filter lets others in only",
        make: |case| case.authorize(vec![Matcher::Name(rule(NameKind::Dns, "bob.test"))], vec![]),
        expected: Met::Refused(Reason::NotAuthorized),
    },
    Change {
        name: "a filter turns her away",
        make: |case| case.authorize(vec![], vec![Matcher::Serial(case.alice.serial().into())]),
        expected: Met::Refused(Reason::NotAuthorized),
    },
    Change {
        name: "her certificate has expired",
        make: |_| LATER.store(LIFE + 60, Ordering::Relaxed),
        expected: Met::Refused(Reason::CertificateExpired),
    },
    Change {
        name: "the chain has another name",
        make: |case| case.world.plan.listeners[0].chains[0].name = "renamed".into(),
        expected: Met::Full,
    },
    Change {
        name: "the trust only audits now",
        make: |case| case.trust().mode = portcullis::core::trust::Mode::Audit,
        expected: Met::Full,
    },
];

impl Case {
    fn new(server: &Identity) -> Self {
        let clients = Authority::new("Clients");
        let intermediate = clients.intermediate("Clients below");
        let life = Validity::For(std::time::Duration::from_secs(LIFE));
        let spec = ClientSpec::new("alice").dns("alice.test").validity(life);
        let alice = intermediate.client(&spec);
        let mut world = World::new();
        let trust = world.trust(&clients);
        let chain = world.chain("a", server, ClientAuth::Require(trust));
        world.plan.downstream_tls[0].tickets_sent = 3;
        world.plan.trusts[0].revocation.check = RevocationCheck::Chain;
        let root = clients.write(
            "root",
            "stek",
            TicketRoots::new(&random_root().unwrap()).render().as_str(),
        );
        fs::set_permissions(&root, fs::Permissions::from_mode(0o600)).unwrap();
        let root = TicketSource::Root(file(&root));
        world.stek = keys(&root, &world.plan);
        let mut case = Self { world, root, chain, clients, intermediate, alice };
        case.set_lists(&[
            case.clients.revocation_list(&[]),
            case.intermediate.revocation_list(&[]),
        ]);
        case
    }

    fn trust(&mut self) -> &mut Trust {
        &mut self.world.plan.trusts[0]
    }

    fn set_lists(&mut self, lists: &[String]) {
        let path = self.clients.write("lists", "crl", &lists.concat());
        self.trust().crls = vec![file(&path)];
    }

    fn authorize(&mut self, allow: Vec<Matcher>, deny: Vec<Matcher>) {
        let authorize = Authorize { allow, deny, ..Authorize::default() };
        let kind = FilterKind::Authorize(authorize);
        let filter = Filter { at: place("listener.edge.chain.a.filters[0]"), kind };
        self.world.plan.listeners[0].chains[0].filters = vec![filter];
    }

    /// The terms as every worker of a process has them.
    fn terms(&self) -> Arc<DownstreamTerms> {
        self.terms_with(&self.world.stek)
    }

    /// The terms of a process that has read the same files, and counts its generations for itself.
    fn terms_of_another_process(&self) -> Arc<DownstreamTerms> {
        self.terms_with(&keys(&self.root, &self.world.plan))
    }

    fn terms_with(&self, keys: &Arc<StekKeys>) -> Arc<DownstreamTerms> {
        let material = Material::load(&self.world.plan, keys, 7, now, None).unwrap();
        Arc::clone(material.downstream(0, self.chain).unwrap())
    }
}

fn keys(root: &TicketSource, plan: &Plan) -> Arc<StekKeys> {
    let SessionTickets { rotate, lifetime, .. } = plan.session_tickets;
    Arc::new(StekKeys::load(root, rotate, lifetime, unix_now()).unwrap())
}

fn rule(kind: NameKind, text: &str) -> NameRule {
    NameRule::parse(kind, text).unwrap()
}

fn meet(terms: &Arc<DownstreamTerms>, config: &Arc<ClientConfig>) -> Met {
    let mut peer = client(config, NAME);
    let done = match handshake(terms, &mut peer, NAME) {
        Ok(done) => done,
        Err((refusal, _)) => return Met::Refused(refusal.reason),
    };
    let resumed = done.facts.negotiated.resumed;
    assert_eq!(peer.handshake_kind() == Some(HandshakeKind::Resumed), resumed);
    match done.facts.denials.first() {
        Some((_, refusal)) => Met::Refused(refusal.reason),
        None if resumed => Met::Resumed,
        None => Met::Full,
    }
}

/// Seconds for which alice's certificate is valid.
const LIFE: u64 = 6 * 3600;

/// How far the clock of the changed gateway is ahead. One test uses it.
static LATER: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    unix_now() + LATER.load(Ordering::Relaxed)
}

// threat 20
#[test]
fn no_ticket_outlives_a_change_that_refuses_its_client() {
    let servers = Authority::new("Servers");
    let server = servers.server(&[NAME]);
    for version in VERSIONS {
        for change in CHANGES {
            for place in ["the same worker", "another worker", "another process"] {
                LATER.store(0, Ordering::Relaxed);
                let mut case = Case::new(&server);
                let config = Arc::new(client_config(servers.roots(), version, Some(&case.alice)));
                let label = format!("{version:?}, {}, {place}", change.name);
                assert_eq!(meet(&case.terms(), &config), Met::Full, "{label}");
                // The control: without a change, a ticket is good, here and there.
                assert_eq!(meet(&case.terms(), &config), Met::Resumed, "{label}");
                assert!(offers_a_ticket(&config, NAME), "{label}");
                let terms = |case: &Case| match place {
                    "another process" => case.terms_of_another_process(),
                    _ => case.terms(),
                };
                let met = |case: &Case| match place {
                    "the same worker" => meet(&terms(case), &config),
                    // What a worker remembers of chains is its thread's.
                    _ => std::thread::scope(|scope| {
                        scope.spawn(|| meet(&terms(case), &config)).join().unwrap()
                    }),
                };
                assert_eq!(met(&case), Met::Resumed, "{label}");
                (change.make)(&mut case);
                assert_eq!(met(&case), change.expected, "{label}");
            }
        }
    }
}

#[test]
fn a_new_list_that_revokes_others_leaves_tickets_good() {
    let servers = Authority::new("Servers");
    let server = servers.server(&[NAME]);
    let case = Case::new(&server);
    let bob = case.intermediate.client(&ClientSpec::new("bob"));
    let config = Arc::new(client_config(servers.roots(), VERSIONS[1], Some(&case.alice)));
    let terms = || {
        let material =
            Material::load(&case.world.plan, &case.world.stek, 1, unix_now, None).unwrap();
        Arc::clone(material.downstream(0, case.chain).unwrap())
    };
    assert_eq!(meet(&terms(), &config), Met::Full);
    let list = case.intermediate.revocation_list(&[&bob]);
    let lists = [list, case.clients.revocation_list(&[])].concat();
    fs::write(&case.world.plan.trusts[0].crls[0].path, lists).unwrap();
    assert_eq!(meet(&terms(), &config), Met::Resumed);
}
