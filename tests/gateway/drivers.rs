//! The two ways to drive sockets. All that is claimed here runs on either of them, with
//! `PORTCULLIS_TEST_IO=io_uring`; this file holds what is claimed of the choice, and of io_uring in
//! every run.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, Scripted, close_write, connect_plain, connect_tls, eventually,
    has_io_uring, missing, read_to_end, reset, round_trip, within,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{BINARY, Config, NAME, Pki, assert_same, behind_a_filter, pattern};

/// Whether this kernel has io_uring for us; where not, that is told.
fn has_ring() -> bool {
    let has = has_io_uring();
    if !has {
        missing("io_uring", "a kernel and a sandbox that allow it");
    }
    has
}

fn on(io: &str, workers: u16) -> Config {
    let drain = r#"{ grace = "0s", spread = "0s", deadline = "5s" }"#;
    Config::bare()
        .table(&format!("runtime = {{ io = \"{io}\", workers = {workers}, drain = {drain} }}"))
        .table("[admin]\nlisten = \"127.0.0.1:0\"")
}

/// A chain for mutual TLS, and one for plain text.
fn edge(config: Config, pki: &Pki, upstream: &PlainEcho, keys: &str) -> Config {
    config
        .listener("edge", keys)
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .chain("edge", "raw", "match = { transport = \"raw\" }\ncluster = \"app\"")
        .mutual(pki, "")
        .cluster("app", &[upstream.address()], "")
}

fn workers_on(gateway: &Gateway, io: &str) -> u64 {
    gateway.metrics().sum("portcullis_workers", &[("io", io)])
}

#[test]
fn the_driver_that_runs_is_the_one_that_was_asked_for() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let mut cases = vec![("auto", "epoll", "io_uring"), ("epoll", "epoll", "io_uring")];
    if has_ring() {
        cases.push(("io_uring", "io_uring", "epoll"));
    }
    for (asked, runs, other) in cases {
        let gateway = edge(on(asked, 2), &pki, &echoes, "").start();
        assert_eq!((workers_on(&gateway, runs), workers_on(&gateway, other)), (2, 0), "{asked}");
        gateway.wait_log(&["serving", runs]);
        // Another one takes a restart, and that is told.
        gateway.reload(&edge(on(other, 2), &pki, &echoes, "").to_string());
        gateway.wait_log(&["WARN", "runtime.io", "has changed", "next start"]);
        assert_eq!(workers_on(&gateway, runs), 2, "{asked}");
        let mut stream = pki.connect(&gateway);
        assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
        close_write(&mut stream).unwrap();
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
        gateway.settled();
    }
}

