//! Established sessions: no byte lost or reordered, ends carried across as they came.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use portcullis_kit::{
    Behaviour, PATIENCE, PlainEcho, Scripted, ServerTls, TlsStream, close_write, connect_tls,
    eventually, monotonic_now, read_to_end, reset,
};
use rustls::{ServerConnection, StreamOwned};

use crate::support::{Config, NAME, Pki, assert_same, pattern};

const MIB: usize = 1024 * 1024;

fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test] // threat 23
fn after_the_clients_end_the_upstream_goes_on_sending() {
    let pki = Pki::new();
    let (question, answer) = (pattern(1, MIB), pattern(2, 3 * MIB));
    let upstream = Scripted::start({
        let answer = answer.clone();
        move |mut socket| {
            // The client's end comes first, the whole answer after it.
            let question = read_all(&mut socket);
            socket.write_all(&answer).unwrap();
            question
        }
    });
    let gateway = Config::edge(&pki, upstream.address()).start();
    let mut stream = pki.connect(&gateway);
    stream.write_all(&question).unwrap();
    close_write(&mut stream).unwrap();
    assert_same(&read_to_end(&mut stream).unwrap(), &answer, "the answer");
    assert_same(&upstream.result(), &question, "the question");
    drop(stream);
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert!(line["reason"].is_null(), "{line}");
    assert_eq!(line["closed_by"], "downstream", "{line}");
    assert_eq!(line["bytes_received"], question.len(), "{line}");
    assert_eq!(line["bytes_sent"], answer.len(), "{line}");
    gateway.settled();
}

#[test] // threat 23
fn after_the_upstreams_end_the_client_goes_on_sending() {
    let pki = Pki::new();
    let (greeting, story) = (pattern(1, MIB), pattern(2, 3 * MIB));
    let upstream = Scripted::start({
        let greeting = greeting.clone();
        move |mut socket| {
            socket.write_all(&greeting).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            read_all(&mut socket)
        }
    });
    let gateway = Config::edge(&pki, upstream.address()).start();
    let mut stream = pki.connect(&gateway);
    assert_same(&read_to_end(&mut stream).unwrap(), &greeting, "the greeting");
    stream.write_all(&story).unwrap();
    close_write(&mut stream).unwrap();
    assert_same(&upstream.result(), &story, "the story");
    drop(stream);
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert!(line["reason"].is_null() && line["closed_by"] == "upstream", "{line}");
    gateway.settled();
}

