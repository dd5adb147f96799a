//! Records that cost their sender nothing, sealed with the keys of a real session.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use portcullis_kit::unbuffered::RawSealer;
use portcullis_kit::{Gateway, PATIENCE, PlainEcho, TlsStream, connect_tls};
use rustls::SupportedCipherSuite;

use super::support::{Keys, NAME, Pki, cpu, echo, until_closed};

/// Inner content types (RFC 8446 §5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// A session whose records the test seals itself; it reads nothing unless it is told to.
struct Raw {
    sealer: RawSealer,
    socket: TcpStream,
}

impl Raw {
    fn connect(pki: &Pki, gateway: &Gateway) -> Self {
        let mut config = (*pki.alice()).clone();
        config.enable_secret_extraction = true;
        let mut stream = connect_tls(gateway.addr("edge"), NAME, &Arc::new(config)).unwrap();
        echo(&mut stream);
        let TlsStream { conn, sock, .. } = stream;
        let Some(suite @ SupportedCipherSuite::Tls13(_)) = conn.negotiated_cipher_suite() else {
            panic!("not TLS 1.3")
        };
        let (sequence, secrets) = conn.dangerous_extract_secrets().unwrap().tx;
        Self { sealer: RawSealer::new(suite, secrets, sequence), socket: sock }
    }

    /// Sends these inner plaintexts over and over, `count` in all, until the gateway ends it; how
    /// many went out.
    fn flood(&mut self, inner: &[&[u8]], count: usize) -> usize {
        for (sent, plain) in inner.iter().cycle().take(count).enumerate() {
            let record = self.sealer.seal(plain);
            if let Err(error) = self.socket.write_all(&record) {
                assert!(
                    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                    "{error}"
                );
                return sent;
            }
        }
        count
    }
}

/// The session must be ended, for `detail`, while an honest one goes on and memory stays.
fn is_ended(inner: &[&[u8]], detail: &str) {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = pki.gateway(upstream.address(), Keys::default());
    let mut session = pki.session(&gateway);
    let mut raw = Raw::connect(&pki, &gateway);
    let before = gateway.resident();
    let sent = raw.flood(inner, 200_000);
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert!(line["detail"].as_str().unwrap().contains(detail), "after {sent} records: {line}");
    assert_eq!(line["closed_by"], "downstream", "{line}");
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes for {sent} records");
    echo(&mut session);
    drop((session, raw));
    gateway.settled();
}

// threat 16
#[test]
fn a_flood_of_empty_records_ends_the_session() {
    is_ended(&[&[DATA]], "without data");
}

// threat 16
#[test]
fn padding_does_not_make_a_record_less_empty() {
    let mut padded = [0; 512];
    padded[0] = DATA;
    is_ended(&[&padded], "without data");
}

// threat 16
#[test]
fn a_byte_between_them_does_not_buy_empty_records_for_ever() {
    let empty: &[u8] = &[DATA];
    let mut pattern = vec![empty; 31];
    pattern.push(&[1, DATA]);
    is_ended(&pattern, "without data");
}

// threat 16
#[test]
fn warning_alerts_are_no_way_to_talk() {
    // user_canceled, the only warning that TLS 1.3 lets pass.
    is_ended(&[&[1, 90, ALERT]], "without data");
}

// threat 15
#[test]
fn many_key_updates_in_one_record_are_refused() {
    let two = [24, 0, 0, 1, 1, 24, 0, 0, 1, 1, HANDSHAKE];
    is_ended(&[&two], "key");
}

// threat 18
#[test]
fn a_client_hello_within_a_session_is_refused() {
    is_ended(&[&[1, 0, 0, 1, 0, HANDSHAKE]], "message");
}

// threat 17
#[test]
fn records_of_one_byte_pass_whole_for_long() {
    const RECORDS: usize = 50_000;
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = pki.gateway(upstream.address(), Keys::default());
    let mut session = pki.session(&gateway);
    let mut raw = Raw::connect(&pki, &gateway);
    // The echo comes back sealed, some bytes longer; somebody has to take it.
    let mut reader = raw.socket.try_clone().unwrap();
    let back = std::thread::spawn(move || {
        let mut all = 0;
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            all += length;
        }
        all
    });
    let before = cpu(&gateway);
    assert_eq!(raw.flood(&[&[b'x', DATA]], RECORDS), RECORDS);
    upstream.wait("each byte", |counts| counts.bytes == RECORDS as u64 + 2);
    let spent = cpu(&gateway) - before;
    assert!(spent < Duration::from_secs(10), "{spent:?} for {RECORDS} bytes");
    echo(&mut session);
    // close_notify, and bytes behind it that nobody may see.
    raw.flood(&[&[1, 0, ALERT], &[b'y', DATA]], 2);
    assert!(back.join().unwrap() >= RECORDS);
    drop((session, raw));
    let metrics = gateway.settled();
    assert_eq!(upstream.counts().bytes, RECORDS as u64 + 3, "nothing from behind the end");
    assert_eq!(metrics.refusals("client_record"), 0);
}

// threat 27
#[test]
fn a_client_that_never_closes_is_closed_when_half_of_it_is_over() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let keys = Keys { listener: "timeouts = { half_closed = \"300ms\" }", ..Keys::default() };
    let gateway = pki.gateway(upstream.address(), keys);
    let mut raw = Raw::connect(&pki, &gateway);
    // Bulk that the client does not read, then its end: the echo can never be delivered.
    let block = [&vec![0; 16 * 1024][..], &[DATA]].concat();
    raw.socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut wedged = false;
    for _ in 0..4_000 {
        if raw.socket.write_all(&raw.sealer.seal(&block)).is_err() {
            wedged = true;
            break;
        }
    }
    assert!(wedged, "64 MiB were buffered for a client that reads nothing");
    upstream.wait("bytes", |counts| counts.bytes > 0);
    assert!(gateway.terminate().code().is_some());
    until_closed(&raw.socket);
}
