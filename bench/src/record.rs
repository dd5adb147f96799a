//! Opening records, sealing them, and both in one pass.
//!
//! 16 KiB is bulk, 1,400 bytes is one segment, 64 bytes is one small message.

use std::hint::black_box;
use std::time::Instant;

use portcullis::core::record::{
    Aead, ContentType, HEADER, OVERHEAD, OpenLimits, Opener, RECORD_MAX, Role, Sealer, TrafficKeys,
    transfer_plain_to_tls, transfer_tls_to_plain, transfer_tls_to_tls,
};

use crate::Case;

const LENGTHS: [usize; 3] = [16_384, 1_400, 64];

/// What one receive brings at most.
const SCRATCH: usize = 256 * 1024;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in LENGTHS {
        for aead in AEADS {
            cases.push(told_by(aead, seal(aead, length)));
        }
        cases.push(seal_from(length));
    }
    for aead in AEADS {
        for length in LENGTHS {
            cases.extend(pump(aead, length).map(|case| told_by(aead, case)));
        }
        cases.push(told_by(aead, plain_to_tls(aead)));
    }
    cases
}

/// What is ours is the same whatever the cipher is.
fn told_by(aead: Aead, case: Case) -> Case {
    if matches!(aead, Aead::Aes128Gcm) { case } else { case.timed_only() }
}

fn keys(aead: Aead, seed: u8) -> TrafficKeys {
    let key = vec![seed; aead.key_length()];
    TrafficKeys::new(aead, &key, &[seed; 12]).expect("the key has its length")
}

fn opener(aead: Aead) -> Opener {
    Opener::new(keys(aead, 1), 0, Role::Server, OpenLimits::default())
}

fn sealer(aead: Aead) -> Sealer {
    Sealer::new(keys(aead, 2), 0)
}

/// As many records of `length` bytes as one receive brings.
fn stream(aead: Aead, length: usize) -> (Vec<u8>, usize) {
    let mut sealer = Sealer::new(keys(aead, 1), 0);
    let records = SCRATCH / (length + OVERHEAD);
    let mut stream = vec![0; records * (length + OVERHEAD)];
    for record in stream.chunks_exact_mut(length + OVERHEAD) {
        sealer.seal(record, ContentType::ApplicationData).expect("a fresh key seals");
    }
    (stream, records * length)
}

fn seal(aead: Aead, length: usize) -> Case {
    let mut record = vec![7; length + OVERHEAD];
    let mut sealer = sealer(aead);
    let seal = move || {
        if sealer.wants_key_update() {
            sealer.rekey(keys(aead, 2));
        }
        sealer.seal(black_box(&mut record), ContentType::ApplicationData)
    };
    Case::new(format!("seal/{aead:?}/{length}"), seal).bytes(length)
}

fn seal_from(length: usize) -> Case {
    let aead = Aead::Aes128Gcm;
    let mut record = vec![7; length + OVERHEAD];
    let plain = record[HEADER..HEADER + length].to_vec();
    let mut sealer = sealer(aead);
    let seal = move || {
        if sealer.wants_key_update() {
            sealer.rekey(keys(aead, 2));
        }
        sealer.seal_from(black_box(&plain), &mut record)
    };
    Case::new(format!("seal/from/{aead:?}/{length}"), seal).bytes(length)
}

fn pump(aead: Aead, length: usize) -> [Case; 2] {
    let (sealed, bytes) = stream(aead, length);
    let mut out = vec![0; sealed.len() + RECORD_MAX];
    let now = now();
    let name = |to| format!("pump/{aead:?}/tls_to_{to}/{length}");
    let (again, mut again_out) = (sealed.clone(), out.clone());
    let to_plain = Case::prepared(
        name("plain"),
        move || opener(aead),
        move |opener| transfer_tls_to_plain(opener, black_box(&sealed), &mut out, now),
    );
    let to_tls = Case::prepared(
        name("tls"),
        move || (opener(aead), sealer(aead)),
        move |(opener, sealer)| {
            transfer_tls_to_tls(opener, sealer, black_box(&again), &mut again_out, now)
        },
    );
    [to_plain.bytes(bytes), to_tls.bytes(bytes)]
}

fn plain_to_tls(aead: Aead) -> Case {
    let plain = vec![7; SCRATCH];
    let mut out = vec![0; SCRATCH + 64 * OVERHEAD];
    Case::prepared(
        format!("pump/{aead:?}/plain_to_tls"),
        move || sealer(aead),
        move |sealer| transfer_plain_to_tls(sealer, black_box(&plain), &mut out),
    )
    .bytes(SCRATCH)
}

fn now() -> Instant {
    portcullis::sys::clock::now()
}

const AEADS: [Aead; 3] = [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::Chacha20Poly1305];