#[test] // threat 24
fn the_last_bytes_arrive_when_the_end_comes_with_them() {
    const SESSIONS: usize = 500;
    let pki = Pki::new();
    let words = pattern(3, 3000);
    let upstream = PlainEcho::with(Behaviour::Say(words.clone()));
    let echo = PlainEcho::start();
    let gateway = Config::edge(&pki, upstream.address())
        .chain(
            "edge",
            "echo",
            "match = { server_names = [\"echo.edge.test\"] }\ntls = \"edge\"\ncluster = \"echo\"",
        )
        .cluster("echo", &[echo.address()], "")
        .start();
    let client = pki.client().build();
    for session in 0..SESSIONS / 2 {
        // The upstream speaks and ends at once, while the client's bytes are unread.
        let mut stream = connect_tls(gateway.addr("edge"), NAME, &client).unwrap();
        stream.write_all(b"a question that nobody reads").unwrap();
        assert_same(&read_to_end(&mut stream).unwrap(), &words, "the upstream's last bytes");
        close_write(&mut stream).unwrap();
        // The client speaks and ends at once.
        let sent = pattern(session as u64, 40 + session * 13);
        let mut stream = connect_tls(gateway.addr("edge"), "echo.edge.test", &client).unwrap();
        stream.write_all(&sent).unwrap();
        close_write(&mut stream).unwrap();
        assert_same(&read_to_end(&mut stream).unwrap(), &sent, "the client's last bytes");
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_sessions_total", &[]), SESSIONS as u64);
}

#[test] // threat 25
fn a_reset_by_the_client_reaches_the_upstream_as_a_reset() {
    let pki = Pki::new();
    let upstream = Scripted::start(|mut socket| {
        socket.read_exact(&mut [0; 5]).unwrap();
        socket.write_all(b"there").unwrap();
        socket.read(&mut [0; 64]).map_err(|error| error.kind())
    });
    let gateway = Config::edge(&pki, upstream.address()).start();
    let mut stream = pki.connect(&gateway);
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    reset(stream.sock);
    assert_eq!(upstream.result(), Err(ErrorKind::ConnectionReset));
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert_eq!((&line["reason"], &line["closing"]), (&"client_reset".into(), &"reset".into()));
    assert_eq!(gateway.settled().refusals("client_reset"), 1);
}

#[test] // threat 25
fn a_reset_by_the_upstream_reaches_the_client_as_a_reset() {
    let pki = Pki::new();
    let upstream = PlainEcho::with(Behaviour::Reset);
    let gateway = Config::edge(&pki, upstream.address()).start();
    let mut stream = pki.connect(&gateway);
    stream.write_all(b"hello").unwrap();
    let error = stream.read(&mut [0; 64]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(gateway.settled().refusals("upstream_reset"), 1);
}

#[test] // threat 26
fn an_end_without_close_notify_is_passed_on_as_a_reset() {
    let pki = Pki::new();
    let upstream = Scripted::start(|mut socket| {
        socket.read_exact(&mut [0; 5]).unwrap();
        socket.write_all(b"there").unwrap();
        socket.read(&mut [0; 64]).map_err(|error| error.kind())
    });
    let gateway = Config::edge(&pki, upstream.address()).start();
    let mut stream = pki.connect(&gateway);
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(upstream.result(), Err(ErrorKind::ConnectionReset));
    assert_eq!(gateway.settled().refusals("client_unclean_eof"), 1);
}

#[test] // threat 26
fn an_upstreams_end_without_close_notify_is_passed_on_as_a_reset() {
    let pki = Pki::new();
    let server = ServerTls::new(&pki.upstream).build();
    let upstream = Scripted::start(move |socket| {
        let connection = ServerConnection::new(server).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"there").unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        drop(stream.sock.read(&mut [0; 64]));
    });
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(&pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster(
            "db",
            &[upstream.address()],
            "tls = \"db\"\npool = { ready_min = 0, ready_max = 0 }",
        )
        .start();
    let mut stream = pki.connect(&gateway);
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let error = stream.read(&mut [0; 64]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    upstream.result();
    assert_eq!(gateway.settled().refusals("upstream_unclean_eof"), 1);
}

#[test] // threat 27
fn clients_that_do_not_read_cost_no_memory_and_lose_nothing() {
    const LENGTH: usize = 64 * MIB;
    const STALLED: u64 = 2;
    let pki = Pki::new();
    let bytes = pattern(9, LENGTH);
    let upstream = PlainEcho::with(Behaviour::Say(bytes.clone()));
    let gateway = Config::edge(&pki, upstream.address()).start();
    // A first session warms what all sessions share: code, scratch, spare buffers.
    let warm = |mut stream: TlsStream| {
        let mut received = vec![0; LENGTH];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        close_write(&mut stream).unwrap();
        received
    };
    assert_same(&warm(pki.connect(&gateway)), &bytes, "what came without a stall");
    let before = gateway.resident();
    let stalled: Vec<_> = (0..STALLED).map(|_| pki.connect(&gateway)).collect();
    // Measured in time, not in looks: a look costs much where the table of sockets is long.
    let (mut last, mut since) = (0, monotonic_now());
    eventually(PATIENCE, "all streams to be stuck", || {
        let (stuck, queued) = queued_at(gateway.addr("edge").port());
        let now = monotonic_now();
        if stuck != STALLED || queued != last {
            (last, since) = (queued, now);
        }
        (now.saturating_duration_since(since) >= Duration::from_millis(300)).then_some(())
    });
    let grown = gateway.resident().saturating_sub(before) / STALLED;
    println!("{} KiB of resident memory for each reader that stalls", grown / 1024);
    // The allocator takes memory in steps of 4 MiB, whatever the last byte was for.
    assert!(grown < 2 * MIB as u64 + 4 * MIB as u64 / STALLED, "{grown} bytes");
    for stream in stalled {
        assert_same(&warm(stream), &bytes, "what came after the stall");
    }
    gateway.settled();
}

/// How many connections to this local port have bytes in their send queue, and how many bytes.
fn queued_at(port: u16) -> (u64, u64) {
    let port = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ours = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, queues) = (fields.next()?, fields.nth(2)?);
        local.ends_with(&port).then(|| queues.split(':').next())?
    });
    let queues = ours.filter_map(|queue| u64::from_str_radix(queue, 16).ok());
    queues.filter(|queue| *queue > 0).fold((0, 0), |(count, sum), queue| (count + 1, sum + queue))
}

