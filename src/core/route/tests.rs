//! Routing against a model that scans every chain, and the promises of precedence one by one.

use super::*;
use proptest::prelude::*;

struct Client<'a> {
    name: Option<&'a str>,
    alpn: &'a [&'a [u8]],
    source: &'a str,
    transport: Transport,
}

const CLIENT: Client<'static> =
    Client { name: None, alpn: &[], source: "192.0.2.1", transport: Transport::Tls };

fn matches(names: &[&str], alpn: &[&str], sources: &[&str]) -> Match {
    Match {
        server_names: names.iter().map(|name| name.parse().unwrap()).collect(),
        alpn: alpn.iter().map(|protocol| Arc::from(*protocol)).collect(),
        sources: sources.iter().map(|source| source.parse().unwrap()).collect(),
        transport: Transport::Tls,
    }
}

fn raw(sources: &[&str]) -> Match {
    Match { transport: Transport::Raw, ..matches(&[], &[], sources) }
}

fn numbered(chains: impl IntoIterator<Item = Match>) -> Vec<(ChainId, Match)> {
    (0..).map(ChainId).zip(chains).collect()
}

fn router(chains: impl IntoIterator<Item = Match>) -> Router {
    Router::build(&numbered(chains)).unwrap()
}

fn conflict(chains: impl IntoIterator<Item = Match>) -> String {
    Router::build(&numbered(chains)).unwrap_err().to_string()
}

fn route(router: &Router, client: &Client<'_>) -> Option<u16> {
    let chosen = router.route(Query {
        server_name: client.name,
        alpn: client.alpn,
        source: client.source.parse().unwrap(),
        transport: client.transport,
    });
    chosen.map(|chain| chain.0)
}

fn route_name(router: &Router, name: &str) -> Option<u16> {
    route(router, &Client { name: Some(name), ..CLIENT })
}

#[test]
fn exact_goes_before_the_longest_suffix_before_the_default() {
    let router = router([
        Match::default_chain(),
        matches(&["*.example.com"], &[], &[]),
        matches(&["*.b.example.com"], &[], &[]),
        matches(&["a.b.example.com", "example.com"], &[], &[]),
    ]);
    for (name, chain) in [
        ("a.b.example.com", 3),
        ("c.b.example.com", 2),
        ("x.a.b.example.com", 2),
        ("b.example.com", 1),
        ("x.y.z.example.com", 1),
        ("example.com", 3),
        ("notexample.com", 0),
        ("com", 0),
    ] {
        assert_eq!(route_name(&router, name), Some(chain), "{name}");
    }
    assert_eq!(route(&router, &CLIENT), Some(0));
    assert_eq!(router.names(), 4);
}

#[test]
fn a_name_whose_source_does_not_fit_never_falls_through() {
    let router = router([
        Match::default_chain(),
        matches(&["*.example.com"], &[], &[]),
        matches(&["orders.example.com"], &[], &["10.0.0.0/8"]),
        matches(&["*.strict.example.com"], &["h2"], &[]),
    ]);
    assert_eq!(route_name(&router, "orders.example.com"), None);
    let inside = Client { name: Some("orders.example.com"), source: "10.1.1.1", ..CLIENT };
    assert_eq!(route(&router, &inside), Some(2));
    assert_eq!(route_name(&router, "a.strict.example.com"), None, "its suffix asks for h2");
    let h2 = Client { name: Some("a.strict.example.com"), alpn: &[b"h2"], ..CLIENT };
    assert_eq!(route(&router, &h2), Some(3));
    assert_eq!(route_name(&router, "x.orders.example.com"), Some(1));
}

#[test]
fn without_sni_only_chains_without_names_are_reached() {
    let named = router([matches(&["a.example.com", "*.example.com"], &[], &[])]);
    assert_eq!(route(&named, &CLIENT), None);
    let mixed =
        router([matches(&["a.example.com"], &[], &[]), matches(&[], &[], &["192.0.2.0/24"])]);
    assert_eq!(route(&mixed, &CLIENT), Some(1));
    assert_eq!(route(&mixed, &Client { source: "198.51.100.1", ..CLIENT }), None);
    assert_eq!(route_name(&mixed, "other.example.com"), Some(1));
}

