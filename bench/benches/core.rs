//! Times every case with criterion, for people. `-- NAME` chooses those with NAME in theirs.

use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use portcullis::sys::clock;
use portcullis_bench::{Case, balance, cases, route};

#[expect(clippy::print_stderr, reason = "criterion has no place for sizes and shares")]
fn all(criterion: &mut Criterion) {
    eprint!("{}{}", route::sizes(), balance::shares());
    for mut case in cases() {
        let name = case.name().to_owned();
        let (group, name) = name.split_once('/').unwrap_or(("", &name));
        let mut group = criterion.benchmark_group(group);
        if let Some(bytes) = case.moves() {
            group.throughput(Throughput::Bytes(bytes));
        }
        group.bench_function(name, |bencher| time(bencher, &mut case));
        group.finish();
    }
}

fn time(bencher: &mut Bencher<'_>, case: &mut Case) {
    if !case.is_prepared() {
        bencher.iter(|| case.turn());
        return;
    }
    bencher.iter_custom(|turns| {
        let mut taken = Duration::ZERO;
        for _ in 0..turns {
            case.prepare();
            let begun: Instant = clock::now();
            case.turn();
            taken += clock::now() - begun;
        }
        taken
    });
}

criterion_group!(benches, all);
criterion_main!(benches);
