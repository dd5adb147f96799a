//! What it costs to choose an endpoint, and how many keys Maglev's table moves when endpoints change.

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::core::balance::{Candidate, LeastConnections, RoundRobin, at_random};
use portcullis::core::maglev::{Maglev, Place, hash};
use std::hint::black_box;

fn choose(criterion: &mut Criterion) {
    for count in [4, 16, 256] {
        let endpoint = |at: u32| Candidate { weight: 1 + at % 3, active: at * 7 % 32 };
        let endpoints: Vec<_> = (0..count).map(endpoint).collect();
        let mut group = criterion.benchmark_group(format!("balance/{count}_endpoints"));
        let (mut robin, mut least) = (RoundRobin::new(0), LeastConnections::new(0));
        let mut random = 1u64;
        let mut next = move || {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            hash(&random.to_be_bytes())
        };
        group.bench_function("round_robin", |bencher| {
            bencher.iter(|| robin.choose(black_box(&endpoints)));
        });
        group.bench_function("least_connections", |bencher| {
            bencher.iter(|| least.choose(black_box(&endpoints), next()));
        });
        group.bench_function("random", |bencher| {
            bencher.iter(|| at_random(black_box(&endpoints), next()));
        });
        let table = table(&places(count as usize));
        group.bench_function("maglev", |bencher| {
            bencher.iter(|| table.choose(next(), |_| true));
        });
        group.finish();
    }
}

#[expect(clippy::print_stderr, reason = "criterion has no place for shares")]
fn maglev(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("maglev");
    group.sample_size(10);
    for count in [4, 20, 100, 1_000] {
        let all = places(count);
        let less: Vec<_> = all.iter().copied().skip(1).collect();
        let (before, after) = (table(&all), table(&less));
        let moved = before.moved(&after, |at| all[at].id, |at| less[at].id);
        let shares = before.shares();
        let most = shares.iter().fold(0.0f64, |most, share| most.max(*share));
        eprintln!(
            "{count} endpoints: one that goes moves {:.2} % of the keys, of which {:.2} % had to; \
             the largest share is {:.3} of the mean",
            moved * 100.0,
            shares[0] * 100.0,
            most * count as f64
        );
        group.bench_function(format!("build/{count}_endpoints"), |bencher| {
            bencher.iter(|| Maglev::build(black_box(&all)));
        });
    }
    group.finish();
}

fn places(count: usize) -> Vec<Place> {
    let place = |at: usize| {
        let address = format!("10.0.{}.{}:6432", at / 256, at % 256);
        Place { id: hash(address.as_bytes()), weight: 1 }
    };
    (0..count).map(place).collect()
}

fn table(places: &[Place]) -> Maglev {
    Maglev::build(places).unwrap_or_else(|| unreachable!("there are endpoints"))
}

criterion_group!(benches, choose, maglev);
criterion_main!(benches);
