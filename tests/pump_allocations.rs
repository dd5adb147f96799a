//! A worker allocates nothing per record: counted, not believed.
//!
//! The counter is per thread, so that the test harness' own threads do not disturb it.

#![expect(clippy::unwrap_used, reason = "these helpers are tests")]
#![expect(unsafe_code, reason = "a counting allocator must implement GlobalAlloc")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use portcullis::core::record::{
    Aead, Done, Event, KeyUpdateRequest, OVERHEAD, OpenLimits, Opened, Opener, RECORD_MAX, Role,
    Sealer, TrafficKeys, sealed_length, transfer_plain_to_tls, transfer_plain_to_tls_within,
    transfer_tls_to_plain, transfer_tls_to_plain_within, transfer_tls_to_tls,
};

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counter beside it is a `Cell` in
// a thread-local without destructor, which itself allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

const RECORDS: usize = 1_000;
const LENGTHS: [usize; 3] = [16_384, 1_400, 64];
const AEADS: [Aead; 3] = [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::Chacha20Poly1305];

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn keys(aead: Aead, seed: u8) -> TrafficKeys {
    TrafficKeys::new(aead, &vec![seed; aead.key_length()], &[seed; 12]).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests need some instant to count from")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
}

#[test]
fn opening_and_sealing_allocate_nothing() {
    for (aead, length) in AEADS.into_iter().flat_map(|aead| LENGTHS.map(|length| (aead, length))) {
        let mut sealer = Sealer::new(keys(aead, 1), 0);
        let mut opener = Opener::new(keys(aead, 1), 0, Role::Server, OpenLimits::default());
        let (plain, mut record) = (vec![7; length], vec![0; length + OVERHEAD]);
        let (mut out, now) = (vec![0; RECORD_MAX], now());
        let mut records = |count| {
            for _ in 0..count {
                sealer.seal_from(&plain, &mut record).unwrap();
                let opened = opener.open(&record, &mut out, now).unwrap();
                assert_eq!(opened, Opened::Data { consumed: record.len(), len: length });
            }
        };
        // The first one expands the keys, which may take memory: once for each.
        records(1);
        let count = allocations(|| records(RECORDS));
        assert_eq!(count, 0, "{aead:?}, {length} bytes");
    }
}

#[test]
fn the_pump_allocates_nothing() {
    for (aead, length) in AEADS.into_iter().flat_map(|aead| LENGTHS.map(|length| (aead, length))) {
        let mut client = Sealer::new(keys(aead, 1), 0);
        let mut server = Opener::new(keys(aead, 1), 0, Role::Server, OpenLimits::default());
        let mut onward = Sealer::new(keys(aead, 2), 0);
        let mut upstream = Opener::new(keys(aead, 2), 0, Role::Server, OpenLimits::default());
        let plain = vec![7; length * 10];
        let mut buffers = [(); 3].map(|()| vec![0; sealed_length(plain.len()) + 10 * OVERHEAD]);
        let [sealed, moved, opened] = &mut buffers;
        let now = now();
        let mut passes = |count| {
            for _ in 0..count {
                let first = transfer_plain_to_tls(&mut client, &plain, sealed).produced;
                let sealed = &sealed[..first];
                let second = transfer_tls_to_tls(&mut server, &mut onward, sealed, moved, now);
                let moved = &moved[..second.produced];
                let third = transfer_tls_to_plain(&mut upstream, moved, opened, now);
                assert_eq!(third.produced, plain.len());
            }
        };
        passes(1);
        let count = allocations(|| passes(RECORDS / 10));
        assert_eq!(count, 0, "{aead:?}, {length} bytes");
    }
}

#[test]
fn within_one_buffer_the_pump_allocates_nothing() {
    for (aead, length) in AEADS.into_iter().flat_map(|aead| LENGTHS.map(|length| (aead, length))) {
        let mut opener = Opener::new(keys(aead, 1), 0, Role::Server, OpenLimits::default());
        let (mut sealer, now) = (Sealer::new(keys(aead, 1), 0), now());
        let plain = vec![7; length * 10];
        let mut buffer = vec![0; sealed_length(plain.len())];
        let lead = buffer.len() - plain.len();
        let mut passes = |count| {
            for _ in 0..count {
                buffer[lead..].copy_from_slice(&plain);
                let mut done = Done { consumed: lead, produced: 0 };
                transfer_plain_to_tls_within(&mut sealer, &mut buffer, &mut done);
                assert_eq!((done.consumed, done.produced), (buffer.len(), buffer.len()));
                if !opener.opens_in_place() {
                    continue;
                }
                let (end, mut done) = (done.produced, Done::default());
                transfer_tls_to_plain_within(&mut opener, &mut buffer[..end], &mut done, now);
                assert_eq!((done.consumed, done.produced), (end, plain.len()));
            }
        };
        passes(1);
        let count = allocations(|| passes(RECORDS / 10));
        assert_eq!(count, 0, "{aead:?}, {length} bytes");
    }
}

#[test]
fn a_whole_key_update_and_a_close_allocate_for_new_keys_alone() {
    let mut sealer = Sealer::new(keys(Aead::Aes128Gcm, 1), 0);
    let mut opener = Opener::new(keys(Aead::Aes128Gcm, 1), 0, Role::Server, OpenLimits::default());
    let (mut record, mut out, now) = ([0; 64], [0; 64], now());
    let (next, same) = (keys(Aead::Aes128Gcm, 2), keys(Aead::Aes128Gcm, 2));
    let length = sealer.seal_from(b"data", &mut record).unwrap();
    opener.open(&record[..length], &mut out, now).unwrap();
    let count = allocations(|| {
        let request = KeyUpdateRequest::Requested;
        let length = sealer.seal_key_update(request, &mut record).unwrap();
        let opened = opener.open(&record[..length], &mut out, now).unwrap();
        let event = Event::KeyUpdate { request };
        assert_eq!(opened, Opened::Event { consumed: length, event });
        sealer.rekey(next);
        opener.rekey(same);
        let length = sealer.seal_close_notify(&mut record).unwrap();
        let opened = opener.open(&record[..length], &mut out, now).unwrap();
        assert_eq!(opened, Opened::Event { consumed: length, event: Event::CloseNotify });
    });
    // Two keys are expanded, once each. AWS-LC takes the memory for that in C, where it is not counted.
    assert_eq!(count, if opener.opens_in_place() { 2 } else { 0 });
}