#[test]
fn alpn_is_chosen_in_the_clients_order_and_binds() {
    let router = router([
        matches(&["a.example.com"], &["h2"], &["10.0.0.0/8"]),
        matches(&["a.example.com"], &["mqtt", "kafka"], &[]),
        matches(&["a.example.com"], &[], &[]),
    ]);
    for (alpn, source, chain) in [
        (&[b"mqtt" as &[u8], b"h2"] as &[&[u8]], "10.0.0.1", Some(1)),
        (&[b"h2", b"mqtt"], "10.0.0.1", Some(0)),
        (&[b"h2", b"mqtt"], "192.0.2.1", None),
        (&[b"h3", b"kafka"], "192.0.2.1", Some(1)),
        (&[b"h3"], "192.0.2.1", Some(2)),
        (&[b"H2"], "192.0.2.1", Some(2)),
        (&[], "192.0.2.1", Some(2)),
    ] {
        let client = Client { name: Some("a.example.com"), alpn, source, ..CLIENT };
        assert_eq!(route(&router, &client), chain, "{alpn:?} from {source}");
    }
}

#[test]
fn the_longest_source_wins_and_mapped_addresses_are_ipv4() {
    let router = router([
        matches(&[], &[], &["10.0.0.0/8", "2001:db8::/32"]),
        matches(&[], &[], &["10.1.0.0/16"]),
        matches(&[], &[], &["::/0"]),
        Match::default_chain(),
    ]);
    for (source, chain) in [
        ("10.1.2.3", 1),
        ("::ffff:10.1.2.3", 1),
        ("10.2.0.0", 0),
        ("2001:db8::1", 0),
        ("2001:db9::1", 2),
        ("192.0.2.1", 3),
        ("::ffff:192.0.2.1", 3),
    ] {
        assert_eq!(route(&router, &Client { source, ..CLIENT }), Some(chain), "{source}");
    }
}

#[test]
fn raw_and_tls_never_meet() {
    let client = Client { transport: Transport::Raw, ..CLIENT };
    let tls_only = router([Match::default_chain()]);
    assert_eq!(route(&tls_only, &client), None);
    let raw_only = router([raw(&["192.0.2.0/24"])]);
    assert_eq!(route(&raw_only, &CLIENT), None);
    assert_eq!(route(&raw_only, &client), Some(0));
    let both = router([Match::default_chain(), raw(&[]), raw(&["10.0.0.0/8"])]);
    assert_eq!(route(&both, &client), Some(1));
    assert_eq!(route(&both, &Client { source: "10.0.0.1", ..client }), Some(2));
    assert_eq!(route(&both, &CLIENT), Some(0));
}

#[test]
fn chains_that_match_the_same_client_are_refused_and_named() {
    let (name, suffix) = (["a.example.com"].as_slice(), ["*.example.com"].as_slice());
    for (chains, said) in [
        (
            [matches(name, &[], &[]), matches(&["b.example.com", "A.example.com"], &[], &[])],
            "chains 0 and 1 both match server name \"a.example.com\"",
        ),
        (
            [matches(suffix, &["h2", "h3"], &[]), matches(suffix, &["h3"], &[])],
            "chains 0 and 1 both match server name \"*.example.com\" with ALPN \"h3\"",
        ),
        (
            [matches(name, &[], &["10.0.0.1", "10.0.0.0/8"]), matches(name, &[], &["10.0.0.0/8"])],
            "chains 0 and 1 both match server name \"a.example.com\" from 10.0.0.0/8",
        ),
        (
            [Match::default_chain(), Match::default_chain()],
            "chains 0 and 1 both match clients that no server name took",
        ),
        ([raw(&[]), raw(&[])], "chains 0 and 1 both match raw connections"),
        (
            [
                Match::default_chain(),
                Match { transport: Transport::Raw, ..matches(name, &[], &[]) },
            ],
            "chain 1 is for raw connections, which have no server_names",
        ),
        (
            [Match { transport: Transport::Raw, ..matches(&[], &["h2"], &[]) }, raw(&[])],
            "chain 0 is for raw connections, which have no alpn",
        ),
    ] {
        assert_eq!(conflict(chains), said);
    }
}

#[test]
fn a_criterion_listed_twice_in_one_chain_counts_once() {
    let twice =
        matches(&["a.example.com", "a.example.com"], &["h2", "h2"], &["10.0.0.1", "10.0.0.1/32"]);
    assert_eq!(router([twice]).names(), 1);
}

#[test]
fn an_empty_listener_and_a_default_chain_are_what_they_say() {
    assert_eq!(route(&router([]), &CLIENT), None);
    assert!(Match::default_chain().is_default());
    assert!(!raw(&[]).is_default());
    assert!(!matches(&[], &["h2"], &[]).is_default());
}

