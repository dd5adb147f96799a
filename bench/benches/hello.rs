//! The peek at three hellos: a classic one, a post-quantum one, and that one split over records.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use portcullis::core::client_hello::{HelloBuffer, Peek, peek};
use portcullis::core::server_name::{ServerName, normalise_into};
use std::hint::black_box;

const CLASSIC: &[u8] = include_bytes!("../../tests/hellos/go.bin");
const POST_QUANTUM: &[u8] = include_bytes!("../../tests/hellos/chromium.bin");

fn hello(criterion: &mut Criterion) {
    let split = records(POST_QUANTUM, 256);
    let mut joined = HelloBuffer::new();
    let mut group = criterion.benchmark_group("hello");
    for (name, wire) in
        [("classic", CLASSIC), ("post_quantum", POST_QUANTUM), ("post_quantum_split", &split)]
    {
        assert!(matches!(peek(wire, &mut joined), Peek::Hello(_)), "{name}");
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| match peek(black_box(wire), &mut joined) {
                Peek::Hello(hello) => hello.server_name().map(str::len),
                Peek::NeedMore { .. } | Peek::Reject(_) => None,
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    for (name, input) in [("unfinished", &CLASSIC[..100]), ("not_tls", b"GET / HTTP/1.1\r\n")] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| matches!(peek(black_box(input), &mut joined), Peek::Hello(_)));
        });
    }
    group.finish();
}

fn server_name(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("server_name");
    let name = b"Tenant-4711.Region-Eu.Orders.Example.Com";
    group.bench_function("normalise", |bencher| {
        let mut out = [0; 255];
        bencher.iter(|| normalise_into(black_box(name), &mut out).map(str::len));
    });
    group.bench_function("parse", |bencher| bencher.iter(|| ServerName::parse(black_box(name))));
    group.finish();
}

/// The message of a hello that came in one record, cut into records of `size` bytes.
fn records(wire: &[u8], size: u16) -> Vec<u8> {
    let message = &wire[5..];
    let parts = message.chunks(usize::from(size));
    let header = |part: &[u8]| {
        let [high, low] = u16::try_from(part.len()).unwrap_or(size).to_be_bytes();
        [22, 3, 1, high, low]
    };
    parts.flat_map(|part| [&header(part)[..], part].concat()).collect()
}

criterion_group!(benches, hello, server_name);
criterion_main!(benches);
