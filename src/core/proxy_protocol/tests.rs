//! Tests of headers: a table for every rule, every prefix, what is written is read back, mutations.
//! Readers and writers that others wrote are in `tests/clients/proxy_protocol.rs`.

use super::*;
use crate::core::proxy_protocol::read::Broken::{
    Checksum, ChecksumForm, Command, Family, Field, LineAddresses, LineEnd, LineProtocol,
    LineTooLong, Missing, TooLong, TooShort, Version,
};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

const TLS: Tls<'_> = Tls {
    version: "TLSv1.3",
    cipher: "TLS_AES_128_GCM_SHA256",
    certificate: Certificate::Verified { common_name: Some("alice"), der: None },
    is_resumed: false,
    signature_algorithm: Some("ecdsa-with-SHA256"),
    key_algorithm: Some("EC256"),
    group: Some("x25519"),
    signature_scheme: Some("ecdsa_secp256r1_sha256"),
};

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v4() -> Addresses {
    addresses("192.0.2.7:40123", "198.51.100.1:8443")
}

fn v6() -> Addresses {
    addresses("[2001:db8::7]:40123", "[2001:db8::1]:8443")
}

fn client(addresses: Addresses) -> Origin {
    Origin::Client { source: addresses.source, destination: addresses.destination }
}

fn full() -> Vec<u8> {
    let fields = Fields {
        alpn: Some(b"h2"),
        authority: Some("orders.example.com"),
        unique_id: Some(b"000100000000002a"),
        tls: Some(TLS),
        identity: Some("spiffe://example.org/alice"),
        crc32c: true,
    };
    version_2(v4(), &fields)
}

/// A header of version 2 in pieces.
fn v2(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[version_and_command, family][..], &length, block].concat()
}

/// The vectors of a block, flat.
fn vectors(mut block: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut vectors = Vec::new();
    while let Some((&[kind, high, low], rest)) = block.split_first_chunk() {
        let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([high, low])));
        vectors.push((kind, value.to_vec()));
        block = rest;
    }
    assert!(block.is_empty(), "{block:?}");
    vectors
}

fn ssl_of(tls: Tls<'_>) -> Vec<u8> {
    let header = version_2(v4(), &Fields { tls: Some(tls), ..Fields::default() });
    let [(0x20, value)] = &vectors(&header[28..])[..] else { panic!("{header:?}") };
    value.clone()
}

#[test]
fn lines_of_version_1_are_read_as_the_specification_has_them() {
    for (line, origin) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 40123 8443\r\n", client(v4())),
        ("PROXY TCP6 2001:db8::7 2001:db8::1 40123 8443\r\n", client(v6())),
        ("PROXY TCP6 2001:DB8:0:0::7 2001:0db8::1 40123 8443\r\n", client(v6())),
        ("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", {
            client(addresses("255.255.255.255:65535", "0.0.0.0:0"))
        }),
        ("PROXY UNKNOWN\r\n", Origin::Unknown),
        ("PROXY UNKNOWN whatever, \u{e4} and 70000\r\n", Origin::Unknown),
    ] {
        let bytes = line.len();
        assert_eq!(read(line.as_bytes()), Read::Header(Header { bytes, origin }), "{line:?}");
        let with_hello = [line.as_bytes(), &[22, 3, 1]].concat();
        assert_eq!(read(&with_hello), Read::Header(Header { bytes, origin }), "{line:?}");
    }
}

#[test]
fn the_longest_line_is_taken_and_one_more_byte_is_not() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_BYTES_MAX - 16));
    assert_eq!(longest.len(), LINE_BYTES_MAX);
    let header = Header { bytes: LINE_BYTES_MAX, origin: Origin::Unknown };
    assert_eq!(read(longest.as_bytes()), Read::Header(header));
    let longer = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_BYTES_MAX - 15));
    assert_eq!(read(longer.as_bytes()), Read::Reject(LineTooLong));
    assert_eq!(read(&longer.as_bytes()[..LINE_BYTES_MAX]), Read::Reject(LineTooLong));
    assert_eq!(read(&longer.as_bytes()[..LINE_BYTES_MAX - 1]), Read::NeedMore);
}

