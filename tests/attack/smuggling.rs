//! Two answers to one question: a name for the peek and another for TLS, bytes where none belong.

use std::io::{Read, Write};
use std::net::TcpStream;

use portcullis_kit::{PATIENCE, PlainEcho, connect_plain};

use super::hello::{Hello, PRE_SHARED_KEY};
use super::support::{Keys, NAME, Pki, echo, until_closed};

fn record(mut socket: &TcpStream) -> Vec<u8> {
    let mut head = [0; 5];
    socket.read_exact(&mut head).unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    socket.read_exact(&mut body).unwrap();
    [&head[..], &body].concat()
}

// threat 6
#[test]
fn a_second_hello_does_not_choose_another_name() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let keys =
        Keys { downstream: "groups = [\"secp256r1\"]\nversions = [\"1.3\"]", ..Keys::default() };
    let gateway = pki.gateway(upstream.address(), keys);
    let first = Hello::recorded().without(PRE_SHARED_KEY).server_name(NAME.as_bytes());
    // The control, then the attack.
    for (name, is_taken) in [(NAME, true), ("else.test", false)] {
        let mut socket = connect_plain(gateway.addr("edge")).unwrap();
        socket.write_all(&first.wire()).unwrap();
        let retry = record(&socket);
        assert_eq!((retry[0], retry[5]), (22, 2), "HelloRetryRequest is a ServerHello");
        assert_eq!(record(&socket)[0], 20, "change_cipher_spec");
        let second = first.clone().server_name(name.as_bytes()).key_share_p256();
        socket.write_all(&second.wire()).unwrap();
        if is_taken {
            assert_eq!(record(&socket)[0], 22, "ServerHello");
        } else {
            let answer = until_closed(&socket);
            assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
        }
    }
    let line = gateway.wait_access(PATIENCE, |line| line["reason"] != "client_closed");
    assert_eq!(line["outcome"], "refused", "{line}");
    assert!(line["detail"].as_str().unwrap().contains("changed server_name"), "{line}");
    gateway.settled();
    assert_eq!(upstream.counts().accepted, 0);
}

// threat 6
#[test]
fn bytes_behind_the_hello_reach_nobody() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = pki.gateway(upstream.address(), Keys::default());
    let mut session = pki.session(&gateway);
    let hello = Hello::recorded().without(PRE_SHARED_KEY).server_name(NAME.as_bytes()).wire();
    let data = [23, 3, 3, 0, 32];
    let behind: [&[u8]; 4] = [
        // Data as if the handshake were done, plain text, another hello, and an end.
        &[&data[..], &[7; 32]].concat(),
        b"GET / HTTP/1.1\r\n\r\n",
        &hello,
        &[21, 3, 3, 0, 2, 1, 0],
    ];
    for bytes in behind {
        let mut socket = connect_plain(gateway.addr("edge")).unwrap();
        socket.write_all(&[&hello, bytes].concat()).unwrap();
        until_closed(&socket);
    }
    echo(&mut session);
    drop(session);
    gateway.settled();
    let counts = upstream.counts();
    assert_eq!((counts.accepted, counts.bytes), (1, 2));
}
