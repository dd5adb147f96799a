//! Limits: what is over them is refused with its reason, and nothing of it outlasts its cause.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use portcullis_kit::{
    Behaviour, Gateway, PATIENCE, PlainEcho, ServerTls, TlsEcho, TlsStream, close_write,
    connect_plain, connect_tls, eventually, is_root, monotonic_now, read_to_end, round_trip,
};
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{BINARY, Config, NAME, Pki};

fn use_once(stream: &mut TlsStream) {
    assert_eq!(round_trip(stream, b"hello").unwrap(), b"hello");
}

fn finish(mut stream: TlsStream) {
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

/// Waits until this many connections are open.
fn open(gateway: &Gateway, count: u64) {
    eventually(PATIENCE, "the gauge of open connections", || {
        let open = gateway.metrics().sum("portcullis_connections_open", &[]);
        (open == count).then_some(())
    });
}

/// Fills the limit, meets the refusal, and is let in again once there is room.
fn limit_holds_and_recovers(config: &Config, pki: &Pki, says: &str) {
    let gateway = config.start();
    let client = pki.client().build();
    let edge = gateway.addr("edge");
    let mut held: Vec<_> = (0..4).map(|_| connect_tls(edge, NAME, &client).unwrap()).collect();
    held.iter_mut().for_each(use_once);
    assert!(connect_tls(edge, NAME, &client).is_err(), "a fifth connection");
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    assert_eq!(line["reason"], "connection_limit", "{line}");
    assert!(line["detail"].as_str().unwrap().contains(says), "{line}");
    // The others did not notice.
    held.iter_mut().for_each(use_once);
    finish(held.pop().unwrap());
    open(&gateway, 3);
    let mut next = connect_tls(edge, NAME, &client).unwrap();
    use_once(&mut next);
    held.push(next);
    held.into_iter().for_each(finish);
    assert_eq!(gateway.settled().refusals("connection_limit"), 1);
}

#[test]
fn the_limit_of_the_process_holds_and_recovers() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let config = Config::edge(&pki, echoes.address()).table("[limits]\nconnections = 4");
    limit_holds_and_recovers(&config, &pki, "limits.connections = 4");
}

#[test]
fn the_limit_of_a_listener_holds_and_recovers() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let config = Config::new(2)
        .listener("edge", "limits = { connections = 4 }")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "");
    limit_holds_and_recovers(&config, &pki, "listener.edge.limits.connections = 4");
}

#[test]
fn clients_that_were_refused_do_not_hold_the_limit() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echoes.address()).table("[limits]\nconnections = 2").start();
    let client = pki.client().build();
    let edge = gateway.addr("edge");
    let held: Vec<_> = (0..2).map(|_| connect_tls(edge, NAME, &client).unwrap()).collect();
    // They are refused, and do not go away by themselves.
    let stubborn: Vec<_> = (0..8).map(|_| connect_plain(edge).unwrap()).collect();
    for socket in &stubborn {
        let mut socket: &TcpStream = socket;
        assert!(matches!(socket.read(&mut [0; 64]), Ok(0) | Err(_)), "refused");
    }
    let began = monotonic_now();
    held.into_iter().for_each(finish);
    open(&gateway, 0);
    let took = began.elapsed().as_millis();
    assert!(took < 1_000, "refused clients held the limit for {took} ms");
    let mut next = connect_tls(edge, NAME, &client).unwrap();
    use_once(&mut next);
    finish(next);
    drop(stubborn);
    assert_eq!(gateway.settled().refusals("connection_limit"), 8);
}

