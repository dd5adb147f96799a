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
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
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

    /// What `show` says of a certificate.
    fn show(&self, stem: &str) -> String {
        let path = self.path(&format!("{stem}.crt")).into_os_string();
        let cli = Cli::try_parse_from(["pki".into(), "show".into(), path]).unwrap();
        let mut out = Vec::new();
        run(&cli.pki, wall_now(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
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
    // Since 3.2 OpenSSL writes names without spaces.
    let text = text.replace("CN = ", "CN=");
    for part in [
        "Subject: CN=alice",
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

/// What `openssl verify` says of a leaf and of what is sent with it, with only the root known.
fn verify(pki: &Pki, options: &str, stem: &str) -> Result<String, String> {
    pki.openssl(&format!(
        "verify -x509_strict -CAfile ca.crt -untrusted {stem}.crt {options} {stem}.crt"
    ))
}

fn refused(pki: &Pki, options: &str, stem: &str, reason: &str) {
    let said = verify(pki, options, stem).unwrap_err();
    assert!(said.contains(&format!("error {reason} ")), "{stem}: {said}");
}

// As `openssl verify` numbers them (X509_V_ERR_…).
const NO_ISSUER: &str = "20";
const NOT_YET_VALID: &str = "9";
const EXPIRED: &str = "10";
const LIST_EXPIRED: &str = "12";
const REVOKED: &str = "23";
const PURPOSE: &str = "26";
const OUTSIDE: &str = "47";

#[test]
fn chains_through_intermediates_verify_with_the_root_alone() {
    let pki = Pki::init("");
    pki.run("intermediate middle").unwrap();
    pki.run("intermediate low --under middle --key ecdsa-p384").unwrap();
    pki.run("client bob --issuer low").unwrap();
    pki.run("server db.example.com --issuer middle").unwrap();
    verify(&pki, "-purpose sslclient", "bob").unwrap();
    verify(&pki, "-purpose sslserver -verify_hostname db.example.com", "db.example.com").unwrap();
    assert_eq!(pair(&pki, "bob").0.len(), 3);
    assert_eq!(pair(&pki, "db.example.com").0.len(), 2);
    let root = pair(&pki, "ca").0.remove(0);
    assert!(!pair(&pki, "bob").0.contains(&root), "the root is left out");
    let error = pki.openssl("verify -CAfile ca.crt bob.crt").unwrap_err();
    assert!(error.contains(&format!("error {NO_ISSUER} ")), "{error}");
    assert_eq!(mode(&pki.path("middle.key")), 0o600);
    for (stem, length) in [("ca", 2), ("middle", 1), ("low", 0)] {
        let text = pki.openssl(&format!("x509 -in {stem}.crt -noout -text")).unwrap();
        assert!(text.contains(&format!("CA:TRUE, pathlen:{length}")), "{text}");
        assert!(text.contains("Certificate Sign, CRL Sign"), "{text}");
    }
}

#[test]
fn a_constrained_intermediate_vouches_for_its_domain_only() {
    let pki = Pki::init("");
    pki.run("intermediate partners --permit-dns example.com").unwrap();
    pki.run("intermediate below --under partners").unwrap();
    for name in ["example.com", "a.example.com", "example.org"] {
        pki.run(&format!("server {name} --issuer below")).unwrap();
    }
    pki.run("client alice --issuer partners --uri spiffe://example.org/alice").unwrap();
    let text = pki.openssl("x509 -in partners.crt -noout -text").unwrap();
    assert!(text.contains("X509v3 Name Constraints: critical"), "{text}");
    assert!(text.contains("DNS:example.com"), "{text}");
    for (name, purpose) in
        [("example.com", "sslserver"), ("a.example.com", "sslserver"), ("alice", "sslclient")]
    {
        verify(&pki, &format!("-purpose {purpose}"), name).unwrap();
    }
    refused(&pki, "-purpose sslserver", "example.org", OUTSIDE);
}

#[test]
fn certificates_made_wrong_are_refused_for_just_that() {
    let pki = Pki::init("");
    pki.run("intermediate middle").unwrap();
    for issuer in ["", "--issuer middle"] {
        let name = |what: &str| format!("{what}{}", issuer.len());
        for (what, options) in [
            ("late", "--expired"),
            ("early", "--not-yet-valid"),
            ("server", "--purpose server"),
            ("both", "--purpose both"),
            ("any", "--purpose none"),
            ("short", "--valid-for 1h"),
        ] {
            pki.run(&format!("client {} {options} {issuer}", name(what))).unwrap();
        }
        refused(&pki, "-purpose sslclient", &name("late"), EXPIRED);
        refused(&pki, "-purpose sslclient", &name("early"), NOT_YET_VALID);
        refused(&pki, "-purpose sslclient", &name("server"), PURPOSE);
        // And for nothing else.
        verify(&pki, "-purpose sslclient -no_check_time", &name("late")).unwrap();
        verify(&pki, "-purpose sslclient -no_check_time", &name("early")).unwrap();
        verify(&pki, "-purpose sslserver", &name("server")).unwrap();
        for purpose in ["sslclient", "sslserver"] {
            verify(&pki, &format!("-purpose {purpose}"), &name("both")).unwrap();
            verify(&pki, &format!("-purpose {purpose}"), &name("any")).unwrap();
        }
        let short = name("short");
        verify(&pki, "-purpose sslclient", &short).unwrap();
        pki.openssl(&format!("x509 -in {short}.crt -noout -checkend 3000")).unwrap();
        pki.openssl(&format!("x509 -in {short}.crt -noout -checkend 3700")).unwrap_err();
    }
}

#[test]
fn what_is_revoked_is_refused_and_stays_so() {
    let pki = Pki::init("");
    for name in ["alice", "bob", "carol"] {
        pki.run(&format!("client {name}")).unwrap();
    }
    let number = || pki.openssl("crl -in ca.crl -noout -crlnumber").unwrap();
    let check = "-crl_check -CRLfile ca.crl";
    pki.run("crl").unwrap();
    let mut numbers = vec![number()];
    for name in ["alice", "bob", "carol"] {
        verify(&pki, check, name).unwrap();
    }
    pki.run("crl --revoke alice").unwrap();
    numbers.push(number());
    refused(&pki, check, "alice", REVOKED);
    verify(&pki, check, "bob").unwrap();
    let serial = pki.openssl("x509 -in bob.crt -noout -serial").unwrap();
    pki.run(&format!("crl --revoke {}", serial.trim().strip_prefix("serial=").unwrap())).unwrap();
    numbers.push(number());
    refused(&pki, check, "alice", REVOKED);
    refused(&pki, check, "bob", REVOKED);
    verify(&pki, check, "carol").unwrap();
    pki.run("crl").unwrap();
    refused(&pki, check, "alice", REVOKED);
    assert_eq!(numbers, [1, 2, 3].map(|number| format!("crlNumber=0x{number:02X}\n")));
    // OpenSSL reports success in either case, and the truth on standard error.
    let checked = Command::new("openssl")
        .args("crl -in ca.crl -CAfile ca.crt -noout".split(' '))
        .current_dir(pki.0.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "verify OK\n");
    assert_eq!(mode(&pki.path("ca.crl")) & 0o222, 0o200);
}

#[test]
fn a_list_may_be_stale_or_in_der() {
    let pki = Pki::init("");
    pki.run("client alice").unwrap();
    pki.run("crl --expired --out-name stale").unwrap();
    refused(&pki, "-crl_check -CRLfile stale.crl", "alice", LIST_EXPIRED);
    pki.run("crl --next-update 2h --der --revoke alice").unwrap();
    let text = pki.openssl("crl -inform DER -in ca.crl -noout -text").unwrap();
    let serial = pki.openssl("x509 -in alice.crt -noout -serial").unwrap();
    let serial = serial.trim().strip_prefix("serial=").unwrap();
    for part in ["Version 2", "Authority Key Identifier", "CRL Number", serial] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // In PEM again, in the place of the one in DER.
    pki.run("crl").unwrap();
    refused(&pki, "-crl_check -CRLfile ca.crl", "alice", REVOKED);
}

#[test]
fn each_ca_revokes_what_it_issued() {
    let pki = Pki::init("");
    for words in
        ["intermediate middle", "client alice --issuer middle", "crl", "crl --issuer middle"]
    {
        pki.run(words).unwrap();
    }
    let check = "-crl_check_all -CRLfile ca.crl -CRLfile middle.crl";
    verify(&pki, check, "alice").unwrap();
    pki.run("crl --issuer middle --revoke alice").unwrap();
    refused(&pki, check, "alice", REVOKED);
    pki.run("client bob --issuer middle").unwrap();
    verify(&pki, check, "bob").unwrap();
    pki.run("crl --revoke middle").unwrap();
    let said = verify(&pki, check, "bob").unwrap_err();
    assert!(said.contains(&format!("error {REVOKED} at 1 depth")), "{said}");
}

#[test]
fn webpki_goes_by_the_lists_too() {
    let pki = Pki::init("--key ed25519");
    for words in [
        "intermediate middle --key rsa-2048",
        "client alice --issuer middle",
        "client bob --issuer middle",
        "crl --der",
        "crl --issuer middle --revoke bob",
        "crl --issuer middle --expired --out-name stale",
    ] {
        pki.run(words).unwrap();
    }
    let list = |name: &str| {
        let bytes = fs::read(pki.path(name)).unwrap();
        let pem = CertificateRevocationListDer::from_pem_slice(&bytes);
        pem.unwrap_or_else(|_| CertificateRevocationListDer::from(bytes))
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.path("ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verify = |lists: [&str; 2], name: &str| {
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(&provider))
            .with_crls(lists.map(list))
            .enforce_revocation_expiration()
            .build()
            .unwrap()
            .verify_client_cert(
                &pair(&pki, name).0[0],
                &pair(&pki, name).0[1..],
                UnixTime::since_unix_epoch(
                    wall_now().duration_since(std::time::UNIX_EPOCH).unwrap(),
                ),
            )
            .map(|_| ())
    };
    verify(["ca.crl", "middle.crl"], "alice").unwrap();
    let error = verify(["ca.crl", "middle.crl"], "bob").unwrap_err();
    assert_eq!(error, CertificateError::Revoked.into());
    let error = verify(["ca.crl", "stale.crl"], "alice").unwrap_err().to_string();
    assert!(error.contains("revocation list expired"), "{error}");
}

#[test]
fn every_kind_of_key_signs_and_is_signed() {
    let pki = Pki::init("--key ecdsa-p384");
    for (key, told) in [
        ("ecdsa-p256", "(256 bit)"),
        ("ecdsa-p384", "(384 bit)"),
        ("ed25519", "ED25519 Public-Key"),
        ("rsa-2048", "(2048 bit)"),
        ("rsa-3072", "(3072 bit)"),
        ("rsa-4096", "(4096 bit)"),
    ] {
        pki.run(&format!("intermediate by-{key} --key {key}")).unwrap();
        pki.run(&format!("client {key} --key {key} --issuer by-{key}")).unwrap();
        pki.run(&format!("crl --issuer by-{key}")).unwrap();
        let check = format!("-purpose sslclient -crl_check -CRLfile by-{key}.crl");
        verify(&pki, &check, key).unwrap();
        let text = pki.openssl(&format!("x509 -in {key}.crt -noout -text")).unwrap();
        assert!(text.contains(told), "{key}: {text}");
        pki.openssl(&format!("pkey -check -noout -in {key}.key")).unwrap();
        assert!(pki.show(key).contains(&format!("key          {key}\n")));
    }
}

#[test]
fn a_spiffe_id_is_the_only_uri() {
    let pki = Pki::init("");
    pki.run("client web --spiffe spiffe://example.org/ns/shop/sa/web --dns web.example.org")
        .unwrap();
    let text = pki.openssl("x509 -in web.crt -noout -ext subjectAltName").unwrap();
    assert!(
        text.contains("URI:spiffe://example.org/ns/shop/sa/web, DNS:web.example.org\n"),
        "{text}"
    );
    assert_eq!(text.matches("URI:").count(), 1);
    verify(&pki, "-purpose sslclient", "web").unwrap();
}

#[test]
fn what_is_shown_is_what_openssl_reads() {
    let pki = Pki::init("");
    pki.run("intermediate middle").unwrap();
    pki.run("client alice --issuer middle --key ed25519").unwrap();
    let shown = pki.show("alice");
    let value = |words: &str| {
        let line = pki.openssl(words).unwrap();
        line.trim().rsplit('=').next().unwrap().replace(':', "").trim().to_ascii_lowercase()
    };
    let serial = value("x509 -in alice.crt -noout -serial");
    assert!(shown.contains(&format!("serial       {serial}\n")), "{serial}: {shown}");
    let whole = value("x509 -in alice.crt -noout -fingerprint -sha256");
    assert!(shown.contains(&format!("fingerprint  {whole}\n")), "{whole}: {shown}");
    pki.openssl("pkey -in alice.key -pubout -outform DER -out alice.spki").unwrap();
    let hex = value("dgst -sha256 alice.spki");
    assert!(shown.contains(&format!("               {hex}\n")), "{hex}: {shown}");
    pki.openssl("dgst -sha256 -binary -out alice.digest alice.spki").unwrap();
    let base64 = pki.openssl("base64 -A -in alice.digest").unwrap();
    assert!(shown.contains(&format!("key's pin    sha256/{base64}\n")), "{base64}: {shown}");
    // A file in DER is shown as its certificate in PEM.
    pki.openssl("x509 -in ca.crt -outform DER -out der.crt").unwrap();
    let lines =
        |stem: &str| pki.show(stem).lines().skip(1).map(ToOwned::to_owned).collect::<Vec<_>>();
    assert_eq!(lines("der"), lines("ca"));
}

#[test]
fn the_recipes_of_the_documentation_do_what_they_say() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pki.md");
    let page = fs::read_to_string(page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let gateway = env!("CARGO_BIN_EXE_portcullis");
    let (mut good, mut bad) = (0, 0);
    let is_command = |line: &&str| line.starts_with("portcullis ") || line.starts_with("openssl ");
    for line in page.lines().filter(is_command) {
        let (command, error) = line.split_once("   # error ").unzip();
        let command = command.unwrap_or(line).replace('\'', "");
        let (program, words) = command.split_once(' ').unwrap();
        let program = if program == "portcullis" { gateway } else { program };
        let output = Command::new(program)
            .args(words.split(' '))
            .current_dir(folder.path())
            .output()
            .unwrap_or_else(|error| panic!("{command}: {error}"));
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        match error.and_then(|error| error.split_once(':')) {
            None => {
                assert!(output.status.success(), "{command}: {said}");
                good += 1;
            }
            Some((number, _)) => {
                assert!(said.contains(&format!("error {number} at")), "{command}: {said}");
                assert!(!output.status.success(), "{command}: {said}");
                bad += 1;
            }
        }
    }
    assert!(good > 20 && bad > 6, "{good} and {bad} commands were found");
}
