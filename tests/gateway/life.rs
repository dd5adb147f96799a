//! The process: how it starts, spreads clients over its workers, drains, and ends.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, Scripted, TlsStream, close_write, connect_plain, connect_tls,
    eventually, handshake, monotonic_now, read_to_end, round_trip, within,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::hello::hello;
use crate::support::{BINARY, BlackHole, Config, NAME, Pki, assert_same, pattern};

fn mutual(config: Config, pki: &Pki, upstream: &PlainEcho) -> Gateway {
    config
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(pki, "")
        .cluster("app", &[upstream.address()], "")
        .start()
}

fn talk(stream: &mut TlsStream) {
    assert_eq!(round_trip(stream, b"hello").unwrap(), b"hello");
}

fn sessions_open(gateway: &Gateway, count: u64) {
    eventually(PATIENCE, "open sessions", || {
        let open = gateway.metrics().sum("portcullis_sessions_open", &[]);
        (open == count).then_some(())
    });
}

fn not_ready(gateway: &Gateway) {
    eventually(PATIENCE, "readiness to go", || {
        (gateway.admin_get("/readyz").0 == 503).then_some(())
    });
}

#[test]
fn it_is_ready_soon_and_serves_with_one_worker_and_with_four() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    for workers in [1, 4] {
        let began = monotonic_now();
        let gateway = mutual(Config::new(workers), &pki, &echoes);
        println!("ready after {:?} with {workers} workers", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(gateway.admin_get("/readyz").0, 200);
        assert_eq!(gateway.admin_get("/livez").0, 200);
        let mut held: Vec<_> = (0..8).map(|_| pki.connect(&gateway)).collect();
        held.iter_mut().for_each(talk);
        for mut stream in held {
            close_write(&mut stream).unwrap();
            assert_eq!(read_to_end(&mut stream).unwrap(), b"");
        }
        let metrics = gateway.settled();
        let by_worker = metrics.each("portcullis_worker_connections_open");
        assert_eq!(by_worker.len(), usize::from(workers));
        assert_eq!(gateway.terminate().code(), Some(0));
    }
}

#[test] // threat 41
fn long_connections_spread_evenly_over_workers() {
    const CLIENTS: u32 = 64;
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = mutual(Config::new(2), &pki, &echoes);
    let client = pki.client().build();
    let edge = gateway.addr("edge");
    let held: Vec<_> = (0..CLIENTS).map(|_| connect_tls(edge, NAME, &client).unwrap()).collect();
    sessions_open(&gateway, u64::from(CLIENTS));
    let metrics = gateway.metrics();
    let by_worker = metrics.each("portcullis_worker_connections_open");
    let most = f64::from(u32::try_from(*by_worker.iter().max().unwrap()).unwrap());
    let ratio = most / f64::from(CLIENTS / 2);
    let moved = metrics.sum("portcullis_connections_handed_off_total", &[]);
    println!("{CLIENTS} connections on two workers: {by_worker:?}, {moved} moved, {ratio:.3}");
    assert!(ratio <= 1.25, "{by_worker:?}");
    for mut stream in held {
        close_write(&mut stream).unwrap();
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    }
    gateway.settled();
}

#[test] // threat 37
fn draining_lets_a_stream_in_flight_finish() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let drain = r#"{ grace = "0s", spread = "2s", deadline = "15s" }"#;
    let mut gateway = mutual(Config::with_drain(2, drain), &pki, &echoes);
    let mut stream = pki.connect(&gateway);
    talk(&mut stream);
    gateway.signal(Signal::TERM);
    not_ready(&gateway);
    // The listener is closed, or closing; the session goes on as long as it moves.
    let sent = pattern(1, 1024 * 1024);
    assert_same(&round_trip(&mut stream, &sent).unwrap(), &sent, "while draining");
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
    assert!(connect_plain(gateway.addr("edge")).is_err(), "nobody listens any more");
}