#[test] // threat 1
fn clients_that_say_nothing_make_room_once_all_places_are_taken() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    // Longer than anybody here waits.
    let gateway = Config::new(2)
        .listener("edge", "timeouts = { hello = \"2m\", handshake = \"3m\" }")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "")
        .table("[limits]\nconnections = 4")
        .start();
    let (edge, client) = (gateway.addr("edge"), pki.client().build());
    let mut established = connect_tls(edge, NAME, &client).unwrap();
    use_once(&mut established);
    let mut half_said = connect_plain(edge).unwrap();
    half_said.write_all(&[22, 3, 1]).unwrap();
    let silent = [connect_plain(edge).unwrap(), half_said, say_hello(&gateway, &client)];
    open(&gateway, 4);
    assert!(connect_tls(edge, NAME, &client).is_err(), "nobody has been silent for long");
    let mut next = eventually(PATIENCE, "a place", || connect_tls(edge, NAME, &client).ok());
    use_once(&mut next);
    use_once(&mut established);
    for mut socket in silent {
        // What it was sent before comes first.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    let took =
        |line: &Value| line["detail"].as_str().is_some_and(|it| it.contains("took its place"));
    let line = gateway.wait_access(PATIENCE, took);
    assert_eq!(line["reason"], "connection_limit", "{line}");
    finish(next);
    finish(established);
    gateway.settled();
}

#[test] // threat 9
fn handshakes_in_flight_are_limited_before_any_cryptography() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway =
        Config::edge(&pki, echoes.address()).table("[limits]\nhandshakes_in_flight = 3").start();
    let edge = gateway.addr("edge");
    let client = pki.client().build();
    let mut established = connect_tls(edge, NAME, &client).unwrap();
    use_once(&mut established);
    // Six that say hello and no more, for three places; one that has not said it takes no room.
    let mute = connect_plain(edge).unwrap();
    let silent: Vec<_> = (0..6).map(|_| say_hello(&gateway, &client)).collect();
    eventually(PATIENCE, "three handshakes, and three that were refused", || {
        let metrics = gateway.metrics();
        let running = metrics.sum("portcullis_handshakes_in_flight", &[]);
        (running == 3 && metrics.refusals("handshake_limit") == 3).then_some(())
    });
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    assert_eq!(line["reason"], "handshake_limit", "{line}");
    use_once(&mut established);
    // Whoever has been waited for long makes room, though all three are still there.
    let mut tries = 0;
    let mut next = eventually(PATIENCE, "a place", || {
        tries += 1;
        connect_tls(edge, NAME, &client).ok()
    });
    use_once(&mut next);
    finish(next);
    let took =
        |line: &Value| line["detail"].as_str().is_some_and(|it| it.contains("took its place"));
    let line = gateway.wait_access(PATIENCE, took);
    assert_eq!(line["reason"], "handshake_limit", "{line}");
    drop((silent, mute));
    open(&gateway, 1);
    finish(established);
    let metrics = gateway.settled();
    assert_eq!((metrics.refusals("handshake_limit"), metrics.refusals("probe")), (3 + tries, 1));
    assert_eq!(metrics.refusals("client_closed"), 2);
}

#[test] // threat 33
fn beyond_the_memory_limit_new_clients_are_refused_and_idle_ones_closed() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let config = Config::edge(&pki, echoes.address());
    let gateway = config.start();
    let (edge, client) = (gateway.addr("edge"), pki.client().build());
    let mut idle: Vec<_> = (0..4).map(|_| connect_tls(edge, NAME, &client).unwrap()).collect();
    idle.iter_mut().for_each(use_once);
    // No process is that small.
    gateway.reload(&config.clone().table("[limits]\nmemory = \"1MiB\"").to_string());
    gateway.wait_log(&["memory is near limits.memory", "idle sessions are closed"]);
    for mut stream in idle {
        // With close_notify: nothing is missing.
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    }
    let line = gateway.wait_access(PATIENCE, |line| line["reason"] == "memory_limit");
    assert_eq!((&line["outcome"], &line["closed_by"]), (&"closed".into(), &"gateway".into()));
    assert!(line["detail"].as_str().unwrap().contains("of limits.memory = 1 MiB"), "{line}");
    assert!(connect_tls(edge, NAME, &client).is_err(), "a new client");
    assert_eq!(gateway.metrics().sum("portcullis_memory_pressure", &[]), 3);
    eventually(PATIENCE, "four that were closed and one that was refused", || {
        (gateway.metrics().refusals("memory_limit") == 5).then_some(())
    });
    gateway.reload(&config.to_string());
    gateway.wait_log(&["memory is back below its limit"]);
    let mut next =
        eventually(PATIENCE, "the next client", || connect_tls(edge, NAME, &client).ok());
    use_once(&mut next);
    finish(next);
    assert_eq!(gateway.settled().sum("portcullis_memory_pressure", &[]), 0);
}

