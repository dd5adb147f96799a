//! A listener that defers accepting serves everybody as one that does not.

use std::io::Write;
use std::net::Shutdown;

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, close_write, connect_plain, handshake, read_to_end, round_trip,
};

use crate::hello::answer;
use crate::support::{Config, NAME, Pki};

const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 40123 443\r\n";

/// Clients come to `edge`, through a balancer to `behind`, and in plain text to `raw`.
fn gateway(pki: &Pki, upstream: &PlainEcho) -> Gateway {
    let keys = "defer_accept = true\ntimeouts = { hello = \"2s\" }";
    let proxied = format!("{keys}\nproxy_protocol = {{ from = [\"127.0.0.0/8\"] }}");
    let served = "tls = \"edge\"\ncluster = \"app\"";
    let raw = "match = { transport = \"raw\" }\ncluster = \"app\"";
    Config::new(1)
        .listener("edge", keys)
        .chain("edge", "default", served)
        .listener("behind", &proxied)
        .chain("behind", "default", served)
        .listener("raw", keys)
        .chain("raw", "plain", raw)
        .mutual(pki, "")
        .cluster("app", &[upstream.address()], "")
        .start()
}

#[test]
fn a_listener_that_defers_accepting_serves_everybody() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = gateway(&pki, &echoes);
    for client in [pki.client().only_tls13().build(), pki.client().only_tls12().build()] {
        for listener in ["edge", "behind"] {
            let mut socket = connect_plain(gateway.addr(listener)).unwrap();
            if listener == "behind" {
                // A header may come in pieces, too.
                let (first, rest) = LINE.split_at(7);
                socket.write_all(first).unwrap();
                socket.write_all(rest).unwrap();
            }
            let mut stream = handshake(socket, NAME, &client).unwrap();
            assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
            close_write(&mut stream).unwrap();
            assert_eq!(read_to_end(&mut stream).unwrap(), b"");
        }
    }
    let mut plain = connect_plain(gateway.addr("raw")).unwrap();
    plain.write_all(b"hello").unwrap();
    plain.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&plain), b"hello");
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_sessions_total", &[]), 5);
    let proxied = gateway.access_log().into_iter().filter(|line| !line["proxy"].is_null());
    assert_eq!(proxied.count(), 2);
}

#[test] // threat 1
fn whoever_says_nothing_is_refused_where_accepting_is_deferred() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = gateway(&pki, &echoes);
    let silent = connect_plain(gateway.addr("edge")).unwrap();
    let mut slow = connect_plain(gateway.addr("edge")).unwrap();
    slow.write_all(&[22]).unwrap();
    let closed = connect_plain(gateway.addr("edge")).unwrap();
    closed.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&closed), b"");
    for late in [&silent, &slow] {
        answer(late);
    }
    gateway.wait_access(PATIENCE, |line| line["reason"] == "probe");
    let metrics = gateway.settled();
    assert_eq!((metrics.refusals("hello_timeout"), metrics.refusals("probe")), (2, 1));
}
