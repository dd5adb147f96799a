//! Any bytes: the peek must agree with rustls' `Acceptor`, and its answer must not depend on records.
//!
//! The rule is in `tests/hello_differential/compare.rs`. Seeds are in `seeds/hello`.

#![no_main]

#[path = "../../tests/hello_differential/compare.rs"]
mod compare;

use compare::{Agreed, compare};
use libfuzzer_sys::fuzz_target;

// The first byte chooses the record size; with 0 the rest is taken as it is on the wire, otherwise
// as one handshake message to be cut into records, so that the fuzzer need not learn to cut.
fuzz_target!(|data: &[u8]| {
    let Some((&size, rest)) = data.split_first() else { return };
    if size == 0 {
        compare(rest);
        return;
    }
    let whole = compare(&records(rest, 1 << 14));
    let split = compare(&records(rest, usize::from(size) * 16));
    // Only the cap on records may tell the two apart.
    if rest.len() <= usize::from(size) * 16 * 64 && matches!(whole, Agreed::Hello) {
        assert_eq!(split, whole);
    }
});

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let parts = message.chunks(size);
    parts
        .flat_map(|part| {
            let len = u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes();
            [&[22, 3, 1], &len[..], part].concat()
        })
        .collect()
}
