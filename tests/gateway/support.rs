//! What every test of the gateway needs: certificates, a configuration in pieces, byte patterns.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use portcullis_kit::{
    Authority, ClientSpec, ClientTls, ClosedPort, Gateway, Identity, TlsStream, connect_tls,
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// The binary, of which one system call is answered with an error.
pub(crate) fn behind_a_filter(call: u32, errno: u32) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/one_call_fails.py");
    let mut command = Command::new("python3");
    command.arg(script).args([call.to_string(), errno.to_string(), BINARY.to_owned()]);
    command
}

/// The name that the gateway's certificate is for.
pub(crate) const NAME: &str = "edge.test";

/// The name that upstreams' certificates are for.
pub(crate) const UPSTREAM_NAME: &str = "upstream.test";

/// One authority for everybody, a server and a client.
pub(crate) struct Pki {
    pub(crate) ca: Authority,
    pub(crate) server: Identity,
    pub(crate) upstream: Identity,
    pub(crate) alice: Identity,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let ca = Authority::new("Test Root");
        let server = ca.server(&[NAME, "*.edge.test"]);
        let upstream = ca.server(&[UPSTREAM_NAME]);
        let alice = ca.client(&ClientSpec::new("alice").uri("spiffe://test/alice"));
        Self { ca, server, upstream, alice }
    }

    /// A client with Alice's certificate.
    pub(crate) fn client(&self) -> ClientTls<'_> {
        ClientTls::trusting(&self.ca).identity(&self.alice)
    }

    /// A session of Alice at the gateway's listener `edge`.
    pub(crate) fn connect(&self, gateway: &Gateway) -> TlsStream {
        connect_tls(gateway.addr("edge"), NAME, &self.client().build()).unwrap()
    }
}

/// A configuration file in the making.
#[derive(Debug, Clone)]
pub(crate) struct Config(String);

impl Config {
    pub(crate) fn bare() -> Self {
        Self(String::new())
    }

    /// No listener yet; `workers` of them.
    pub(crate) fn new(workers: u16) -> Self {
        Self::with_drain(workers, r#"{ grace = "0s", spread = "0s", deadline = "5s" }"#)
    }

    pub(crate) fn with_drain(workers: u16, drain: &str) -> Self {
        Self(format!("runtime = {{ workers = {workers}, drain = {drain} }}\n"))
            .table("[admin]\nlisten = \"127.0.0.1:0\"")
    }

    /// Listener `edge` on one worker: mutual TLS with `pki`, plain TCP to `upstream`.
    pub(crate) fn edge(pki: &Pki, upstream: SocketAddr) -> Self {
        Self::new(1)
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .mutual(pki, "")
            .cluster("app", &[upstream], "")
    }

    pub(crate) fn table(mut self, text: &str) -> Self {
        writeln!(self.0, "{text}").unwrap();
        self
    }

    /// On a free port.
    pub(crate) fn listener(self, name: &str, keys: &str) -> Self {
        self.table(&format!("[listener.{name}]\naddress = \"127.0.0.1:0\"\n{keys}"))
    }

    pub(crate) fn chain(self, listener: &str, name: &str, keys: &str) -> Self {
        self.table(&format!("[listener.{listener}.chain.{name}]\n{keys}"))
    }

    /// `[tls.downstream.edge]` with `pki`'s server, for its clients only.
    pub(crate) fn mutual(self, pki: &Pki, keys: &str) -> Self {
        self.downstream("edge", &[&pki.server], &format!("trust = \"clients\"\n{keys}"))
            .trust("clients", &pki.ca)
    }

    pub(crate) fn downstream(self, name: &str, servers: &[&Identity], keys: &str) -> Self {
        let pairs: Vec<String> = servers.iter().map(|server| files(server)).collect();
        let pairs = pairs.join(", ");
        self.table(&format!("[tls.downstream.{name}]\ncertificates = [{pairs}]\n{keys}"))
    }

    /// `[tls.upstream.NAME]` for upstreams called `UPSTREAM_NAME`, with `trust = "upstreams"`.
    pub(crate) fn upstream(self, name: &str, keys: &str) -> Self {
        self.table(&format!(
            "[tls.upstream.{name}]\nserver_name = \"{UPSTREAM_NAME}\"\ntrust = \"upstreams\"\n{keys}"
        ))
    }

    pub(crate) fn trust(self, name: &str, authority: &Authority) -> Self {
        let anchors = authority.ca_path().display();
        self.table(&format!("[trust.{name}]\nanchors = [\"{anchors}\"]"))
    }

    pub(crate) fn cluster(self, name: &str, endpoints: &[SocketAddr], keys: &str) -> Self {
        let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
        let endpoints = endpoints.join(", ");
        self.table(&format!("[cluster.{name}]\nendpoints = [{endpoints}]\n{keys}"))
    }

    pub(crate) fn start(&self) -> Gateway {
        Gateway::start(BINARY, &self.0)
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `{ chain = …, key = … }` of an identity.
pub(crate) fn files(identity: &Identity) -> String {
    let (chain, key) = (identity.chain_path.display(), identity.key_path.display());
    format!("{{ chain = \"{chain}\", key = \"{key}\" }}")
}

/// `length` bytes in which no two places far apart look alike: a counter, mixed (splitmix64).
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (at, place) in (0u64..).zip(bytes.chunks_mut(8)) {
        let mut word = (seed << 40).wrapping_add(at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        place.copy_from_slice(&(word ^ (word >> 27)).to_le_bytes()[..place.len()]);
    }
    bytes
}

/// `assert_eq!` of long byte strings, which says where they differ instead of printing them.
#[track_caller]
pub(crate) fn assert_same(left: &[u8], right: &[u8], what: &str) {
    if left != right {
        let differ = left.iter().zip(right).position(|(left, right)| left != right);
        panic!("{what}: {} and {} bytes, first difference {differ:?}", left.len(), right.len());
    }
}

/// An address that is about to be listened on: free now, and not among the ports that the system gives out
/// by itself, so that nobody takes it meanwhile.
pub(crate) fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = 20_000 + (first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().unwrap();
        }
    }
}

/// A port that answers no SYN: a listener whose queue is full (Linux drops what does not fit).
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn new() -> Self {
        let port = ClosedPort::new();
        let address = port.address;
        let listener = port.open_for(0);
        let mut queued = Vec::new();
        let limit = std::time::Duration::from_millis(200);
        while let Ok(socket) = TcpStream::connect_timeout(&address, limit) {
            queued.push(socket);
            assert!(queued.len() < 16, "the queue of one is never full");
        }
        Self { address, _listener: listener, _queued: queued }
    }
}