#[test]
fn what_is_not_exactly_a_line_of_version_1_is_refused() {
    for (line, broken) in [
        ("GET / HTTP/1.1\r\n", Missing),
        ("\x16\x03\x01", Missing),
        ("PROXy", Missing),
        ("PROXY\tTCP4", Missing),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n", LineEnd),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\rX", LineEnd),
        ("PROXY \r\n", LineProtocol),
        ("PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", LineProtocol),
        ("PROXY UNKNOWNS\r\n", LineProtocol),
        ("PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n", LineProtocol),
        ("PROXY TCP4\r\n", LineAddresses),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", LineAddresses),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", LineAddresses),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n", LineAddresses),
        ("PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n", LineAddresses),
        ("PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n", LineAddresses),
        ("PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n", LineAddresses),
        ("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", LineAddresses),
        ("PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n", LineAddresses),
        ("PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n", LineAddresses),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n", LineAddresses),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n", LineAddresses),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n", LineAddresses),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n", LineAddresses),
        ("PROXY TCP4 \u{661}92.0.2.7 198.51.100.1 1 2\r\n", LineAddresses),
    ] {
        assert_eq!(read(line.as_bytes()), Read::Reject(broken), "{line:?}");
    }
}

#[test]
fn commands_families_and_protocols_mean_what_the_specification_says() {
    let inet = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0xbb, 0x20, 0xfb];
    let unix = [b'/'; 216];
    let inet6 = version_2(v6(), &Fields::default())[16..].to_vec();
    for (version_and_command, family, block, origin) in [
        (0x21, 0x11, &inet[..], client(v4())),
        (0x21, 0x21, &inet6, client(v6())),
        (0x21, 0x12, &inet, Origin::Unknown),
        (0x21, 0x10, &inet, Origin::Unknown),
        (0x21, 0x22, &inet6, Origin::Unknown),
        (0x21, 0x31, &unix, Origin::Unknown),
        (0x21, 0x32, &unix, Origin::Unknown),
        (0x21, 0x00, &[], Origin::Unknown),
        (0x21, 0x01, b"to be ignored", Origin::Unknown),
        (0x20, 0x00, &[], Origin::Sender),
        (0x20, 0x11, &inet, Origin::Sender),
        (0x20, 0x11, &[], Origin::Sender),
        (0x20, 0xff, b"to be discarded", Origin::Sender),
    ] {
        let header = v2(version_and_command, family, block);
        let expected = Read::Header(Header { bytes: header.len(), origin });
        assert_eq!(read(&header), expected, "{version_and_command:#x} {family:#x}");
    }
}

#[test]
fn what_version_2_does_not_know_is_refused_as_soon_as_it_shows() {
    let mut long = v2(0x21, 0x11, &[0; 12]);
    for (claimed, expected) in [
        (4096_u16, Read::NeedMore),
        (4097, Read::Reject(TooLong { claimed: 4097 })),
        (u16::MAX, Read::Reject(TooLong { claimed: u16::MAX })),
        (11, Read::Reject(TooShort { claimed: 11 })),
        (0, Read::Reject(TooShort { claimed: 0 })),
    ] {
        long[14..16].copy_from_slice(&claimed.to_be_bytes());
        assert_eq!(read(&long[..16]), expected, "{claimed}");
    }
    for (bytes, broken) in [
        (&[0x11][..], Version(1)),
        (&[0x31], Version(3)),
        (&[0x22], Command(2)),
        (&[0x2f], Command(15)),
        (&[0x21, 0x13], Family(0x13)),
        (&[0x21, 0x41], Family(0x41)),
        (&[0x21, 0xff], Family(0xff)),
    ] {
        let input = [SIGNATURE, bytes].concat();
        assert_eq!(read(&input), Read::Reject(broken));
        assert_eq!(read(&input[..input.len() - 1]), Read::NeedMore);
    }
    for (family, bytes) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
        let claimed = u16::try_from(bytes - 1).unwrap();
        let short = v2(0x21, family, &vec![0; bytes - 1]);
        assert_eq!(read(&short), Read::Reject(TooShort { claimed }));
    }
}

#[test]
fn fields_that_are_cut_are_refused_where_they_matter() {
    let block = [&[0; 12][..], &[4, 0, 2, 0]].concat();
    assert_eq!(read(&v2(0x21, 0x11, &block)), Read::Reject(Field));
    assert!(matches!(read(&v2(0x20, 0x11, &block)), Read::Header(_)));
    let block = [&[0; 12][..], &[4, 0]].concat();
    assert_eq!(read(&v2(0x21, 0x11, &block)), Read::Reject(Field));
    let block = [&[0; 12][..], &[4, 0, 0, 0x77, 0, 1, 9]].concat();
    assert!(matches!(read(&v2(0x21, 0x11, &block)), Read::Header(_)), "unknown ones are skipped");
}

