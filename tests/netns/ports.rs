//! Local ports, when there are only four.

use std::io::Read;

use portcullis_kit::{Gateway, PATIENCE};
use serde_json::Value;

use crate::net::{A, A_V6, B, B_V6, Far, GATEWAY_V6, SOURCES, set_local_ports, with_far};
use crate::{Client, gateway};

const PORTS: usize = 4;

/// Once the gateway listens: a port of its choice is one of these, too.
fn narrow() {
    set_local_ports(40_000, 40_003);
}

/// As many sessions as there are ports for.
fn sessions_until_refused(far: &Far, gateway: &Gateway) -> Vec<Client> {
    let mut sessions = Vec::new();
    loop {
        let mut client = Client::of(far, gateway.addr("edge"));
        client.send("hello");
        match client.0.read(&mut [0; 5]) {
            Ok(5) => sessions.push(client),
            Ok(_) | Err(_) => return sessions,
        }
        assert!(sessions.len() <= 4 * PORTS, "there is no end of ports");
    }
}

/// What is said of the one for whom there is none.
fn refused(gateway: &Gateway) -> Value {
    gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused")
}

#[test] // threat 34
fn who_finds_no_local_port_is_refused_with_the_reason() {
    with_far(|far| {
        far.serve(A);
        let gateway = gateway("", &format!("endpoints = [\"{A}\"]"));
        narrow();
        let sessions = sessions_until_refused(far, &gateway);
        assert_eq!(sessions.len(), PORTS);
        let line = refused(&gateway);
        assert_eq!(line["reason"], "local_resources", "{line}");
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains(A) && detail.contains("ip_local_port_range"), "{line}");
    });
}

#[test] // threat 34
fn a_source_that_has_a_port_stands_in_for_one_that_has_none() {
    with_far(|far| {
        far.serve(A);
        let [one, other] = SOURCES;
        let keys = format!(
            "endpoints = [\"{A}\"]\nsources = [\"{one}\", \"{other}\"]\nconnect = {{ attempts = 1 }}"
        );
        let gateway = gateway("", &keys);
        narrow();
        let mut sessions = sessions_until_refused(far, &gateway);
        assert_eq!(sessions.len(), 2 * PORTS);
        // They came in turn: now one source has two ports again, and the other has none.
        for at in [2, 0] {
            portcullis_kit::reset(sessions.remove(at).0);
        }
        let mut ended = 0;
        gateway.wait_access(PATIENCE, |line| {
            ended += usize::from(line["reason"] == "client_reset");
            ended == 2
        });
        assert_eq!(sessions_until_refused(far, &gateway).len(), 2);
        let line = refused(&gateway);
        assert_eq!(line["reason"], "local_resources", "{line}");
        assert!(line["detail"].as_str().unwrap().contains(" from 10.77.0.1"), "{line}");
    });
}

/// A port that a source has given to a connection to one endpoint is good for one to the other.
fn one_source_two_endpoints(source: &'static str, endpoints: [&'static str; 2]) {
    with_far(move |far| {
        let [a, b] = endpoints;
        far.serve(a);
        far.serve(b);
        let keys = format!("endpoints = [\"{a}\", \"{b}\"]\nsources = [\"{source}\"]");
        let gateway = gateway("", &keys);
        narrow();
        let sessions = sessions_until_refused(far, &gateway);
        assert_eq!(sessions.len(), 2 * PORTS);
        let line = refused(&gateway);
        assert_eq!(line["reason"], "local_resources", "{line}");
        assert!(line["detail"].as_str().unwrap().contains(&format!(" from {source}")), "{line}");
    });
}

#[test] // threat 34
fn a_source_has_its_ports_once_for_each_endpoint() {
    one_source_two_endpoints(SOURCES[0], [A, B]);
}

#[test] // threat 34
fn a_source_of_ipv6_has_its_ports_once_for_each_endpoint() {
    one_source_two_endpoints(GATEWAY_V6, [A_V6, B_V6]);
}
