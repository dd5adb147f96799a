//! The whole record of every well-known trouble: what the operator reads when a client does not get in.
//!
//! `tests/data/refusal-records.jsonl` holds them, one a line, with what differs from run to run left
//! out. After a change that is meant: `UPDATE_RECORDS=1 cargo test --test gateway records`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use portcullis_kit::{
    Authority, ClientSpec, ClientTls, Gateway, Identity, KeyKind, PATIENCE, PlainEcho, ServerTls,
    TlsEcho, Validity, connect_plain, read_to_end, refusal,
};
use rustls::crypto::aws_lc_rs::kx_group;
use serde_json::Value;

use crate::support::{Config, Pki};

/// Certificates with serial numbers of their own, so that records are the same each time.
struct Clients {
    good: Identity,
    rsa: Identity,
    stranger: Identity,
    lonely: Identity,
    below: Identity,
    expired: Identity,
    early: Identity,
    server: Identity,
    revoked: Identity,
    selfmade: Identity,
}

impl Clients {
    fn new(ca: &Authority, intermediate: &Authority) -> Self {
        let named = |name: &str, serial: u8| {
            let uri = format!("spiffe://test/{name}");
            ClientSpec::new(name).uri(&uri).dns(&format!("{name}.test")).serial(&[0x41, serial])
        };
        let strangers = Authority::new("Strangers");
        Self {
            good: ca.client(&named("good", 1)),
            rsa: ca.client(&named("rsa", 2).key(KeyKind::Rsa2048)),
            stranger: strangers.client(&named("stranger", 3)),
            lonely: intermediate.client(&named("lonely", 4)).leaf_only(),
            below: intermediate.client(&named("below", 5)),
            expired: ca.client(&named("expired", 6).expired()),
            early: ca.client(&named("early", 7).not_yet_valid()),
            server: ca.client(&named("server", 8).wrong_eku()),
            revoked: ca.client(&named("revoked", 9)),
            selfmade: Authority::new("Selfmade").client(&named("selfmade", 10)),
        }
    }
}

/// One name a rule; `NAME.edge.test` is the chain, `NAME` its trust and its terms.
fn config(pki: &Pki, clients: &Clients, intermediate: &Authority) -> Config {
    let ca = &pki.ca;
    let list = ca.write("list", "crl", &ca.revocation_list(&[&clients.revoked]));
    let stale = ca.write("stale", "crl", &ca.revocation_list_of(&[], Validity::Expired));
    let other = ca.write("other", "crl", &intermediate.revocation_list(&[]));
    let lists = |path: &Path| format!("crls = [\"{}\"]", path.display());
    let pin = "00".repeat(32);
    let chains: [(&str, &str, String); 11] = [
        ("plain", "", String::new()),
        ("san", "", "san = [{ uri = \"spiffe://test/orders/**\" }]".to_owned()),
        ("keys", "", "client_keys = [\"ecdsa-p256\"]".to_owned()),
        ("revoked", "", lists(&list)),
        ("stale", "", lists(&stale)),
        ("unknown", "", lists(&other)),
        ("pins", "", format!("pins = [\"{pin}\"]")),
        ("deep", "", "depth_max = 0".to_owned()),
        ("filter", "", String::new()),
        ("versions", "versions = [\"1.3\"]", String::new()),
        ("groups", "groups = [\"secp384r1\"]", String::new()),
    ];
    let mut config = Config::new(1).listener("edge", "");
    for (name, terms, trust) in chains {
        let matches = format!("match = {{ server_names = [\"{name}.edge.test\"] }}");
        let keys = format!("{matches}\ntls = \"{name}\"\ncluster = \"app\"");
        config = config
            .chain("edge", name, &keys)
            .downstream(name, &[&pki.server], &format!("trust = \"{name}\"\n{terms}"))
            .trust(name, ca)
            .table(&trust);
    }
    config
        .table("[[listener.edge.chain.filter.filters]]\ntype = \"authorize\"")
        .table("allow = [{ dns = \"alice.test\" }]")
        .chain(
            "edge",
            "upstream",
            "match = { server_names = [\"upstream.edge.test\"] }\ntls = \"plain\"\ncluster = \"db\"",
        )
        .upstream("db", "")
}

