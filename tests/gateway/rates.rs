//! Limits in a time, limits of one source, and the filters that count: whom they turn away, and whom
//! they leave alone.
//!
//! No test waits for a rate to recover: how it does is shown where time is a number (`core::rate`).

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::Arc;

use portcullis_kit::{
    ClientSpec, ClientTls, Gateway, Identity, PATIENCE, PlainEcho, connect_plain,
    connect_plain_from, connect_tls, eventually, round_trip,
};
use rustls::ClientConfig;
use serde_json::Value;

use crate::support::{Config, Pki};

/// Everybody must be gone before this fails.
const TRIES: usize = 200;

/// One session of a client, or what turned it away.
fn session(gateway: &Gateway, name: &str, client: &Arc<ClientConfig>) -> std::io::Result<()> {
    let mut stream = connect_tls(gateway.addr("edge"), name, client)?;
    round_trip(&mut stream, b"hello").map(|said| assert_eq!(said, b"hello"))
}

/// Comes again and again until it is turned away, and says how often it got in before.
fn flood(mut attempt: impl FnMut() -> std::io::Result<()>) -> usize {
    let passed = (0..TRIES).take_while(|_| attempt().is_ok()).count();
    assert!(passed < TRIES, "{TRIES} got in and none was turned away");
    passed
}

fn refused(gateway: &Gateway, reason: &str) -> Value {
    gateway.wait_access(PATIENCE, |line| line["reason"] == reason)
}

/// Chains `one`, with these keys, and `two`, on one listener with these keys.
fn two_tenants(pki: &Pki, echoes: &PlainEcho, listener: &str, one: &str) -> Config {
    let chain = |name: &str, keys: &str| {
        let matches = format!("match = {{ server_names = [\"{name}.edge.test\"] }}");
        format!("{matches}\ntls = \"edge\"\ncluster = \"app\"\n{keys}")
    };
    Config::new(2)
        .listener("edge", listener)
        .chain("edge", "one", &chain("one", one))
        .chain("edge", "two", &chain("two", ""))
        .mutual(pki, "")
        .cluster("app", &[echoes.address()], "")
}

#[test] // threats 9 and 42
fn a_tenant_that_floods_is_refused_before_cryptography_and_leaves_the_other_alone() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let limits = "limits = { handshakes_per_second = 5 }";
    let gateway = two_tenants(&pki, &echoes, "", limits).start();
    let returning = pki.client().build();
    session(&gateway, "one.edge.test", &returning).unwrap();
    let anew = pki.client().without_resumption().build();
    flood(|| session(&gateway, "one.edge.test", &anew));
    // One who was here before finds the fifth that is kept for those.
    session(&gateway, "one.edge.test", &returning).unwrap();
    session(&gateway, "two.edge.test", &anew).unwrap();
    let line = refused(&gateway, "handshake_rate");
    let detail = "listener.edge.chain.one.limits.handshakes_per_second = 5";
    assert_eq!((&line["detail"], &line["chain"]), (&detail.into(), &"one".into()), "{line}");
    assert_eq!(line["alert"], Value::Null, "{line}");
    let metrics = gateway.settled();
    assert!(metrics.refusals("handshake_rate") >= 1);
    assert_eq!(metrics.sum("portcullis_handshakes_total", &[("resumed", "true")]), 1);
}

#[test] // threat 9
fn the_rate_of_the_process_holds_for_all_its_chains() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let config = two_tenants(&pki, &echoes, "", "");
    let gateway = config.table("[limits]\nhandshakes_per_second = 6").start();
    let anew = pki.client().without_resumption().build();
    let mut names = ["one.edge.test", "two.edge.test"].into_iter().cycle();
    flood(|| session(&gateway, names.next().unwrap(), &anew));
    let line = refused(&gateway, "handshake_rate");
    assert_eq!(line["detail"], "limits.handshakes_per_second = 6", "{line}");
}

#[test]
fn a_source_that_floods_leaves_other_sources_alone() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let limits = "limits = { handshakes_per_second_per_source = 5 }";
    let gateway = two_tenants(&pki, &echoes, limits, "").start();
    let anew = pki.client().without_resumption().build();
    flood(|| session(&gateway, "one.edge.test", &anew));
    let line = refused(&gateway, "handshake_rate");
    let detail = "listener.edge.limits.handshakes_per_second_per_source = 5, from 127.0.0.1".into();
    assert_eq!(line["detail"], Value::String(detail), "{line}");
    // Not a handshake, but what is answered by TLS and not by a limit.
    let hello = hello_from(&gateway, OTHER);
    assert_eq!(hello, HANDSHAKE_RECORD, "another source is served");
}