#[test] // threat 33
fn memory_is_watched_in_a_drain() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let config = Config::with_drain(1, r#"{ grace = "60s", spread = "60s", deadline = "120s" }"#)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "");
    let gateway = config.start();
    let mut stream = pki.connect(&gateway);
    gateway.reload(&config.clone().table("[limits]\nmemory = \"1MiB\"").to_string());
    eventually(PATIENCE, "the last stage", || {
        // Whoever is not idle stays.
        use_once(&mut stream);
        (gateway.metrics().sum("portcullis_memory_pressure", &[]) == 3).then_some(())
    });
    gateway.signal(Signal::TERM);
    gateway.wait_log(&["draining"]);
    use_once(&mut stream);
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    let line = gateway.wait_access(PATIENCE, |_| true);
    assert_eq!(line["reason"], "memory_limit", "{line}");
}

#[test] // threat 33
fn beyond_the_memory_limit_who_takes_most_of_it_goes_though_it_moves() {
    let pki = Pki::new();
    let upstream = PlainEcho::with(Behaviour::Say(vec![7; 64 << 20]));
    let echoes = PlainEcho::start();
    let config = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .listener("light", "")
        .chain("light", "default", "tls = \"edge\"\ncluster = \"echoes\"")
        .mutual(&pki, "")
        .cluster("app", &[upstream.address()], "")
        .cluster("echoes", &[echoes.address()], "");
    let gateway = config.start();
    let mut light = connect_tls(gateway.addr("light"), NAME, &pki.client().build()).unwrap();
    let heavy = pki.connect(&gateway);
    let slow_reader = std::thread::spawn(move || {
        let (mut socket, mut one) = (heavy.sock, [0; 1]);
        // Always something, and never as much as there is.
        while socket.read_exact(&mut one).is_ok() {}
    });
    gateway.reload(&config.clone().table("[limits]\nmemory = \"1MiB\"").to_string());
    let line = eventually(PATIENCE, "the record of the heavy session", || {
        use_once(&mut light);
        gateway.access_log().into_iter().find(|line| line["reason"] == "memory_limit")
    });
    assert_eq!((&line["listener"], &line["closing"]), (&"edge".into(), &"reset".into()), "{line}");
    slow_reader.join().unwrap();
    use_once(&mut light);
    gateway.reload(&config.to_string());
    finish(light);
    gateway.settled();
}

#[test] // threat 33
fn near_the_memory_limit_nothing_is_kept_ready() {
    let pki = Pki::new();
    let upstream = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let keys = "tls = \"db\"\npool = { ready_min = 2, ready_max = 2 }";
    let config = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster("app", &[upstream.address()], keys);
    let gateway = config.start();
    let ready = |count| {
        eventually(PATIENCE, &format!("{count} ready"), || {
            let ready = gateway.metrics().sum("portcullis_upstream_ready", &[]);
            (ready == count).then_some(())
        });
    };
    ready(2);
    gateway.reload(&config.clone().table("[limits]\nmemory = \"1MiB\"").to_string());
    ready(0);
    gateway.reload(&config.to_string());
    ready(2);
}

/// A connection on which a whole ClientHello was sent, and nothing else will be.
fn say_hello(gateway: &Gateway, client: &Arc<ClientConfig>) -> TcpStream {
    let name = ServerName::try_from(NAME).unwrap();
    let mut connection = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    connection.write_tls(&mut socket).unwrap();
    socket
}

/// Enough for what the gateway keeps for itself, and some sessions.
const DESCRIPTORS: u32 = 512;

