//! Every file of `config/` runs and serves: its own commands make the certificates, only addresses
//! are replaced.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, TlsEcho, close_write, connect_plain, connect_tls, read_to_end,
    round_trip,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::BINARY;

/// A sample made ready in a directory, and the servers that it names.
struct Sample {
    gateway: Gateway,
    client: Arc<ClientConfig>,
    anonymous: Arc<ClientConfig>,
    servers: Servers,
    directory: PathBuf,
    plain: Vec<PlainEcho>,
    tls: Vec<TlsEcho>,
}

/// What `portcullis` says with these words in this directory; fails the test unless it succeeds.
fn portcullis(directory: &Path, words: &str) -> String {
    // As a shell reads them: quoted, so that `*` stands for itself.
    let unquoted = words.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
    let output = Command::new(BINARY).args(unquoted).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "portcullis {words}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A word that `portcullis pki show` has behind `label`.
fn shown(directory: &Path, file: &str, label: &str) -> String {
    let all = portcullis(directory, &format!("pki show {file}"));
    let line = all.lines().find_map(|line| line.trim_start().strip_prefix(label)).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

/// Runs the sample with servers on the ports that it names, plain and TLS.
fn start(file: &str, plain: &[u16], tls: &[u16]) -> Sample {
    start_with(file, plain, tls, |text, _| text)
}

/// `start`, with the sample changed as its comments say that one should.
fn start_with(
    file: &str,
    plain: &[u16],
    tls: &[u16],
    change: impl FnOnce(String, &Path) -> String,
) -> Sample {
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
    commands.iter().for_each(|command| drop(portcullis(at, command)));
    text = change(text, at);
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
    for listens in [
        "0.0.0.0:8443",
        "0.0.0.0:5432",
        "0.0.0.0:5433",
        "127.0.0.1:8443",
        "127.0.0.1:8883",
        "127.0.0.1:9443",
        "127.0.0.1:9901",
    ] {
        text = text.replace(&format!("\"{listens}\""), "\"127.0.0.1:0\"");
    }
    if !text.contains("[admin]") {
        text.push_str("\n[admin]\nlisten = \"127.0.0.1:0\"\n");
    }
    let client = servers.client(Some(&at.join("pki/tester")));
    let anonymous = servers.client(None);
    let directory_path = at.to_owned();
    let gateway = Gateway::start_as(Command::new(BINARY), directory, &text);
    let plain = plain.into_iter().map(|(_, server)| server).collect();
    let tls = tls.into_iter().map(|(_, server)| server).collect();
    Sample { gateway, client, anonymous, servers, directory: directory_path, plain, tls }
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
        let (chain, key) = pair(&pki.join("upstream"));
        Self { roots: Arc::new(roots), chain, key }
    }

    /// Takes clients of the CA, and those without certificate.
    fn config(&self) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder(Arc::clone(&self.roots));
        let verifier = verifier.allow_unauthenticated().build().unwrap();
        let config = ServerConfig::builder().with_client_cert_verifier(verifier);
        Arc::new(config.with_single_cert(self.chain.clone(), self.key.clone_key()).unwrap())
    }

    /// `files`: those of its certificate and key, without their ends.
    fn client(&self, files: Option<&Path>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder().with_root_certificates(Arc::clone(&self.roots));
        Arc::new(match files {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let (chain, key) = pair(files);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}

fn pair(files: &Path) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let file = |end: &str| PathBuf::from(format!("{}.{end}", files.display()));
    let chain = CertificateDer::pem_file_iter(file("crt")).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_file(file("key")).unwrap())
}

impl Sample {
    /// A client whose certificate the sample's commands made, as `pki/alice`.
    fn client(&self, files: &str) -> Arc<ClientConfig> {
        self.servers.client(Some(&self.directory.join(files)))
    }

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

    /// A client is refused for `reason`; the rule that decided.
    fn is_refused_for(&self, listener: &str, name: &str, client: &str, reason: &str) -> Value {
        self.is_refused(listener, name, &self.client(client));
        let subject = format!("CN={}", client.rsplit('/').next().unwrap());
        let record = self.gateway.wait_access(PATIENCE, |record| {
            record["outcome"] == "refused"
                && record["sni"] == name
                && record["client"]["subject"] == *subject
        });
        assert_eq!(record["reason"], reason, "{client}: {record}");
        record["rule"].clone()
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
fn certificate_dir() {
    let sample = start("certificate-dir.toml", &[7000], &[]);
    sample.passes("edge", "orders.example.com", &sample.client);
    sample.passes("edge", "a.tenants.example.com", &sample.client);
    sample.is_refused("edge", "orders.example.com", &sample.anonymous);
    sample.is_refused("edge", "other.example.com", &sample.client);
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
fn spiffe() {
    let sample = start("spiffe.toml", &[7001, 7002], &[]);
    let (orders, billing) = ("orders.internal", "billing.internal");
    for (client, name) in
        [("web", orders), ("ledger", orders), ("ledger", billing), ("intern", orders)]
    {
        sample.passes("mesh", name, &sample.client(&format!("pki/{client}")));
    }
    for client in ["pki/web", "pki/intern"] {
        let rule = sample.is_refused_for("mesh", billing, client, "not_authorized");
        assert_eq!(rule, "listener.mesh.chain.billing.filters[0]");
    }
    for client in ["pki/eve", "pki/tester"] {
        let rule = sample.is_refused_for("mesh", orders, client, "san_not_allowed");
        assert_eq!(rule, "trust.workloads.san");
    }
    sample.gateway.settled();
    assert_eq!(sample.accepted(), [3, 1]);
}

#[test]
fn partner_api() {
    // The filter's serial number is to be replaced by that of whoever is to go before the list comes.
    let deny = |text: String, at: &Path| {
        portcullis(at, "pki client early --dir partner --issuer issuing --dns e.partner.example");
        text.replace("5d:0c:8f:12:7a:30:44:e9", &shown(at, "partner/early.crt", "serial"))
    };
    let sample = start_with("partner-api.toml", &[7000], &[], deny);
    let name = "api.example.com";
    sample.passes("api", name, &sample.client("partner/acme"));
    for (client, reason, rule) in [
        ("partner/leaver", "certificate_revoked", "trust.partner.crls"),
        ("partner/early", "not_authorized", "listener.api.chain.partner.filters[0]"),
        ("pki/tester", "unknown_issuer", "trust.partner.anchors"),
    ] {
        assert_eq!(sample.is_refused_for("api", name, client, reason), rule, "{client}");
    }
    sample.gateway.settled();
    assert_eq!(sample.accepted(), [1]);
}

#[test]
fn device_identity_first_audits() {
    let sample = start("device-identity.toml", &[1883], &[]);
    for (client, reason) in [("sensor-17", "not_pinned"), ("old-pump", "key_not_allowed")] {
        sample.passes("devices", "broker.example.com", &sample.client(&format!("pki/{client}")));
        let subject = format!("CN={client}");
        let record =
            sample.gateway.wait_access(PATIENCE, |record| record["client"]["subject"] == *subject);
        assert_eq!(record["audit"][0]["reason"], reason, "{record}");
    }
}

#[test]
fn device_identity_then_enforces() {
    let enforce = |text: String, at: &Path| {
        let pin = text.lines().find(|line| line.starts_with("pins ")).unwrap().to_owned();
        let known = shown(at, "pki/sensor-17.crt", "key's pin");
        let text = text.replace(&pin, &format!("pins = [\"{known}\"]"));
        text.replace("mode        = \"audit\"", "mode = \"enforce\"")
    };
    let sample = start_with("device-identity.toml", &[1883], &[], enforce);
    let name = "broker.example.com";
    sample.passes("devices", name, &sample.client("pki/sensor-17"));
    for (client, reason) in [("sensor-18", "not_pinned"), ("old-pump", "key_not_allowed")] {
        sample.is_refused_for("devices", name, &format!("pki/{client}"), reason);
    }
    sample.is_refused("devices", name, &sample.anonymous);
    sample.gateway.settled();
    assert_eq!(sample.accepted(), [1]);
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
