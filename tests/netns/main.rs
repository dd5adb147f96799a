//! What a network does to connections and loopback cannot: packets that vanish, paths that break in
//! mid-session, ports that run out. Each test has two network namespaces of its own (`net`).
//!
//! Needs root, `ip`, `nft` and `ss`; without, a test skips, loudly.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: what breaks fails the test at once, where it broke"
)]

mod net;
mod paths;
mod ports;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use portcullis_kit::{Gateway, connect_plain};

use crate::net::Far;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// A gateway at `net::GATEWAY` that passes plain text on to the cluster with these keys.
fn gateway(listener: &str, cluster: &str) -> Gateway {
    let config = format!(
        "runtime = {{ workers = 1, drain = {{ grace = \"0s\", spread = \"0s\", deadline = \"5s\" }} }}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [listener.edge]\naddress = \"{}:0\"\n{listener}\n\
         [listener.edge.chain.raw]\nmatch = {{ transport = \"raw\" }}\ncluster = \"app\"\n\
         [cluster.app]\n{cluster}\n",
        net::GATEWAY
    );
    Gateway::start(BINARY, &config)
}

/// A client that comes from the other end of the cable.
struct Client(TcpStream);

impl Client {
    fn of(far: &Far, address: SocketAddr) -> Self {
        Self(far.run(move || connect_plain(address)).unwrap())
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    fn hears(&mut self, text: &str) {
        let mut heard = vec![0; text.len()];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(heard, text.as_bytes());
    }

    /// There and back.
    fn echo(&mut self, text: &str) {
        self.send(text);
        self.hears(text);
    }
}