#[test]
fn a_checksum_holds_or_the_header_does_not() {
    // RFC 3720 §B.4, in which the check value of this CRC stands.
    assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    let good = full();
    assert!(matches!(read(&good), Read::Header(_)));
    // But for the byte without which it is no checksum.
    let its_kind = 28 + 5 + 21;
    for at in (FIXED_BYTES..good.len()).filter(|at| *at != its_kind) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(matches!(read(&bad), Read::Reject(_)), "byte {at}");
    }
    let twice = [&[0; 12][..], &[3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0]].concat();
    assert_eq!(read(&v2(0x21, 0x11, &twice)), Read::Reject(ChecksumForm));
    let short = [&[0; 12][..], &[3, 0, 3, 0, 0, 0]].concat();
    assert_eq!(read(&v2(0x21, 0x11, &short)), Read::Reject(ChecksumForm));
    // LOCAL ones of balancers have a checksum as well.
    let mut local = v2(0x20, 0, &[3, 0, 4, 0, 0, 0, 0]);
    assert_eq!(read(&local), Read::Reject(Checksum));
    let sum = checksum(&local, 19).to_be_bytes();
    local[19..].copy_from_slice(&sum);
    assert_eq!(read(&local), Read::Header(Header { bytes: 23, origin: Origin::Sender }));
}

#[test]
fn every_prefix_of_a_good_header_needs_more() {
    for header in [full(), version_2(v6(), &Fields::default()), version_1(v4()), version_1(v6())] {
        for length in 0..header.len() {
            assert_eq!(read(&header[..length]), Read::NeedMore, "{length} of {header:?}");
        }
        assert!(matches!(read(&header), Read::Header(found) if found.bytes == header.len()));
    }
}

#[test]
fn the_fields_stand_in_the_header_with_their_numbers() {
    let header = full();
    assert_eq!(&header[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\xce");
    let vectors = vectors(&header[28..]);
    let kinds: Vec<u8> = vectors.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x01, 0x02, 0x03, 0x05, 0x20, 0xe0]);
    assert_eq!(vectors[0].1, b"h2");
    assert_eq!(vectors[1].1, b"orders.example.com");
    assert_eq!(vectors[3].1, b"000100000000002a");
    assert_eq!(vectors[5].1, b"spiffe://example.org/alice");
    let ssl = &vectors[4].1;
    let texts = self::vectors(&ssl[5..]);
    let texts: Vec<_> = texts.iter().map(|(kind, text)| (*kind, str(text))).collect();
    let expected = [
        (0x21, "TLSv1.3"),
        (0x22, "alice"),
        (0x23, "TLS_AES_128_GCM_SHA256"),
        (0x24, "ecdsa-with-SHA256"),
        (0x25, "EC256"),
        (0x26, "x25519"),
        (0x27, "ecdsa_secp256r1_sha256"),
    ];
    assert_eq!(texts, expected);
}

fn str(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn only_a_verified_certificate_is_said_to_be_one() {
    let verified = TLS.certificate;
    for (certificate, is_resumed, bits, verify) in [
        (Certificate::None, false, 0x01, 1),
        (Certificate::None, true, 0x01, 1),
        (Certificate::Unverified, false, 0x07, 1),
        (Certificate::Unverified, true, 0x05, 1),
        (verified, false, 0x07, 0),
        (verified, true, 0x05, 0),
    ] {
        let ssl = ssl_of(Tls { certificate, is_resumed, ..TLS });
        assert_eq!(ssl[..5], [bits, 0, 0, 0, verify], "{certificate:?} {is_resumed}");
        let tells_name = vectors(&ssl[5..]).iter().any(|(kind, _)| *kind == 0x22);
        assert_eq!(tells_name, verify == 0, "{certificate:?}");
    }
    let certificate = Certificate::Verified { common_name: None, der: Some(b"0\x03der") };
    let vectors = vectors(&ssl_of(Tls { certificate, ..TLS })[5..]);
    assert_eq!(vectors.last(), Some(&(0x28, b"0\x03der".to_vec())));
}

#[test]
fn what_does_not_fit_is_left_out_and_never_cut() {
    let long = "a".repeat(2049);
    let huge = vec![0; 70_000];
    let fields = Fields {
        alpn: Some(&huge),
        authority: Some(&long),
        identity: Some("two\r\nlines"),
        tls: Some(Tls {
            certificate: Certificate::Verified { common_name: Some(""), der: Some(&huge) },
            ..TLS
        }),
        ..Fields::default()
    };
    let header = version_2(v4(), &fields);
    let kinds: Vec<u8> = vectors(&header[28..]).iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x20]);
    assert!(header.len() < 256);
}

