//! How sessions end over every pair of protocols, and what time limits do to those that do not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use portcullis_kit::{
    Behaviour, ClientTls, Gateway, PATIENCE, PlainEcho, Scripted, ServerTls, close_write,
    connect_plain, connect_tls, eventually, monotonic_now, read_to_end, reset, round_trip,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::support::{Config, NAME, Pki, assert_same, pattern};

const MIB: usize = 1024 * 1024;

/// The edge with an upstream that speaks TLS, dialled when a client comes.
fn encrypted<T: Send + 'static>(pki: &Pki, upstream: &Scripted<T>) -> Gateway {
    Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster(
            "db",
            &[upstream.address()],
            "tls = \"db\"\npool = { ready_min = 0, ready_max = 0 }",
        )
        .start()
}

fn accept(
    config: &Arc<ServerConfig>,
    socket: TcpStream,
) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), socket)
}

fn clients(pki: &Pki) -> [ClientTls<'_>; 2] {
    [pki.client().only_tls12(), pki.client().only_tls13()]
}

#[test] // threat 23
fn half_closes_cross_every_pair_of_protocols() {
    let pki = Pki::new();
    let answer = pattern(2, 2 * MIB);
    for only12 in [true, false] {
        for client in clients(&pki) {
            let server = ServerTls::new(&pki.upstream);
            let server = if only12 { server.only_tls12() } else { server.only_tls13() }.build();
            let said = answer.clone();
            let upstream = Scripted::start(move |socket| {
                let mut stream = accept(&server, socket);
                let question = read_to_end(&mut stream).unwrap();
                stream.write_all(&said).unwrap();
                stream.conn.send_close_notify();
                stream.flush().unwrap();
                stream.sock.shutdown(Shutdown::Write).unwrap();
                question
            });
            let gateway = encrypted(&pki, &upstream);
            let question = pattern(1, MIB);
            let mut stream = connect_tls(gateway.addr("edge"), NAME, &client.build()).unwrap();
            stream.write_all(&question).unwrap();
            close_write(&mut stream).unwrap();
            assert_same(&read_to_end(&mut stream).unwrap(), &answer, "the answer");
            assert_same(&upstream.result(), &question, "the question");
            let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
            assert!(line["reason"].is_null() && line["closing"] == "clean", "{line}");
            gateway.settled();
        }
    }
}

#[test] // threat 24
fn a_whole_session_in_one_flight_is_answered() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echoes.address()).start();
    for client in clients(&pki) {
        let config = client.build();
        for _ in 0..10 {
            let name = ServerName::try_from(NAME).unwrap();
            let mut connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
            connection.writer().write_all(b"all there is").unwrap();
            let mut socket = connect_plain(gateway.addr("edge")).unwrap();
            connection.write_tls(&mut socket).unwrap();
            while connection.is_handshaking() {
                connection.read_tls(&mut socket).unwrap();
                connection.process_new_packets().unwrap();
                // Whatever goes out goes out together with what is said below.
                if connection.is_handshaking() && config_is_tls12(&connection) {
                    connection.write_tls(&mut socket).unwrap();
                }
            }
            connection.send_close_notify();
            let mut flight = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut flight).unwrap();
            }
            socket.write_all(&flight).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            let mut stream = StreamOwned::new(connection, socket);
            assert_eq!(read_to_end(&mut stream).unwrap(), b"all there is");
        }
    }
    gateway.settled();
}

/// In TLS 1.2 the client's flight has to leave before the handshake can end.
fn config_is_tls12(connection: &ClientConnection) -> bool {
    connection.wants_write()
        && connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2)
}

#[test] // threats 25, 27
fn an_upstream_that_does_not_read_holds_its_clients_back() {
    const STALLED: u64 = 3;
    let pki = Pki::new();
    let upstream = PlainEcho::with(Behaviour::Stall);
    let gateway = Config::edge(&pki, upstream.address()).start();
    let chunk = pattern(1, 16 * 1024);
    let stall = || {
        let mut stream = pki.connect(&gateway);
        stream.sock.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        // Sealed apart: rustls' own stream reads where it cannot write, and so would wait for an
        // answer.
        let written = (0..4096).take_while(|_| {
            let mut sealed = Vec::new();
            stream.conn.writer().write_all(&chunk).unwrap();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut sealed).unwrap();
            }
            stream.sock.write_all(&sealed).is_ok()
        });
        assert!(written.count() < 4096, "64 MiB went into an upstream that reads nothing");
        stream
    };
    // The first one warms what all sessions share: code, scratch, spare buffers.
    let mut stalled = vec![stall()];
    let before = gateway.resident();
    stalled.extend((0..STALLED).map(|_| stall()));
    let grown = gateway.resident().saturating_sub(before) / STALLED;
    println!("{} KiB of resident memory behind each upstream that stalls", grown / 1024);
    // The allocator takes memory in steps of 4 MiB, whatever the last byte was for.
    assert!(grown < 2 * MIB as u64 + 4 * MIB as u64 / STALLED, "{grown} bytes");
    // And they are not held for long once their clients are gone, which nobody who reads would tell.
    stalled.into_iter().for_each(|stream| reset(stream.sock));
    gateway.settled();
    drop(upstream);
}

