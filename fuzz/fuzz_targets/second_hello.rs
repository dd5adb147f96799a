//! Any hello and what a client made of it when it was asked for another key share: what counts as the same
//! hello is the same to the router and to whoever chooses certificate, version and suite.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::core::client_hello::{Changed, ClientHello, HelloBuffer, Peek, peek};

// Two bytes say where the second hello differs, one by how many bytes; then these, then the hello.
fuzz_target!(|data: &[u8]| {
    let Some((&[high, low, count], rest)) = data.split_first_chunk() else { return };
    let Some((patch, message)) = rest.split_at_checked(usize::from(count)) else { return };
    let at = usize::from(u16::from_be_bytes([high, low]));
    let first = record(message);
    let mut other = message.to_vec();
    if let Some(place) = other.get_mut(at..at + patch.len()) {
        place.copy_from_slice(patch);
    }
    let second = record(&other);
    let (mut joined, mut joined_again) = (HelloBuffer::new(), HelloBuffer::new());
    let Peek::Hello(before) = peek(&first, &mut joined) else { return };
    let Peek::Hello(after) = peek(&second, &mut joined_again) else { return };

    // Nothing is changed, but what may not stand in any second hello, a cookie or not just one share.
    assert!(matches!(before.changed_by(&before), None | Some(Changed::Extension(44 | 51))));
    let changed = before.changed_by(&after);
    match changed {
        Some(what) => assert!(!what.to_string().is_empty()),
        None => same(&before, &after),
    }
    // A field that differs does so from either side.
    if let Some(Changed::Field(_)) = changed {
        assert_eq!(after.changed_by(&before), changed);
    }
});

fn same(before: &ClientHello<'_>, after: &ClientHello<'_>) {
    assert_eq!(before.server_name(), after.server_name());
    assert!(before.alpn().eq(after.alpn()));
    assert_eq!(before.random(), after.random());
    assert_eq!(before.session_id_len(), after.session_id_len());
    assert!(before.supported_versions().eq(after.supported_versions()));
    assert!(before.cipher_suites().eq(after.cipher_suites()));
    assert!(before.supported_groups().eq(after.supported_groups()));
    assert!(before.signature_schemes().eq(after.signature_schemes()));
    assert_eq!(before.prefers_chacha20(), after.prefers_chacha20());
    assert_eq!(before.takes_raw_keys_only(), after.takes_raw_keys_only());
    assert_eq!(before.record_limit(), after.record_limit());
    assert_eq!(before.has_ech(), after.has_ech());
    assert_eq!(before.has_session_ticket(), after.has_session_ticket());
    // Keys may go, for their hash does not fit any more, and not come.
    assert!(before.has_pre_shared_key() || !after.has_pre_shared_key());
    assert!(after.key_share_groups().count() <= 1);
}

fn record(message: &[u8]) -> Vec<u8> {
    let parts = message.chunks(1 << 14);
    parts
        .flat_map(|part| {
            let len = u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes();
            [&[22, 3, 1], &len[..], part].concat()
        })
        .collect()
}