fn starved(pki: &Pki, echoes: &PlainEcho, descriptors: u32) -> Gateway {
    let mut command = Command::new("prlimit");
    command.args([&format!("--nofile={descriptors}"), "--", BINARY]);
    let directory = TempDir::with_prefix("portcullis-gateway-").unwrap();
    let config = Config::edge(pki, echoes.address());
    Gateway::start_as(command, directory, &config.to_string())
}

#[test] // threat 31
fn the_connection_limit_fits_the_descriptors_that_there_are() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = starved(&pki, &echoes, DESCRIPTORS);
    let said = gateway.other_output();
    let carried = said.split("connections=").nth(1).and_then(|rest| rest.lines().next());
    let carried: usize = carried.unwrap().trim().parse().unwrap();
    let edge = gateway.addr("edge");
    let client = pki.client().build();
    let mut held: Vec<_> =
        (0..carried).map(|_| connect_tls(edge, NAME, &client).unwrap()).collect();
    held.iter_mut().for_each(use_once);
    assert!(
        connect_tls(edge, NAME, &client).is_err(),
        "{DESCRIPTORS} descriptors carry {carried} sessions"
    );
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    assert_eq!(line["reason"], "connection_limit", "{line}");
    held.into_iter().for_each(finish);
    gateway.settled();
}

#[test]
fn memory_comes_in_small_pages() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echoes.address()).start();
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    match status.lines().find_map(|line| line.strip_prefix("THP_enabled:")) {
        Some(huge) => assert_eq!(huge.trim(), "0"),
        None => println!("NOT TESTED: this kernel has no huge pages"),
    }
}

#[test] // threat 31
fn without_descriptors_the_gateway_neither_spins_nor_stays_deaf() {
    if !is_root() {
        return;
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = starved(&pki, &echoes, DESCRIPTORS);
    let edge = gateway.addr("edge");
    let client = pki.client().build();
    let mut before = connect_tls(edge, NAME, &client).unwrap();
    use_once(&mut before);
    // The limit falls below what is open: every accept now fails with EMFILE.
    lower_limit(&gateway);
    let spent = cpu_ticks(&gateway);
    let began = monotonic_now();
    let crowd: Vec<_> = (0..10).map(|_| connect_plain(edge).unwrap()).collect();
    for socket in &crowd {
        let mut socket: &TcpStream = socket;
        assert!(matches!(socket.read(&mut [0; 16]), Ok(0) | Err(_)), "closed, not left waiting");
    }
    let (spent, took) = (cpu_ticks(&gateway) - spent, began.elapsed());
    println!("{spent} ticks of 10 ms spent in {took:?} without descriptors");
    assert!(u128::from(spent) * 10 < took.as_millis() / 2 + 50, "{spent} ticks in {took:?}");
    use_once(&mut before);
    raise_limit(&gateway);
    drop(crowd);
    let mut after =
        eventually(PATIENCE, "the next client", || connect_tls(edge, NAME, &client).ok());
    use_once(&mut after);
    finish(after);
    finish(before);
    let metrics = gateway.settled();
    assert!(metrics.refusals("local_resources") >= 10, "{metrics:?}");
    assert!(gateway.other_output().contains("out of descriptors"));
}

fn lower_limit(gateway: &Gateway) {
    // A new descriptor gets the lowest free number, which has to be below the limit.
    let is_free =
        |number: &u32| !fs::exists(format!("/proc/{}/fd/{number}", gateway.pid())).unwrap();
    set_limit(gateway, (0..).find(is_free).unwrap());
}

fn raise_limit(gateway: &Gateway) {
    set_limit(gateway, DESCRIPTORS);
}

fn set_limit(gateway: &Gateway, descriptors: u32) {
    let pid = gateway.pid().to_string();
    let nofile = format!("--nofile={descriptors}:{DESCRIPTORS}");
    let status = Command::new("prlimit").args(["--pid", &pid, &nofile]).status().unwrap();
    assert!(status.success());
}

/// Processor time in ticks of the kernel (100 a second), from /proc/PID/stat.
fn cpu_ticks(gateway: &Gateway) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