#[test]
fn a_header_is_never_longer_than_its_length_can_say() {
    let text = "a".repeat(2048);
    let der = vec![0; 40 * 1024];
    let (text, alpn) = (text.as_str(), [b'a'; 255]);
    let fields = Fields {
        alpn: Some(&alpn),
        authority: Some(text),
        unique_id: Some(b"000100000000002a"),
        tls: Some(Tls {
            version: text,
            cipher: text,
            certificate: Certificate::Verified { common_name: Some(text), der: Some(&der) },
            is_resumed: false,
            signature_algorithm: Some(text),
            key_algorithm: Some(text),
            group: Some(text),
            signature_scheme: Some(text),
        }),
        identity: Some(text),
        crc32c: true,
    };
    let header = version_2(v6(), &fields);
    let claimed = usize::from(u16::from_be_bytes([header[14], header[15]]));
    assert_eq!(claimed, header.len() - 16);
    assert_eq!(vectors(&header[52..]).len(), 6);
}

#[test]
fn addresses_of_two_families_are_both_written_as_ipv6() {
    let mixed = addresses("192.0.2.7:1", "[2001:db8::1]:2");
    let line = version_1(mixed);
    assert_eq!(str(&line), "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n");
    let expected = client(addresses("[::ffff:192.0.2.7]:1", "[2001:db8::1]:2"));
    for header in [line, version_2(mixed, &Fields::default())] {
        assert!(matches!(read(&header), Read::Header(found) if found.origin == expected));
    }
    let mapped = addresses("[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.8]:2");
    assert_eq!(str(&version_1(mapped)), "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n");
}

#[test]
fn a_probe_is_the_senders_own_connection() {
    for (is_version_1, origin) in [(true, Origin::Unknown), (false, Origin::Sender)] {
        let header = own_connection(is_version_1);
        assert_eq!(read(&header), Read::Header(Header { bytes: header.len(), origin }));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        (source, destination) in pair(),
        alpn in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        texts in proptest::collection::vec(".{0,40}", 3),
        crc32c: bool,
        has_tls: bool,
        behind in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let addresses = Addresses { source, destination };
        let tls = Tls { certificate: Certificate::Verified {
            common_name: Some(&texts[0]), der: Some(&behind),
        }, ..TLS };
        let fields = Fields {
            alpn: alpn.as_deref(),
            authority: Some(&texts[1]),
            unique_id: Some(b"0"),
            tls: has_tls.then_some(tls),
            identity: Some(&texts[2]),
            crc32c,
        };
        for header in [version_1(addresses), version_2(addresses, &fields)] {
            let bytes = header.len();
            let expected = Read::Header(Header { bytes, origin: client(addresses) });
            for length in 0..bytes {
                prop_assert_eq!(read(&header[..length]), Read::NeedMore);
            }
            prop_assert_eq!(read(&[&header[..], &behind[..]].concat()), expected);
        }
    }

    #[test]
    fn mutations_never_panic_and_never_claim_more_than_there_is(
        which in 0..3_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = [full(), version_1(v6()), v2(0x20, 0, &[3, 0, 4, 0, 0, 0, 0])][which].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Read::Header(header) = read(&bytes) {
            prop_assert!(header.bytes <= bytes.len());
            prop_assert_eq!(read(&bytes[..header.bytes]), Read::Header(header));
        }
    }

    #[test]
    fn an_answer_does_not_change_with_what_comes_later(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        start in 0..3_usize,
    ) {
        let bytes = [[&b""[..], b"PROXY ", SIGNATURE][start], &bytes[..]].concat();
        let mut answer = Read::NeedMore;
        for length in 0..=bytes.len() {
            let now = read(&bytes[..length]);
            if answer != Read::NeedMore {
                prop_assert_eq!(now, answer);
            }
            answer = now;
        }
    }
}

/// Two addresses of one family.
fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let socket = |ip: IpAddr, port| SocketAddr::new(ip, port);
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>()
        .prop_map(move |(a, b, c, d)| (socket(a.into(), b), socket(c.into(), d)));
    // Not ::ffff:0:0/96, which is written as IPv4.
    let v6 = any::<([u8; 16], u16, [u8; 16], u16)>().prop_map(move |(mut a, b, mut c, d)| {
        (a[0], c[0]) = (0x20, 0x20);
        (socket(a.into(), b), socket(c.into(), d))
    });
    prop_oneof![v4, v6]
}
