//! Postgres' prelude on both sides: what is asked and answered before TLS, and what is never taken for
//! what a client or an upstream said within it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, Scripted, ServerTls, TlsEcho, TlsStream, close_write,
    connect_plain, connect_tls, monotonic_now, read_to_end, reset, round_trip,
};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::Value;

use crate::hello;
use crate::support::{Config, NAME, Pki};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
const CANCEL_REQUEST: [u8; 16] = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2];
const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0alice\0\0";

/// Listener `edge` with the prelude: mutual TLS to `upstream`, and what `more` says.
fn gateway(pki: &Pki, upstream: SocketAddr, timeouts: &str, more: &str) -> Gateway {
    Config::new(1)
        .listener("edge", &format!("prelude = \"postgres\"\n{timeouts}"))
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(pki, "")
        .cluster("app", &[upstream], "")
        .table(more)
        .start()
}

/// Listener `edge` without it, and a cluster that asks `endpoints` for TLS.
fn asking(pki: &Pki, endpoints: &[SocketAddr], keys: &str) -> Gateway {
    let keys = format!("tls = \"db\"\nprelude = \"postgres\"\n{keys}");
    Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster("db", endpoints, &keys)
        .start()
}

fn refused(gateway: &Gateway, reason: &str) -> Value {
    gateway.wait_access(PATIENCE, |line| line["reason"] == reason)
}

/// All that still comes; the client goes then, and is not waited for.
fn answer(socket: TcpStream) -> Vec<u8> {
    let bytes = hello::answer(&socket);
    drop(socket);
    bytes
}

fn one_byte(mut socket: &TcpStream) -> u8 {
    let mut byte = [0];
    socket.read_exact(&mut byte).unwrap();
    byte[0]
}

/// Alice's session on a socket whose prelude is over.
fn begin_tls(pki: &Pki, socket: TcpStream) -> TlsStream {
    let name = ServerName::try_from(NAME).unwrap();
    rustls::StreamOwned::new(ClientConnection::new(pki.client().build(), name).unwrap(), socket)
}

fn use_once(mut stream: TlsStream) {
    assert_eq!(round_trip(&mut stream, b"within").unwrap(), b"within");
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

#[test]
fn tls_is_taken_when_it_was_asked_for_and_from_the_first_byte() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = gateway(&pki, upstream.address(), "", "");
    use_once(pki.connect(&gateway));
    for crumb in [1, 3, 8] {
        let mut socket = connect_plain(gateway.addr("edge")).unwrap();
        for part in SSL_REQUEST.chunks(crumb) {
            socket.write_all(part).unwrap();
        }
        assert_eq!(one_byte(&socket), b'S');
        use_once(begin_tls(&pki, socket));
    }
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&GSSENC_REQUEST).unwrap();
    assert_eq!(one_byte(&socket), b'N');
    socket.write_all(&SSL_REQUEST).unwrap();
    assert_eq!(one_byte(&socket), b'S');
    use_once(begin_tls(&pki, socket));
    assert_eq!(gateway.settled().sum("portcullis_sessions_total", &[]), 5);
}

#[test]
fn a_session_in_plain_text_is_refused_in_words_of_postgres() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = gateway(&pki, upstream.address(), "", "");
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(STARTUP).unwrap();
    let said = answer(socket);
    let text = String::from_utf8_lossy(&said);
    assert!(text.starts_with('E') && text.contains("C28000\0"), "{text:?}");
    assert!(text.contains("this server requires SSL"), "{text:?}");
    let line = refused(&gateway, "tls_required");
    assert_eq!(line["alert"], Value::Null, "{line}");
    // It has the same rights after it was refused GSSAPI, which are none.
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&GSSENC_REQUEST).unwrap();
    assert_eq!(one_byte(&socket), b'N');
    socket.write_all(STARTUP).unwrap();
    assert_eq!(answer(socket), said);
    assert_eq!(gateway.settled().refusals("tls_required"), 2);
    assert_eq!(upstream.counts().accepted, 0);
}

#[test]
fn plain_text_goes_to_a_raw_chain_whole_and_nowhere_else() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let strict = gateway(&pki, upstream.address(), "", "");
    let mut socket = connect_plain(strict.addr("edge")).unwrap();
    socket.write_all(&CANCEL_REQUEST).unwrap();
    assert_eq!(answer(socket), b"", "the protocol has no answer");
    refused(&strict, "cancel_refused");
    assert_eq!(upstream.counts().accepted, 0);
    let raw = "[listener.edge.chain.plain]\nmatch = { transport = \"raw\" }\ncluster = \"app\"";
    let permissive = gateway(&pki, upstream.address(), "", raw);
    for packet in [&CANCEL_REQUEST[..], STARTUP] {
        let mut socket = connect_plain(permissive.addr("edge")).unwrap();
        assert_eq!(round_trip(&mut socket, packet).unwrap(), packet);
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(answer(socket), b"");
    }
    assert_eq!(permissive.settled().sum("portcullis_sessions_total", &[]), 2);
}

