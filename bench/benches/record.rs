//! Nanoseconds a record, and bytes a second, of opening, sealing, and both in one pass.
//!
//! 16 KiB is bulk, 1,400 bytes is one segment, 64 bytes is one small message.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up must not run")]

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use portcullis::core::record::{
    Aead, ContentType, HEADER, OVERHEAD, OpenLimits, Opener, RECORD_MAX, Role, Sealer, TrafficKeys,
    transfer_plain_to_tls, transfer_tls_to_plain, transfer_tls_to_tls,
};

const LENGTHS: [usize; 3] = [16_384, 1_400, 64];

/// What one receive brings at most.
const SCRATCH: usize = 256 * 1024;

fn keys(aead: Aead, seed: u8) -> TrafficKeys {
    let key = vec![seed; aead.key_length()];
    TrafficKeys::new(aead, &key, &[seed; 12]).expect("the key has its length")
}

fn opener(aead: Aead) -> Opener {
    Opener::new(keys(aead, 1), 0, Role::Server, OpenLimits::default())
}

/// As many records of `length` bytes as one receive brings.
fn stream(aead: Aead, length: usize) -> (Vec<u8>, u64) {
    let mut sealer = Sealer::new(keys(aead, 1), 0);
    let records = SCRATCH / (length + OVERHEAD);
    let mut stream = vec![0; records * (length + OVERHEAD)];
    for record in stream.chunks_exact_mut(length + OVERHEAD) {
        sealer.seal(record, ContentType::ApplicationData).expect("a fresh key seals");
    }
    (stream, (records * length) as u64)
}

#[expect(clippy::disallowed_methods, reason = "the caps need some instant to count from")]
fn now() -> Instant {
    Instant::now()
}

fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal");
    for length in LENGTHS {
        group.throughput(Throughput::Bytes(length as u64));
        let mut record = vec![7; length + OVERHEAD];
        let mut sealer = Sealer::new(keys(Aead::Chacha20Poly1305, 1), 0);
        group.bench_function(BenchmarkId::new("chacha20", length), |b| {
            b.iter(|| sealer.seal(black_box(&mut record), ContentType::ApplicationData));
        });
        for aead in [Aead::Aes128Gcm, Aead::Aes256Gcm] {
            let mut sealer = Sealer::new(keys(aead, 1), 0);
            group.bench_function(BenchmarkId::new(format!("{aead:?}"), length), |b| {
                b.iter(|| {
                    if sealer.wants_key_update() {
                        sealer.rekey(keys(aead, 1));
                    }
                    sealer.seal(black_box(&mut record), ContentType::ApplicationData)
                });
            });
        }
        let plain = record[HEADER..HEADER + length].to_vec();
        let mut sealer = Sealer::new(keys(Aead::Aes128Gcm, 1), 0);
        group.bench_function(BenchmarkId::new("from/Aes128Gcm", length), |b| {
            b.iter(|| {
                if sealer.wants_key_update() {
                    sealer.rekey(keys(Aead::Aes128Gcm, 1));
                }
                sealer.seal_from(black_box(&plain), &mut record)
            });
        });
    }
    group.finish();
}

fn pump(c: &mut Criterion) {
    for aead in [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::Chacha20Poly1305] {
        let mut group = c.benchmark_group(format!("pump/{aead:?}"));
        for length in LENGTHS {
            let (sealed, bytes) = stream(aead, length);
            let mut out = vec![0; sealed.len() + RECORD_MAX];
            let now = now();
            group.throughput(Throughput::Bytes(bytes));
            group.bench_function(BenchmarkId::new("tls_to_plain", length), |b| {
                b.iter_batched_ref(
                    || opener(aead),
                    |opener| transfer_tls_to_plain(opener, black_box(&sealed), &mut out, now),
                    BatchSize::SmallInput,
                );
            });
            group.bench_function(BenchmarkId::new("tls_to_tls", length), |b| {
                b.iter_batched_ref(
                    || (opener(aead), Sealer::new(keys(aead, 2), 0)),
                    |(opener, sealer)| {
                        transfer_tls_to_tls(opener, sealer, black_box(&sealed), &mut out, now)
                    },
                    BatchSize::SmallInput,
                );
            });
        }
        let plain = vec![7; SCRATCH];
        let mut out = vec![0; SCRATCH + 64 * OVERHEAD];
        group.throughput(Throughput::Bytes(SCRATCH as u64));
        group.bench_function("plain_to_tls", |b| {
            b.iter_batched_ref(
                || Sealer::new(keys(aead, 2), 0),
                |sealer| transfer_plain_to_tls(sealer, black_box(&plain), &mut out),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, seal, pump);
criterion_main!(benches);
