//! Probes: who is found unhealthy, by what, and that clients are spared it and come back after it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use portcullis_kit::{
    Authority, ClientSpec, ClosedPort, Gateway, Metrics, PATIENCE, PlainEcho, ServerTls, TlsEcho,
    TlsStream, close_write, eventually, read_to_end, round_trip,
};

use crate::support::{BlackHole, Config, Pki, UPSTREAM_NAME, files};

/// `health` of this kind, often enough for a test.
fn health(keys: &str) -> String {
    format!(
        "health = {{ {keys}, interval = \"50ms\", timeout = \"500ms\", healthy = 2, unhealthy = 2, \
         slow_start = \"0s\" }}"
    )
}

fn config(pki: &Pki, endpoints: &[SocketAddr], keys: &str) -> Config {
    Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(pki, "")
        .cluster("app", endpoints, keys)
}

fn in_tls(pki: &Pki, endpoints: &[SocketAddr], keys: &str) -> Gateway {
    config(pki, endpoints, &format!("tls = \"db\"\n{keys}"))
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .start()
}

fn of(metrics: &Metrics, family: &str, endpoint: SocketAddr) -> u64 {
    metrics.sum(family, &[("endpoint", &endpoint.to_string())])
}

/// Waits until the endpoint is found healthy, or not.
fn found(gateway: &Gateway, endpoint: SocketAddr, is_healthy: bool) {
    eventually(PATIENCE, &format!("{endpoint} is healthy: {is_healthy}"), || {
        let metrics = gateway.metrics();
        let was_probed = of(&metrics, "portcullis_endpoint_probes_total", endpoint) > 0;
        let now = of(&metrics, "portcullis_endpoint_healthy", endpoint) == 1;
        (was_probed && now == is_healthy).then_some(())
    });
}