#[test] // threat 51
fn who_was_promised_tls_does_not_go_on_in_plain_text() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let raw = "[listener.edge.chain.plain]\nmatch = { transport = \"raw\" }\ncluster = \"app\"";
    let gateway = gateway(&pki, upstream.address(), "", raw);
    for packet in [STARTUP, &CANCEL_REQUEST, &SSL_REQUEST, b"GET / HTTP/1.1\r\n\r\n"] {
        let mut socket = connect_plain(gateway.addr("edge")).unwrap();
        socket.write_all(&SSL_REQUEST).unwrap();
        assert_eq!(one_byte(&socket), b'S');
        socket.write_all(packet).unwrap();
        assert_eq!(answer(socket), b"");
    }
    assert_eq!(gateway.settled().refusals("not_tls"), 4);
    assert_eq!(upstream.counts().accepted, 0);
}

#[test] // threat 51
fn bytes_behind_a_request_are_refused_and_not_answered() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let raw = "[listener.edge.chain.plain]\nmatch = { transport = \"raw\" }\ncluster = \"app\"";
    let gateway = gateway(&pki, upstream.address(), "", raw);
    let mut count = 0;
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        for behind in [STARTUP, &[22, 3, 1, 0, 5], b"\0"] {
            let mut socket = connect_plain(gateway.addr("edge")).unwrap();
            socket.write_all(&[&request[..], behind].concat()).unwrap();
            assert_eq!(answer(socket), b"");
            count += 1;
        }
    }
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&GSSENC_REQUEST).unwrap();
    assert_eq!(one_byte(&socket), b'N');
    socket.write_all(&GSSENC_REQUEST).unwrap();
    assert_eq!(answer(socket), b"");
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("prelude_smuggled"), count);
    assert_eq!(metrics.refusals("prelude_malformed"), 1);
    assert_eq!(upstream.counts().accepted, 0);
}

#[test] // threat 1
fn a_prelude_counts_in_the_time_for_the_hello() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = gateway(&pki, upstream.address(), "timeouts = { hello = \"400ms\" }", "");
    let began = monotonic_now();
    let mut silent = connect_plain(gateway.addr("edge")).unwrap();
    silent.write_all(&SSL_REQUEST[..7]).unwrap();
    let mut slow = connect_plain(gateway.addr("edge")).unwrap();
    slow.write_all(&GSSENC_REQUEST).unwrap();
    assert_eq!(one_byte(&slow), b'N');
    slow.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // Time passes, and progress is made.
    let waited = slow.read(&mut [0]).expect_err("nothing more is said");
    assert!(matches!(waited.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waited}");
    slow.write_all(&SSL_REQUEST).unwrap();
    assert_eq!(one_byte(&slow), b'S');
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(answer(slow), b"");
    assert_eq!(answer(silent), b"");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(350), "cut too early: {took:?}");
    assert!(took < Duration::from_secs(4), "cut too late: {took:?}");
    assert_eq!(gateway.settled().refusals("hello_timeout"), 2);
}

#[test]
fn who_leaves_in_the_middle_of_a_prelude_is_no_probe() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = gateway(&pki, upstream.address(), "", "");
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&SSL_REQUEST).unwrap();
    assert_eq!(one_byte(&socket), b'S');
    drop(socket);
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&SSL_REQUEST[..5]).unwrap();
    reset(socket);
    drop(connect_plain(gateway.addr("edge")).unwrap());
    refused(&gateway, "probe");
    let metrics = gateway.settled();
    assert_eq!((metrics.refusals("hello_truncated"), metrics.refusals("probe")), (2, 1));
}

#[test]
fn without_the_key_a_prelude_is_not_answered() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, upstream.address()).start();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&SSL_REQUEST).unwrap();
    assert_eq!(answer(socket), b"");
    let line = refused(&gateway, "not_tls");
    assert!(line["detail"].as_str().unwrap().contains("Postgres before TLS"), "{line}");
}

