//! Tickets that are none: a full handshake for whoever shows them, and no more work than that.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use portcullis_kit::{Gateway, PlainEcho, connect_plain};

use super::hello::Hello;
use super::support::{Keys, NAME, Pki, cpu, echo};

/// Sends a hello and reads the head of the answer.
fn answered(gateway: &Gateway, hello: &[u8]) -> (TcpStream, [u8; 6]) {
    let mut socket = connect_plain(gateway.addr("edge")).unwrap();
    socket.write_all(hello).unwrap();
    let mut head = [0; 6];
    socket.read_exact(&mut head).unwrap();
    (socket, head)
}

/// Handshake record, ServerHello.
fn is_server_hello(head: [u8; 6]) -> bool {
    head[0] == 22 && head[5] == 2
}

// threat 19
#[test]
fn garbage_tickets_lead_to_full_handshakes_and_nowhere_else() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = pki.gateway(upstream.address(), Keys::default());
    let mut session = pki.session(&gateway);
    let foreign = Hello::recorded().server_name(NAME.as_bytes()).wire();
    for turn in 0..1_000_u32 {
        let (_socket, head) = answered(&gateway, &foreign);
        assert!(is_server_hello(head), "turn {turn}: {head:?}");
    }
    echo(&mut session);
    drop(session);
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_handshakes_total", &[]), 1, "the honest one");
    assert_eq!(upstream.counts().accepted, 1);
}

// threat 19
#[test]
fn many_identities_cost_little_more_than_one_and_a_hundred_are_refused() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = pki.gateway(upstream.address(), Keys::default());
    let cost = |tickets: u8| {
        let hello = Hello::recorded().server_name(NAME.as_bytes()).tickets(tickets).wire();
        let before = cpu(&gateway);
        for _ in 0..150 {
            let (_socket, head) = answered(&gateway, &hello);
            assert!(is_server_hello(head), "{tickets} tickets: {head:?}");
        }
        cpu(&gateway) - before
    };
    let (one, many) = (cost(1), cost(32));
    // Ticks are 10 ms.
    assert!(many < one * 3 + Duration::from_millis(200), "{one:?}, then {many:?}");
    let hundred = Hello::recorded().server_name(NAME.as_bytes()).tickets(100).wire();
    let (_socket, head) = answered(&gateway, &hundred);
    assert_eq!(head[..5], [21, 3, 3, 0, 2], "an alert, and no cryptography");
    gateway.settled();
}
