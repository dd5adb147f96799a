//! Bytes that the gateway does not open: TLS by server name, plain text beside TLS, and servers that
//! speak first.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;

use portcullis_kit::{
    Behaviour, ClientTls, PATIENCE, PlainEcho, Scripted, ServerTls, TlsEcho, close_write,
    connect_plain, connect_tls, read_to_end, reset, round_trip,
};

use crate::support::{Config, Pki, UPSTREAM_NAME, assert_same, pattern};

const MIB: usize = 1024 * 1024;

fn raw(upstream: std::net::SocketAddr) -> Config {
    Config::new(1)
        .listener("edge", "")
        .chain("edge", "raw", "match = { transport = \"raw\" }\ncluster = \"app\"")
        .cluster("app", &[upstream], "")
}

#[test]
fn unopened_tls_ends_at_the_upstream() {
    let pki = Pki::new();
    let upstream =
        TlsEcho::start(ServerTls::new(&pki.upstream).require_clients_of(&pki.ca).build());
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain(
            "edge",
            "unopened",
            &format!("match = {{ server_names = [\"{UPSTREAM_NAME}\"] }}\ncluster = \"app\""),
        )
        .cluster("app", &[upstream.address()], "")
        .start();
    for client in [pki.client().only_tls12(), pki.client().only_tls13()] {
        let mut stream = connect_tls(gateway.addr("edge"), UPSTREAM_NAME, &client.build()).unwrap();
        assert_eq!(&stream.conn.peer_certificates().unwrap()[0], pki.upstream.leaf());
        let sent = pattern(1, 4 * MIB);
        assert_same(&round_trip(&mut stream, &sent).unwrap(), &sent, "through");
        close_write(&mut stream).unwrap();
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    }
    let seen = upstream.wait("two handshakes", |counts| counts.handshakes.len() == 2);
    // Mutual TLS is between the client and the upstream: the gateway has no part in it.
    assert!(seen.handshakes.iter().all(|one| &one.client_chain[0] == pki.alice.leaf()));
    gateway.settled();
    let log = gateway.access_log();
    assert!(log.iter().all(|line| line["tls"].is_null() && line["sni"] == UPSTREAM_NAME));
}

#[test]
fn bulk_passes_through_pipes_both_ways_at_once() {
    const LENGTH: usize = 32 * MIB;
    let upstream = PlainEcho::start();
    let gateway = raw(upstream.address()).start();
    let sent = pattern(5, LENGTH);
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    let mut writing = socket.try_clone().unwrap();
    let writer = thread::spawn({
        let sent = sent.clone();
        move || {
            writing.write_all(&sent).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        }
    });
    let mut back = Vec::new();
    socket.read_to_end(&mut back).unwrap();
    writer.join().unwrap();
    assert_same(&back, &sent, "there and back");
    gateway.settled();
}

/// Bytes of a fast stream gather in its socket before they are fetched. These are all that come until
/// they are answered.
#[test]
fn a_stream_that_falls_silent_has_nothing_of_it_kept_back() {
    let upstream = PlainEcho::start();
    let gateway = raw(upstream.address()).start();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    for turn in 0..4 {
        let sent = pattern(turn, 32 * MIB + 7);
        let mut back = vec![0; sent.len()];
        let mut writing = socket.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| writing.write_all(&sent).unwrap());
            socket.read_exact(&mut back).unwrap();
        });
        assert_same(&back, &sent, "there and back");
    }
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut socket).unwrap(), b"");
    gateway.settled();
}

#[test] // threat 23
fn ends_are_carried_across_unopened_in_both_orders() {
    let (question, answer) = (pattern(1, MIB), pattern(2, 2 * MIB));
    let upstream = Scripted::start({
        let answer = answer.clone();
        move |mut socket| {
            let mut question = Vec::new();
            socket.read_to_end(&mut question).unwrap();
            socket.write_all(&answer).unwrap();
            question
        }
    });
    let gateway = raw(upstream.address()).start();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&question).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_same(&read_to_end(&mut socket).unwrap(), &answer, "the answer");
    assert_same(&upstream.result(), &question, "the question");
    gateway.settled();
    drop(gateway);

    let upstream = Scripted::start({
        let answer = answer.clone();
        move |mut socket| {
            socket.write_all(&answer).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            let mut question = Vec::new();
            socket.read_to_end(&mut question).unwrap();
            question
        }
    });
    let gateway = raw(upstream.address()).start();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    assert_same(&read_to_end(&mut socket).unwrap(), &answer, "the speech");
    socket.write_all(&question).unwrap();
    drop(socket);
    assert_same(&upstream.result(), &question, "the reply");
    gateway.settled();
}