/// A server that wants to be asked for TLS, says `S`, and is `tls` from then on.
fn postgres_before(tls: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut outer, _)) = listener.accept() {
            thread::spawn(move || {
                let mut request = [0; 8];
                outer.read_exact(&mut request).unwrap();
                assert_eq!(request, SSL_REQUEST);
                outer.write_all(b"S").unwrap();
                let inner = TcpStream::connect(tls).unwrap();
                let ways = [(&outer, &inner), (&inner, &outer)];
                thread::scope(|scope| {
                    for (mut from, mut to) in ways {
                        scope.spawn(move || {
                            drop(io::copy(&mut from, &mut to));
                            drop(to.shutdown(Shutdown::Write));
                        });
                    }
                });
            });
        }
    });
    address
}

#[test]
fn an_upstream_is_asked_for_tls_by_clients_and_ahead_of_need() {
    let pki = Pki::new();
    let tls = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let database = postgres_before(tls.address());
    for (pool, is_ready) in
        [("{ ready_max = 0 }", false), ("{ ready_min = 1, ready_max = 1 }", true)]
    {
        let gateway = asking(&pki, &[database], &format!("pool = {pool}"));
        if is_ready {
            portcullis_kit::eventually(PATIENCE, "a ready connection", || {
                (gateway.metrics().sum("portcullis_upstream_ready", &[]) > 0).then_some(())
            });
        }
        use_once(pki.connect(&gateway));
        let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
        assert_eq!(line["upstream_ready"], is_ready, "{line}");
        assert_eq!(line["closing"], "clean", "{line}");
    }
}

/// An endpoint that answers the request with these bytes and waits for the end.
fn answering(bytes: &'static [u8]) -> Scripted<Vec<u8>> {
    Scripted::start(move |mut socket| {
        let mut request = [0; 8];
        socket.read_exact(&mut request).unwrap();
        assert_eq!(request, SSL_REQUEST);
        socket.write_all(bytes).unwrap();
        if bytes.is_empty() {
            return Vec::new();
        }
        answer(socket)
    })
}

#[test] // threat 51
fn an_upstream_that_will_not_speak_tls_gets_no_byte_more() {
    let pki = Pki::new();
    for (said, reason, words) in [
        (&b"N"[..], "upstream_no_tls", "N: it has no TLS"),
        (b"E\0\0\0\x40SFATAL\0", "upstream_no_tls", "an error message"),
        (b"HTTP/1.1 400 Bad Request", "upstream_no_tls", "byte 0x48"),
        (b"S\x16\x03\x03\x00\x05", "upstream_smuggled", "5 bytes behind its S"),
        (b"SR\0\0\0\x08\0\0\0\0", "upstream_smuggled", "9 bytes behind its S"),
        (b"", "upstream_tls", "left when it was asked for TLS"),
    ] {
        let database = answering(said);
        let keys = "pool = { ready_max = 0 }\nconnect = { attempts = 1 }";
        let gateway = asking(&pki, &[database.address()], keys);
        let mut client = connect_tls(gateway.addr("edge"), NAME, &pki.client().build()).unwrap();
        assert!(round_trip(&mut client, b"secret").is_err(), "{words}");
        drop(client);
        let line = refused(&gateway, reason);
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{line}");
        assert!(detail.contains(&database.address().to_string()), "{line}");
        assert_eq!(database.result(), b"", "{words}");
    }
}

#[test] // threat 28
fn an_upstream_that_is_silent_when_it_is_asked_costs_the_timeout_and_no_more() {
    let pki = Pki::new();
    let silent = Scripted::start(|mut socket| {
        let mut request = [0; 8];
        socket.read_exact(&mut request).unwrap();
        answer(socket)
    });
    let keys = "pool = { ready_max = 0 }\nconnect = { timeout = \"300ms\", attempts = 1 }";
    let gateway = asking(&pki, &[silent.address()], keys);
    let began = monotonic_now();
    let mut client = connect_tls(gateway.addr("edge"), NAME, &pki.client().build()).unwrap();
    assert!(round_trip(&mut client, b"secret").is_err());
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(4), "{took:?}");
    drop(client);
    refused(&gateway, "upstream_timeout");
    assert_eq!(silent.result(), b"");
}

#[test]
fn after_an_endpoint_without_tls_the_next_is_tried() {
    let pki = Pki::new();
    let tls = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let (plain, database) = (answering(b"N"), postgres_before(tls.address()));
    let gateway = asking(&pki, &[plain.address(), database], "pool = { ready_max = 0 }");
    use_once(pki.connect(&gateway));
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert_eq!(line["upstream"], database.to_string(), "{line}");
    assert_eq!(plain.result(), b"");
    assert_eq!(gateway.settled().sum("portcullis_upstream_dial_failures_total", &[]), 1);
}
