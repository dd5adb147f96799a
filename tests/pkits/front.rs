//! One gateway with a chain and a trust for every case, and the client of each: whether the
//! configuration loads, and who is let in.
//!
//! Judges nothing; `page` compares what happened with the standard.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use portcullis_kit::{
    Authority, Gateway, PATIENCE, PlainEcho, close_write, connect_tls, round_trip,
};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, SignatureScheme};

use crate::cases::{Case, DOMAIN};
use crate::vectors::Vectors;

/// What the gateway made of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Lists with which the configuration is refused, and why.
    pub(crate) unusable: Vec<(&'static str, String)>,
    /// What became of the client, without those lists.
    pub(crate) verdict: Verdict,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// The reason in the access log.
    Refused(String),
}

/// Drives all cases through one listener.
pub(crate) fn drive(cases: &[&Case], vectors: &Vectors) -> Vec<Outcome> {
    let authority = Authority::new("PKITS Gateway CA");
    let upstream = PlainEcho::start();
    let config = Config::new(&authority, vectors, &upstream.address().to_string());
    let mut unusable = unusable(cases, &authority, &config.text(cases, &HashMap::new()));
    let gateway = Gateway::start(BINARY, &config.text(cases, &unusable));
    let clients = Clients { authority: &authority, vectors, stand_in: stand_in(vectors) };
    let outcome = |case: &&Case| Outcome {
        unusable: unusable.remove(case.number).unwrap_or_default(),
        verdict: clients.come(case, &gateway),
    };
    cases.iter().map(outcome).collect()
}

type Unusable = HashMap<&'static str, Vec<(&'static str, String)>>;

/// What all cases share of the configuration, and where its files are.
struct Config<'a> {
    head: String,
    /// The gateway's own.
    certificate: String,
    anchor: String,
    vectors: &'a Vectors,
}

impl<'a> Config<'a> {
    fn new(authority: &Authority, vectors: &'a Vectors, upstream: &str) -> Self {
        let server = authority.server(&[&format!("*.{DOMAIN}")]);
        let anchor = String::from_utf8(vectors.anchor()).expect("PEM is text");
        let anchor = authority.write("anchor", "crt", &anchor).display().to_string();
        let head = format!(
            r#"
runtime = {{ workers = 1 }}
access_log = {{ path = "stdout", format = "json" }}
[listener.edge]
address = "127.0.0.1:0"
[cluster.echo]
endpoints = ["{upstream}"]
"#
        );
        let (chain, key) = (server.chain_path, server.key_path);
        let certificate = format!("{{ chain = {chain:?}, key = {key:?} }}");
        Self { head, certificate, anchor, vectors }
    }

    fn text(&self, cases: &[&Case], without: &Unusable) -> String {
        let mut text = self.head.clone();
        for case in cases {
            let without = without.get(case.number).map(Vec::as_slice).unwrap_or_default();
            let is_usable = |list: &&&str| without.iter().all(|(unusable, _)| unusable != *list);
            let lists = case.lists.iter().filter(is_usable);
            let lists: Vec<_> = lists.map(|list| self.vectors.list_path(list)).collect();
            write!(
                text,
                r#"
[listener.edge.chain.{key}]
match = {{ server_names = ["{server_name}"] }}
tls = "{key}"
cluster = "echo"
[tls.downstream.{key}]
certificates = [{certificate}]
client_auth = "require"
trust = "{key}"
[trust.{key}]
anchors = [{anchor:?}]
crls = {lists:?}
revocation = {{ check = "chain", unknown = "refuse", stale = "refuse" }}
"#,
                key = case.key(),
                server_name = case.server_name(),
                certificate = self.certificate,
                anchor = self.anchor,
            )
            .expect("a string grows");
        }
        text
    }
}

/// What `portcullis check` says of lists: the case, the list, and why it cannot be used.
fn unusable(cases: &[&Case], authority: &Authority, config: &str) -> Unusable {
    let file = authority.write("pkits", "toml", config);
    let checked = Command::new(BINARY).arg("check").arg("-c").arg(file).output();
    let checked = checked.expect("the binary runs");
    let said = String::from_utf8(checked.stdout).expect("text");
    let said = said + &String::from_utf8(checked.stderr).expect("text");
    assert!(!checked.status.success(), "the suite has lists that no gateway can use:\n{said}");
    let mut unusable = Unusable::new();
    for line in said.lines().filter(|line| line.contains(": trust.")) {
        let found = cases.iter().find_map(|case| {
            let (_, rest) = line.split_once(&format!(": trust.{}.crls[", case.key()))?;
            let (index, why) = rest.split_once("]: ")?;
            Some((case, case.lists[index.parse::<usize>().ok()?], why))
        });
        let Some((case, list, why)) = found else { panic!("about no list: {line}\n{said}") };
        // The name of the list is told beside it, and its path differs from machine to machine.
        let why = why.split_once(" cannot be used: ").map_or(why, |(_, why)| why);
        let path = |word: &&str| !Path::new(word).is_absolute();
        let why: Vec<_> = why.split(' ').filter(path).collect();
        unusable.entry(case.number).or_default().push((list, why.join(" ")));
    }
    unusable
}

/// Those who come to the gateway.
struct Clients<'a> {
    authority: &'a Authority,
    vectors: &'a Vectors,
    stand_in: Arc<dyn SigningKey>,
}

impl Clients<'_> {
    fn come(&self, case: &Case, gateway: &Gateway) -> Verdict {
        let name = case.server_name();
        let session = connect_tls(gateway.addr("edge"), &name, &self.config(case));
        let answer = session.and_then(|mut stream| {
            let byte = round_trip(&mut stream, b"?")?;
            close_write(&mut stream)?;
            Ok(byte)
        });
        let line = gateway.wait_access(PATIENCE, |line| line["sni"] == name.as_str());
        match (answer, line["outcome"].as_str()) {
            (Ok(byte), Some("closed")) => {
                assert_eq!(byte, b"?", "{}", case.number);
                Verdict::Accepted
            }
            (Err(_), Some("refused")) => {
                Verdict::Refused(line["reason"].as_str().expect("a reason").to_owned())
            }
            (answer, _) => panic!("{}: the client sees {answer:?}, logged is {line}", case.number),
        }
    }

    fn config(&self, case: &Case) -> Arc<ClientConfig> {
        let key = signing(&self.vectors.key(case.certificates[0])).unwrap_or_else(|| {
            assert!(OF_DSA.contains(&case.number), "{}: the key does not sign", case.number);
            Arc::clone(&self.stand_in)
        });
        let chain: Vec<CertificateDer<'static>> =
            case.certificates.iter().map(|name| self.vectors.certificate(name)).collect();
        let shown = Arc::new(Shown(Arc::new(CertifiedKey::new(chain, key))));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider speaks it")
            .with_root_certificates(self.authority.roots())
            .with_client_cert_resolver(shown);
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}

/// Shows this chain, whatever the server asks for.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// `None`: rustls signs with no key of this kind.
fn signing(key: &PrivateKeyDer<'static>) -> Option<Arc<dyn SigningKey>> {
    aws_lc_rs::sign::any_supported_type(key).ok()
}

/// Signs where the leaf's key is DSA's. The chain is judged before the signature: a refusal for the
/// chain is the same with either, and a chain that were accepted would be refused for the signature.
fn stand_in(vectors: &Vectors) -> Arc<dyn SigningKey> {
    signing(&vectors.key("ValidCertificatePathTest1EE")).expect("an RSA key")
}

const OF_DSA: [&str; 3] = ["4.1.4", "4.1.5", "4.1.6"];

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