#[test] // threat 37
fn draining_ends_idle_sessions_politely_within_the_spread() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let drain = r#"{ grace = "0s", spread = "500ms", deadline = "20s" }"#;
    let mut gateway = mutual(Config::with_drain(2, drain), &pki, &echoes);
    let mut held: Vec<_> = (0..6).map(|_| pki.connect(&gateway)).collect();
    held.iter_mut().for_each(talk);
    let began = monotonic_now();
    gateway.signal(Signal::TERM);
    // Each answers at once, whichever comes first: one that does not within two seconds is cut.
    let clients = held.into_iter().map(|mut stream| {
        thread::spawn(move || {
            // close_notify, not a cut.
            assert_eq!(read_to_end(&mut stream).unwrap(), b"");
            close_write(&mut stream).unwrap();
        })
    });
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
    println!("six idle sessions drained in {:?}", began.elapsed());
    let log = gateway.access_log();
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|line| line["reason"] == "draining" && line["closing"] == "polite"));
}

#[test] // threat 37
fn draining_waits_for_an_answer_that_takes_long() {
    let (pki, database) = (Pki::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let drain = r#"{ grace = "0s", spread = "0s", deadline = "60s" }"#;
    let mut gateway = Config::with_drain(1, drain)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[database.local_addr().unwrap()], "")
        .start();
    let session = |question: &[u8]| {
        let mut client = pki.connect(&gateway);
        client.write_all(question).unwrap();
        let (mut server, _) = database.accept().unwrap();
        let mut asked = vec![0; question.len()];
        server.read_exact(&mut asked).unwrap();
        assert_eq!(asked, question);
        (client, server)
    };
    let (mut waits, mut works) = session(b"a long query");
    let (mut idle, mut answered) = session(b"a short query");
    answered.write_all(b"done").unwrap();
    let mut answer = [0; 4];
    idle.read_exact(&mut answer).unwrap();
    gateway.signal(Signal::TERM);
    // It has been silent for less time than the other, and is closed.
    assert_eq!(read_to_end(&mut idle).unwrap(), b"");
    works.write_all(b"at last").unwrap();
    assert_eq!(read_to_end(&mut waits).unwrap(), b"at last");
    drop((idle, waits, works, answered));
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
    let log = gateway.access_log();
    assert!(log.iter().all(|line| line["reason"] == "draining" && line["closing"] == "polite"));
}

