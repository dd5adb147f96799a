//! What a session that runs is measured by once the trust has changed under it, whatever time has done to
//! its certificate and its lists in the meantime.

use std::sync::Arc;

use portcullis::config::plan::*;
use portcullis::core::refusal::Reason;
use portcullis::core::route::ChainId;
use portcullis::tls::downstream::ClientFacts;
use portcullis_kit::{Authority, ClientSpec, Identity, Validity};
use rustls::version::TLS13;

use crate::support::*;

struct Stage {
    world: World,
    chain: ChainId,
    /// Keeps its files.
    _servers: Authority,
    clients: Authority,
    below: Authority,
    alice: Identity,
    /// How alice was let in.
    facts: ClientFacts,
}

impl Stage {
    fn new() -> Self {
        let servers = Authority::new("Servers");
        let clients = Authority::new("Clients");
        let below = clients.intermediate("Clients below");
        let alice = below.client(&ClientSpec::new("alice"));
        let mut world = World::new();
        let trust = world.trust(&clients);
        let chain = world.chain("a", &servers.server(&[NAME]), ClientAuth::Require(trust));
        let config = Arc::new(client_config(servers.roots(), &TLS13, Some(&alice)));
        let facts = handshake(&world.terms(chain), &mut client(&config, NAME), NAME).unwrap().facts;
        Self { world, chain, _servers: servers, clients, below, alice, facts }
    }

    /// What the terms have against alice after a change.
    fn against_her(&self) -> Option<String> {
        let terms = self.world.terms(self.chain);
        let refusal = terms.reconsider(&self.facts).err()?;
        assert_eq!(refusal.reason, Reason::TrustChanged);
        Some(refusal.detail)
    }

    fn set_lists(&mut self, lists: &[String]) {
        let path = self.clients.write("lists", "crl", &lists.concat());
        self.world.plan.trusts[0].crls = vec![file(&path)];
        self.world.plan.trusts[0].revocation.check = RevocationCheck::Chain;
    }
}

#[test]
fn what_has_not_changed_ends_nothing_and_neither_does_a_list_that_is_gone_or_out_of_date() {
    let mut stage = Stage::new();
    assert_eq!(stage.against_her(), None);
    let root = stage.clients.revocation_list(&[]);
    stage.set_lists(&[root.clone(), stage.below.revocation_list(&[])]);
    assert_eq!(stage.against_her(), None);
    stage.set_lists(&[root.clone(), stage.below.revocation_list_of(&[], Validity::Expired)]);
    assert_eq!(stage.against_her(), None);
    stage.set_lists(&[root]);
    assert_eq!(stage.against_her(), None);
}

#[test]
fn a_list_that_is_gone_or_out_of_date_does_not_hide_that_a_ca_is_revoked() {
    let mut stage = Stage::new();
    let root = stage.clients.revocation_list_of(&[stage.below.serial()], Validity::Current);
    for below in [
        stage.below.revocation_list(&[]),
        stage.below.revocation_list_of(&[], Validity::Expired),
        String::new(),
    ] {
        stage.set_lists(&[root.clone(), below]);
        let told = stage.against_her().unwrap();
        assert!(told.ends_with("a CA above it is revoked"), "{told}");
    }
    let below = stage.below.revocation_list_of(&[stage.alice.serial()], Validity::Expired);
    stage.set_lists(&[below]);
    let told = stage.against_her().unwrap();
    assert!(told.ends_with(": it is revoked"), "{told}");
}
