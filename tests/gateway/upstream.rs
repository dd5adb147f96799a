//! The way to upstreams: those that are not there, those that are not who they should be, and how
//! clients spread over those that are.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use portcullis_kit::{
    Authority, ClientTls, ClosedPort, Gateway, KeyKind, PATIENCE, PlainEcho, Refusal, Scripted,
    ServerTls, TlsEcho, TlsStream, Validity, close_write, connect_tls, eventually, monotonic_now,
    read_to_end, refusal, round_trip,
};
use rustls::{AlertDescription, ServerConnection};
use serde_json::Value;

use crate::support::{BlackHole, Config, NAME, Pki, UPSTREAM_NAME};

fn plain(pki: &Pki, endpoints: &[SocketAddr], keys: &str) -> Gateway {
    Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(pki, "")
        .cluster("app", endpoints, keys)
        .start()
}

fn encrypted(pki: &Pki, endpoints: &[SocketAddr], keys: &str) -> Gateway {
    Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster("db", endpoints, &format!("tls = \"db\"\n{keys}"))
        .start()
}

/// What an authenticated client meets whose upstream fails, and what the log says.
fn unserved(gateway: &Gateway, client: ClientTls<'_>) -> Value {
    let got = refusal(gateway.addr("edge"), NAME, &client.build());
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    assert_eq!(got, Refusal::Alert(AlertDescription::InternalError), "{line}");
    assert_eq!(line["alert_name"], "internal_error", "{line}");
    line
}

