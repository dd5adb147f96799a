//! What it costs to choose a filter chain among many names, and what a name weighs.
//!
//! Names are asked for in no order, so that among many a look-up misses the caches as it would
//! live.

use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use portcullis::core::route::{ChainId, Match, Query, Router, Transport};

use crate::Case;

pub fn cases() -> Vec<Case> {
    TENANTS.into_iter().flat_map(among).collect()
}

/// What a name weighs: for people.
pub fn sizes() -> String {
    let mut lines = String::new();
    for tenants in TENANTS {
        let router = router(tenants);
        let names = router.names();
        let bytes = router.bytes() as f64 / names as f64;
        writeln!(lines, "{names} names: {bytes:.1} bytes a name").expect("a text takes text");
    }
    lines
}

fn among(tenants: usize) -> [Case; 3] {
    let router = Arc::new(router(tenants));
    let names = router.names();
    let cases = [
        ("hit", asked(tenants, tenant)),
        ("suffix_hit", asked(tenants, |index| format!("db.eu.{}", tenant(index)))),
        ("miss", asked(tenants, |index| format!("db.{}.org", tenant(index)))),
    ];
    cases.map(|(case, asked)| {
        let router = Arc::clone(&router);
        let mut at = 0;
        Case::new(format!("route/{names}_names/{case}"), move || {
            at = (at + 1) % ASKED;
            router.route(black_box(client(&asked[at])))
        })
    })
}

/// A name and all below it for each tenant, 500 tenants to a chain, and a default chain.
fn router(tenants: usize) -> Router {
    let mut chains = vec![(ChainId(0), Match::default_chain())];
    for (chain, first) in (1..).zip((0..tenants).step_by(500)) {
        let of_chain = first..tenants.min(first + 500);
        let texts = of_chain.flat_map(|index| [tenant(index), format!("*.{}", tenant(index))]);
        let server_names = texts.filter_map(|text| text.parse().ok()).collect();
        chains.push((ChainId(chain), Match { server_names, ..Match::default_chain() }));
    }
    Router::build(&chains).expect("no two chains take one name")
}

fn tenant(index: usize) -> String {
    format!("tenant-{index}.region-{}.example.com", index % 7)
}

/// `ASKED` names of tenants, scattered by a multiplicative hash.
fn asked(tenants: usize, name: impl Fn(usize) -> String) -> Vec<String> {
    (0..ASKED).map(|turn| name(turn * 2_654_435_761 % tenants)).collect()
}

fn client(name: &str) -> Query<'_, '_> {
    Query {
        server_name: Some(name),
        alpn: &[b"h2", b"http/1.1"],
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        transport: Transport::Tls,
    }
}

/// Each has two names.
const TENANTS: [usize; 3] = [1, 500, 50_000];

const ASKED: usize = 8192;
