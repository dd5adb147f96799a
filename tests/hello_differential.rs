//! The peek against rustls' `Acceptor`: whoever chooses the chain must see what TLS will see.
//!
//! `compare` holds the rule and the list of wanted differences; the fuzz target `hello` uses it too.

#![expect(clippy::unwrap_used, reason = "builders of test inputs")]

#[path = "hello_differential/compare.rs"]
mod compare;

use compare::{Agreed, compare};
use portcullis::core::client_hello::{Malformed, RejectReason};
use proptest::prelude::*;
use std::path::PathBuf;

fn recorded() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hellos");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut hellos: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    hellos.sort();
    assert!(hellos.len() >= 12, "{}", hellos.len());
    hellos
}

/// A hello with these extensions, in records of `size` bytes.
fn hello(extensions: &[(u16, Vec<u8>)], size: usize) -> Vec<u8> {
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &vec16(body)].concat())
        .collect();
    let fixed = [&[3, 3][..], &[9; 32], &[0], &[0, 4, 0x13, 1, 0x13, 3], &[1, 0]].concat();
    let body = [fixed, vec16(&list)].concat();
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &len[1..], &body].concat();
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &vec16(part)].concat()).collect()
}

fn vec16(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
}

fn sni(name: &[u8]) -> (u16, Vec<u8>) {
    (0, vec16(&[&[0], vec16(name).as_slice()].concat()))
}

fn schemes() -> (u16, Vec<u8>) {
    (13, vec![0, 4, 4, 3, 8, 4])
}

// threat 6
#[test]
fn recorded_hellos_are_the_same_to_both() {
    for (path, wire) in recorded() {
        assert_eq!(compare(&wire), Agreed::Hello, "{}", path.display());
        for len in 0..wire.len() {
            assert_eq!(compare(&wire[..len]), Agreed::NeedMore, "{} at {len}", path.display());
        }
    }
}

// threat 5, threat 6
#[test]
fn every_wanted_difference_exists_and_makes_us_the_stricter_one() {
    let only_theirs = |wire: &[u8]| match compare(wire) {
        Agreed::OnlyTheirs(reason) => reason,
        other => panic!("{other:?}"),
    };
    for name in [&b"192.0.2.1"[..], b"::1", b"a.example."] {
        let reason = only_theirs(&hello(&[sni(name), schemes()], 1000));
        assert!(matches!(reason, RejectReason::InvalidName { .. }), "{reason}");
    }
    let long = hello(&[sni(b"a"), schemes(), (0x1234, vec![0; 20_000])], 16384);
    assert!(matches!(only_theirs(&long), RejectReason::TooLarge { .. }));
    let scattered = hello(&[sni(b"a"), schemes()], 1);
    assert_eq!(only_theirs(&scattered), RejectReason::TooManyRecords);
    let mut version = hello(&[sni(b"a"), schemes()], 40);
    // Of the second record.
    version[5 + 40 + 1..][..2].copy_from_slice(&[0xfe, 0xff]);
    assert_eq!(only_theirs(&version), RejectReason::Malformed(Malformed::RecordVersion));
    let mut version = hello(&[sni(b"a"), schemes()], 1000);
    version[9..11].copy_from_slice(&[3, 0]);
    let fault = Malformed::LegacyVersion { version: 0x0300 };
    assert_eq!(only_theirs(&version), RejectReason::Malformed(fault));
    let renegotiation = hello(&[sni(b"a"), schemes(), (0xff01, vec![1, 7])], 1000);
    let fault = Malformed::Renegotiation { bytes: 1 };
    assert_eq!(only_theirs(&renegotiation), RejectReason::Malformed(fault));
    for (kind, name, bodies) in [
        (50, "signature_algorithms_cert", [&[][..], &[0, 3, 4], &[0, 2, 4, 3, 8], &[0, 0]]),
        (1, "max_fragment_length", [&[][..], &[1, 0], &[1, 2, 3], &[0; 9]]),
        (28, "record_size_limit", [&[][..], &[64], &[0, 64, 0], &[0; 9]]),
    ] {
        for body in bodies {
            let reason = only_theirs(&hello(&[sni(b"a"), schemes(), (kind, body.to_vec())], 1000));
            assert!(reason.to_string().contains(name), "{reason}");
        }
    }
    // Without signature_algorithms only rustls refuses, and not for its form.
    assert_eq!(compare(&hello(&[sni(b"a")], 1000)), Agreed::Hello);
}

