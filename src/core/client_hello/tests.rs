//! Tests of the peek: recorded hellos at every prefix, a table for every rule; `random` splits and
//! mutates them. Comparison with rustls is in `tests/hello_differential.rs`.

use super::*;
use crate::core::refusal::Reason;
use crate::core::server_name::NameError;

mod again;
mod certificate_types;
mod random;

macro_rules! recorded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../tests/hellos/", $name, ".bin")))),*]
    };
}

const RECORDED: &[(&str, &[u8])] = recorded![
    "chromium",
    "curl",
    "gnutls-cli",
    "go",
    "openssl-no-sni",
    "openssl-tls12",
    "openssl-tls12-ticket",
    "openssl-tls13",
    "openssl-tls13-psk",
    "openssl-two-records",
    "python-ssl",
    "rustls-mlkem",
];

/// A hello to break, one field at a time.
#[derive(Clone)]
pub(super) struct Sample {
    legacy_version: u16,
    session_id: Vec<u8>,
    suites: Vec<u8>,
    compression: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
    behind: Vec<u8>,
}

impl Sample {
    pub(super) fn new() -> Self {
        Self {
            legacy_version: 0x0303,
            session_id: vec![7; 32],
            suites: vec![0x13, 1, 0x13, 2],
            compression: vec![0],
            extensions: vec![(0, sni(b"a.example")), (13, vec![0, 2, 4, 3]), (43, vec![2, 3, 4])],
            behind: vec![],
        }
    }

    pub(super) fn with(mut self, kind: u16, body: impl Into<Vec<u8>>) -> Self {
        self.extensions.push((kind, body.into()));
        self
    }

    fn named(name: &[u8]) -> Self {
        let mut sample = Self::new();
        sample.extensions[0].1 = sni(name);
        sample
    }

    fn message(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([9; 32]);
        body.extend(vec8(&self.session_id));
        body.extend(vec16(&self.suites));
        body.extend(vec8(&self.compression));
        let list = self.extensions.iter().flat_map(|(kind, data)| {
            kind.to_be_bytes().into_iter().chain(vec16(data)).collect::<Vec<u8>>()
        });
        body.extend(vec16(&list.collect::<Vec<u8>>()));
        body.extend(&self.behind);
        message(1, &body)
    }

    pub(super) fn wire(&self) -> Vec<u8> {
        record(&self.message())
    }
}

fn vec8(data: &[u8]) -> Vec<u8> {
    [&[u8::try_from(data.len()).unwrap()], data].concat()
}

fn vec16(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    vec16(&[&[0], vec16(name).as_slice()].concat())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &len[1..], body].concat()
}

fn record(payload: &[u8]) -> Vec<u8> {
    [&[22, 3, 1], vec16(payload).as_slice()].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(record).collect()
}

/// The handshake message of a recording, without its record headers.
fn payload(mut wire: &[u8]) -> Vec<u8> {
    let mut message = vec![];
    while let [_, _, _, high, low, rest @ ..] = wire {
        let (head, behind) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend(head);
        wire = behind;
    }
    message
}

/// Everything a hello tells except `wire_len`, as text to compare.
fn facts(hello: &ClientHello<'_>) -> String {
    format!("{:?}", ClientHello { wire_len: 0, ..*hello })
}