#[test] // threat 37
fn the_drains_deadline_cuts_what_never_pauses() {
    const CLIENTS: usize = 4;
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let drain = r#"{ grace = "0s", spread = "0s", deadline = "700ms" }"#;
    let mut gateway = mutual(Config::with_drain(1, drain), &pki, &echoes);
    // Several: one whose thread has no processor for a while pauses all the same, and is closed politely.
    let mut held: Vec<_> = (0..CLIENTS).map(|_| pki.connect(&gateway)).collect();
    held.iter_mut().for_each(talk);
    let began = monotonic_now();
    gateway.signal(Signal::TERM);
    let clients = held.into_iter().map(|mut stream| {
        thread::spawn(move || {
            let chunk = pattern(2, 4096);
            loop {
                if let Err(error) = round_trip(&mut stream, &chunk) {
                    return (error.kind(), began.elapsed());
                }
                assert!(began.elapsed() < Duration::from_secs(10), "the deadline cuts nothing");
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let ends: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    println!("how {CLIENTS} clients that never pause ended: {ends:?}");
    let is_cut = |(kind, took): &(ErrorKind, Duration)| {
        // A stream of rustls may keep the first error of its socket to itself.
        let is_reset = matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        is_reset && *took >= Duration::from_millis(700)
    };
    assert!(ends.iter().any(is_cut), "{ends:?}");
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(2));
    let log = gateway.access_log();
    assert_eq!(log.len(), CLIENTS);
    assert!(log.iter().all(|line| line["reason"] == "draining"));
    assert!(log.iter().any(|line| line["closing"] == "reset"));
}

#[test] // threat 37
fn the_drains_deadline_cuts_a_stream_that_never_waits() {
    // Several, in turn: one that has no processor for a while pauses all the same, and is closed politely.
    let upstreams = [(); 4].map(|()| {
        Scripted::start(|mut socket| {
            let bytes = vec![1; 1024 * 1024];
            while socket.write_all(&bytes).is_ok() {}
        })
    });
    let mut gateway =
        Config::with_drain(1, r#"{ grace = "0s", spread = "0s", deadline = "700ms" }"#)
            .listener("edge", "")
            .chain("edge", "raw", "match = { transport = \"raw\" }\ncluster = \"app\"")
            .cluster("app", &upstreams.each_ref().map(Scripted::address), "")
            .start();
    let edge = gateway.addr("edge");
    let mut streams = [(); 4].map(|()| connect_plain(edge).unwrap());
    streams.iter_mut().for_each(|stream| stream.read_exact(&mut [0; 64 * 1024]).unwrap());
    gateway.signal(Signal::TERM);
    let began = monotonic_now();
    let clients = streams.map(|mut stream| {
        thread::spawn(move || {
            let mut buffer = vec![0; 1024 * 1024];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return None,
                    Ok(_) => {
                        let is_late = began.elapsed() >= Duration::from_secs(10);
                        assert!(!is_late, "the deadline cuts nothing");
                    }
                    Err(error) => return Some(error.kind()),
                }
            }
        })
    });
    let ends = clients.map(|client| client.join().unwrap());
    assert!(ends.contains(&Some(ErrorKind::ConnectionReset)), "a cut looks like an end: {ends:?}");
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(2));
    upstreams.into_iter().for_each(Scripted::result);
}

#[test] // threat 37
fn a_second_signal_ends_everything_at_once() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let drain = r#"{ grace = "60s", spread = "0s", deadline = "120s" }"#;
    for second in [Signal::TERM, Signal::INT] {
        let mut gateway = mutual(Config::with_drain(2, drain), &pki, &echoes);
        let mut stream = pki.connect(&gateway);
        talk(&mut stream);
        gateway.signal(Signal::TERM);
        not_ready(&gateway);
        // In the grace period new clients are still taken: balancers need time to notice.
        let mut late = pki.connect(&gateway);
        talk(&mut late);
        let began = monotonic_now();
        gateway.signal(second);
        assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(2));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let ended = stream.read(&mut [0; 16]).map_err(|error| error.kind());
        assert_eq!(ended, Err(ErrorKind::ConnectionReset), "a cut must not look like an end");
        gateway.wait_log(&["connections were cut", "connections=2"]);
    }
}

#[test] // threat 37
fn who_had_not_reached_an_upstream_when_everything_ends_is_told_of_too() {
    let (pki, hole) = (Pki::new(), BlackHole::new());
    let mut gateway =
        Config::with_drain(1, r#"{ grace = "60s", spread = "0s", deadline = "120s" }"#)
            .listener("edge", "timeouts = { hello = \"60s\", handshake = \"60s\" }")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .mutual(&pki, "")
            .cluster("app", &[hole.address], "connect = { timeout = \"60s\" }")
            .start();
    let mut in_hello = connect_plain(gateway.addr("edge")).unwrap();
    in_hello.write_all(&[22]).unwrap();
    let mut in_handshake = connect_plain(gateway.addr("edge")).unwrap();
    in_handshake.write_all(&hello(&pki, NAME).1).unwrap();
    in_handshake.read_exact(&mut [0; 5]).unwrap();
    let mut in_dial = pki.connect(&gateway);
    in_dial.write_all(b"hello").unwrap();
    eventually(PATIENCE, "the dial", || {
        let metrics = gateway.metrics();
        let sum = |name| metrics.sum(name, &[]);
        let is_so =
            sum("portcullis_upstream_dials_total") == 1 && sum("portcullis_connections_open") == 3;
        is_so.then_some(())
    });
    gateway.signal(Signal::TERM);
    not_ready(&gateway);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(2));
    gateway.wait_log(&["connections were cut", "connections=3"]);
    let log = gateway.access_log();
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log.iter().all(|line| line["reason"] == "draining"), "{log:?}");
    assert!(log.iter().all(|line| line["outcome"] == "refused"), "{log:?}");
}

