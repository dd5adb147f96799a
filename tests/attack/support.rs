//! What every attack needs: a gateway with a victim on it, raw clients, and a look at what they cost.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use portcullis_kit::{
    Authority, ClientSpec, ClientTls, Gateway, Identity, TlsStream, connect_plain, connect_tls,
    round_trip,
};
use rustls::ClientConfig;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
pub(crate) const NAME: &str = "edge.test";

/// One authority for everybody.
pub(crate) struct Pki {
    pub(crate) ca: Authority,
    pub(crate) server: Identity,
    pub(crate) alice: Identity,
}

/// What the configuration of `gateway` may say more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keys<'a> {
    /// Tables of their own.
    pub(crate) tables: &'a str,
    pub(crate) listener: &'a str,
    pub(crate) downstream: &'a str,
    pub(crate) cluster: &'a str,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let ca = Authority::new("Test Root");
        let server = ca.server(&[NAME]);
        let alice = ca.client(&ClientSpec::new("alice"));
        Self { ca, server, alice }
    }

    pub(crate) fn alice(&self) -> Arc<ClientConfig> {
        ClientTls::trusting(&self.ca).identity(&self.alice).build()
    }

    /// A session at listener `edge` that has carried a byte.
    pub(crate) fn session(&self, gateway: &Gateway) -> TlsStream {
        let mut stream = connect_tls(gateway.addr("edge"), NAME, &self.alice()).unwrap();
        echo(&mut stream);
        stream
    }

    /// One worker; listener `edge` with mutual TLS before a plain upstream, listener `raw` without.
    pub(crate) fn config(&self, upstream: SocketAddr, keys: Keys<'_>) -> String {
        let (chain, key) = (self.server.chain_path.display(), self.server.key_path.display());
        let Keys { tables, listener, downstream, cluster } = keys;
        format!(
            r#"
runtime = {{ workers = 1, drain = {{ grace = "0s", spread = "0s", deadline = "2s" }} }}
[admin]
listen = "127.0.0.1:0"
[listener.edge]
address = "127.0.0.1:0"
{listener}
[listener.edge.chain.default]
tls = "edge"
cluster = "app"
[listener.raw]
address = "127.0.0.1:0"
[listener.raw.chain.default]
match = {{ transport = "raw" }}
cluster = "app"
[tls.downstream.edge]
certificates = [{{ chain = "{chain}", key = "{key}" }}]
trust = "clients"
{downstream}
[trust.clients]
anchors = ["{anchors}"]
[cluster.app]
endpoints = ["{upstream}"]
{cluster}
{tables}
"#,
            anchors = self.ca.ca_path().display(),
        )
    }

    pub(crate) fn gateway(&self, upstream: SocketAddr, keys: Keys<'_>) -> Gateway {
        Gateway::start(BINARY, &self.config(upstream, keys))
    }
}

/// A byte there and back.
pub(crate) fn echo(stream: &mut TlsStream) {
    assert_eq!(round_trip(stream, b"!").unwrap(), b"!");
}

/// Connections that stay open, whatever becomes of them.
pub(crate) fn crowd(address: SocketAddr, size: usize) -> Vec<TcpStream> {
    (0..size).map(|_| connect_plain(address).unwrap()).collect()
}

/// What the peer sends until it ends the connection, one way or another.
///
/// # Panics
/// When it does not for as long as the socket waits.
pub(crate) fn until_closed(mut socket: &TcpStream) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return all,
            Ok(length) => all.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("not closed: {error}"),
        }
    }
}

/// CPU time that the gateway has used, user and system.
pub(crate) fn cpu(gateway: &Gateway) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
