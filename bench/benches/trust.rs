//! What trust costs: re-authorising a resumption by look-ups, matching rules about names, and asking an
//! authorize filter.
//!
//! The standing is that of a client with leaf and intermediate, from a whole handshake in memory; lists
//! have no entry, a thousand, and a million.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::core::route::ChainId;
use portcullis::core::trust::rule::NameKind;
use portcullis::core::trust::{Authorize, KeyKind, LeafFacts, Matcher, NameRule, Names};
use portcullis::tls::downstream::{ClientFacts, DownstreamTerms, HelloFacts};
use portcullis::tls::handshake::Outcome;
use portcullis::tls::{Material, StekKeys};
use portcullis_kit::{Authority, ClientSpec, ClientTls, Identity, Validity};
use rustls::ClientConnection;

const NAME: &str = "edge.test";
const NOW: fn() -> u64 = || {
    let since = portcullis_kit::wall_now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
};

#[expect(clippy::expect_used, reason = "a fixture that breaks ends the benchmark")]
fn reauthorise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trust/reauthorise");
    for entries in [0_u64, 1_000, 1_000_000] {
        let terms = terms(entries);
        let facts = handshake(&terms.terms, &terms.servers, &terms.alice);
        let standing = facts.standing.expect("the client was verified");
        let trust = terms.terms.trust().expect("clients are asked");
        let now = NOW();
        assert!(trust.holds(&standing, now), "the client is let in");
        group.bench_function(format!("{entries}_revoked"), |bencher| {
            bencher.iter(|| trust.holds(black_box(&standing), black_box(now)));
        });
    }
    group.finish();
}

#[expect(clippy::expect_used, reason = "a fixture that breaks ends the benchmark")]
fn rules(criterion: &mut Criterion) {
    let rule = |kind, text: &str| NameRule::parse(kind, text).expect("a rule");
    let names = Names {
        uris: vec!["spiffe://example.org/ns/orders/sa/api"],
        dns: vec!["api.orders.internal"],
        ..Names::default()
    };
    let mut group = criterion.benchmark_group("trust/rule");
    for (case, rule) in [
        ("uri", rule(NameKind::Uri, "spiffe://example.org/ns/orders/**")),
        ("uri_miss", rule(NameKind::Uri, "spiffe://example.org/ns/*/sa/web")),
        ("dns", rule(NameKind::Dns, "*.orders.internal")),
    ] {
        group.bench_function(case, |bencher| bencher.iter(|| rule.matches(black_box(&names))));
    }
    group.finish();
    let leaf = LeafFacts {
        names,
        key: KeyKind::EcdsaP256,
        fingerprint: [1; 32],
        spki: [2; 32],
        serial: &[0x0a, 0x1b, 0x2c],
    };
    let deny = |at: u8| Matcher::Serial([0x0a, 0x1b, at].into());
    let allow = Matcher::Name(rule(NameKind::Dns, "*.orders.internal"));
    let filter =
        Authorize { allow: vec![allow], deny: (0..32).map(deny).collect(), ..Authorize::default() };
    criterion.bench_function("trust/authorize/1_allow_32_deny", |bencher| {
        bencher.iter(|| filter.decide(black_box(Some(&leaf))));
    });
}

struct Terms {
    terms: Arc<DownstreamTerms>,
    servers: Authority,
    alice: Identity,
}

/// A chain whose trust has lists of so many entries for leaf and intermediate together.
#[expect(clippy::expect_used, reason = "a fixture that breaks ends the benchmark")]
fn terms(entries: u64) -> Terms {
    let (servers, clients) = (Authority::new("Servers"), Authority::new("Clients"));
    let intermediate = clients.intermediate("Intermediate");
    let alice = intermediate.client(&ClientSpec::new("alice"));
    let server = servers.server(&[NAME]);
    let serials: Vec<_> = (0..entries).map(|at| (at + (1 << 40)).to_be_bytes().to_vec()).collect();
    let lists = clients.revocation_list(&[])
        + &intermediate.revocation_list_of(&serials, Validity::Current);
    let lists = clients.write("lists", "crl", &lists);
    let show = |path: &Path| path.display().to_string();
    let text = format!(
        "[listener.edge]\naddress = \"127.0.0.1:0\"\n\
         [listener.edge.chain.default]\ntls = \"edge\"\ncluster = \"app\"\n\
         [tls.downstream.edge]\ncertificates = [{{ chain = \"{}\", key = \"{}\" }}]\ntrust = \"clients\"\n\
         [trust.clients]\nanchors = [\"{}\"]\ncrls = [\"{}\"]\n\
         [cluster.app]\nendpoints = [\"127.0.0.1:1\"]\n",
        show(&server.chain_path),
        show(&server.key_path),
        show(clients.ca_path()),
        show(&lists)
    );
    let plan = portcullis::config::load_text(&text, Path::new("bench.toml")).expect("a plan");
    let tickets = &plan.session_tickets;
    let (rotate, lifetime) = (tickets.rotate, tickets.lifetime.min(Duration::from_secs(3_600)));
    let keys = StekKeys::load(&tickets.source, rotate, lifetime, NOW()).expect("ticket keys");
    let material = Material::load(&plan, &Arc::new(keys), 1, NOW, None).expect("material");
    let terms = Arc::clone(material.downstream(0, ChainId(0)).expect("TLS"));
    Terms { terms, servers, alice }
}

#[expect(clippy::expect_used, reason = "a fixture that breaks ends the benchmark")]
fn handshake(terms: &Arc<DownstreamTerms>, servers: &Authority, alice: &Identity) -> ClientFacts {
    let config = ClientTls::trusting(servers).identity(alice).build();
    let name = NAME.try_into().expect("a name");
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut server = terms.start(HelloFacts { sni: Some(NAME), prefers_chacha20: false });
    let mut held = Vec::new();
    for _ in 0..20 {
        while client.wants_write() {
            client.write_tls(&mut held).expect("memory");
        }
        let mut out = Vec::new();
        let advance = server.advance(&mut held, &mut out);
        held.drain(..advance.consumed);
        let mut input = &out[..];
        while !input.is_empty() {
            client.read_tls(&mut input).expect("memory");
            client.process_new_packets().expect("a good server");
        }
        if matches!(advance.outcome, Outcome::Done) {
            return server.finish().expect("done").1;
        }
    }
    unreachable!("the handshake does not end");
}

criterion_group!(benches, reauthorise, rules);
criterion_main!(benches);
