//! Paths that swallow packets, break, refuse and come back.

use std::collections::HashSet;
use std::io::{ErrorKind, Read};

use portcullis_kit::{Gateway, PATIENCE, eventually};

use crate::net::{A, B, CLIENTS, established, with_far};
use crate::{Client, gateway};

fn sum(gateway: &Gateway, name: &str) -> u64 {
    gateway.metrics().sum(name, &[])
}

#[test] // threat 28
fn a_black_hole_among_two_costs_one_client_a_timeout_and_the_others_nothing() {
    with_far(|far| {
        far.serve(A);
        far.serve(B);
        far.cut(A);
        let gateway = gateway(
            "",
            &format!(
                "endpoints = [\"{A}\", \"{B}\"]\nconnect = {{ timeout = \"300ms\", attempts = 2 }}\n\
                 ejection = {{ failures = 1, base = \"1h\", percent_max = 50 }}"
            ),
        );
        for _ in 0..6 {
            Client::of(far, gateway.addr("edge")).echo("hello");
        }
        let metrics = gateway.settled();
        assert_eq!(metrics.sum("portcullis_upstream_dial_failures_total", &[]), 1);
        assert_eq!(metrics.sum("portcullis_endpoint_ejections_total", &[("endpoint", A)]), 1);
        let log = gateway.access_log();
        assert!(log.iter().all(|line| line["upstream"] == B), "{log:?}");
    });
}

#[test] // threat 28
fn probes_find_a_black_hole_before_clients_do_and_its_sessions_outlive_it() {
    with_far(|far| {
        far.serve(A);
        far.serve(B);
        let gateway = gateway(
            "",
            &format!(
                "endpoints = [\"{A}\", \"{B}\"]\n\
                 health = {{ type = \"tcp\", interval = \"50ms\", timeout = \"100ms\", slow_start = \"0s\" }}"
            ),
        );
        let healthy = |count: u64| {
            eventually(PATIENCE, "a change of health", || {
                (sum(&gateway, "portcullis_endpoint_healthy") == count).then_some(())
            });
        };
        healthy(2);
        // In turn: one of them has its session at the endpoint that vanishes.
        let mut before: Vec<_> = (0..2).map(|_| Client::of(far, gateway.addr("edge"))).collect();
        before.iter_mut().for_each(|client| client.echo("hello"));
        far.cut(A);
        healthy(1);
        before.iter_mut().for_each(|client| client.send("are you there"));
        for _ in 0..4 {
            Client::of(far, gateway.addr("edge")).echo("hello");
        }
        assert_eq!(sum(&gateway, "portcullis_upstream_dial_failures_total"), 0);
        far.mend();
        healthy(2);
        before.iter_mut().for_each(|client| client.hears("are you there"));
        drop(before);
        gateway.settled();
        let log = gateway.access_log();
        assert!(log.iter().all(|line| line["outcome"] == "closed"), "{log:?}");
        let of_a = log.iter().filter(|line| line["upstream"] == A).count();
        assert_eq!(of_a, 1, "{log:?}");
    });
}

#[test] // threat 49
fn an_upstream_whose_path_breaks_in_mid_session_is_given_up_as_reset() {
    with_far(|far| {
        far.serve(A);
        let keys = format!("endpoints = [\"{A}\"]\nconnect = {{ unacknowledged = \"1s\" }}");
        let gateway = gateway("", &keys);
        let mut client = Client::of(far, gateway.addr("edge"));
        client.echo("hello");
        far.rule_in(&format!("ip daddr {} tcp dport 7000 drop", &A[..A.len() - 5]));
        client.send("are you there");
        let line = gateway.wait_access(PATIENCE, |_| true);
        assert_eq!(line["reason"], "upstream_reset", "{line}");
        assert!(line["detail"].as_str().unwrap().contains("timed out"), "{line}");
        // The client must not take it for a clean end.
        assert_eq!(client.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        far.mend();
        gateway.settled();
    });
}

#[test] // threat 49
fn a_client_whose_path_breaks_in_mid_session_is_given_up_as_reset() {
    with_far(|far| {
        far.serve(A);
        let keys = format!("endpoints = [\"{A}\"]");
        let gateway = gateway("timeouts = { unacknowledged = \"1s\" }", &keys);
        let mut client = Client::of(far, gateway.addr("edge"));
        client.echo("hello");
        // What it says arrives, and no answer does.
        far.rule_in(&format!("tcp sport {} drop", gateway.addr("edge").port()));
        client.send("are you there");
        let line = gateway.wait_access(PATIENCE, |_| true);
        assert_eq!(line["reason"], "client_reset", "{line}");
        assert!(line["detail"].as_str().unwrap().contains("timed out"), "{line}");
        far.mend();
        gateway.settled();
    });
}

#[test] // threat 49
fn both_legs_of_a_silent_session_are_kept_alive() {
    with_far(|far| {
        far.serve(A);
        let gateway = gateway("", &format!("endpoints = [\"{A}\"]"));
        let mut client = Client::of(far, gateway.addr("edge"));
        client.echo("hello");
        let legs = eventually(PATIENCE, "two legs with nothing on its way", || {
            let legs = established();
            let is_cable = |leg: &&String| leg.contains(CLIENTS) || leg.contains(A);
            let legs: Vec<_> = legs.iter().filter(is_cable).cloned().collect();
            // The timer of bytes that are not acknowledged yet stands in its place.
            let idle = legs.iter().filter(|leg| leg.contains("timer:(keepalive,")).count();
            (idle == 2).then_some(legs)
        });
        assert_eq!(legs.len(), 2, "{legs:?}");
    });
}

#[test] // threat 28
fn an_endpoint_that_flaps_costs_no_client_its_connection() {
    with_far(|far| {
        far.serve(A);
        far.serve(B);
        let keys = format!(
            "endpoints = [\"{A}\", \"{B}\"]\nconnect = {{ timeout = \"5s\", attempts = 2 }}"
        );
        let gateway = gateway("", &keys);
        let (mut clients, address) = (0, &A[..A.len() - 5]);
        for refusal in ["tcp reset", "icmp host-prohibited", "icmp port-unreachable"] {
            for is_up in [false, true] {
                match is_up {
                    false => far.rule_in(&format!(
                        "ip daddr {address} meta l4proto tcp reject with {refusal}"
                    )),
                    true => far.mend(),
                }
                for _ in 0..4 {
                    Client::of(far, gateway.addr("edge")).echo("hello");
                    clients += 1;
                }
            }
        }
        let metrics = gateway.settled();
        assert_eq!(metrics.sum("portcullis_sessions_total", &[]), clients);
        // Half of those who came while it was down began with it.
        assert_eq!(metrics.sum("portcullis_upstream_dial_failures_total", &[]), 6);
        let log = gateway.access_log();
        let served: HashSet<_> = log.iter().map(|it| it["upstream"].to_string()).collect();
        assert_eq!(served.len(), 2, "{served:?}");
    });
}

#[test]
fn a_session_that_the_network_resets_is_reset_at_the_client() {
    with_far(|far| {
        far.serve(A);
        let gateway = gateway("", &format!("endpoints = [\"{A}\"]"));
        let mut client = Client::of(far, gateway.addr("edge"));
        client.echo("hello");
        far.rule_in("tcp dport 7000 reject with tcp reset");
        client.send("are you there");
        let line = gateway.wait_access(PATIENCE, |_| true);
        assert_eq!(line["reason"], "upstream_reset", "{line}");
        assert_eq!(client.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        far.mend();
        gateway.settled();
    });
}
