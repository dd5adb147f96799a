//! The first bytes: whole, in crumbs, slow, too many, or no TLS at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use portcullis_kit::{
    ClientTls, Gateway, PATIENCE, PlainEcho, connect_plain, monotonic_now, round_trip,
};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::Value;

use crate::support::{Config, NAME, Pki};

/// A gateway whose hello may take `hello`; everything else has more patience than the tests.
fn patient(pki: &Pki, upstream: &PlainEcho, hello: &str) -> Gateway {
    Config::new(1)
        .listener("edge", &format!("timeouts = {{ hello = \"{hello}\", handshake = \"15s\" }}"))
        .chain(
            "edge",
            "named",
            &format!(
                "match = {{ server_names = [\"{NAME}\", \"*.edge.test\"] }}\ntls = \"edge\"\ncluster = \"app\""
            ),
        )
        .mutual(pki, "")
        .cluster("app", &[upstream.address()], "")
        .start()
}

/// A hello for `name` as rustls sends it, in one record.
pub(crate) fn hello(pki: &Pki, name: &str) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(pki.client().build(), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    (connection, bytes)
}

/// The same message in records of `size` bytes.
fn records(hello: &[u8], size: usize) -> Vec<u8> {
    let pieces = hello[5..].chunks(size).map(|piece| {
        let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [&[22, 3, 1], &length[..], piece].concat()
    });
    pieces.flatten().collect()
}

/// All that comes until the end; a reset ends it too.
pub(crate) fn answer(mut socket: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("{error}"),
    }
}

fn refused(gateway: &Gateway, reason: &str) -> Value {
    gateway.wait_access(PATIENCE, |line| line["reason"] == reason)
}

/// A plaintext alert record (RFC 8446 §5.1).
fn alert(code: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, code]
}

#[test] // threat 2
fn a_hello_in_crumbs_of_records_and_segments_is_routed_by_its_name() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = patient(&pki, &echoes, "15s");
    let mut longest = 0;
    for size in [1, 7, 100, 500] {
        let (connection, whole) = hello(&pki, NAME);
        let bytes = records(&whole, size);
        let socket = connect_plain(gateway.addr("edge")).unwrap();
        // One byte a segment: TCP_NODELAY is set, so each write leaves at once.
        let mut writing = &socket;
        let sent = bytes.chunks(1).try_for_each(|byte| writing.write_all(byte));
        let count = whole[5..].len().div_ceil(size);
        longest = longest.max(count);
        if count > 64 {
            // Too many records for one hello: refused, and not a question of patience.
            drop(sent);
            answer(&socket);
            refused(&gateway, "hello_too_large");
            continue;
        }
        sent.unwrap();
        // rustls hashed its own record layout nowhere: the transcript is of messages.
        let mut stream = rustls::StreamOwned::new(connection, socket);
        assert_eq!(round_trip(&mut stream, b"in crumbs").unwrap(), b"in crumbs", "{size}");
        portcullis_kit::close_write(&mut stream).unwrap();
        assert_eq!(portcullis_kit::read_to_end(&mut stream).unwrap(), b"");
    }
    assert!(longest > 64);
    gateway.settled();
}

#[test] // threat 1
fn a_slow_hello_is_cut_at_its_deadline_although_it_makes_progress() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = patient(&pki, &echoes, "400ms");
    let (_, whole) = hello(&pki, NAME);
    let began = monotonic_now();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut cut = false;
    // A byte, then up to 20 ms of waiting for the end: the end is the event.
    for byte in whole.chunks(1) {
        if socket.write_all(byte).is_err() {
            cut = true;
            break;
        }
        match socket.read(&mut [0; 16]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => {
                cut = true;
                break;
            }
        }
    }
    let took = began.elapsed();
    assert!(cut, "the hello of {} bytes was heard to its end", whole.len());
    assert!(took >= Duration::from_millis(350), "cut too early: {took:?}");
    assert!(took < Duration::from_secs(4), "cut too late: {took:?}");
    refused(&gateway, "hello_timeout");
    drop(socket);
    // One that says nothing at all is cut as well.
    let silent = connect_plain(gateway.addr("edge")).unwrap();
    answer(&silent);
    drop(silent);
    assert_eq!(gateway.settled().refusals("hello_timeout"), 2);
    assert_eq!(echoes.counts().accepted, 0);
}

#[test] // threat 1
fn a_slow_handshake_is_cut_at_its_deadline() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::new(1)
        .listener("edge", "timeouts = { hello = \"300ms\", handshake = \"600ms\" }")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "")
        .start();
    let (_, whole) = hello(&pki, NAME);
    let began = monotonic_now();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&whole).unwrap();
    // The server's flight comes, then nothing; the client never answers.
    answer(&socket);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
    let line = refused(&gateway, "handshake_timeout");
    assert_eq!(line["chain"], "default", "{line}");
    drop(socket);
    gateway.settled();
}

#[test] // threat 3
fn a_hello_that_claims_too_much_is_refused_at_the_claim() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = patient(&pki, &echoes, "15s");
    // A record of 16 bytes in which a ClientHello of 64 KiB begins.
    let claim = [22, 3, 1, 0, 16, 1, 0, 255, 255, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&claim).unwrap();
    assert_eq!(answer(&socket), alert(47));
    let line = refused(&gateway, "hello_too_large");
    assert!(line["detail"].as_str().unwrap().contains("claims 65535 bytes"), "{line}");
    drop(socket);
    gateway.settled();
}