/// The first byte that a client from `source` hears.
fn hello_from(gateway: &Gateway, source: IpAddr) -> u8 {
    let client = ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("two.edge.test").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut socket = connect_plain_from(source, gateway.addr("edge")).unwrap();
    client.write_tls(&mut socket).unwrap();
    let mut first = [0];
    socket.read_exact(&mut first).unwrap();
    first[0]
}

#[test]
fn connections_of_one_source_are_limited_until_they_leave() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = two_tenants(&pki, &echoes, "limits = { connections_per_source = 3 }", "").start();
    let client = pki.client().build();
    let mut held: Vec<_> = (0..3)
        .map(|_| connect_tls(gateway.addr("edge"), "one.edge.test", &client).unwrap())
        .collect();
    session(&gateway, "two.edge.test", &client).unwrap_err();
    let line = refused(&gateway, "source_connections");
    let says = "127.0.0.1 has listener.edge.limits.connections_per_source = 3 open";
    assert_eq!(line["detail"], says, "{line}");
    assert_eq!(hello_from(&gateway, OTHER), HANDSHAKE_RECORD, "another source is served");
    for stream in &mut held {
        assert_eq!(round_trip(stream, b"still here").unwrap(), b"still here");
    }
    drop(held.pop());
    eventually(PATIENCE, "room for one more", || session(&gateway, "two.edge.test", &client).ok());
}

#[test]
fn filters_count_connections_and_rates_of_chains_and_clients_in_their_order() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let bob = pki.ca.client(&ClientSpec::new("bob").uri("spiffe://test/bob"));
    let filters = "filters = [\
        { type = \"rate_limit\", by = \"client\", rate = \"1/h\", burst = 2 }, \
        { type = \"connection_limit\", connections = 3 }]";
    let gateway = two_tenants(&pki, &echoes, "", filters).start();
    let of = |who: &Identity| ClientTls::trusting(&pki.ca).identity(who).build();
    let (alice, bob) = (of(&pki.alice), of(&bob));
    let edge = gateway.addr("edge");
    let open = |client| connect_tls(edge, "one.edge.test", client).unwrap();
    let mut held: Vec<_> = [&alice, &alice, &bob].map(open).into();
    for stream in &mut held {
        assert_eq!(round_trip(stream, b"hello").unwrap(), b"hello");
    }
    session(&gateway, "one.edge.test", &alice).unwrap_err();
    let line = refused(&gateway, "rate_limited");
    assert_eq!(line["detail"], "more than 1/h, 2 at once, of uri:spiffe://test/alice", "{line}");
    assert_eq!(line["rule"], "listener.edge.chain.one.filters[0]", "{line}");
    session(&gateway, "one.edge.test", &bob).unwrap_err();
    let line = refused(&gateway, "chain_connections");
    assert_eq!(line["detail"], "3 are open", "{line}");
    assert_eq!(line["rule"], "listener.edge.chain.one.filters[1]", "{line}");
    session(&gateway, "two.edge.test", &alice).unwrap();
    drop(held);
    let metrics = gateway.settled();
    let each = ["rate_limited", "chain_connections"].map(|reason| metrics.refusals(reason));
    assert_eq!(each, [1, 1]);
}

#[test]
fn filters_of_chains_that_open_nothing_count_as_well() {
    let echoes = PlainEcho::start();
    let filters = "filters = [{ type = \"rate_limit\", by = \"source\", rate = \"1/h\" }]";
    let chain = format!("match = {{ transport = \"raw\" }}\ncluster = \"app\"\n{filters}");
    let config = Config::new(1).listener("edge", "").chain("edge", "raw", &chain).cluster(
        "app",
        &[echoes.address()],
        "",
    );
    let gateway = config.start();
    let say = |mut socket: TcpStream| {
        socket.write_all(b"hello")?;
        socket.read_exact(&mut [0; 5])
    };
    assert_eq!(flood(|| say(connect_plain(gateway.addr("edge"))?)), 1);
    say(connect_plain_from(OTHER, gateway.addr("edge")).unwrap()).unwrap();
    let line = refused(&gateway, "rate_limited");
    assert_eq!(line["detail"], "more than 1/h, 1 at once, of 127.0.0.1", "{line}");
}

#[test]
fn what_a_client_has_used_of_a_rate_is_not_given_back_by_a_reload() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let filters = "filters = [{ type = \"rate_limit\", rate = \"1/h\", burst = 2 }]";
    let config = two_tenants(&pki, &echoes, "", filters);
    let gateway = config.start();
    let client = pki.client().build();
    session(&gateway, "one.edge.test", &client).unwrap();
    gateway.reload(&config.clone().cluster("other", &[echoes.address()], "").to_string());
    session(&gateway, "one.edge.test", &client).unwrap();
    session(&gateway, "one.edge.test", &client).unwrap_err();
}

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// RFC 8446 §5.1.
const HANDSHAKE_RECORD: u8 = 22;