/// RFC 5246 appendix E.1, RFC 8446 §4.2.1 and §5.1.
// threat 6
#[test]
fn versions_to_come_are_taken_by_both() {
    for high in [[3, 3], [3, 4], [3, 0xff], [4, 1], [6, 3], [0xfe, 0xfe]] {
        for minor in [0, 3, 4, 0x99, 0xff] {
            for extensions in [vec![schemes()], vec![schemes(), (43, vec![2, 3, 4])]] {
                let mut wire = hello(&extensions, 1000);
                wire[2] = minor;
                wire[9..11].copy_from_slice(&high);
                assert_eq!(compare(&wire), Agreed::Hello, "{high:?}, record 3.{minor}");
            }
        }
    }
}

/// Extension bodies that are right, nearly right, or noise.
fn any_extension() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let names = "[a-zA-Z0-9_.:-]{0,20}|[0-9]{1,3}(\\.[0-9]{1,3}){3}|xn--[a-z]{3}\\.[a-z]{2}\\.?";
    let typical: Vec<(u16, Vec<u8>)> = vec![
        schemes(),
        (1, vec![1]),
        (5, vec![1, 0, 0, 0, 0]),
        (10, vec![0, 4, 0x1a, 0x1a, 0, 29]),
        (11, vec![1, 0]),
        (16, vec![0, 9, 2, b'h', b'2', 2, 0x2a, 0x2a, 2, b'h', b'3']),
        (23, vec![]),
        (27, vec![2, 0, 2]),
        (28, vec![2, 1]),
        (35, vec![]),
        (42, vec![]),
        (43, vec![4, 3, 4, 3, 3]),
        (44, vec![0, 1, 7]),
        (45, vec![1, 1]),
        (47, vec![0, 3, 0, 1, 7]),
        (50, vec![0, 4, 4, 3, 8, 4]),
        (51, vec![0, 5, 0, 29, 0, 1, 7]),
        (58, vec![2, 1]),
        (0xff01, vec![0]),
        (0xfe0d, vec![0, 0, 1, 0, 1, 5, 0, 1, 1, 0, 1, 1]),
        (0xfd00, vec![2, 0, 10]),
        (0x3a3a, vec![0]),
    ];
    let noise = (0..=70_u16, proptest::collection::vec(any::<u8>(), 0..12));
    let nearly = (
        proptest::sample::select(typical.clone()),
        any::<prop::sample::Index>(),
        0..=9_u8,
        any::<bool>(),
    )
        .prop_map(|((kind, mut body), at, byte, append)| {
            if body.is_empty() || append {
                body.push(byte);
            } else {
                let at = at.index(body.len());
                body[at] = byte;
            }
            (kind, body)
        });
    prop_oneof![
        4 => names.prop_map(|name| sni(name.as_bytes())),
        20 => proptest::sample::select(typical),
        2 => nearly,
        1 => noise,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    // threat 2, threat 6
    #[test]
    fn made_up_hellos_are_the_same_to_both(
        extensions in proptest::collection::vec(any_extension(), 0..6),
        size in 4..400_usize,
        prefix in any::<prop::sample::Index>(),
    ) {
        let wire = hello(&extensions, size);
        compare(&wire);
        compare(&wire[..prefix.index(wire.len())]);
    }

    // threat 6
    #[test]
    fn mutated_recordings_are_the_same_to_both(
        which in any::<prop::sample::Index>(),
        edits in proptest::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), 0..4_u8]), 1..4
        ),
        behind in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let hellos = recorded_once();
        let mut wire = hellos[which.index(hellos.len())].1.clone();
        for (at, byte) in edits {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        wire.extend(behind);
        compare(&wire);
    }
}

fn recorded_once() -> &'static [(PathBuf, Vec<u8>)] {
    static RECORDED: std::sync::OnceLock<Vec<(PathBuf, Vec<u8>)>> = std::sync::OnceLock::new();
    RECORDED.get_or_init(recorded)
}