fn use_once(mut stream: TlsStream) {
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

#[test] // threat 28
fn an_endpoint_that_is_down_gets_no_client_until_it_is_up_again() {
    let pki = Pki::new();
    let upstream = PlainEcho::start();
    let closed = ClosedPort::new();
    let flapping = closed.address;
    let gateway = config(&pki, &[flapping, upstream.address()], &health("type = \"tcp\"")).start();
    found(&gateway, flapping, false);
    let line = gateway.wait_log(&["unhealthy", &flapping.to_string()]);
    assert!(line.contains("cluster=app") && line.contains("refused"), "{line}");
    let before = of(&gateway.metrics(), "portcullis_endpoint_dials_total", flapping);
    for _ in 0..6 {
        use_once(pki.connect(&gateway));
    }
    let metrics = gateway.settled();
    assert_eq!(of(&metrics, "portcullis_endpoint_dials_total", flapping), before);
    // Probes come and go there, and then a client, who sends.
    let back = closed.open();
    let (says, came) = mpsc::channel();
    thread::spawn(move || {
        for socket in back.incoming() {
            let mut first = [0];
            if std::io::Read::read(&mut socket.unwrap(), &mut first).is_ok_and(|read| read > 0) {
                let _ = says.send(());
            }
        }
    });
    found(&gateway, flapping, true);
    eventually(PATIENCE, "a client at the endpoint that is back", || {
        // One that comes there is closed without an answer.
        drop(round_trip(&mut pki.connect(&gateway), b"hello"));
        came.try_recv().ok()
    });
}

#[test] // threat 28
fn an_endpoint_that_answers_nothing_is_unhealthy_after_the_timeout() {
    let pki = Pki::new();
    let (hole, upstream) = (BlackHole::new(), PlainEcho::start());
    let endpoints = [hole.address, upstream.address()];
    let gateway = config(&pki, &endpoints, &health("type = \"tcp\"")).start();
    found(&gateway, hole.address, false);
    found(&gateway, upstream.address(), true);
    gateway.wait_log(&["unhealthy", "no answer within 500ms"]);
    for _ in 0..4 {
        use_once(pki.connect(&gateway));
    }
    assert_eq!(of(&gateway.settled(), "portcullis_endpoint_dials_total", hole.address), 0);
}

#[test] // threat 28
fn a_certificate_that_is_not_trusted_is_unhealthy_by_the_terms_of_the_cluster() {
    let pki = Pki::new();
    let good = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let impostor = Authority::new("Others").server(&[UPSTREAM_NAME]);
    let bad = TlsEcho::start(ServerTls::new(&impostor).build());
    let stalls = TcpListener::bind("127.0.0.1:0").unwrap();
    let stalling = stalls.local_addr().unwrap();
    let endpoints = [bad.address(), stalling, good.address()];
    let keys = format!("pool = {{ ready_max = 0 }}\n{}", health("type = \"tls\""));
    let gateway = in_tls(&pki, &endpoints, &keys);
    found(&gateway, bad.address(), false);
    found(&gateway, stalling, false);
    found(&gateway, good.address(), true);
    gateway.wait_log(&["unhealthy", &bad.address().to_string(), "upstream_untrusted"]);
    for _ in 0..4 {
        use_once(pki.connect(&gateway));
    }
    let metrics = gateway.settled();
    assert_eq!(of(&metrics, "portcullis_endpoint_dials_total", bad.address()), 0);
    assert_eq!(of(&metrics, "portcullis_endpoint_dials_total", good.address()), 4);
    assert_eq!(bad.counts().bytes, 0);
}

#[test] // threat 28
fn an_endpoint_that_refuses_our_certificate_is_unhealthy_though_it_does_so_behind_the_handshake() {
    let pki = Pki::new();
    let good = ServerTls::new(&pki.upstream).require_clients_of(&pki.ca).only_tls13();
    let good = TlsEcho::start(good.build());
    let others = Authority::new("Others");
    let bad = ServerTls::new(&pki.upstream).require_clients_of(&others).only_tls13();
    let bad = TlsEcho::start(bad.build());
    let keys = format!("pool = {{ ready_max = 0 }}\n{}", health("type = \"tls\""));
    let itself = pki.ca.client(&ClientSpec::new("gateway"));
    let gateway = config(&pki, &[bad.address(), good.address()], &format!("tls = \"db\"\n{keys}"))
        .upstream("db", &format!("certificate = {}", files(&itself)))
        .trust("upstreams", &pki.ca)
        .start();
    found(&gateway, bad.address(), false);
    found(&gateway, good.address(), true);
    let told = "issued by CN=Others, and got CN=gateway, issued by CN=";
    gateway.wait_log(&["unhealthy", &bad.address().to_string(), "unknown_ca", told]);
    for _ in 0..4 {
        use_once(pki.connect(&gateway));
    }
    assert_eq!(of(&gateway.settled(), "portcullis_endpoint_dials_total", bad.address()), 0);
}

#[test]
fn an_answer_that_is_not_as_expected_is_unhealthy_in_plain_text_and_in_tls() {
    let pki = Pki::new();
    let plain = PlainEcho::start();
    let server = || ServerTls::new(&pki.upstream);
    for expect in ["PING", "PONG"] {
        let keys = format!("type = \"script\", send = \"PING\\r\\n\", expect = \"{expect}\"");
        let keys = format!("pool = {{ ready_max = 0 }}\n{}", health(&keys));
        let gateway = config(&pki, &[plain.address()], &keys).start();
        found(&gateway, plain.address(), expect == "PING");
        for server in [server().only_tls12(), server().only_tls13()] {
            let tls = TlsEcho::start(server.build());
            let gateway = in_tls(&pki, &[tls.address()], &keys);
            found(&gateway, tls.address(), expect == "PING");
            // With nobody healthy whoever is there is used.
            use_once(pki.connect(&gateway));
        }
        if expect == "PONG" {
            gateway.wait_log(&["unhealthy", "unexpected answer: \"PING"]);
            gateway.wait_log(&["no endpoint is healthy: all are used"]);
        }
    }
}

#[test]
fn ready_connections_to_an_endpoint_that_became_unhealthy_are_closed() {
    let pki = Pki::new();
    let upstream = PlainEcho::start();
    let failing = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = failing.local_addr().unwrap();
    let (stop, stops) = mpsc::channel();
    // Whoever is connected stays so; nobody else is any more.
    let server = thread::spawn(move || {
        let mut held: Vec<TcpStream> = Vec::new();
        while stops.try_recv().is_err() {
            held.push(failing.accept().unwrap().0);
        }
        drop(failing);
        held
    });
    let keys = format!("pool = {{ ready_min = 4, ready_max = 4 }}\n{}", health("type = \"tcp\""));
    let gateway = config(&pki, &[address, upstream.address()], &keys).start();
    eventually(PATIENCE, "ready connections to both", || {
        let metrics = gateway.metrics();
        let ready = of(&metrics, "portcullis_endpoint_active", address);
        (metrics.sum("portcullis_upstream_ready", &[]) == 4 && ready == 2).then_some(())
    });
    stop.send(()).unwrap();
    let held = server.join().unwrap();
    found(&gateway, address, false);
    eventually(PATIENCE, "ready connections to the other", || {
        let metrics = gateway.metrics();
        let ready = of(&metrics, "portcullis_endpoint_active", address);
        (metrics.sum("portcullis_upstream_ready", &[]) == 4 && ready == 0).then_some(())
    });
    drop(held);
}

#[test]
fn what_is_known_of_an_endpoint_outlives_a_reload() {
    let pki = Pki::new();
    let (closed, upstream) = (ClosedPort::new(), PlainEcho::start());
    let nobody = closed.address;
    let endpoints = [nobody, upstream.address()];
    let probes = health("type = \"tcp\"");
    let gateway = config(&pki, &endpoints, &probes).start();
    found(&gateway, nobody, false);
    // Reached otherwise, probed an hour later.
    let slow = "health = { type = \"tcp\", interval = \"1h\" }\nbalance = \"random\"";
    gateway.reload(&config(&pki, &endpoints, slow).to_string());
    assert_eq!(of(&gateway.metrics(), "portcullis_endpoint_healthy", nobody), 0);
    for _ in 0..6 {
        use_once(pki.connect(&gateway));
    }
    assert_eq!(of(&gateway.settled(), "portcullis_endpoint_dials_total", nobody), 0);
    // Not probed any more, it is one like the others.
    gateway.reload(&config(&pki, &endpoints, "").to_string());
    for _ in 0..4 {
        use_once(pki.connect(&gateway));
    }
    assert!(of(&gateway.settled(), "portcullis_endpoint_dials_total", nobody) > 0);
}

/// What a service asks of whoever connects, it asks of a probe as well.
#[test]
fn a_probe_begins_with_the_header_and_the_prelude_of_its_cluster() {
    let pki = Pki::new();
    let echo = PlainEcho::start();
    let service = Config::new(1)
        .listener("inner", "prelude = \"postgres\"\nproxy_protocol = { from = [\"127.0.0.0/8\"] }")
        .chain("inner", "default", "tls = \"inner\"\ncluster = \"echo\"")
        .downstream("inner", &[&pki.upstream], "client_auth = \"none\"")
        .cluster("echo", &[echo.address()], "")
        .start();
    let endpoint = service.addr("inner");
    for version in [1, 2] {
        let keys = format!(
            "prelude = \"postgres\"\nproxy_protocol = {{ version = {version} }}\n{}",
            health("type = \"script\", send = \"PING\\r\\n\", expect = \"PING\"")
        );
        let gateway = in_tls(&pki, &[endpoint], &keys);
        found(&gateway, endpoint, true);
        use_once(pki.connect(&gateway));
    }
    let metrics = service.settled();
    assert_eq!(metrics.refusals("proxy_header_missing"), 0);
    assert_eq!(metrics.refusals("not_tls"), 0);
}