#[test] // threat 15
fn key_updates_of_either_side_change_nothing_for_the_bytes() {
    let pki = Pki::new();
    let server = ServerTls::new(&pki.upstream).only_tls13().build();
    let upstream = Scripted::start(move |socket| {
        let connection = ServerConnection::new(server).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = stream.read(&mut buffer).unwrap();
            if length == 0 {
                break;
            }
            stream.conn.refresh_traffic_keys().unwrap();
            stream.write_all(&buffer[..length]).unwrap();
        }
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(&pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster(
            "db",
            &[upstream.address()],
            "tls = \"db\"\npool = { ready_min = 0, ready_max = 0 }",
        )
        .start();
    let mut stream = pki.connect(&gateway);
    let sent = pattern(4, 24 * 4096);
    for chunk in sent.chunks(4096) {
        stream.conn.refresh_traffic_keys().unwrap();
        stream.write_all(chunk).unwrap();
        let mut back = vec![0; chunk.len()];
        stream.read_exact(&mut back).unwrap();
        assert_same(&back, chunk, "a chunk between key updates");
    }
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    upstream.result();
    gateway.settled();
}

#[test] // threat 15
fn a_flood_of_key_updates_by_a_client_that_does_not_read_is_ended() {
    let pki = Pki::new();
    let upstream = PlainEcho::start();
    let gateway = Config::edge(&pki, upstream.address()).start();
    let mut stream =
        connect_tls(gateway.addr("edge"), NAME, &pki.client().only_tls13().build()).unwrap();
    // Each asks for a KeyUpdate in return, and none is read. Sealed beforehand: what is too many is so
    // many in a second, and a client that is slow to seal them would be within the limit.
    let mut flood = Vec::new();
    for _ in 0..2_000 {
        stream.conn.refresh_traffic_keys().unwrap();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut flood).unwrap();
        }
    }
    // Whether the last of them still find a socket, and how that ends, does not matter.
    drop(stream.sock.write_all(&flood));
    drop(read_to_end(&mut stream.sock));
    drop(stream);
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert_eq!(line["reason"], "protocol_violation", "{line}");
    assert_eq!(line["alert"], 10, "{line}");
    gateway.settled();
}

#[test] // threat 53
fn a_client_that_breaks_the_record_layer_is_told_so_and_the_log_says_what() {
    use rustls::AlertDescription;
    let pki = Pki::new();
    let upstream = PlainEcho::start();
    let gateway = Config::edge(&pki, upstream.address()).start();
    let cases = [
        (vec![23, 3, 3, 0xff, 0xff], AlertDescription::RecordOverflow, "protocol_violation"),
        (
            [&[23, 3, 3, 0, 40][..], &[0; 40]].concat(),
            AlertDescription::BadRecordMac,
            "client_record",
        ),
        (vec![20, 3, 3, 0, 1, 1], AlertDescription::UnexpectedMessage, "protocol_violation"),
    ];
    let clients = [pki.client().only_tls12().build(), pki.client().only_tls13().build()];
    for (config, (bytes, alert, reason)) in
        clients.iter().flat_map(|config| cases.iter().map(move |case| (config, case)))
    {
        let mut stream = connect_tls(gateway.addr("edge"), NAME, config).unwrap();
        let source = stream.sock.local_addr().unwrap().to_string();
        stream.write_all(b"served").unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.sock.write_all(bytes).unwrap();
        let seen = read_to_end(&mut stream).unwrap_err().to_string();
        let wanted = rustls::Error::AlertReceived(*alert).to_string();
        assert!(seen.contains(&wanted), "{seen} instead of {wanted}");
        let line = gateway.wait_access(PATIENCE, |line| line["source"] == source.as_str());
        assert_eq!(line["reason"], *reason, "{line}");
        assert_eq!(line["alert"], u8::from(*alert), "{line}");
    }
    gateway.settled();
}