#[test] // threat 4
fn what_is_not_tls_is_refused_without_a_word() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = patient(&pki, &echoes, "15s");
    let fixtures: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: edge.test\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"EHLO client.test\r\n",
        // An SSLv2 hello, and noise.
        &[0x80, 0x2e, 0x01, 0x03, 0x01, 0x00, 0x15, 0, 0, 0, 0x10, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[0xff; 64],
    ];
    for bytes in fixtures {
        let mut socket = connect_plain(gateway.addr("edge")).unwrap();
        socket.write_all(bytes).unwrap();
        assert_eq!(answer(&socket), b"", "{bytes:?}");
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("not_tls"), 6);
    assert_eq!(echoes.counts().accepted, 0);
    let log = gateway.access_log();
    assert!(log.iter().all(|line| line["detail"].is_string() && line["hint"].is_string()));
}

/// A ClientHello of TLS 1.2 with these extensions.
pub(crate) fn crafted(extensions: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend(length(extensions.len()));
    body.extend(extensions);
    let mut bytes = vec![22, 3, 1];
    bytes.extend(length(body.len() + 4));
    bytes.extend([1, 0]);
    bytes.extend(length(body.len()));
    bytes.extend(body);
    bytes
}

/// A server_name extension with these host names (RFC 6066 §3).
pub(crate) fn sni(names: &[&[u8]]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let list: Vec<u8> =
        names.iter().flat_map(|name| [&[0], &length(name.len())[..], name].concat()).collect();
    [&[0, 0], &length(list.len() + 2)[..], &length(list.len()), &list].concat()
}

#[test] // threat 5
fn names_that_are_no_host_names_never_reach_a_chain() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = patient(&pki, &echoes, "15s");
    let long = [b'a'; 300];
    let (unrecognized, decode_error, illegal) = (alert(112), alert(50), alert(47));
    type Case<'a> = (&'a [&'a [u8]], [u8; 7], &'a str);
    let cases: [Case<'_>; 9] = [
        (&[b"edge.test."], unrecognized, "sni_invalid"),
        (&[b"127.0.0.1"], unrecognized, "sni_invalid"),
        (&[b"::1"], unrecognized, "sni_invalid"),
        (&[b"edge.test\0.evil.test"], unrecognized, "sni_invalid"),
        (&["b\u{fc}cher.test".as_bytes()], unrecognized, "sni_invalid"),
        (&[b"a b\"\n{\"outcome\":\"forged\"}"], unrecognized, "sni_invalid"),
        (&[&long], unrecognized, "sni_invalid"),
        (&[b"edge.test", b"other.test"], illegal, "hello_malformed"),
        (&[b""], decode_error, "hello_malformed"),
    ];
    for (names, expected, reason) in cases {
        let mut socket = connect_plain(gateway.addr("edge")).unwrap();
        socket.write_all(&crafted(&sni(names))).unwrap();
        assert_eq!(answer(&socket), expected, "{names:?}");
        refused(&gateway, reason);
    }
    let twice = [sni(&[b"edge.test"]), sni(&[b"edge.test"])].concat();
    for (extensions, expected) in [(twice, illegal), (Vec::new(), unrecognized)] {
        let mut socket = connect_plain(gateway.addr("edge")).unwrap();
        socket.write_all(&crafted(&extensions)).unwrap();
        assert_eq!(answer(&socket), expected);
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("sni_invalid"), 7);
    assert_eq!(metrics.refusals("hello_malformed"), 3);
    assert_eq!(metrics.refusals("no_chain"), 1);
    assert!(gateway.access_log().iter().all(|line| line["outcome"] == "refused"));
}

#[test]
fn a_probe_is_logged_as_one_and_makes_no_noise() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = patient(&pki, &echoes, "15s");
    let before = gateway.other_output();
    drop(connect_plain(gateway.addr("edge")).unwrap());
    portcullis_kit::reset(connect_plain(gateway.addr("edge")).unwrap());
    let half = connect_plain(gateway.addr("edge")).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    answer(&half);
    let line = refused(&gateway, "probe");
    assert!(line["alert"].is_null() && line["chain"].is_null(), "{line}");
    assert_eq!(gateway.settled().refusals("probe"), 3);
    let noise = gateway.other_output().replacen(&before, "", 1);
    assert!(!noise.contains("WARN") && !noise.contains("ERROR"), "{noise}");
}

#[test]
fn a_hello_that_breaks_off_is_no_probe() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = patient(&pki, &echoes, "15s");
    let (_, whole) = hello(&pki, NAME);
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&whole[..whole.len() / 2]).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    answer(&socket);
    refused(&gateway, "hello_truncated");
    drop(socket);
    gateway.settled();
}

#[test]
fn data_that_comes_with_the_end_of_the_handshake_is_not_lost() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = patient(&pki, &echoes, "15s");
    let config = Arc::new((*ClientTls::trusting(&pki.ca).identity(&pki.alice).build()).clone());
    for _ in 0..20 {
        let name = ServerName::try_from(NAME).unwrap();
        let mut connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
        // Written before the handshake: rustls sends it in one flight with Finished.
        connection.writer().write_all(b"early bird").unwrap();
        let socket = connect_plain(gateway.addr("edge")).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, socket);
        stream.flush().unwrap();
        let mut back = [0; 10];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"early bird");
        portcullis_kit::close_write(&mut stream).unwrap();
        assert_eq!(portcullis_kit::read_to_end(&mut stream).unwrap(), b"");
    }
    gateway.settled();
}