#[test] // threat 10
fn every_well_known_trouble_has_its_whole_record() {
    let pki = Pki::new();
    let intermediate = pki.ca.intermediate("Partner Intermediate");
    let clients = Clients::new(&pki.ca, &intermediate);
    let upstream = PlainEcho::start();
    let impostors = Authority::new("Impostors");
    let impostor = impostors.server(&[crate::support::UPSTREAM_NAME]);
    let db = TlsEcho::start(ServerTls::new(&impostor).build());
    let gateway = config(&pki, &clients, &intermediate)
        .cluster("app", &[upstream.address()], "")
        .trust("upstreams", &pki.ca)
        .cluster(
            "db",
            &[db.address()],
            "tls = \"db\"\npool = { ready_max = 0 }\nconnect = { attempts = 1 }",
        )
        .start();
    let recorder = Recorder { gateway: &gateway, pki: &pki };
    let mut records = String::new();
    let mut note = |trouble: &str, record: Value| {
        writeln!(records, "{trouble}: {record}").unwrap();
    };
    let Clients { good, .. } = &clients;
    note("no certificate", recorder.of("plain", None));
    note("unknown CA", recorder.of("plain", Some(&clients.stranger)));
    note("missing intermediate", recorder.of("plain", Some(&clients.lonely)));
    note("an unknown CA's own chain", recorder.of("plain", Some(&clients.selfmade)));
    note("expired", recorder.of("plain", Some(&clients.expired)));
    note("not yet valid", recorder.of("plain", Some(&clients.early)));
    note("serverAuth only", recorder.of("plain", Some(&clients.server)));
    note("SAN mismatch", recorder.of("san", Some(good)));
    note("wrong key type", recorder.of("keys", Some(&clients.rsa)));
    note("revoked", recorder.of("revoked", Some(&clients.revoked)));
    note("stale CRL", recorder.of("stale", Some(good)));
    note("no CRL", recorder.of("unknown", Some(good)));
    note("not pinned", recorder.of("pins", Some(good)));
    note("too deep", recorder.of("deep", Some(&clients.below)));
    note("not authorized", recorder.of("filter", Some(good)));
    note("version mismatch", recorder.with("versions", Some(good), ClientTls::only_tls12));
    note(
        "group mismatch",
        recorder.with("groups", Some(good), |client| client.groups(&[kx_group::X25519])),
    );
    note("no chain", recorder.of("nowhere", Some(good)));
    note("not TLS", recorder.raw(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n"));
    note("a bare probe", recorder.raw(b""));
    note("an upstream of another CA", recorder.of("upstream", Some(good)));
    compare(&records);
}

struct Recorder<'a> {
    gateway: &'a Gateway,
    pki: &'a Pki,
}

impl Recorder<'_> {
    /// The record of a TLS 1.3 client at the chain `NAME.edge.test`.
    fn of(&self, chain: &str, identity: Option<&Identity>) -> Value {
        self.with(chain, identity, ClientTls::only_tls13)
    }

    fn with<'a>(
        &'a self,
        chain: &str,
        identity: Option<&'a Identity>,
        change: impl FnOnce(ClientTls<'a>) -> ClientTls<'a>,
    ) -> Value {
        let client = ClientTls::trusting(&self.pki.ca);
        let client = match identity {
            Some(identity) => client.identity(identity),
            None => client,
        };
        let seen = self.gateway.access_log().len();
        let name = format!("{chain}.edge.test");
        refusal(self.gateway.addr("edge"), &name, &change(client).build());
        self.next(seen)
    }

    fn raw(&self, bytes: &[u8]) -> Value {
        let seen = self.gateway.access_log().len();
        let mut socket = connect_plain(self.gateway.addr("edge")).unwrap();
        socket.write_all(bytes).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        // An alert, an end or a reset: what counts here is the record.
        drop(read_to_end(&mut socket));
        self.next(seen)
    }

    /// The line after those that were there, without what is not the same each time.
    fn next(&self, seen: usize) -> Value {
        let mut place = 0;
        let mut record = self.gateway.wait_access(PATIENCE, |_| {
            place += 1;
            place > seen
        });
        let fields = record.as_object_mut().unwrap();
        let changing = ["time", "id", "source", "local", "duration_ms", "upstream"];
        fields.retain(|name, value| {
            !value.is_null() && !changing.contains(&name.as_str()) && !name.ends_with("_ms")
        });
        for certificate in ["client", "certificate"] {
            if let Some(certificate) = fields.get_mut(certificate).and_then(Value::as_object_mut) {
                certificate.retain(|name, _| name != "fingerprint" && name != "not_after");
                // Drawn anew for what `ServerTls` shows.
                if certificate.get("subject").is_some_and(|name| name == "CN=upstream.test") {
                    certificate.remove("serial");
                }
            }
        }
        if let Some(detail) = fields.get("detail").and_then(Value::as_str) {
            let detail = without_digests_and_ports(detail);
            fields.insert("detail".to_owned(), detail.into());
        }
        record
    }
}

/// Long runs of hexadecimal digits, and the port in an address, become `…`.
fn without_digests_and_ports(text: &str) -> String {
    let is_digest = |word: &str| word.len() >= 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split_inclusive(|char: char| !char.is_ascii_alphanumeric());
    let mut out = String::new();
    for word in words {
        let bare = word.trim_end_matches(|char: char| !char.is_ascii_alphanumeric());
        let is_port = out.ends_with("127.0.0.1:");
        match is_digest(bare) || is_port {
            true => out.push_str(&word.replace(bare, "…")),
            false => out.push_str(word),
        }
    }
    out
}

fn compare(records: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/refusal-records.jsonl");
    if std::env::var_os("UPDATE_RECORDS").is_some() {
        std::fs::write(&path, records).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (ours, theirs) in records.lines().zip(expected.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(records.lines().count(), expected.lines().count());
}
