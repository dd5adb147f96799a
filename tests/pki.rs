//! The certificates of `portcullis pki` in the eyes of others: OpenSSL and rustls.
//!
//! What the command refuses and prints is tested beside it, in `src/app/pki/tests.rs`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::Parser;
use portcullis::app::pki::{PkiCommand, run};
use portcullis_kit::{TlsEcho, connect_tls, round_trip, wall_now};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    pki: PkiCommand,
}

/// A directory in which `pki` worked.
struct Pki(TempDir);

impl Pki {
    fn init(words: &str) -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        pki.run(&format!("init {words}")).unwrap();
        pki
    }

    fn run(&self, words: &str) -> Result<String, String> {
        let directory = self.0.path().to_str().unwrap();
        let words = ["pki"].into_iter().chain(words.split_whitespace()).chain(["--dir", directory]);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        run(&cli.pki, wall_now(), &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `openssl` with these words, run in the directory.
    fn openssl(&self, words: &str) -> Result<String, String> {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stdout) + &text(&output.stderr))
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn pair(pki: &Pki, stem: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(pki.path(&format!("{stem}.crt"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(pki.path(&format!("{stem}.key"))).unwrap();
    (chain.map(Result::unwrap).collect(), key)
}

#[test]
fn openssl_verifies_each_certificate_for_its_purpose_and_no_other() {
    for key in ["ecdsa", "rsa"] {
        let pki = Pki::init(&format!("--key {key}"));
        pki.run(&format!("server db.example.com 127.0.0.1 --dns *.db.example.com --key {key}"))
            .unwrap();
        pki.run(&format!("client alice --uri spiffe://example.org/alice --key {key}")).unwrap();
        let verify = "verify -x509_strict -check_ss_sig -CAfile ca.crt -purpose";
        for (purpose, name) in [
            ("sslserver", "-verify_hostname db.example.com db.example.com.crt"),
            ("sslserver", "-verify_hostname a.db.example.com db.example.com.crt"),
            ("sslserver", "-verify_ip 127.0.0.1 db.example.com.crt"),
            ("sslclient", "alice.crt"),
        ] {
            pki.openssl(&format!("{verify} {purpose} {name}")).unwrap();
        }
        pki.openssl(&format!("{verify} sslclient db.example.com.crt")).unwrap_err();
        pki.openssl(&format!("{verify} sslserver alice.crt")).unwrap_err();
        pki.openssl(&format!("{verify} sslserver -verify_hostname x.org db.example.com.crt"))
            .unwrap_err();
    }
}

#[test]
fn openssl_reads_what_was_asked_for() {
    let pki = Pki::init("");
    pki.run("client alice --uri spiffe://example.org/a --dns a.example --email a@b.example")
        .unwrap();
    let text = pki.openssl("x509 -in alice.crt -noout -text").unwrap();
    for part in [
        "CN = alice",
        "URI:spiffe://example.org/a",
        "DNS:a.example",
        "email:a@b.example",
        "TLS Web Client Authentication\n",
        "CA:FALSE",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let serial = |file: &str| pki.openssl(&format!("x509 -in {file} -noout -serial")).unwrap();
    assert_ne!(serial("ca.crt"), serial("alice.crt"));
}

#[test]
fn keys_are_private_and_nothing_is_overwritten() {
    let pki = Pki::init("");
    pki.run("server localhost").unwrap();
    pki.run("client alice").unwrap();
    for name in ["ca.key", "localhost.key", "alice.key"] {
        assert_eq!(mode(&pki.path(name)), 0o600, "{name}");
        pki.openssl(&format!("pkey -check -noout -in {name}")).unwrap();
    }
    let before = fs::read(pki.path("alice.key")).unwrap();
    for (words, file) in [
        ("init", "ca.crt"),
        ("server localhost", "localhost.crt"),
        ("client alice", "alice.crt"),
        ("server x.example --out-name alice", "alice.crt"),
    ] {
        let error = pki.run(words).unwrap_err();
        assert!(error.contains(&format!("{file} exists already")), "{words}: {error}");
    }
    assert_eq!(fs::read(pki.path("alice.key")).unwrap(), before);
    // One of the two is enough, and the other is then not made.
    fs::remove_file(pki.path("alice.crt")).unwrap();
    assert!(pki.run("client alice").unwrap_err().contains("alice.key exists already"));
    assert!(!pki.path("alice.crt").exists());
    assert_eq!(fs::read_dir(pki.0.path()).unwrap().count(), 5);
}

#[test]
fn rustls_peers_authenticate_each_other() {
    let pki = Pki::init("");
    pki.run("server localhost").unwrap();
    pki.run("client alice --uri spiffe://example.org/alice").unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.path("ca.crt")).unwrap()).unwrap();
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let (chain, key) = pair(&pki, "localhost");
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    let (chain, key) = pair(&pki, "alice");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.clone(), key)
        .unwrap();
    let echo = TlsEcho::start(Arc::new(server));
    let mut stream = connect_tls(echo.address(), "localhost", &Arc::new(client)).unwrap();
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    assert_eq!(echo.counts().handshakes[0].client_chain, chain);
}

#[test]
fn an_intermediate_in_the_place_of_the_ca_is_sent_along() {
    let pki = Pki::init("");
    let request = "req -newkey rsa:2048 -nodes -subj /CN=middle -keyout middle.key -out middle.csr";
    pki.openssl(request).unwrap();
    fs::write(pki.path("ca.ext"), "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n")
        .unwrap();
    pki.openssl(
        "x509 -req -in middle.csr -CA ca.crt -CAkey ca.key -days 30 -extfile ca.ext -out middle.crt",
    )
    .unwrap();
    let below = Pki(tempfile::tempdir().unwrap());
    let [middle, root] = ["middle.crt", "ca.crt"].map(|name| fs::read_to_string(pki.path(name)));
    fs::write(below.path("ca.crt"), middle.unwrap() + &root.unwrap()).unwrap();
    fs::copy(pki.path("middle.key"), below.path("ca.key")).unwrap();
    below.run("client bob").unwrap();
    assert_eq!(pair(&below, "bob").0.len(), 2);
    fs::copy(pki.path("ca.crt"), below.path("root.crt")).unwrap();
    below.openssl("verify -CAfile root.crt -untrusted bob.crt -purpose sslclient bob.crt").unwrap();
    below.openssl("verify -CAfile root.crt -purpose sslclient bob.crt").unwrap_err();
}
