//! Every file of `config/` runs and serves: its own commands make the certificates, only addresses
//! are replaced.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use portcullis_kit::{
    Gateway, PlainEcho, TlsEcho, close_write, connect_plain, connect_tls, read_to_end, round_trip,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

use crate::support::BINARY;

/// A sample made ready in a directory, and the servers that it names.
struct Sample {
    gateway: Gateway,
    client: Arc<ClientConfig>,
    anonymous: Arc<ClientConfig>,
    plain: Vec<PlainEcho>,
    tls: Vec<TlsEcho>,
}

/// `portcullis` with these words in this directory; fails the test unless it succeeds.
fn portcullis(directory: &Path, words: &str) {
    // As a shell reads them: quoted, so that `*` stands for itself.
    let unquoted = words.split_whitespace().map(|word| word.trim_matches('"'));
    let output = Command::new(BINARY).args(unquoted).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "portcullis {words}: {said}");
}

/// Runs the sample with servers on the ports that it names, plain and TLS.
fn start(file: &str, plain: &[u16], tls: &[u16]) -> Sample {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut text = fs::read_to_string(samples.join(file)).unwrap();
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let mut commands: Vec<String> = text.lines().filter_map(command).collect();
    if commands.is_empty() {
        let pairs = ["init", "server orders", "server open", "client gateway"];
        commands.extend(pairs.map(|pair| format!("pki {pair}")));
    }
    // Beside what the sample needs: a client, and what its upstreams show.
    commands.push("pki client tester".to_owned());
    let names =
        "db db.internal db2.internal legacy.example.com orders.example.com *.tenants.example.com";
    commands.push(format!("pki server upstream {names}"));
    commands.iter().for_each(|command| portcullis(at, command));
    let servers = Servers::read(at);
    let plain: Vec<_> = plain.iter().map(|port| (*port, PlainEcho::start())).collect();
    let tls: Vec<_> = tls.iter().map(|port| (*port, TlsEcho::start(servers.config()))).collect();
    let upstreams = plain.iter().map(|(port, server)| (*port, server.address().port()));
    let upstreams =
        upstreams.chain(tls.iter().map(|(port, server)| (*port, server.address().port())));
    for (written, real) in upstreams {
        let (written, real) = (format!("127.0.0.1:{written}\""), format!("127.0.0.1:{real}\""));
        assert!(text.contains(&written), "{file} has no {written}");
        text = text.replace(&written, &real);
    }
    for listens in
        ["0.0.0.0:8443", "0.0.0.0:5433", "127.0.0.1:8443", "127.0.0.1:9443", "127.0.0.1:9901"]
    {
        text = text.replace(&format!("\"{listens}\""), "\"127.0.0.1:0\"");
    }
    if !text.contains("[admin]") {
        text.push_str("\n[admin]\nlisten = \"127.0.0.1:0\"\n");
    }
    let client = servers.client(Some("tester"), at);
    let anonymous = servers.client(None, at);
    let gateway = Gateway::start_as(Command::new(BINARY), directory, &text);
    let plain = plain.into_iter().map(|(_, server)| server).collect();
    let tls = tls.into_iter().map(|(_, server)| server).collect();
    Sample { gateway, client, anonymous, plain, tls }
}

/// The words of a comment that says `#   portcullis pki …   what it makes`.
fn command(line: &str) -> Option<String> {
    let words = line.strip_prefix('#')?.trim_start().strip_prefix("portcullis ")?;
    let words = words.split("  ").next()?.trim();
    words.starts_with("pki ").then(|| words.replace('"', ""))
}

/// The certificates that `portcullis pki` made.
struct Servers {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Servers {
    fn read(directory: &Path) -> Self {
        let pki = directory.join("pki");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.join("ca.crt")).unwrap()).unwrap();
        let (chain, key) = pair(&pki, "upstream");
        Self { roots: Arc::new(roots), chain, key }
    }

    /// Takes clients of the CA, and those without certificate.
    fn config(&self) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder(Arc::clone(&self.roots));
        let verifier = verifier.allow_unauthenticated().build().unwrap();
        let config = ServerConfig::builder().with_client_cert_verifier(verifier);
        Arc::new(config.with_single_cert(self.chain.clone(), self.key.clone_key()).unwrap())
    }

    fn client(&self, name: Option<&str>, directory: &Path) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder().with_root_certificates(Arc::clone(&self.roots));
        Arc::new(match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (chain, key) = pair(&directory.join("pki"), name);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}

