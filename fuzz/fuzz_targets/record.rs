//! The record layer: never panics and keeps its bounds on any bytes, and judges authentic records as
//! rustls does.
//!
//! An input that starts with an odd byte goes to the opener as it is; any other is a script for
//! `tests/record_differential/judge.rs`, which says where the two may differ.
#![no_main]

#[path = "../../tests/record_differential/judge.rs"]
mod judge;
#[expect(dead_code, reason = "the judge needs a part of it")]
#[path = "../../tests/record_differential/ours.rs"]
mod ours;

use libfuzzer_sys::fuzz_target;
use portcullis::core::record::{
    Aead, CIPHERTEXT_MAX, Done, OpenLimits, Opened, Opener, Role, Sealer, Stop, TrafficKeys,
    sealed_length, transfer_plain_to_tls_within, transfer_tls_to_plain,
    transfer_tls_to_plain_within, transfer_tls_to_tls,
};

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((first, rest)) if first % 2 == 1 => bounds(*first, rest),
        Some((_, rest)) => judge::judge(rest),
        None => {}
    }
});

fn bounds(first: u8, input: &[u8]) {
    let aead = match first / 2 % 3 {
        0 => Aead::Aes128Gcm,
        1 => Aead::Aes256Gcm,
        _ => Aead::Chacha20Poly1305,
    };
    let role = if first > 127 { Role::Client } else { Role::Server };
    let keys = || TrafficKeys::new(aead, &vec![1; aead.key_length()], &[2; 12]).unwrap();
    let opener = || Opener::new(keys(), 0, role, OpenLimits::default());
    let mut out = vec![0; input.len()];
    let now = ours::now();

    match opener().open(input, &mut out, now) {
        Ok(Opened::NeedMore { at_least }) => {
            assert!(at_least > input.len() && at_least <= 5 + CIPHERTEXT_MAX);
        }
        Ok(other) => panic!("unauthentic bytes gave {other:?}"),
        Err(error) => assert_ne!(error.alert(), 0),
    }
    let pumped = transfer_tls_to_plain(&mut opener(), input, &mut out, now);
    assert_eq!((pumped.consumed, pumped.produced), (0, 0));
    assert!(matches!(pumped.stop, Stop::InputEmpty { .. } | Stop::Refused(_)));

    // The same bytes, sealed: now authentic, and read back whole.
    let mut sealed = vec![0; input.len() + 22 * (input.len() / 64 + 1)];
    let mut sealer = Sealer::new(keys(), 0);
    let mut end = 0;
    for part in input.chunks(64) {
        end += sealer.seal_from(part, &mut sealed[end..]).unwrap();
    }
    let (mut first, mut onward, mut second) = (opener(), Sealer::new(keys(), 0), opener());
    let mut moved = vec![0; end];
    let pumped = transfer_tls_to_tls(&mut first, &mut onward, &sealed[..end], &mut moved, now);
    assert_eq!((pumped.consumed, pumped.produced), (end, end));
    let mut plain = vec![0; end];
    let pumped = transfer_tls_to_plain(&mut second, &moved, &mut plain, now);
    assert_eq!(plain[..pumped.produced], *input);

    let lead = sealed_length(input.len()) - input.len();
    let mut whole = [&vec![0; lead], input].concat();
    let mut done = Done { consumed: lead, produced: 0 };
    transfer_plain_to_tls_within(&mut Sealer::new(keys(), 0), &mut whole, &mut done);
    let pumped = transfer_tls_to_plain(&mut opener(), &whole, &mut plain, now);
    assert_eq!((done.produced, &plain[..pumped.produced]), (whole.len(), input));

    let mut third = opener();
    if third.opens_in_place() {
        let mut done = Done::default();
        transfer_tls_to_plain_within(&mut third, &mut moved, &mut done, now);
        assert_eq!((done.consumed, &moved[..done.produced]), (end, input));
    }
}