#[test]
fn many_names_of_one_chain_share_what_they_point_to() {
    let chain = |tenant: u32| {
        let names = (0..500).map(move |i| format!("n{i}.t{tenant}.example.com").parse().unwrap());
        Match { server_names: names.collect(), ..matches(&[], &["h2"], &["10.0.0.0/8"]) }
    };
    let router = router((0..20).map(chain));
    assert_eq!(router.names(), 10_000);
    assert_eq!(router.named.len(), 20);
    assert!(router.bytes() / router.names() < 50, "{} bytes", router.bytes());
}

/// The rules of `mod.rs`, said once more without tables: narrow the chains step by step.
fn model(chains: &[(ChainId, Match)], query: &Query<'_, '_>) -> Option<ChainId> {
    let mut left: Vec<_> = chains.iter().filter(|(_, m)| m.transport == query.transport).collect();
    let closeness = |m: &Match| {
        let name = query.server_name.unwrap_or_default();
        let of = |p: &NamePattern| match p {
            NamePattern::Exact(_) if p.matches(name) => Some(usize::MAX),
            NamePattern::Below(suffix) if p.matches(name) => Some(1 + suffix.as_str().len()),
            NamePattern::Exact(_) | NamePattern::Below(_) => None,
        };
        let unnamed = m.server_names.is_empty().then_some(0);
        unnamed.or_else(|| m.server_names.iter().filter_map(of).max())
    };
    let closest = left.iter().filter_map(|(_, m)| closeness(m)).max()?;
    left.retain(|(_, m)| closeness(m) == Some(closest));

    let lists = |m: &Match, wanted: &[u8]| m.alpn.iter().any(|p| p.as_bytes() == wanted);
    match query.alpn.iter().find(|wanted| left.iter().any(|(_, m)| lists(m, wanted))) {
        Some(wanted) => left.retain(|(_, m)| lists(m, wanted)),
        None => left.retain(|(_, m)| m.alpn.is_empty()),
    }

    let length = |m: &Match| {
        let of = |p: &Prefix| p.contains(query.source).then(|| 1 + usize::from(p.length()));
        let anywhere = m.sources.is_empty().then_some(0);
        anywhere.or_else(|| m.sources.iter().filter_map(of).max())
    };
    left.iter().filter_map(|(chain, m)| Some((length(m)?, *chain))).max().map(|(_, chain)| chain)
}

const NAMES: &[&str] =
    &["a.b.c", "b.c", "*.c", "*.b.c", "*.a.b.c", "x.c", "c", "*.x.c", "z.a.b.c", "aa.b.c"];
const ASKED: &[&str] = &["a.b.c", "b.c", "c", "x.c", "q.x.c", "z.a.b.c", "y.z.a.b.c", "d", "ab.c"];
const PROTOCOLS: &[&str] = &["h2", "mqtt", "kafka"];
const SOURCES: &[&str] =
    &["10.0.0.0/8", "10.1.0.0/16", "10.1.1.1", "0.0.0.0/0", "::/0", "2001:db8::/32", "::1"];
const FROM: &[&str] = &["10.1.1.1", "10.1.9.9", "10.9.9.9", "9.9.9.9", "::1", "2001:db8::7"];

fn some_of(all: &'static [&'static str], max: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![Just(Vec::new()), prop::sample::subsequence(all, 0..=max)]
}

fn any_match() -> impl Strategy<Value = Match> {
    let lists = (some_of(NAMES, 3), some_of(PROTOCOLS, 2), some_of(SOURCES, 3), 0..8u8);
    lists.prop_map(|(names, alpn, sources, transport)| match transport {
        0 => raw(&sources),
        _ => matches(&names, &alpn, &sources),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_router_agrees_with_a_scan_of_all_chains(
        candidates in prop::collection::vec(any_match(), 0..12),
        names in prop::collection::vec(prop::option::of(prop::sample::select(ASKED)), 1..8),
        alpn in prop::sample::subsequence(PROTOCOLS, 0..=3).prop_shuffle(),
        transport in prop::sample::select(&[Transport::Tls, Transport::Raw][..]),
    ) {
        // Chains that conflict with the ones before are left out, so that every case is a listener.
        let mut chains = Vec::new();
        for (index, candidate) in (0..).zip(candidates) {
            chains.push((ChainId(index), candidate));
            if Router::build(&chains).is_err() {
                chains.pop();
            }
        }
        let router = Router::build(&chains).unwrap();
        let alpn: Vec<&[u8]> = alpn.iter().map(|protocol| protocol.as_bytes()).collect();
        for name in names {
            for source in FROM {
                let source = source.parse().unwrap();
                let query = Query { server_name: name, alpn: &alpn, source, transport };
                prop_assert_eq!(router.route(query), model(&chains, &query), "{:?}", query);
            }
        }
    }
}