#[track_caller]
fn accepted(input: &[u8]) -> String {
    match peek(input, &mut HelloBuffer::new()) {
        Peek::Hello(hello) => {
            assert_eq!(hello.wire_len(), input.len());
            facts(&hello)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn rejected(input: &[u8]) -> RejectReason {
    match peek(input, &mut HelloBuffer::new()) {
        Peek::Reject(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn needs(input: &[u8]) -> usize {
    match peek(input, &mut HelloBuffer::new()) {
        Peek::NeedMore { at_least } => at_least,
        other => panic!("{other:?}"),
    }
}

/// Every prefix asks for more, never in vain and never for more than the hello has.
#[track_caller]
fn check_prefixes(wire: &[u8]) {
    for len in 0..wire.len() {
        let at_least = needs(&wire[..len]);
        assert!(at_least > len && at_least <= wire.len(), "{len} of {}: {at_least}", wire.len());
        for between in len..at_least {
            assert!(needs(&wire[..between]) >= at_least || len < 5, "{len}, {between}");
        }
    }
}

// threat 2, threat 4: a hello that is not finished is never anything but unfinished.
#[test]
fn every_prefix_of_a_recorded_hello_needs_more() {
    for (name, wire) in RECORDED {
        check_prefixes(wire);
        assert!(matches!(peek(wire, &mut HelloBuffer::new()), Peek::Hello(_)), "{name}");
    }
}

#[test]
fn recorded_hellos_tell_what_their_clients_said() {
    // Name, SNI, ALPN, TLS 1.3, resumption, ECH, key shares.
    let told: Vec<String> = RECORDED
        .iter()
        .map(|(name, wire)| {
            let mut joined = HelloBuffer::new();
            let Peek::Hello(hello) = peek(wire, &mut joined) else { panic!("{name}") };
            assert_eq!(hello.wire_len(), wire.len(), "{name}");
            assert!(!hello.prefers_chacha20() && !hello.offers_early_data(), "{name}");
            assert_eq!(hello.legacy_version(), 0x0303, "{name}");
            assert!(hello.signature_schemes().count() > 5, "{name}");
            assert!(hello.supported_groups().contains(0x001d), "{name}");
            let alpn: Vec<_> = hello.alpn().map(String::from_utf8_lossy).collect();
            let shares: Vec<_> = hello.key_share_groups().map(|id| format!("{id:x}")).collect();
            format!(
                "{name} {} [{}] tls13={} psk={} ticket={} ech={} [{}]",
                hello.server_name().unwrap_or("-"),
                alpn.join(" "),
                hello.offers_tls13(),
                hello.psk_identities(),
                hello.has_session_ticket(),
                hello.has_ech(),
                shares.join(" "),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "chromium example.com [h2 http/1.1] tls13=true psk=0 ticket=false ech=true [11ec 1d]",
            "curl example.com [h2 http/1.1] tls13=true psk=0 ticket=false ech=false [1d]",
            "gnutls-cli ldap.example.com [] tls13=true psk=0 ticket=false ech=false [17 1d]",
            "go nats.example.com [h2 http/1.1] tls13=true psk=0 ticket=false ech=false [1d]",
            "openssl-no-sni - [] tls13=true psk=0 ticket=false ech=false [1d]",
            "openssl-tls12 orders.example.com [] tls13=false psk=0 ticket=false ech=false []",
            "openssl-tls12-ticket orders.example.com [] tls13=false psk=0 ticket=true ech=false []",
            "openssl-tls13 orders.example.com [postgresql h2] tls13=true psk=0 ticket=false \
             ech=false [1d]",
            "openssl-tls13-psk orders.example.com [] tls13=true psk=1 ticket=false ech=false [1d]",
            "openssl-two-records orders.example.com [] tls13=true psk=1 ticket=false ech=false \
             [1d]",
            "python-ssl mqtt.example.com [mqtt] tls13=true psk=0 ticket=false ech=false [1d]",
            "rustls-mlkem redis.example.com [redis] tls13=true psk=0 ticket=false ech=false [11ec 1d]",
        ]
    );
}

// threat 4
#[test]
fn other_protocols_are_told_by_their_first_bytes() {
    use LooksLike::*;
    for (input, looks_like) in [
        (&b"GET / HTTP/1.1\r\n"[..], Http),
        (b"GET", Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http),
        (b"CONNECT a:443 HTTP/1.1\r\n", Http),
        (b"CONNECT {\"verbose\":false}\r\n", Nats),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Ssh),
        (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", SslV2),
        (b"\x80\x2e\x01\x03\x01", SslV2),
        (b"\x15\x03\x03\x00\x02\x02\x28", OtherTlsRecord),
        (b"\x17\x03\x03\x00\x20", OtherTlsRecord),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Postgres),
        (b"\0\0\0\x29\0\x03\0\0user\0", Postgres),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", ProxyProtocol),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", ProxyProtocol),
        (b"EHLO mail\r\n", Smtp),
        (b"\x10\x10\0\x04MQTT\x04", Mqtt),
        (b"*1\r\n$4\r\nPING\r\n", Redis),
        (b"\x30\x0c\x02\x01\x01\x60\x07", Ldap),
        (b"hello?\n", Text),
        (b"\xff\xfe\xfd", Unknown),
        (b"\0", Unknown),
        // A handshake record of no version that exists.
        (b"\x16\x02\x00\x00\x10", Unknown),
        (b"\x16\x04", Unknown),
    ] {
        let reason = rejected(input);
        assert_eq!(reason, RejectReason::NotTls { looks_like }, "{input:?}");
        assert!(reason.is_not_tls() && reason.alert().is_none() && reason.code() == "not_tls");
    }
    for first in (0..=255).filter(|&first| first != 22) {
        assert!(rejected(&[first]).is_not_tls(), "{first}");
    }
    assert_eq!(needs(&[]), 1);
    assert_eq!(rejected(b"SSH-2.0").to_string(), "not TLS: the first bytes look like SSH");
}

// threat 2
#[test]
fn records_of_any_size_up_to_the_cap_give_the_same_hello() {
    for (name, wire) in RECORDED {
        let message = payload(wire);
        let whole = accepted(&record(&message));
        for size in [message.len().div_ceil(HELLO_RECORDS_MAX), 100, message.len() - 1] {
            assert_eq!(accepted(&records(&message, size)), whole, "{name} in records of {size}");
        }
        check_prefixes(&records(&message, message.len().div_ceil(HELLO_RECORDS_MAX)));
    }
    // The smallest hello fits into records of one byte, header and all.
    let small = Sample { session_id: vec![], extensions: vec![], ..Sample::new() };
    let message = small.message();
    assert!(message.len() < HELLO_RECORDS_MAX);
    accepted(&records(&message, 1));
    check_prefixes(&records(&message, 1));
}

// threat 2
#[test]
fn the_record_after_the_last_allowed_is_not_waited_for() {
    let message = Sample::new().message();
    let wire = records(&message, 1);
    let cap = HELLO_RECORDS_MAX * 6;
    assert!(message.len() > HELLO_RECORDS_MAX);
    assert_eq!(needs(&wire[..cap - 6]), cap - 1);
    let reason = rejected(&wire[..cap - 1]);
    assert_eq!(reason, RejectReason::TooManyRecords);
    assert_eq!((reason.reason(), reason.alert()), (Reason::HelloTooLarge, Some(47)));
}

// threat 3
#[test]
fn a_claimed_length_over_the_cap_is_refused_with_its_fourth_byte() {
    for claimed in [HELLO_BYTES_MAX + 1, 0xffff, 0xff_ffff] {
        let header = u32::try_from(claimed).unwrap().to_be_bytes();
        let wire = [&[22, 3, 1, 0x40, 0, 1], &header[1..]].concat();
        assert_eq!(needs(&wire[..8]), 9);
        let reason = rejected(&wire);
        assert_eq!(reason, RejectReason::TooLarge { claimed });
        assert_eq!((reason.code(), reason.alert()), ("hello_too_large", Some(47)));
        let split: Vec<u8> = wire[5..].chunks(1).flat_map(record).collect();
        assert_eq!(rejected(&split), RejectReason::TooLarge { claimed });
    }
    assert_eq!(needs(&[22, 3, 1, 0x40, 0, 1, 0, 0x40, 0]), 5 + 16384 + 5);
}

// threat 3
#[test]
fn a_hello_of_exactly_the_cap_is_taken() {
    let empty = Sample::new().with(0x1234, []);
    let padding = HELLO_BYTES_MAX + 4 - empty.message().len();
    let wire = records(&Sample::new().with(0x1234, vec![0; padding]).message(), RECORD_BYTES_MAX);
    accepted(&wire);
    let over = records(&Sample::new().with(0x1234, vec![0; padding + 1]).message(), 16384);
    assert_eq!(rejected(&over), RejectReason::TooLarge { claimed: HELLO_BYTES_MAX + 1 });
}

#[test]
fn record_headers_are_judged_as_they_come() {
    use Malformed::*;
    let message = Sample::new().message();
    let first = record(&message[..10]);
    let behind = |bytes: &[u8]| match rejected(&[&first, bytes].concat()) {
        RejectReason::Malformed(fault) => fault,
        other => panic!("{other}"),
    };
    assert_eq!(behind(&[21]), OtherRecord { kind: 21 });
    assert_eq!(behind(&[20, 3, 3, 0, 1, 1]), OtherRecord { kind: 20 });
    assert_eq!(behind(&[22, 2]), RecordVersion);
    assert_eq!(behind(&[22, 4]), RecordVersion);
    assert_eq!(behind(&[22, 3, 3, 0, 0]), EmptyRecord);
    assert_eq!(behind(&[22, 3, 3, 0x40, 1]), RecordTooLong { bytes: 16385 });
    for (wire, fault, alert) in [
        ([&first[..], &[22, 0xfe]].concat(), RecordVersion, 70),
        (vec![22, 3, 1, 0, 0], EmptyRecord, 10),
        (vec![22, 3, 1, 0xff, 0xff], RecordTooLong { bytes: 65535 }, 22),
        (vec![22, 3, 1, 0, 9, 2], NotClientHello { kind: 2 }, 10),
        (vec![22, 3, 1, 0, 9, 0], NotClientHello { kind: 0 }, 10),
        (record(&[&message[..], &[1]].concat()), MessageBehind { bytes: 1 }, 10),
        (vec![22, 3, 1, 0, 9, 1, 0, 0, 4], MessageBehind { bytes: 1 }, 10),
        (
            records(&[&message[..], &[1]].concat(), message.len() - 1),
            MessageBehind { bytes: 1 },
            10,
        ),
    ] {
        let reason = rejected(&wire);
        assert_eq!(reason, RejectReason::Malformed(fault));
        assert_eq!((reason.alert(), reason.code()), (Some(alert), "hello_malformed"));
    }
    // RFC 5246 appendix E.1: any 03 XX, in each of its records.
    for minor in [0, 1, 2, 3, 4, 0x99, 255] {
        let mut wire = [first.clone(), record(&message[10..])].concat();
        wire[2] = minor;
        wire[first.len() + 2] = minor;
        accepted(&wire);
    }
}

/// RFC 5246 appendix E.1, RFC 8446 §4.2.1 and appendix D.5.
#[test]
fn a_legacy_version_above_ours_is_taken_and_one_of_ssl_never() {
    let with = |version: u16, supported: Option<&[u8]>| {
        let mut sample = Sample { legacy_version: version, ..Sample::new() };
        sample.extensions.pop();
        supported.into_iter().fold(sample, |sample, list| sample.with(43, vec8(list))).wire()
    };
    let newest = |wire: &[u8]| {
        let mut joined = HelloBuffer::new();
        let Peek::Hello(hello) = peek(wire, &mut joined) else { panic!("{wire:?}") };
        hello.newest()
    };
    for version in [0x0303, 0x0304, 0x03ff, 0x0400, 0x0401, 0x0603, 0xfefd, 0xfefe, 0xffff] {
        assert_eq!(newest(&with(version, None)), Newest::Tls12, "{version:#06x}");
    }
    for version in [0x0301, 0x0302] {
        assert_eq!(newest(&with(version, None)), Newest::Older(version), "{version:#06x}");
    }
    // Beside supported_versions it says nothing.
    for version in [0x0301, 0x0303, 0x0401] {
        assert_eq!(newest(&with(version, Some(&[3, 3]))), Newest::Tls12, "{version:#06x}");
        for (list, answered) in
            [(&[3, 1, 3, 2][..], 0x0302), (&[3, 1], 0x0301), (&[0x7f, 28], 0x0303)]
        {
            let older = newest(&with(version, Some(list)));
            assert_eq!(older, Newest::Older(answered), "{version:#06x}");
        }
        let both = newest(&with(version, Some(&[3, 4, 3, 3])));
        assert_eq!(both, Newest::Tls13WithoutGroups, "{version:#06x}");
    }
    for version in [0, 0x0002, 0x0300] {
        for supported in [None, Some(&[3, 4][..])] {
            let fault = Malformed::LegacyVersion { version };
            assert_eq!(rejected(&with(version, supported)), RejectReason::Malformed(fault));
        }
    }
}

#[test]
fn bytes_behind_the_hello_are_left_alone() {
    let wire = Sample::new().wire();
    for behind in [&[20, 3, 3, 0, 1, 1][..], &[0; 40], &[23, 3, 3]] {
        let input = [&wire, behind].concat();
        let mut joined = HelloBuffer::new();
        let Peek::Hello(hello) = peek(&input, &mut joined) else { panic!("{behind:?}") };
        assert_eq!(hello.wire_len(), wire.len());
    }
}

// threat 5
#[test]
fn names_are_normalised_and_bad_ones_refused() {
    let mut joined = HelloBuffer::new();
    let wire = Sample::named(b"Orders_1.EXAMPLE.com").wire();
    let Peek::Hello(hello) = peek(&wire, &mut joined) else { panic!() };
    assert_eq!(hello.server_name(), Some("orders_1.example.com"));
    let long = [b'a'; 255];
    for (name, error) in [
        (&b"a.example."[..], NameError::TrailingDot),
        (b"192.0.2.1", NameError::IpAddress),
        (b"2001:db8::1", NameError::IpAddress),
        (b"a\0.example", NameError::Nul { at: 1 }),
        (b"b\xc3\xbc.example", NameError::NotAscii { at: 1, byte: 0xc3 }),
        (b"*.example", NameError::BadCharacter { at: 0, byte: b'*' }),
        (&long, NameError::TooLong { bytes: 255 }),
    ] {
        let reason = rejected(&Sample::named(name).wire());
        assert_eq!(reason, RejectReason::InvalidName { name: NameShown::of(name), error });
        let told = reason.to_string();
        let shown = name[..name.len().min(64)].escape_ascii();
        assert!(told.starts_with(&format!("the server name \"{shown}")), "{told}");
        assert_eq!((reason.alert(), reason.code()), (Some(112), "sni_invalid"));
    }
}

#[test]
fn a_name_alone_is_judged_as_in_a_hello() {
    let names =
        [&b"Orders.EXAMPLE.com"[..], b"", b"a.example.", b"192.0.2.1", b"a\0.b", &[b'a'; 255]];
    for name in names {
        let (mut joined, mut buffer) = (HelloBuffer::new(), [0; 255]);
        let wire = Sample::named(name).wire();
        let in_hello = match peek(&wire, &mut joined) {
            Peek::Hello(hello) => Ok(hello.server_name().unwrap()),
            Peek::Reject(reason) => Err(reason),
            Peek::NeedMore { .. } => panic!("{name:?}"),
        };
        assert_eq!(server_name(name, &mut buffer), in_hello, "{name:?}");
    }
}

// threat 5
#[test]
fn a_server_name_list_holds_one_host_name() {
    use Malformed::*;
    let entry = |kind: u8, name: &[u8]| [&[kind], vec16(name).as_slice()].concat();
    let two = [entry(0, b"a.example"), entry(0, b"a.example")].concat();
    let field = "server_name_list";
    for (body, fault) in [
        (vec![], Short { field }),
        (vec![0, 0], Empty { field }),
        (vec16(&entry(0, b"")), Empty { field: "host_name" }),
        (vec16(&entry(1, b"a.example")), NameType { kind: 1 }),
        (vec16(&two), SeveralNames),
        (vec16(&[entry(0, b"a"), entry(9, b"b")].concat()), SeveralNames),
        (vec16(&[entry(0, b"a"), vec![0]].concat()), SeveralNames),
        ([sni(b"a"), vec![0]].concat(), Long { field, bytes: 1 }),
        (vec![0, 9, 0, 0, 1, b'a'], Short { field }),
        (vec![0, 4, 0, 0, 2, b'a'], Short { field }),
    ] {
        let mut sample = Sample::new();
        sample.extensions[0].1 = body;
        let reason = rejected(&sample.wire());
        assert_eq!(reason, RejectReason::Malformed(fault));
        assert_eq!(reason.alert(), Some(if fault == SeveralNames { 47 } else { 50 }));
    }
}

#[test]
fn fields_that_can_hold_one_thing_only_are_strict() {
    use Malformed::*;
    let fault = |change: fn(&mut Sample)| {
        let mut sample = Sample::new();
        change(&mut sample);
        match rejected(&sample.wire()) {
            RejectReason::Malformed(fault) => (fault, fault_alert(fault)),
            other => panic!("{other}"),
        }
    };
    let suites = "cipher_suites";
    assert_eq!(fault(|s| s.legacy_version = 0x0300), (LegacyVersion { version: 0x300 }, 70));
    assert_eq!(fault(|s| s.legacy_version = 0x0002), (LegacyVersion { version: 2 }, 70));
    let long = Long { field: "legacy_session_id", bytes: 1 };
    assert_eq!(fault(|s| s.session_id.push(0)), (long, 50));
    assert_eq!(fault(|s| s.suites.clear()), (Empty { field: suites }, 50));
    assert_eq!(fault(|s| s.suites.push(0)), (Short { field: suites }, 50));
    assert_eq!(fault(|s| s.suites.truncate(1)), (Short { field: suites }, 50));
    let empty = Empty { field: "legacy_compression_methods" };
    assert_eq!(fault(|s| s.compression.clear()), (empty, 50));
    assert_eq!(fault(|s| s.compression = vec![1]), (NoNullCompression, 47));
    let renegotiation = Renegotiation { bytes: 1 };
    assert_eq!(fault(|s| s.extensions.push((0xff01, vec![1, 7]))), (renegotiation, 40));
    assert_eq!(fault(|s| s.behind.push(0)), (Long { field: "client_hello", bytes: 1 }, 50));
}

fn fault_alert(fault: Malformed) -> u8 {
    RejectReason::from(fault).alert().unwrap()
}

#[test]
fn a_body_cut_anywhere_is_malformed_even_where_the_lengths_of_the_frame_agree() {
    let message = Sample::new().message();
    let body = &message[4..];
    let before_extensions = 2 + 32 + 33 + 6 + 2;
    for len in 0..body.len() {
        let wire = record(&self::message(1, &body[..len]));
        match peek(&wire, &mut HelloBuffer::new()) {
            // TLS 1.2 allows a hello without the list of extensions.
            Peek::Hello(hello) if len == before_extensions => {
                assert_eq!((hello.server_name(), hello.offers_tls13()), (None, false));
            }
            Peek::Reject(RejectReason::Malformed(Malformed::Short { .. })) => {}
            other => panic!("{len}: {other:?}"),
        }
    }
}

// threat 5
#[test]
fn an_extension_may_stand_once() {
    for kind in [0, 13, 0x1234, 0xff01, 0x0a0a] {
        let body = if kind == 0 { sni(b"a.example") } else { vec![0, 2, 4, 3] };
        let body = if kind == 0xff01 { vec![0] } else { body };
        let reason = rejected(&Sample::new().with(kind, body.clone()).with(kind, body).wire());
        assert_eq!(reason, RejectReason::Malformed(Malformed::DuplicateExtension { kind }));
        assert_eq!(reason.alert(), Some(47));
    }
    let mut sample = Sample::new();
    for kind in 0x4000..0x4000 + 61 {
        sample = sample.with(kind, []);
    }
    accepted(&sample.wire());
    let reason = rejected(&sample.with(0x5000, []).wire());
    assert_eq!(reason, RejectReason::Malformed(Malformed::TooManyExtensions));
}

#[test]
fn extensions_of_the_form_that_their_rfc_gives_them_are_accepted() {
    let ech = outer_ech();
    let good: &[(u16, &[u8])] = &[
        (1, &[9]),
        (5, &[1, 0, 0, 0, 0]),
        (5, &[1, 0, 3, 0, 1, 9, 0, 0]),
        (5, &[7, 1, 2, 3]),
        (10, &[0, 2, 0, 29]),
        (11, &[1, 0]),
        (16, &[0, 3, 2, b'h', b'2']),
        (19, &[1, 0]),
        (20, &[1, 0]),
        (23, &[]),
        (27, &[2, 0, 2]),
        (28, &[0, 0]),
        (35, &[]),
        (42, &[]),
        (44, &[0, 1, 7]),
        (45, &[1, 1]),
        (47, &[0, 3, 0, 1, 7]),
        (50, &[0, 4, 4, 3, 8, 4]),
        (51, &[0, 0]),
        (51, &[0, 5, 0, 29, 0, 1, 7]),
        (57, &[1, 2, 3]),
        (58, &[2, 1]),
        (0xff01, &[0]),
        (0xfe0d, &ech),
        (0xfe0d, &[1]),
        (0x9a9a, &[1, 2, 3]),
    ];
    for (kind, body) in good {
        accepted(&Sample::new().with(*kind, *body).wire());
    }
}

#[test]
fn extensions_of_another_form_are_malformed() {
    let ech = outer_ech();
    let bad: &[(u16, &[u8])] = &[
        (1, &[]),
        (1, &[1, 0]),
        (5, &[]),
        (5, &[1, 0, 0]),
        (5, &[1, 0, 2, 0, 1, 0, 0]),
        (5, &[1, 0, 0, 0, 0, 0]),
        (10, &[]),
        (10, &[0, 0]),
        (10, &[0, 3, 0, 29, 0]),
        (10, &[0, 2, 0, 29, 0]),
        (11, &[0]),
        (16, &[0, 0]),
        (16, &[0, 1, 0]),
        (16, &[0, 4, 2, b'h', b'2', 0]),
        (16, &[0, 3, 3, b'h', b'2']),
        (19, &[0]),
        (20, &[2, 0]),
        (23, &[0]),
        (27, &[1, 0]),
        (28, &[64]),
        (28, &[0, 64, 0]),
        (42, &[0]),
        (44, &[0, 0]),
        (45, &[0]),
        (47, &[0, 0]),
        (47, &[0, 3, 0, 2, 7]),
        (50, &[0, 3, 4]),
        (50, &[0, 3, 4, 3, 8]),
        (50, &[0, 0]),
        (51, &[]),
        (51, &[0, 4, 0, 29, 0, 0]),
        (51, &[0, 5, 0, 29, 0, 2, 7]),
        (58, &[1]),
        (0xff01, &[]),
        (0xff01, &[1]),
        (0xfe0d, &[]),
        (0xfe0d, &[1, 0]),
        (0xfe0d, &[2]),
        (0xfe0d, &ech[..ech.len() - 1]),
        (0xfd00, &[2, 0, 10]),
    ];
    for (kind, body) in bad {
        let reason = rejected(&Sample::new().with(*kind, *body).wire());
        assert!(matches!(reason, RejectReason::Malformed(_)), "{kind} {body:?}: {reason}");
    }
    for body in [&[][..], &[0], &[1, 3], &[3, 3, 4, 3]] {
        let mut sample = Sample::new();
        sample.extensions[2].1 = body.to_vec();
        assert_eq!(rejected(&sample.wire()).code(), "hello_malformed", "{body:?}");
    }
}

fn outer_ech() -> Vec<u8> {
    [&[0, 0, 1, 0, 1, 5][..], &vec16(&[1; 32]), &vec16(&[2; 16])].concat()
}

// threat 19
#[test]
fn pre_shared_keys_are_last_counted_and_capped() {
    let offer = |identities: usize, binders: usize| {
        let one = [&vec16(&[5; 8])[..], &[0; 4]].concat();
        [vec16(&one.repeat(identities)), vec16(&vec8(&[6; 32]).repeat(binders))].concat()
    };
    let wire = Sample::new().with(41, offer(PSK_MAX, PSK_MAX)).wire();
    let mut joined = HelloBuffer::new();
    let Peek::Hello(hello) = peek(&wire, &mut joined) else { panic!() };
    assert_eq!(hello.psk_identities(), PSK_MAX);
    assert!(hello.offers_resumption() && hello.has_pre_shared_key());
    for (sample, fault) in [
        (Sample::new().with(41, offer(33, 33)), Malformed::TooManyPreSharedKeys),
        (Sample::new().with(41, offer(2, 1)), Malformed::BinderCount { identities: 2, binders: 1 }),
        (Sample::new().with(41, offer(1, 1)).with(45, [1, 1]), Malformed::PreSharedKeyNotLast),
    ] {
        let reason = rejected(&sample.wire());
        assert_eq!((reason, reason.alert()), (RejectReason::Malformed(fault), Some(47)));
    }
    let short_binder = [vec16(&[&vec16(&[5])[..], &[0; 4]].concat()), vec16(&vec8(&[6; 31]))];
    assert_eq!(
        rejected(&Sample::new().with(41, short_binder.concat()).wire()),
        RejectReason::Malformed(Malformed::Short { field: "binders" })
    );
}

const PSK_MAX: usize = 32;

// threat 7
#[test]
fn grease_is_left_out_of_every_answer() {
    let mut sample = Sample::new();
    sample.suites = vec![0x0a, 0x0a, 0x00, 0xff, 0x13, 3, 0x13, 1];
    sample.extensions[2].1 = vec![4, 0xfa, 0xfa, 3, 4];
    let wire = sample
        .with(0x1a1a, [0])
        .with(10, [0, 4, 0x2a, 0x2a, 0, 29])
        .with(16, [0, 6, 2, 0x3a, 0x3a, 2, b'h', b'2'])
        .with(51, [0, 10, 0x4a, 0x4a, 0, 1, 0, 0, 29, 0, 1, 7])
        .wire();
    let mut joined = HelloBuffer::new();
    let Peek::Hello(hello) = peek(&wire, &mut joined) else { panic!() };
    assert_eq!(hello.cipher_suites().collect::<Vec<_>>(), [0x00ff, 0x1303, 0x1301]);
    assert!(hello.prefers_chacha20() && hello.offers_tls13());
    assert_eq!(hello.supported_versions().collect::<Vec<_>>(), [0x0304]);
    assert_eq!(hello.supported_groups().collect::<Vec<_>>(), [29]);
    assert_eq!(hello.key_share_groups().collect::<Vec<_>>(), [29]);
    assert_eq!(hello.alpn().collect::<Vec<_>>(), [b"h2"]);
    assert_eq!((hello.session_id_len(), hello.random()), (32, &[9; 32]));
}
