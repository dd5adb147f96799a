//! Any bytes as a client's certificates: they get an answer with a reason, nobody who is not vouched for
//! gets in, and nothing that reads a certificate falls over it.
//!
//! It is `explain` that is asked, so the verifier reads them, then whoever finds words for its answer.

#![no_main]

mod facts;
mod site;

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use portcullis::core::client_hello::{HelloBuffer, Peek, peek};
use portcullis::core::route::ChainId;
use portcullis::tls::{DownstreamTerms, SupposedClient, Version, identify};
use portcullis_kit::{Authority, ClientSpec};
use rustls::pki_types::CertificateDer;

use crate::facts::facts;
use crate::site::{material, now};

// The first byte says how the chain is cut, nothing behind the leaf, a good CA, a good leaf before it, or all of
// it in pieces; then the version, and whether there are rules, and a trust that only audits.
fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else { return };
    let _ = identify(bytes);
    let mut chain = vec![CertificateDer::from(bytes.to_vec())];
    match kind % 4 {
        0 => {}
        1 => chain.push(SITE.authority.certificate().clone()),
        2 => chain.insert(0, SITE.leaf.clone()),
        // As DER ends where it says.
        _ => chain = cut(bytes),
    }
    let is_good = chain.first() == Some(&SITE.leaf);
    let version = if kind & 4 == 0 { Version::Tls13 } else { Version::Tls12 };
    let name = Some("server.test");
    let Ok(client) = SupposedClient::new(name, Vec::new(), Some(version), chain) else { return };
    let hello = client.hello().unwrap();
    let mut joined = HelloBuffer::new();
    let Peek::Hello(hello) = peek(&hello, &mut joined) else { panic!("rustls sends no hello") };
    let facts = facts(&hello);
    let audits = kind & 8 != 0;
    let explanation = SITE.terms[usize::from(audits)].explain(&client, facts, now());
    assert!(!explanation.steps.is_empty());
    let against = explanation.refusal.iter().chain(&explanation.audits);
    assert!(against.clone().all(|refusal| !refusal.detail.is_empty()));
    assert!(is_good || against.count() > 0, "{explanation:?}");
    assert!(audits || is_good || explanation.refusal.is_some(), "{explanation:?}");
});

/// The certificates that stand one behind the other, four at most, the last with what cannot be one.
fn cut(mut bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut chain = Vec::new();
    while let (&[0x30, 0x82, high, low, ..], 0..3) = (bytes, chain.len()) {
        let len = 4 + usize::from(u16::from_be_bytes([high, low]));
        let Some((one, rest)) = bytes.split_at_checked(len) else { break };
        chain.push(one.to_vec().into());
        bytes = rest;
    }
    if !bytes.is_empty() {
        chain.push(bytes.to_vec().into());
    }
    chain
}

struct Site {
    authority: Authority,
    leaf: CertificateDer<'static>,
    /// Of a trust that enforces, and of one that has rules and audits.
    terms: [Arc<DownstreamTerms>; 2],
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let authority = Authority::new("Clients");
    let server = authority.server(&["server.test"]);
    let client = authority.client(&ClientSpec::new("alice").dns("alice.test"));
    let (chain, key) = (server.chain_path.display(), server.key_path.display());
    let list = authority.write("clients", "crl", &authority.revocation_list(&[&server]));
    let (anchor, list) = (authority.ca_path().display(), list.display());
    let rules = format!(
        r#"
mode = "audit"
crls = ["{list}"]
san = [
    {{ uri = "spiffe://example.org/**" }}, {{ dns = "*.test" }}, {{ email = "*@b.test" }}, {{ ip = "10.0.0.0/8" }},
    {{ cn = "al*" }},
]
[[listener.edge.chain.default.filters]]
type = "authorize"
mode = "audit"
deny = [{{ uri = "https://evil.test/x*" }}, {{ serial = "0a:1b:2c" }}, {{ dns = "mallory.test" }}]
"#
    );
    let terms = [String::new(), rules].map(|rules| {
        let text = format!(
            r#"
[listener.edge]
address = "127.0.0.1:0"
[listener.edge.chain.default]
tls = "edge"
cluster = "db"
[tls.downstream.edge]
certificates = [{{ chain = "{chain}", key = "{key}" }}]
client_auth = "require"
trust = "clients"
[cluster.db]
endpoints = ["127.0.0.1:1"]
[trust.clients]
anchors = ["{anchor}"]
{rules}
"#
        );
        let material = material(&text);
        Arc::clone(material.downstream(0, ChainId(0)).unwrap())
    });
    Site { leaf: client.leaf().clone(), authority, terms }
});