#[test] // threat 25
fn resets_are_carried_across_unopened_in_bulk() {
    let upstream = Scripted::start(|mut socket| {
        let sent = pattern(3, MIB);
        socket.write_all(&sent).unwrap();
        socket.read(&mut [0; 64]).map_err(|error| error.kind())
    });
    let gateway = raw(upstream.address()).start();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.read_exact(&mut vec![0; MIB]).unwrap();
    reset(socket);
    assert_eq!(upstream.result(), Err(ErrorKind::ConnectionReset));
    gateway.settled();
    drop(gateway);

    let upstream = Scripted::start(|mut socket| {
        socket.read_exact(&mut vec![0; MIB]).unwrap();
        reset(socket);
    });
    let gateway = raw(upstream.address()).start();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(&pattern(3, MIB)).unwrap();
    assert_eq!(socket.read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    upstream.result();
    assert_eq!(gateway.settled().refusals("upstream_reset"), 1);
}

#[test]
fn tls_and_plain_text_share_a_port() {
    let pki = Pki::new();
    let (inside, outside) = (PlainEcho::start(), PlainEcho::start());
    let gateway = Config::edge(&pki, inside.address())
        .chain(
            "edge",
            "raw",
            "match = { transport = \"raw\", sources = [\"127.0.0.0/8\"] }\ncluster = \"old\"",
        )
        .cluster("old", &[outside.address()], "")
        .start();
    let mut plain = connect_plain(gateway.addr("edge")).unwrap();
    assert_eq!(round_trip(&mut plain, b"GET / HTTP/1.0\r\n\r\n").unwrap().len(), 18);
    drop(plain);
    let mut stream = pki.connect(&gateway);
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    let without = ClientTls::trusting(&pki.ca).build();
    // A client without certificate is not taken for plain text.
    assert!(matches!(
        portcullis_kit::refusal(gateway.addr("edge"), "edge.test", &without),
        portcullis_kit::Refusal::Alert(_)
    ));
    assert_eq!((inside.counts().bytes, outside.counts().bytes), (5, 18));
    gateway.settled();
}

#[test]
fn a_server_may_speak_first_where_all_is_plain_text() {
    let upstream = PlainEcho::with(Behaviour::Greet(b"220 ready\r\n".to_vec()));
    let gateway = raw(upstream.address()).start();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    let mut greeting = [0; 11];
    socket.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    assert_eq!(round_trip(&mut socket, b"EHLO\r\n").unwrap(), b"EHLO\r\n");
    drop(socket);
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert_eq!(line["bytes_sent"], 17, "{line}");
    gateway.settled();
}

#[test]
fn clients_of_both_families_reach_a_listener_on_all_addresses() {
    let upstream = PlainEcho::start();
    let gateway = Config::new(2)
        .table("[listener.edge]\naddress = \"[::]:0\"")
        .chain("edge", "near", "match = { transport = \"raw\", sources = [\"127.0.0.0/8\", \"::1\"] }\ncluster = \"app\"")
        .cluster("app", &[upstream.address()], "")
        .start();
    let port = gateway.addr("edge").port();
    for near in ["127.0.0.1", "::1"] {
        let near: std::net::IpAddr = near.parse().unwrap();
        let mut socket = connect_plain((near, port).into()).unwrap();
        assert_eq!(round_trip(&mut socket, b"hello").unwrap(), b"hello");
        let source = socket.local_addr().unwrap().to_string();
        drop(socket);
        // By the address that the client knows itself by, not by its form inside IPv6.
        gateway.wait_access(PATIENCE, |line| line["source"] == source);
    }
    gateway.settled();
}
