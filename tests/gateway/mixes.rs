//! Bulk through every pair of protocols: what is read on one side is what was written on the other.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use portcullis_kit::{
    Behaviour, ClientSpec, PlainEcho, ServerTls, TlsEcho, TlsStream, close_write, connect_tls,
};
use rustls::{ClientConnection, HandshakeKind, ServerConfig};

use crate::support::{Config, NAME, Pki, assert_same, files, pattern};

const LENGTH: usize = 32 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Upstream {
    Plain,
    Tls13Mutual,
    Tls12,
}

/// Says `bytes` to whoever comes, or reads all; and how many bytes it read.
enum Server {
    Plain(PlainEcho),
    Tls(TlsEcho),
}

impl Server {
    fn start(upstream: Upstream, pki: &Pki, behaviour: Behaviour) -> Self {
        let tls = |config: Arc<ServerConfig>| Self::Tls(TlsEcho::with(config, behaviour.clone()));
        match upstream {
            Upstream::Plain => Self::Plain(PlainEcho::with(behaviour)),
            Upstream::Tls13Mutual => {
                tls(ServerTls::new(&pki.upstream).require_clients_of(&pki.ca).only_tls13().build())
            }
            Upstream::Tls12 => tls(ServerTls::new(&pki.upstream).only_tls12().build()),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Plain(server) => server.address(),
            Self::Tls(server) => server.address(),
        }
    }

    fn wait_read(&self, bytes: u64) {
        match self {
            Self::Plain(server) => server.wait("all bytes", |counts| counts.bytes == bytes),
            Self::Tls(server) => server.wait("all bytes", |counts| counts.bytes == bytes),
        };
    }
}

/// Every byte there and back at once, the client writing on a thread of its own.
fn both_ways(mut stream: TlsStream, sent: &[u8]) -> Vec<u8> {
    let mut socket = stream.sock.try_clone().unwrap();
    let mut back = vec![0; sent.len()];
    // rustls' connection is one object for both directions: seal ahead, write from elsewhere.
    let mut sealed = Vec::new();
    let seal = |connection: &mut ClientConnection, chunk: &[u8], sealed: &mut Vec<u8>| {
        connection.writer().write_all(chunk).unwrap();
        while connection.wants_write() {
            connection.write_tls(sealed).unwrap();
        }
    };
    for chunk in sent.chunks(16 * 1024) {
        seal(&mut stream.conn, chunk, &mut sealed);
    }
    let writer = thread::spawn(move || socket.write_all(&sealed).unwrap());
    stream.read_exact(&mut back).unwrap();
    writer.join().unwrap();
    close_write(&mut stream).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    back
}

fn bulk_passes(upstream: Upstream) {
    let pki = Pki::new();
    let itself = pki.ca.client(&ClientSpec::new("gateway"));
    let server = Server::start(upstream, &pki, Behaviour::Echo);
    let tls = if upstream == Upstream::Plain { "" } else { "tls = \"db\"" };
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(&pki, "")
        .upstream("db", &format!("certificate = {}", files(&itself)))
        .trust("upstreams", &pki.ca)
        .cluster("db", &[server.address()], tls)
        .start();
    let sent = pattern(7, LENGTH);
    for (turn, client) in
        [pki.client().only_tls12(), pki.client().only_tls13()].into_iter().enumerate()
    {
        let stream = connect_tls(gateway.addr("edge"), NAME, &client.build()).unwrap();
        assert_eq!(stream.conn.handshake_kind(), Some(HandshakeKind::Full));
        let back = both_ways(stream, &sent);
        assert_same(&back, &sent, &format!("{upstream:?}, client {turn}"));
        server.wait_read((LENGTH * (turn + 1)) as u64);
    }
    let metrics = gateway.settled();
    for direction in ["received", "sent"] {
        let bytes = metrics.sum("portcullis_bytes_total", &[("direction", direction)]);
        assert_eq!(bytes, 2 * LENGTH as u64, "{direction}");
    }
}

#[test]
fn bulk_passes_to_plain_upstreams_and_back() {
    bulk_passes(Upstream::Plain);
}

#[test]
fn bulk_passes_to_tls13_upstreams_and_back() {
    bulk_passes(Upstream::Tls13Mutual);
}

#[test]
fn bulk_passes_to_tls12_upstreams_and_back() {
    bulk_passes(Upstream::Tls12);
}