#[test]
fn on_io_uring_many_sessions_on_two_workers_lose_no_byte() {
    const CLIENTS: u64 = 32;
    if !has_ring() {
        return;
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = edge(on("io_uring", 2), &pki, &echoes, "").start();
    let (edge, client) = (gateway.addr("edge"), pki.client().build());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            let client = client.clone();
            thread::spawn(move || {
                let mut stream = connect_tls(edge, NAME, &client).unwrap();
                for length in [1, 64, 16 * 1024, 300 * 1024] {
                    let sent = pattern(seed, length);
                    assert_same(&round_trip(&mut stream, &sent).unwrap(), &sent, "a session");
                }
                close_write(&mut stream).unwrap();
                assert_eq!(read_to_end(&mut stream).unwrap(), b"");
            })
        })
        .collect();
    within(PATIENCE, "the clients", move || clients.into_iter().for_each(|it| it.join().unwrap()));
    gateway.settled();
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test]
fn on_io_uring_bulk_that_is_not_opened_goes_both_ways_at_once() {
    const LENGTH: usize = 8 * 1024 * 1024;
    if !has_ring() {
        return;
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = edge(on("io_uring", 1), &pki, &echoes, "").start();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    let mut writer = socket.try_clone().unwrap();
    let sent = pattern(3, LENGTH);
    let sending = sent.clone();
    let writer = thread::spawn(move || {
        writer.write_all(&sending).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    socket.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert_same(&received, &sent, "through pipes");
    gateway.settled();
}

// The kernel's poll holds a socket open, whoever closes the descriptor: a gateway that did not take
// it back would leave a silent upstream without a word.
#[test]
fn on_io_uring_a_reset_of_the_client_reaches_an_upstream_that_is_silent() {
    if !has_ring() {
        return;
    }
    let upstream = Scripted::start(|mut socket| {
        socket.read_exact(&mut [0; 4]).unwrap();
        socket.read(&mut [0; 4]).map_err(|error| error.kind())
    });
    let gateway = on("io_uring", 1)
        .listener("edge", "")
        .chain("edge", "raw", "match = { transport = \"raw\" }\ncluster = \"app\"")
        .cluster("app", &[upstream.address()], "")
        .start();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(b"ping").unwrap();
    eventually(PATIENCE, "the session", || {
        (gateway.metrics().sum("portcullis_sessions_open", &[]) == 1).then_some(())
    });
    reset(socket);
    assert_eq!(upstream.result(), Err(ErrorKind::ConnectionReset));
    gateway.settled();
}

#[test]
fn on_io_uring_who_is_silent_is_told_at_the_deadline() {
    if !has_ring() {
        return;
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let keys = "timeouts = { idle = \"1s\", hello = \"1s\" }";
    let gateway = edge(on("io_uring", 1), &pki, &echoes, keys).start();
    let mut stream = pki.connect(&gateway);
    assert_eq!(read_to_end(&mut stream).unwrap(), b"", "an idle session");
    drop(stream);
    let mut silent = connect_plain(gateway.addr("edge")).unwrap();
    read_to_end(&mut silent).unwrap();
    drop(silent);
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_connections_open", &[]), 0);
}

#[test]
fn on_io_uring_a_drain_cuts_what_does_not_end_and_no_more() {
    if !has_ring() {
        return;
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let mut gateway = edge(on("io_uring", 2), &pki, &echoes, "").start();
    let mut idle: Vec<_> = (0..8).map(|_| pki.connect(&gateway)).collect();
    idle.iter_mut().for_each(|one| assert_eq!(round_trip(one, b"x").unwrap(), b"x"));
    gateway.signal(Signal::TERM);
    for mut stream in idle {
        assert_eq!(read_to_end(&mut stream).unwrap(), b"", "in order");
    }
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
}

/// Numbers that are the same on every architecture.
const IO_URING_SETUP: u32 = 425;
const IO_URING_ENTER: u32 = 426;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// A thread that has something to do all the time never parks, which is when tokio-uring asks the kernel.
#[test]
fn streams_that_never_pause_keep_nobody_out() {
    let mut drivers = vec!["epoll"];
    if has_ring() {
        drivers.push("io_uring");
    }
    for io in drivers {
        let (pki, upstream, flood) = (Pki::new(), PlainEcho::start(), Flood::start());
        let gateway = on(io, 1)
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .listener("bulk", "")
            .chain("bulk", "raw", "match = { transport = \"raw\" }\ncluster = \"flood\"")
            .mutual(&pki, "")
            .cluster("app", &[upstream.address()], "")
            .cluster("flood", &[flood.address], "")
            .start();
        let readers: Vec<_> = (0..24).map(|_| flood.read_through(gateway.addr("bulk"))).collect();
        let moved = |gateway: &Gateway| gateway.metrics().sum("portcullis_bytes_total", &[]);
        eventually(PATIENCE, "a flood", || (moved(&gateway) > 64 << 20).then_some(()));
        for _ in 0..3 {
            let mut stream = pki.connect(&gateway);
            assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello", "{io}");
        }
        drop(flood);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    }
}

/// An upstream that never stops sending, and clients that never stop reading.
struct Flood {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Flood {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, is_over) = (listener.local_addr().unwrap(), Arc::default());
        // Waits for another connection until the test's process ends.
        thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || while socket.write_all(&[0; 65_536]).is_ok() {});
            }
        });
        Self { address, is_over }
    }

    fn read_through(&self, gateway: SocketAddr) -> JoinHandle<()> {
        let is_over = Arc::clone(&self.is_over);
        thread::spawn(move || {
            let mut stream = connect_plain(gateway).unwrap();
            stream.write_all(b"no TLS").unwrap();
            let mut buffer = vec![0; 262_144];
            while !is_over.load(Ordering::Relaxed) {
                assert!(stream.read(&mut buffer).unwrap() > 0);
            }
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn io_uring_that_a_filter_forbids_is_refused_by_its_name_and_auto_does_without() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|ran| ran.status.success()) {
        return missing("python3", "python3");
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let asks = edge(on("io_uring", 1), &pki, &echoes, "").to_string();
    for (call, errno) in
        [(IO_URING_SETUP, EPERM), (IO_URING_SETUP, ENOSYS), (IO_URING_ENTER, EPERM)]
    {
        for command in ["check", "run"] {
            let directory = TempDir::new().unwrap();
            let file = directory.path().join("gateway.toml");
            std::fs::write(&file, &asks).unwrap();
            let mut filtered = behind_a_filter(call, errno);
            filtered.args([command.as_ref(), "-c".as_ref(), file.as_os_str()]);
            let said = within(PATIENCE, command, move || filtered.output().unwrap());
            let stderr = String::from_utf8(said.stderr).unwrap();
            assert_eq!(said.status.code(), Some(1), "{stderr}");
            assert!(stderr.contains("gateway.toml:1:"), "{stderr}");
            assert!(stderr.contains("a seccomp filter forbids it"), "{stderr}");
            assert!(stderr.contains("io_uring_setup, io_uring_enter"), "{stderr}");
        }
    }
    let directory = TempDir::with_prefix("portcullis-gateway-").unwrap();
    let auto = edge(on("auto", 1), &pki, &echoes, "").to_string();
    let gateway = Gateway::start_as(behind_a_filter(IO_URING_SETUP, EPERM), directory, &auto);
    assert_eq!(workers_on(&gateway, "epoll"), 1);
}

/// What the process on epoll has forbidden itself, it has forbidden whom it starts.
#[test]
fn an_upgrade_goes_from_io_uring_to_epoll_and_for_the_way_back_takes_a_restart() {
    if !has_ring() {
        return;
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let text = |io| {
        let config = edge(on(io, 1), &pki, &echoes, "").to_string();
        config.replace("runtime = {", "runtime = { watch = false,")
    };
    let mut gateway = Gateway::start(BINARY, &text("io_uring"));
    assert_eq!(workers_on(&gateway, "io_uring"), 1);
    // Another one on io_uring, which is in the filter of the first.
    for io in ["io_uring", "epoll"] {
        gateway.rewrite(&text(io));
        let old = gateway.upgrade();
        assert_eq!(old.wait_exit(PATIENCE).code(), Some(0));
        eventually(PATIENCE, io, || (workers_on(&gateway, io) == 1).then_some(()));
    }
    gateway.rewrite(&text("io_uring"));
    gateway.signal(Signal::USR2);
    gateway.wait_log(&["help:", "process on epoll", "restart instead"]);
    gateway.wait_log(&["not upgraded", "serves on", "a seccomp filter forbids it"]);
    let mut stream = connect_tls(gateway.addr("edge"), NAME, &pki.client().build()).unwrap();
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    drop(stream);
    assert_eq!(gateway.terminate().code(), Some(0));
}