fn use_once(mut stream: TlsStream) {
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

#[test] // threat 28
fn an_upstream_that_refuses_is_named_and_its_client_gets_an_alert() {
    let pki = Pki::new();
    let closed = ClosedPort::new();
    let nobody = closed.address;
    for client in [pki.client().only_tls13(), pki.client().only_tls12()] {
        let gateway = plain(&pki, &[nobody], "connect = { attempts = 3 }");
        let line = unserved(&gateway, client);
        assert_eq!(line["reason"], "upstream_connect", "{line}");
        assert!(line["detail"].as_str().unwrap().contains(&nobody.to_string()), "{line}");
        let metrics = gateway.settled();
        assert_eq!(metrics.sum("portcullis_upstream_dials_total", &[]), 3);
        assert_eq!(metrics.sum("portcullis_upstream_dial_failures_total", &[]), 3);
    }
}

#[test] // threat 28
fn a_black_hole_costs_the_timeout_and_no_more() {
    let pki = Pki::new();
    let hole = BlackHole::new();
    let keys = "connect = { timeout = \"300ms\", attempts = 2 }";
    let gateway = plain(&pki, &[hole.address], keys);
    let began = monotonic_now();
    let line = unserved(&gateway, pki.client());
    let took = began.elapsed().as_millis();
    assert!((550..5_000).contains(&took), "{took} ms");
    assert_eq!(line["reason"], "upstream_timeout", "{line}");
    let says = format!("no answer from {} within 300ms, dial 2 of 2", hole.address);
    assert_eq!(line["detail"], says, "{line}");
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_upstream_dials_total", &[]), 2);
    assert_eq!(metrics.sum("portcullis_upstream_dial_failures_total", &[]), 2);
    assert_eq!(metrics.sum("portcullis_upstream_active", &[]), 0);
}

#[test]
fn an_upstream_that_takes_connections_and_says_nothing_is_no_black_hole() {
    let pki = Pki::new();
    // The kernel accepts for it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let keys = "connect = { timeout = \"300ms\", attempts = 1 }";
    let gateway = encrypted(&pki, &[address], keys);
    let says = format!("{address} took the connection, and TLS was not done within 300ms");
    gateway.wait_log(&["no ready connections", &says]);
    let line = unserved(&gateway, pki.client());
    assert_eq!(line["reason"], "upstream_timeout", "{line}");
    assert_eq!(line["detail"], format!("{says}, dial 1 of 1"), "{line}");
}

#[test] // threat 28
fn an_upstream_that_cannot_prove_its_name_gets_not_a_byte() {
    let pki = Pki::new();
    let others = Authority::new("Others");
    let impostor = others.server(&[UPSTREAM_NAME]);
    let elsewhere = pki.ca.server(&["elsewhere.test"]);
    let expired = pki.ca.server_with(&[UPSTREAM_NAME], KeyKind::EcdsaP256, Validity::Expired);
    let off = "pool = { ready_min = 0, ready_max = 0 }\nconnect = { attempts = 1 }";
    for (identity, says) in
        [(&impostor, "Others"), (&elsewhere, UPSTREAM_NAME), (&expired, "expired")]
    {
        for tls12 in [false, true] {
            let server = ServerTls::new(identity);
            let server = if tls12 { server.only_tls12() } else { server.only_tls13() };
            let upstream = TlsEcho::start(server.build());
            let gateway = encrypted(&pki, &[upstream.address()], off);
            let line = unserved(&gateway, pki.client());
            assert_eq!(line["reason"], "upstream_untrusted", "{line}");
            let detail = line["detail"].as_str().unwrap();
            assert!(detail.contains(says), "{says}: {line}");
            assert!(detail.contains(&upstream.address().to_string()), "{line}");
            gateway.settled();
            let counts = upstream.wait("the end", |counts| counts.closed == 1);
            assert_eq!((counts.bytes, counts.accepted), (0, 1));
        }
    }
}

#[test] // threat 28
fn an_upstream_without_tls_gets_no_byte_of_the_client() {
    let pki = Pki::new();
    let upstream = PlainEcho::start();
    let off = "pool = { ready_min = 0, ready_max = 0 }\nconnect = { attempts = 1 }";
    let gateway = encrypted(&pki, &[upstream.address()], off);
    // The echo returns our own ClientHello, which is no ServerHello.
    let line = unserved(&gateway, pki.client());
    assert_eq!(line["reason"], "upstream_tls", "{line}");
    assert_eq!(line["bytes_received"], 0, "{line}");
    gateway.settled();
}

#[test] // threat 28
fn attempts_go_on_to_the_next_endpoint() {
    let pki = Pki::new();
    let upstream = PlainEcho::start();
    for balance in ["round_robin", "least_connections"] {
        let closed = [ClosedPort::new(), ClosedPort::new()];
        let endpoints = [closed[0].address, upstream.address(), closed[1].address];
        let gateway = plain(&pki, &endpoints, &format!("balance = \"{balance}\""));
        for _ in 0..6 {
            use_once(pki.connect(&gateway));
        }
        let metrics = gateway.settled();
        assert_eq!(metrics.sum("portcullis_sessions_total", &[]), 6, "{balance}");
        assert!(metrics.sum("portcullis_upstream_dial_failures_total", &[]) > 0, "{balance}");
    }
}

#[test]
fn clients_spread_over_endpoints_as_balance_says() {
    let pki = Pki::new();
    let servers = [PlainEcho::start(), PlainEcho::start(), PlainEcho::start()];
    let endpoints: Vec<_> = servers.iter().map(PlainEcho::address).collect();
    let gateway = plain(&pki, &endpoints, "balance = \"round_robin\"");
    for _ in 0..9 {
        use_once(pki.connect(&gateway));
    }
    assert!(servers.iter().all(|server| server.counts().accepted == 3), "round robin");
    gateway.settled();
    drop(gateway);
    let gateway = plain(&pki, &endpoints, "balance = \"least_connections\"");
    let mut held: Vec<_> = (0..9).map(|_| pki.connect(&gateway)).collect();
    for (at, server) in servers.iter().enumerate() {
        server.wait(&format!("three at {at}"), |counts| counts.accepted - counts.closed == 3);
    }
    // Whoever comes when one endpoint is empty goes there.
    let mut of_first = Vec::new();
    let first = gateway.addr("edge");
    for stream in held.drain(..) {
        let before = servers[0].counts().closed;
        use_once(stream);
        gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
        if servers[0].counts().closed > before {
            of_first.push(first);
        }
    }
    assert_eq!(servers.iter().map(|server| server.counts().accepted).sum::<u64>(), 18);
    gateway.settled();
}

#[test]
fn upstream_sessions_are_resumed() {
    let pki = Pki::new();
    for tls12 in [false, true] {
        let server = ServerTls::new(&pki.upstream);
        let server = if tls12 { server.only_tls12() } else { server.only_tls13() };
        let upstream = TlsEcho::start(server.build());
        let off = "pool = { ready_min = 0, ready_max = 0 }";
        let gateway = encrypted(&pki, &[upstream.address()], off);
        for _ in 0..4 {
            use_once(pki.connect(&gateway));
        }
        let metrics = gateway.settled();
        let resumed = [("resumed", "true")];
        assert_eq!(metrics.sum("portcullis_upstream_handshakes_total", &resumed), 3, "{tls12}");
        let log = gateway.access_log();
        let flags: Vec<_> = log.iter().map(|line| &line["upstream_tls"]["resumed"]).collect();
        assert_eq!(flags, [false, true, true, true]);
    }
}

/// Asks its upstreams for what its clients ask for.
fn by_their_names(pki: &Pki, upstreams: &[SocketAddr], keys: &str) -> Gateway {
    let keys = format!("tls = \"db\"\nconnect = {{ attempts = 1 }}\n{keys}");
    Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(pki, "")
        .table("[tls.upstream.db]\nserver_name = \"$sni\"\ntrust = \"upstreams\"")
        .trust("upstreams", &pki.ca)
        .cluster("db", upstreams, &keys)
        .start()
}

#[test]
fn the_name_that_the_client_asked_for_can_be_the_upstreams() {
    let pki = Pki::new();
    let tenant = pki.ca.server(&["a.edge.test"]);
    let upstream = TlsEcho::start(ServerTls::new(&tenant).build());
    let gateway = by_their_names(&pki, &[upstream.address()], "");
    let client = pki.client().build();
    let mut stream = connect_tls(gateway.addr("edge"), "a.edge.test", &client).unwrap();
    stream.flush().unwrap();
    use_once(stream);
    assert_eq!(upstream.counts().handshakes[0].server_name.as_deref(), Some("a.edge.test"));
    let got = refusal(gateway.addr("edge"), "b.edge.test", &client);
    assert_eq!(got, Refusal::Alert(AlertDescription::InternalError));
    assert_eq!(gateway.settled().refusals("upstream_untrusted"), 1);
}

#[test] // threat 28
fn names_that_clients_make_up_eject_nobody() {
    let pki = Pki::new();
    let tenant = pki.ca.server(&["a.edge.test"]);
    let upstreams = [0; 2].map(|_| TlsEcho::start(ServerTls::new(&tenant).build()));
    let keys = "balance = \"round_robin\"\nejection = { failures = 2, percent_max = 50 }";
    let gateway = by_their_names(&pki, &upstreams.each_ref().map(TlsEcho::address), keys);
    let client = pki.client().build();
    for _ in 0..8 {
        refusal(gateway.addr("edge"), "b.edge.test", &client);
    }
    for _ in 0..4 {
        use_once(connect_tls(gateway.addr("edge"), "a.edge.test", &client).unwrap());
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("upstream_untrusted"), 8);
    assert_eq!(metrics.sum("portcullis_upstream_dial_failures_total", &[]), 8);
    assert_eq!(metrics.sum("portcullis_endpoint_ejections_total", &[]), 0);
    for upstream in &upstreams {
        assert!(upstream.counts().handshakes.len() >= 2, "both serve whoever asks for their name");
    }
}

#[test]
fn an_upstream_that_refuses_the_gateways_certificate_is_told_as_such_after_the_handshake_too() {
    let pki = Pki::new();
    let strangers = Authority::new("Strangers");
    let server = ServerTls::new(&pki.upstream).require_clients_of(&strangers).only_tls13();
    let upstream = TlsEcho::start(server.build());
    let gateway = encrypted(&pki, &[upstream.address()], "pool = { ready_max = 0 }");
    let mut stream = pki.connect(&gateway);
    // In TLS 1.3 the gateway's handshake is done before the upstream has looked at its certificate.
    drop(round_trip(&mut stream, b"hello"));
    let line = gateway.wait_access(PATIENCE, |_| true);
    assert_eq!(line["reason"], "upstream_alert", "{line}");
    let detail = line["detail"].as_str().unwrap_or_default();
    let none = "alert certificate_required (116); it asked for our certificate and there is none to show: write \
                `certificate` of tls.upstream.db,";
    assert!(detail.contains(none), "{line}");
    let hint = line["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("`certificate` of the tls.upstream"), "{line}");
}

/// An upstream that asks for a certificate, and leaves without an alert once `is_over`.
fn leaves(tls: ServerTls<'_>, is_over: fn(&ServerConnection) -> bool) -> Scripted<()> {
    let mut tls = ServerConnection::new(tls.build()).unwrap();
    Scripted::start(move |mut stream| {
        while !is_over(&tls) {
            tls.read_tls(&mut stream).unwrap();
            tls.process_new_packets().unwrap();
            while tls.wants_write() {
                tls.write_tls(&mut stream).unwrap();
            }
        }
    })
}

#[test]
fn an_upstream_that_leaves_without_a_word_is_told_with_what_it_got_for_a_certificate() {
    let pki = Pki::new();
    let asking = || ServerTls::new(&pki.upstream).accept_clients_of(&pki.ca);
    let keys = "pool = { ready_max = 0 }\nconnect = { attempts = 1 }";
    let detail = |upstream: &Scripted<()>, reason: &str| {
        let gateway = encrypted(&pki, &[upstream.address()], keys);
        let mut stream = pki.connect(&gateway);
        assert!(read_to_end(&mut stream).is_err(), "no clean end");
        let line = gateway.wait_access(PATIENCE, |_| true);
        assert_eq!(line["reason"], reason, "{line}");
        line["detail"].as_str().unwrap_or_default().to_owned()
    };
    // Its flight is out, the client's is not looked at.
    let early = leaves(asking().only_tls12(), |tls| tls.negotiated_cipher_suite().is_some());
    let early = detail(&early, "upstream_tls");
    assert!(early.contains("the peer left in the middle of the handshake: "), "{early}");
    let late = leaves(asking().only_tls13(), |tls| !tls.is_handshaking());
    let late = detail(&late, "upstream_unclean_eof");
    for told in [early, late] {
        assert!(told.contains("it asked for our certificate and there is none to show"), "{told}");
    }
}

#[test]
fn an_endpoint_that_refuses_the_gateways_certificate_is_ejected_though_its_dials_end_well() {
    let pki = Pki::new();
    let strangers = Authority::new("Strangers");
    let server = || ServerTls::new(&pki.upstream).only_tls13();
    let picky = TlsEcho::start(server().require_clients_of(&strangers).build());
    let good = TlsEcho::start(server().build());
    let keys = "pool = { ready_max = 0 }\nbalance = \"round_robin\"\n\
                ejection = { failures = 2, percent_max = 50 }";
    let gateway = encrypted(&pki, &[picky.address(), good.address()], keys);
    let served = || round_trip(&mut pki.connect(&gateway), b"hello").is_ok();
    let first: Vec<_> = (0..4).map(|_| served()).collect();
    assert_eq!(first.iter().filter(|served| **served).count(), 2, "{first:?}");
    eventually(PATIENCE, "the ejection", || {
        let ejections = gateway.metrics().sum("portcullis_endpoint_ejections_total", &[]);
        (ejections == 1).then_some(())
    });
    for _ in 0..4 {
        assert!(served(), "everybody goes to the endpoint that takes us");
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_upstream_dial_failures_total", &[]), 2);
    assert_eq!(metrics.refusals("upstream_alert"), 2);
}