#[test]
fn the_access_log_is_opened_anew_when_its_file_was_renamed() {
    let (pki, echoes, directory) = (Pki::new(), PlainEcho::start(), TempDir::new().unwrap());
    let logs = directory.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let (file, rotated) = (logs.join("access"), logs.join("access.1"));
    let tables = format!("[access_log]\npath = \"{}\"", file.display());
    let mut gateway = mutual(Config::new(1).table(&tables), &pki, &echoes);
    let lines = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    let session = |written: &Path, count| {
        let mut stream = pki.connect(&gateway);
        talk(&mut stream);
        close_write(&mut stream).unwrap();
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
        eventually(PATIENCE, "the line", || (lines(written) == count).then_some(()));
    };
    session(&file, 1);
    fs::rename(&file, &rotated).unwrap();
    session(&rotated, 2);
    gateway.signal(Signal::USR1);
    gateway.wait_log(&["the access log was opened anew"]);
    session(&file, 1);
    // Where it cannot be opened the log goes on as it was.
    fs::rename(&logs, directory.path().join("moved")).unwrap();
    let moved = directory.path().join("moved/access");
    gateway.signal(Signal::USR1);
    gateway.wait_log(&["ERROR", "could not be opened anew", "written on"]);
    session(&moved, 2);
    assert_eq!((lines(&moved), lines(&directory.path().join("moved/access.1"))), (2, 2));
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
}

#[test] // threat 37
fn who_waits_in_a_queue_when_the_drain_begins_is_served() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let drain = r#"{ grace = "0s", spread = "5s", deadline = "15s" }"#;
    let mut gateway = mutual(Config::with_drain(1, drain), &pki, &echoes);
    // The process stands still: what comes now waits in the queue, and so does the signal.
    gateway.signal(Signal::STOP);
    let waiting: Vec<_> = (0..20).map(|_| connect_plain(gateway.addr("edge")).unwrap()).collect();
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::CONT);
    let client = pki.client().build();
    for socket in waiting {
        let mut stream = handshake(socket, NAME, &client).unwrap();
        talk(&mut stream);
        close_write(&mut stream).unwrap();
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    }
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
}

#[test] // threat 43
fn a_ready_line_that_nobody_can_take_does_not_keep_the_gateway_from_serving() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("admin.sock");
    let config = Config::edge(&pki, echoes.address()).to_string();
    let config = config.replace(
        "[admin]\nlisten = \"127.0.0.1:0\"",
        &format!("[admin]\nlisten = \"unix:{}\"", socket.display()),
    );
    let file = directory.path().join("gateway.toml");
    fs::write(&file, config).unwrap();
    let mut child = Command::new(BINARY)
        .args(["run", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let pid = Pid::from_child(&child);
    // Ends the process when it says that it serves, and fails by the deadline if it never does.
    let said = within(PATIENCE, "the gateway", move || {
        let mut said = String::new();
        for line in stderr.lines().map_while(Result::ok) {
            if line.contains("serving") {
                kill_process(pid, Signal::TERM).unwrap();
            }
            said += &(line + "\n");
        }
        said
    });
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    for words in ["cannot be written to standard output: ready listener.edge=", "ended: every"] {
        assert!(said.contains(words), "{words} in\n{said}");
    }
}

#[test]
fn a_handshake_in_flight_ends_with_the_drain() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let drain = r#"{ grace = "0s", spread = "0s", deadline = "1s" }"#;
    let mut gateway = mutual(Config::with_drain(1, drain), &pki, &echoes);
    let mut silent = connect_plain(gateway.addr("edge")).unwrap();
    silent.write_all(&[22, 3, 1]).unwrap();
    eventually(PATIENCE, "the connection in the gauge", || {
        (gateway.metrics().sum("portcullis_connections_open", &[]) == 1).then_some(())
    });
    let began = monotonic_now();
    gateway.signal(Signal::TERM);
    gateway.wait_exit(PATIENCE);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