#[test] // threats 25, 27
fn a_client_that_is_reset_while_bytes_wait_for_it_leaves_nothing_behind() {
    let pki = Pki::new();
    let upstream = Scripted::start(|mut socket| {
        let bytes = vec![7; 64 * MIB];
        socket.write_all(&bytes).unwrap_err().kind()
    });
    let gateway = Config::edge(&pki, upstream.address()).start();
    let mut stream = pki.connect(&gateway);
    stream.read_exact(&mut vec![0; MIB]).unwrap();
    reset(stream.sock);
    let kind = upstream.result();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
    assert_eq!(gateway.settled().refusals("client_reset"), 1);
}

#[test]
fn an_idle_session_is_ended_politely_at_its_limit() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::new(1)
        .listener("edge", "timeouts = { idle = \"400ms\", half_closed = \"60s\" }")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "")
        .start();
    let mut stream = pki.connect(&gateway);
    for _ in 0..4 {
        assert_eq!(round_trip(&mut stream, b"still here").unwrap(), b"still here");
    }
    // The gateway counts from the end of the last one.
    let began = monotonic_now();
    assert_eq!(round_trip(&mut stream, b"still here").unwrap(), b"still here");
    // close_notify: the end of a quiet stream is not a cut.
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    let took = began.elapsed().as_millis();
    assert!((300..5_000).contains(&took), "{took} ms");
    close_write(&mut stream).unwrap();
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert_eq!((&line["reason"], &line["closed_by"]), (&"idle_timeout".into(), &"gateway".into()));
    gateway.settled();
}

#[test]
fn a_half_closed_session_has_a_limit_of_its_own() {
    let pki = Pki::new();
    let upstream = PlainEcho::with(Behaviour::Stall);
    let gateway = Config::new(1)
        .listener("edge", "timeouts = { idle = \"60s\", half_closed = \"300ms\" }")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[upstream.address()], "")
        .start();
    let mut stream = pki.connect(&gateway);
    close_write(&mut stream).unwrap();
    drop(read_to_end(&mut stream));
    drop(stream);
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert_eq!(line["reason"], "half_closed_timeout", "{line}");
    drop(upstream);
    gateway.settled();
}

#[test]
fn many_clients_of_every_kind_leave_counters_that_agree_with_the_log() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::new(2)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "pool = { ready_min = 2, ready_max = 8 }")
        .start();
    let edge = gateway.addr("edge");
    let (good, bad) = (pki.client().build(), ClientTls::trusting(&pki.ca).build());
    std::thread::scope(|scope| {
        for kind in 0..4_usize {
            let (good, bad) = (&good, &bad);
            scope.spawn(move || {
                for turn in 0..25 {
                    match (kind + turn) % 5 {
                        0 => drop(connect_plain(edge).unwrap()),
                        1 => drop(portcullis_kit::refusal(edge, NAME, bad)),
                        2 => reset(connect_tls(edge, NAME, good).unwrap().sock),
                        3 => drop(connect_tls(edge, NAME, good).unwrap()),
                        _ => {
                            let mut stream = connect_tls(edge, NAME, good).unwrap();
                            let sent = pattern(turn as u64, 1000 * (turn + 1));
                            assert_same(&round_trip(&mut stream, &sent).unwrap(), &sent, "echo");
                            close_write(&mut stream).unwrap();
                            assert_eq!(read_to_end(&mut stream).unwrap(), b"");
                        }
                    }
                }
            });
        }
    });
    eventually(PATIENCE, "a hundred records", || (gateway.access_log().len() == 100).then_some(()));
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_connections_accepted_total", &[]), 100);
    assert_eq!(metrics.refusals("no_certificate"), 20);
    assert_eq!(metrics.refusals("probe"), 20);
    let hits = metrics.sum("portcullis_upstream_ready_hits_total", &[]);
    let misses = metrics.sum("portcullis_upstream_ready_misses_total", &[]);
    println!("{hits} of {} sessions found a ready connection", hits + misses);
}
