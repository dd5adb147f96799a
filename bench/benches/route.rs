//! What it costs to choose a filter chain among many names, and what a name weighs.
//!
//! Names are asked for in no order, so that among many a look-up misses the caches as it would
//! live.

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::core::route::{ChainId, Conflict, Match, Query, Router, Transport};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

#[expect(clippy::print_stderr, reason = "criterion has no place for sizes")]
fn route(criterion: &mut Criterion) {
    for tenants in [1, 500, 50_000] {
        let router = match router(tenants) {
            Ok(router) => router,
            Err(conflict) => unreachable!("{conflict}"),
        };
        let names = router.names();
        eprintln!("{names} names: {:.1} bytes a name", router.bytes() as f64 / names as f64);
        let mut group = criterion.benchmark_group(format!("route/{names}_names"));
        for (case, asked) in [
            ("hit", asked(tenants, tenant)),
            ("suffix_hit", asked(tenants, |index| format!("db.eu.{}", tenant(index)))),
            ("miss", asked(tenants, |index| format!("db.{}.org", tenant(index)))),
        ] {
            let mut at = 0;
            group.bench_function(case, |bencher| {
                bencher.iter(|| {
                    at = (at + 1) % ASKED;
                    router.route(black_box(client(&asked[at])))
                });
            });
        }
        group.finish();
    }
}

/// A name and all below it for each tenant, 500 tenants to a chain, and a default chain.
fn router(tenants: usize) -> Result<Router, Conflict> {
    let mut chains = vec![(ChainId(0), Match::default_chain())];
    for (chain, first) in (1..).zip((0..tenants).step_by(500)) {
        let of_chain = first..tenants.min(first + 500);
        let texts = of_chain.flat_map(|index| [tenant(index), format!("*.{}", tenant(index))]);
        let server_names = texts.filter_map(|text| text.parse().ok()).collect();
        chains.push((ChainId(chain), Match { server_names, ..Match::default_chain() }));
    }
    Router::build(&chains)
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

const ASKED: usize = 8192;

criterion_group!(benches, route);
criterion_main!(benches);