fn pair(pki: &Path, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(pki.join(format!("{name}.crt"))).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_file(pki.join(format!("{name}.key"))).unwrap())
}

impl Sample {
    /// A client passes through `listener`, asking for `name`.
    fn passes(&self, listener: &str, name: &str, client: &Arc<ClientConfig>) {
        let mut stream = connect_tls(self.gateway.addr(listener), name, client).unwrap();
        assert_eq!(round_trip(&mut stream, b"through").unwrap(), b"through", "{name}");
        close_write(&mut stream).unwrap();
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    }

    fn passes_plain(&self, listener: &str) {
        let mut socket = connect_plain(self.gateway.addr(listener)).unwrap();
        assert_eq!(round_trip(&mut socket, b"plain text").unwrap(), b"plain text");
    }

    fn is_refused(&self, listener: &str, name: &str, client: &Arc<ClientConfig>) {
        portcullis_kit::refusal(self.gateway.addr(listener), name, client);
    }

    fn accepted(&self) -> Vec<u64> {
        let plain = self.plain.iter().map(|server| server.counts().accepted);
        plain.chain(self.tls.iter().map(|server| server.counts().accepted)).collect()
    }
}

#[test]
fn minimal() {
    let sample = start("minimal.toml", &[7000], &[]);
    sample.passes("edge", "edge", &sample.client);
    sample.is_refused("edge", "edge", &sample.anonymous);
    sample.gateway.settled();
    assert_eq!(sample.accepted(), [1]);
}

#[test]
fn mesh() {
    let sample = start("mesh.toml", &[7000], &[]);
    sample.passes("mesh", "workload", &sample.client);
    sample.passes_plain("mesh");
    sample.is_refused("mesh", "workload", &sample.anonymous);
    sample.gateway.settled();
    assert_eq!(sample.accepted(), [2]);
}

#[test]
fn mtls_end_to_end() {
    let sample = start("mtls-end-to-end.toml", &[], &[6432, 6433]);
    for _ in 0..4 {
        sample.passes("edge", "edge", &sample.client);
    }
    sample.is_refused("edge", "edge", &sample.anonymous);
    sample.gateway.settled();
    for server in &sample.tls {
        let counts = server.counts();
        assert!(counts.handshakes.iter().all(|one| !one.client_chain.is_empty()));
        assert!(counts.handshakes.iter().all(|one| one.server_name.as_deref() == Some("db")));
    }
}

#[test]
fn proxy_protocol() {
    let sample = start("proxy-protocol.toml", &[7000], &[]);
    // From an address that is in nobody's list: served as who it is.
    let mut stream = connect_tls(sample.gateway.addr("edge"), "edge", &sample.client).unwrap();
    // The echo has no idea of headers, and gives back what it was told.
    let mut back = [0; 16];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back[..14], b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
    drop(stream);
    sample.is_refused("edge", "edge", &sample.anonymous);
}

#[test]
fn passthrough() {
    let sample = start("passthrough.toml", &[], &[7443, 7444, 7445]);
    sample.passes("edge", "orders.example.com", &sample.client);
    sample.passes("edge", "a.tenants.example.com", &sample.anonymous);
    sample.passes("edge", "b.tenants.example.com", &sample.anonymous);
    sample.is_refused("edge", "other.example.com", &sample.client);
    sample.gateway.settled();
    assert_eq!(sample.accepted()[0], 1);
    assert_eq!(sample.accepted().iter().sum::<u64>(), 3);
}

#[test]
fn sni_routing() {
    let sample = start("sni-routing.toml", &[7001, 7002, 7003], &[]);
    sample.passes("edge", "orders.example.com", &sample.client);
    sample.passes("edge", "billing.example.com", &sample.client);
    sample.is_refused("edge", "other.example.com", &sample.client);
    sample.is_refused("edge", "billing.example.com", &sample.anonymous);
    sample.gateway.settled();
    assert_eq!(sample.accepted()[2], 1);
    assert_eq!(sample.accepted().iter().sum::<u64>(), 2);
}

#[test]
fn reference() {
    let sample = start("reference.toml", &[7000], &[6432, 6433, 7443]);
    // Not from 10.0.0.0/8: no tenant, but whoever takes the rest.
    sample.passes("edge", "open", &sample.anonymous);
    sample.passes("edge", "legacy.example.com", &sample.client);
    sample.passes("mesh", "orders", &sample.client);
    sample.passes_plain("mesh");
    sample.is_refused("mesh", "orders", &sample.anonymous);
    sample.gateway.settled();
    assert_eq!(sample.accepted()[0], 3);
}
