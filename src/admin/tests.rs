//! The admin endpoint over real sockets.

mod orders;
mod pages;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use portcullis_kit::{Authority, within};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::mpsc;

use super::*;
use crate::config;
use crate::config::plan::{AdminAddress, Io, LogLevel};
use crate::tls::{Material, StekKeys};
use crate::worker::Mailbox;

/// An endpoint on a thread of its own, ended at drop.
struct Running {
    address: String,
    state: Arc<AdminState>,
    ordered: mpsc::Receiver<Ordered>,
    _thread: AdminThread,
}

fn keys() -> Arc<StekKeys> {
    let lifetime = Duration::from_secs(3_600);
    Arc::new(StekKeys::random(lifetime, lifetime, 7_200).expect("keys"))
}

/// A snapshot of a gateway with this configuration.
fn running(config: &str) -> Arc<ArcSwap<Snapshot>> {
    let plan = config::load_text(&format!("{BASE}{config}"), Path::new("/portcullis.toml"));
    let plan = plan.expect("a plan");
    let material = Material::load(&plan, &keys(), 0, clock::unix_now, None);
    let snapshot = Snapshot::first(plan, material.expect("files"), 1).expect("chains that differ");
    Arc::new(ArcSwap::from(snapshot))
}

/// What a gateway of two workers, whose threads do not run, shows.
fn shown() -> Shown {
    let peer = || Peer { io: Io::Epoll, counters: Arc::default(), mailbox: Mailbox::new() };
    Shown {
        current: running(""),
        peers: Arc::new([peer(), peer()]),
        stek: keys(),
        bound: Arc::default(),
        started: 7_200,
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

const BASE: &str = r#"
[listener.edge]
address = "127.0.0.1:8443"
[listener.edge.chain.default]
cluster = "echo"
[cluster.echo]
endpoints = ["127.0.0.1:7000"]
"#;

impl Running {
    fn tcp() -> Self {
        Self::start(&AdminAddress::Tcp("127.0.0.1:0".parse().expect("an address")))
    }

    fn start(address: &AdminAddress) -> Self {
        let mut registry = Registry::default();
        registry.register("things", "Things", Counter::<u64>::default());
        let (orders, ordered) = orders();
        let state = Arc::new(AdminState::new(registry, shown(), orders));
        let listener = AdminListener::bind(address).expect("the address is free");
        let address = listener.local_addr().to_owned();
        // Nothing here ends because it has taken too long.
        let patience = Patience { header: HOUR, age_max: HOUR };
        let thread = start_with(patience, listener, Arc::clone(&state)).expect("a thread");
        Self { address, state, ordered, _thread: thread }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("the endpoint listens");
        stream.set_read_timeout(Some(portcullis_kit::PATIENCE)).expect("a timeout");
        stream
    }

    /// The answer to a request of which the first lines are given.
    fn ask(&self, head: &str) -> String {
        ask(self.connect(), head)
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:9901"))
    }
}

fn ask(mut stream: impl Read + Write, head: &str) -> String {
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the endpoint reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the endpoint answers");
    answer
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

#[test]
fn readiness_follows_the_life_of_the_gateway() {
    let admin = Running::tcp();
    for (readiness, code, word) in [
        (None, 503, "starting"),
        (Some(Readiness::Ready), 200, "ready"),
        (Some(Readiness::Draining), 503, "draining"),
    ] {
        if let Some(readiness) = readiness {
            admin.state.set_readiness(readiness);
            assert_eq!(admin.state.readiness(), readiness);
        }
        let answer = admin.get("/readyz");
        assert_eq!((status(&answer), body(&answer).trim()), (code, word));
        assert_eq!(status(&admin.get("/livez")), 200);
    }
}

#[test]
fn metrics_are_open_metrics_to_the_end() {
    let answer = Running::tcp().get("/metrics");
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(body(&answer).contains("things_total 0"));
    assert!(answer.ends_with("# EOF\n"), "{answer}");
}

#[test]
fn certificates_are_listed_with_the_days_that_are_left_and_without_keys() {
    let ca = Authority::new("CA");
    let server = ca.server(&["edge.test"]);
    let directory = tempfile::TempDir::new().expect("a directory");
    for name in ["a.test.crt", "a.test.key", "b.test.pem"] {
        std::fs::write(directory.path().join(name), &server.chain_pem).expect("a file");
    }
    let list = ca.write("list", "crl", &ca.revocation_list(&[&server]));
    let (chain, key) = (server.chain_path.display(), server.key_path.display());
    let (anchors, list) = (ca.ca_path().display(), list.display());
    let snapshot = running(&format!(
        "[tls.downstream.edge]\n\
             certificates = [{{ chain = \"{chain}\", key = \"{key}\" }}]\n\
             trust = \"clients\"\n\
             [tls.downstream.many]\n\
             certificate_dir = \"{}\"\n\
             client_auth = \"none\"\n\
             [trust.clients]\n\
             anchors = [\"{anchors}\"]\n\
             crls = [\"{list}\"]\n",
        directory.path().display()
    ));
    let snapshot = snapshot.load();
    let end = snapshot.material.certificates().next().expect("a certificate").not_after;
    let page = certs::page(&snapshot, end - 5 * 86_400);
    let shown: Value = serde_json::from_str(&page).expect("JSON");
    let [edge, anchor, crl] = &shown["certificates"].as_array().expect("a list")[..] else {
        panic!("{page}")
    };
    assert_eq!(edge["kind"], "server");
    assert_eq!(edge["name"], "tls.downstream.edge.certificates[0]");
    assert_eq!(edge["subject"], "CN=edge.test");
    assert_eq!(edge["sans"][0], "dns:edge.test");
    assert_eq!((&edge["days_left"], &edge["not_after"]), (&5.into(), &end.into()));
    assert_eq!(edge["file"], chain.to_string());
    assert_eq!((&anchor["kind"], &anchor["subject"]), (&"client_ca".into(), &"CN=CA".into()));
    assert_eq!(anchor["name"], "trust.clients.anchors[0]");
    assert_eq!((&crl["kind"], &crl["revoked"]), (&"crl".into(), &1.into()));
    assert!(crl["days_left"].as_i64().is_some_and(|days| days < -80), "{crl}");
    let many = &shown["directories"][0];
    assert_eq!(many["name"], "tls.downstream.many.certificate_dir");
    assert_eq!((&many["pairs"], &many["loaded"]), (&2.into(), &0.into()));
    assert!(!page.contains("key"), "{page}");
    // And over the socket.
    let answer = Running::tcp().get("/certs");
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("content-type: application/json"), "{answer}");
}

#[test]
fn trusts_are_listed_with_their_rules_and_with_whom_their_anchors_vouched_for() {
    let ca = Authority::new("CA");
    let server = ca.server(&["edge.test"]);
    let list = ca.write("list", "crl", &ca.revocation_list(&[&server]));
    let (chain, key) = (server.chain_path.display(), server.key_path.display());
    let (anchors, list) = (ca.ca_path().display(), list.display());
    let snapshot = running(&format!(
        "[tls.downstream.edge]\n\
         certificates = [{{ chain = \"{chain}\", key = \"{key}\" }}]\n\
         trust = \"clients\"\n\
         [trust.clients]\n\
         anchors = [\"{anchors}\"]\n\
         crls = [\"{list}\"]\n\
         san = [{{ dns = \"*.test\" }}]\n\
         on_change = \"drain\"\n"
    ));
    let snapshot = snapshot.load();
    snapshot.counters.anchors[0][0].of(0).used(90);
    let page: Value = serde_json::from_str(&trust::page(&snapshot, 100)).expect("JSON");
    assert_eq!(page["generation"], 1);
    let trust = &page["trusts"][0];
    assert_eq!((&trust["name"], &trust["on_change"]), (&"clients".into(), &"drain".into()));
    assert_eq!(trust["san"][0], "dns = \"*.test\"");
    assert_eq!(trust["clients_of"][0], "edge");
    assert_eq!(trust["revocation_lists"][0]["revoked"], 1);
    let anchor = &trust["anchors"][0];
    assert_eq!((&anchor["subject"], &anchor["uses"]), (&"CN=CA".into(), &1.into()));
    assert_eq!((&anchor["last_used_at"], &anchor["seconds_since"]), (&90.into(), &10.into()));
}

#[test]
fn ticket_keys_are_listed_by_their_ids_and_roles() {
    let page = tickets::page(&keys(), 7_300);
    let page: Value = serde_json::from_str(&page).expect("JSON");
    let keys = page["keys"].as_array().expect("a list");
    let seals: Vec<_> = keys.iter().filter(|key| key["role"] == "seals").collect();
    assert_eq!(seals.len(), 1, "{page}");
    assert_eq!(seals[0]["source"], "auto");
    assert!(seals[0]["id"].as_str().is_some_and(|id| id.len() == 16), "{page}");
}

#[test]
fn other_paths_and_methods_are_refused_with_what_there_is() {
    let admin = Running::tcp();
    let answer = admin.get("/nowhere");
    assert_eq!(status(&answer), 404);
    for path in ["/livez", "/readyz", "/metrics", "/certs", "/reload"] {
        assert!(body(&answer).contains(path), "{answer}");
    }
    let head = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0";
    let answer = admin.ask(head);
    assert_eq!(status(&answer), 405);
    assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    let answer = admin.ask("HEAD /livez HTTP/1.1\r\nHost: localhost");
    assert_eq!((status(&answer), body(&answer)), (200, ""));
}

#[test]
fn a_host_that_a_stranger_could_name_is_refused() {
    // threat 44
    let admin = Running::tcp();
    for (host, code) in [
        ("127.0.0.1", 200),
        ("127.0.0.1:9901", 200),
        ("[::1]:9901", 200),
        ("[::1]", 200),
        ("10.1.2.3:80", 200),
        ("LocalHost:1", 200),
        ("evil.example", 403),
        ("evil.example:9901", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ] {
        let answer = admin.ask(&format!("GET /livez HTTP/1.1\r\nHost: {host}"));
        assert_eq!(status(&answer), code, "{host}");
    }
    for (head, code) in [
        ("GET /livez HTTP/1.0", 200),
        ("GET /livez HTTP/1.1", 403),
        ("GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example", 403),
        ("GET http://evil.example/livez HTTP/1.1\r\nHost: localhost", 403),
        ("GET http://localhost/livez HTTP/1.1\r\nHost: localhost", 200),
    ] {
        assert_eq!(status(&admin.ask(head)), code, "{head}");
    }
}

#[test]
fn pages_of_other_sites_are_refused() {
    // threat 44
    let admin = Running::tcp();
    for (header, code) in [
        ("Origin: http://evil.example", 403),
        ("Origin: null", 403),
        ("Origin: http://127.0.0.1:9901", 200),
        ("Sec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: same-site", 403),
        ("Sec-Fetch-Site: none", 200),
        ("Sec-Fetch-Site: same-origin", 200),
        ("Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: none\r\nSec-Fetch-Site: none", 200),
        ("Origin: http://127.0.0.1:9901\r\nOrigin: http://evil.example", 403),
    ] {
        let head = format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9901\r\n{header}");
        assert_eq!(status(&admin.ask(&head)), code, "{header}");
    }
}

#[test]
fn a_head_beyond_its_limit_is_refused() {
    // threat 44
    let admin = Running::tcp();
    let mut stream = admin.connect();
    // The endpoint may close before all of it is written.
    let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ");
    let _ = stream.write_all(&[b'x'; 2 * HEADER_BYTES_MAX]);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(status(&admin.get("/livez")), 200);
}

/// Whether the other side has closed; what it sends before is thrown away.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a mode");
    loop {
        match stream.read(&mut [0; 4_096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn connections_have_a_limit_and_who_is_idle_makes_room_for_the_next() {
    // threat 44
    let admin = Running::tcp();
    // An answer proves that the place is taken.
    let answered = || {
        let mut stream = admin.connect();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200");
        stream
    };
    let mut held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| answered()).collect();
    assert!(held.iter_mut().all(|stream| !is_closed(stream)));
    for gone in 1..4 {
        held.push(answered());
        // The one whose answer is the oldest, each time.
        let closed: Vec<_> = held.iter_mut().map(is_closed).collect();
        assert!(closed[..gone].iter().all(|is| *is), "{closed:?}");
        assert!(closed[gone..].iter().all(|is| !is), "{closed:?}");
    }
}

#[test]
fn a_probe_is_answered_whatever_others_from_its_address_hold_open() {
    // threat 44
    let admin = Running::tcp();
    let livez = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // A page of which more is asked for than buffers of sockets hold.
    let unread = "GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000);
    let (half, silent) = ("GET /livez HTTP/1.1\r\nHost: local", "");
    let mut held = Vec::new();
    for round in 0..CONNECTIONS_MAX {
        for sort in [livez, &unread, half, silent] {
            let mut stream = admin.connect();
            stream.set_nonblocking(true).expect("a mode");
            // What does not fit, or comes after the end, is as good.
            let _ = stream.write(sort.as_bytes());
            held.push(stream);
        }
        for probe in ["/livez", "/readyz"] {
            let code = status(&admin.get(probe));
            assert_eq!(code, if probe == "/livez" { 200 } else { 503 }, "{round}: {probe}");
        }
    }
}

#[test]
fn pages_that_nobody_reads_make_room_for_one_that_somebody_does() {
    // threat 44
    let admin = Running::tcp();
    let all = u32::try_from(PAGES_MAX).expect("a few");
    let unread = "GET /config HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(4_000);
    let mut held = Vec::new();
    for _ in 0..PAGES_MAX {
        let stream = admin.connect();
        stream.set_nonblocking(true).expect("a mode");
        held.push(stream);
    }
    portcullis_kit::eventually(portcullis_kit::PATIENCE, "pages that are stuck", || {
        for stream in &mut held {
            let _ = stream.write(unread.as_bytes());
        }
        admin.state.places.try_acquire_many(all).is_err().then_some(())
    });
    portcullis_kit::eventually(portcullis_kit::PATIENCE, "no page to be left", || {
        for stream in &mut held {
            let _ = stream.write(unread.as_bytes());
        }
        (admin.state.places.available_permits() == 0).then_some(())
    });
    assert_eq!(status(&admin.get("/stats")), 200);
}

/// Ends when the endpoint has closed a connection on which `request` was sent and nothing is read.
fn outlasted(request: &'static [u8], patience: Patience) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let state = Arc::new(AdminState::new(Registry::default(), shown(), orders().0));
    within(portcullis_kit::PATIENCE, "closing a connection", move || {
        runtime.expect("a runtime").block_on(async {
            // Too small for an answer.
            let (mut client, server) = tokio::io::duplex(64);
            let write = tokio::io::AsyncWriteExt::write_all(&mut client, request);
            let guest = state.crowd.enter(Source::File, clock::now());
            let served = host(server, guest, Reach::File, patience, state);
            let (written, ()) = tokio::join!(write, served);
            written.expect("the endpoint reads");
        });
    });
}

#[test]
fn connections_that_are_slow_or_idle_or_do_not_read_are_closed() {
    // threat 44
    let (short, long) = (Duration::from_millis(20), HOUR);
    outlasted(b"", Patience { header: short, age_max: long });
    outlasted(b"GET /livez", Patience { header: short, age_max: long });
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    outlasted(request, Patience { header: short, age_max: short });
}

#[test]
fn a_unix_socket_serves_its_group_and_goes_with_the_endpoint() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    let admin = Running::start(&AdminAddress::Unix(path.clone()));
    assert_eq!(admin.address, format!("unix:{}", path.display()));
    let mode = path.metadata().expect("the socket's file").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let stream = UnixStream::connect(&path).expect("the endpoint listens");
    let answer = ask(stream, "GET /livez HTTP/1.1\r\nHost: anything");
    assert_eq!(status(&answer), 200);
    drop(admin);
    assert!(!path.exists());
}

#[test]
fn only_the_file_of_a_dead_unix_socket_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    let address = AdminAddress::Unix(path.clone());
    let in_use = |address| AdminListener::bind(address).expect_err("in use").kind();

    std::fs::write(&path, "not a socket").expect("a file");
    assert_eq!(in_use(&address), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read(&path).expect("still there"), b"not a socket");
    std::fs::remove_file(&path).expect("ours");

    let living = UnixListener::bind(&path).expect("a socket");
    assert_eq!(in_use(&address), io::ErrorKind::AddrInUse);
    drop(living);
    let first = AdminListener::bind(&address).expect("nobody listens any more");

    // Another process takes the path: its file stays when ours goes.
    std::fs::remove_file(&path).expect("the socket's file");
    let second = UnixListener::bind(&path).expect("a socket");
    drop(first);
    assert!(path.exists());
    drop(second);
}

#[test]
fn a_tcp_address_in_use_is_an_error() {
    let admin = Running::tcp();
    let address = AdminAddress::Tcp(admin.address.parse().expect("an address"));
    let error = AdminListener::bind(&address).expect_err("taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}
