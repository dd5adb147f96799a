//! Which key-exchange group a client gets: the first of the chain's that costs no other round trip.

use std::sync::Arc;

use portcullis::config::plan::ClientAuth;
use portcullis::config::plan::Group::{self, Secp256r1, Secp384r1, X25519, X25519MlKem768};
use portcullis::core::refusal::{Reason, Refusal};
use portcullis::tls::downstream::DownstreamTerms;
use portcullis::tls::handshake::Negotiated;
use portcullis_kit::{Authority, Identity};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

use crate::support::*;

struct Site {
    servers: Authority,
    server: Identity,
}

impl Site {
    fn new() -> Self {
        let servers = Authority::new("Servers");
        let server = servers.server(&[NAME]);
        Self { servers, server }
    }

    fn terms(&self, groups: &[Group]) -> Arc<DownstreamTerms> {
        let mut world = World::new();
        let chain = world.chain("open", &self.server, ClientAuth::None);
        world.plan.downstream_tls[0].crypto.groups = groups.to_vec();
        world.terms(chain)
    }

    /// rustls sends a share for the first of its groups, and one for X25519 beside the hybrid's if it
    /// lists both.
    fn client(
        &self,
        groups: &[Group],
        version: &'static SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        let mut provider = aws_lc_rs::default_provider();
        let known = |group: &Group| match group {
            X25519MlKem768 => kx_group::X25519MLKEM768,
            X25519 => kx_group::X25519,
            Secp256r1 => kx_group::SECP256R1,
            Secp384r1 => kx_group::SECP384R1,
        };
        provider.kx_groups = groups.iter().map(known).collect();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap();
        Arc::new(builder.with_root_certificates(self.servers.roots()).with_no_client_auth())
    }
}

/// What is agreed, the hello having been looked at as a worker does it.
fn negotiate(
    terms: &Arc<DownstreamTerms>,
    config: &Arc<ClientConfig>,
) -> Result<Negotiated, Refusal> {
    // Another hello with the same groups and shares.
    let hello = sent_by(&mut client(config, NAME));
    let done = drive(begin_for(terms, &hello), &mut client(config, NAME), usize::MAX);
    done.map(|done| done.facts.negotiated).map_err(|(refusal, _)| refusal)
}

#[test]
fn the_chain_s_order_counts_among_the_shares_that_were_sent() {
    let site = Site::new();
    let cases: [(_, &[Group], &[Group], _, _); 9] = [
        (&TLS13, &[X25519, X25519MlKem768], &[X25519MlKem768, X25519], "x25519", false),
        (&TLS13, &[X25519MlKem768, X25519], &[X25519MlKem768, X25519], "x25519mlkem768", false),
        (&TLS13, &[Secp256r1, X25519], &[X25519MlKem768, X25519, Secp256r1], "x25519", false),
        (&TLS13, &[X25519MlKem768, X25519], &[X25519, X25519MlKem768], "x25519", false),
        // No share fits: the chain's first of those that the client lists.
        (&TLS13, &[Secp384r1, Secp256r1], &[X25519, Secp256r1, Secp384r1], "secp384r1", true),
        (&TLS13, &[X25519MlKem768, Secp384r1], &[Secp256r1, Secp384r1], "secp384r1", true),
        (&TLS12, &[Secp256r1, X25519], &[X25519, Secp256r1], "secp256r1", false),
        (&TLS12, &[X25519MlKem768, Secp384r1, X25519], &[X25519, Secp384r1], "secp384r1", false),
        (&TLS12, &[Secp256r1, X25519], &[X25519, Secp384r1], "x25519", false),
    ];
    for (version, ours, theirs, group, hello_retry) in cases {
        let agreed = negotiate(&site.terms(ours), &site.client(theirs, version)).unwrap();
        let found = (agreed.group, agreed.hello_retry);
        assert_eq!(found, (Some(group), hello_retry), "{ours:?} {theirs:?}");
    }
}

#[test]
fn a_client_that_remembers_a_group_is_not_asked_for_the_first_of_its_list() {
    let site = Site::new();
    let config = site.client(&[X25519MlKem768, X25519, Secp384r1], &TLS13);
    let first = negotiate(&site.terms(&[Secp384r1]), &config).unwrap();
    assert!(first.hello_retry);
    // It sends the share alone that was good last time; its list begins as before.
    let all = site.terms(&[X25519MlKem768, X25519, Secp384r1]);
    let second = negotiate(&all, &config).unwrap();
    assert_eq!((second.group, second.hello_retry), (Some("secp384r1"), false));
}

#[test]
fn a_refusal_for_the_groups_names_all_of_the_chain_s() {
    let site = Site::new();
    for version in [&TLS12, &TLS13] {
        let terms = site.terms(&[Secp384r1, Secp256r1]);
        let refusal = negotiate(&terms, &site.client(&[X25519], version)).unwrap_err();
        assert_eq!(refusal.reason, Reason::GroupMismatch);
        assert!(refusal.detail.ends_with("of this chain are secp384r1, secp256r1"), "{refusal}");
    }
}
