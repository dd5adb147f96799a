//! What becomes of sessions that run when the trust changes under them: `on_change`.

use std::io::{ErrorKind, Read};

use portcullis_kit::{
    Authority, ClientSpec, ClientTls, Gateway, Identity, PATIENCE, PlainEcho, Refusal, TlsStream,
    Validity, connect_tls, eventually, read_to_end, refusal, round_trip,
};
use rustls::AlertDescription;
use serde_json::Value;

use crate::support::{Config, NAME, Pki};

struct Stage {
    pki: Pki,
    upstream: PlainEcho,
    bob: Identity,
    /// A list that revokes nobody.
    good: std::path::PathBuf,
}

/// A change after which alice is not let in any more, and bob is.
struct Change {
    name: &'static str,
    /// Keys of the trust.
    trust: fn(&Stage) -> String,
    filter: &'static str,
    detail: &'static str,
}

const CHANGES: [Change; 3] = [
    Change {
        name: "a list revokes her",
        trust: |stage| {
            let list = stage.pki.ca.revocation_list(&[&stage.pki.alice]);
            format!("crls = [\"{}\"]", stage.pki.ca.write("revoked", "crl", &list).display())
        },
        filter: "",
        detail: "it is revoked",
    },
    Change {
        name: "her name is not asked for",
        trust: |stage| {
            format!(
                "crls = [\"{}\"]\nsan = [{{ uri = \"spiffe://test/bob\" }}]",
                stage.good.display()
            )
        },
        filter: "",
        detail: "it does not keep trust.clients.san",
    },
    Change {
        name: "a filter turns her away",
        trust: |stage| format!("crls = [\"{}\"]", stage.good.display()),
        filter: "[[listener.edge.chain.default.filters]]\ntype = \"authorize\"\n\
                 deny = [{ uri = \"spiffe://test/alice\" }]",
        detail: "deny has uri = \"spiffe://test/alice\"",
    },
];

impl Stage {
    fn new() -> Self {
        let pki = Pki::new();
        let bob = pki.ca.client(&ClientSpec::new("bob").uri("spiffe://test/bob"));
        let good = pki.ca.write("good", "crl", &pki.ca.revocation_list(&[]));
        Self { pki, upstream: PlainEcho::start(), bob, good }
    }

    fn config(&self, on_change: &str, trust: &str, filter: &str) -> Config {
        let drain = r#"{ grace = "0s", spread = "100ms", deadline = "60s" }"#;
        Config::with_drain(2, drain)
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .table(filter)
            .mutual(&self.pki, "")
            .table(&format!("on_change = \"{on_change}\"\n{trust}"))
            .cluster("app", &[self.upstream.address()], "")
    }

    fn start(&self, on_change: &str) -> Gateway {
        self.config(on_change, &format!("crls = [\"{}\"]", self.good.display()), "").start()
    }

    fn connect(&self, gateway: &Gateway, who: &Identity) -> TlsStream {
        let client = ClientTls::trusting(&self.pki.ca).identity(who).without_resumption();
        let mut stream = connect_tls(gateway.addr("edge"), NAME, &client.build()).unwrap();
        assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
        stream
    }

    /// The record of alice's session.
    fn record(gateway: &Gateway) -> Value {
        gateway.wait_access(PATIENCE, |line| {
            line["outcome"] == "closed" && line["client"]["subject"] == "CN=alice"
        })
    }
}

fn talks(stream: &mut TlsStream) {
    assert_eq!(round_trip(stream, b"still here").unwrap(), b"still here");
}

#[test]
fn a_change_that_refuses_a_client_ends_its_sessions_and_nobody_elses() {
    let stage = Stage::new();
    for Change { name, trust, filter, detail } in &CHANGES {
        for on_change in ["close", "drain"] {
            let gateway = stage.start(on_change);
            let mut alice = stage.connect(&gateway, &stage.pki.alice);
            let mut bob = stage.connect(&gateway, &stage.bob);
            gateway.reload(&stage.config(on_change, &trust(&stage), filter).to_string());
            let end = read_to_end(&mut alice);
            match on_change {
                "close" => {
                    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset, "{name}")
                }
                // close_notify, so that the client knows that nothing is missing.
                _ => assert_eq!(end.unwrap(), b"", "{name}"),
            }
            let record = Stage::record(&gateway);
            assert_eq!(record["reason"], "trust_changed", "{name}: {record}");
            assert!(record["detail"].as_str().unwrap().contains(detail), "{name}: {record}");
            assert_eq!(record["closed_by"], "gateway", "{name}: {record}");
            let action = if on_change == "close" { "closed" } else { "draining" };
            gateway.wait_log(&["would not be let in any more", "action=", action]);
            talks(&mut bob);
            drop(bob);
            assert_eq!(gateway.settled().refusals("trust_changed"), 1, "{name}");
        }
    }
}

#[test]
fn a_session_that_is_kept_goes_on_and_its_record_says_that_it_was() {
    let stage = Stage::new();
    let gateway = stage.start("keep");
    let mut alice = stage.connect(&gateway, &stage.pki.alice);
    let Change { trust, filter, .. } = &CHANGES[0];
    gateway.reload(&stage.config("keep", &trust(&stage), filter).to_string());
    gateway.wait_log(&["would not be let in any more", "kept"]);
    talks(&mut alice);
    // Whoever comes now is refused.
    let again = ClientTls::trusting(&stage.pki.ca).identity(&stage.pki.alice).build();
    let refused = refusal(gateway.addr("edge"), NAME, &again);
    assert_eq!(refused, Refusal::Alert(AlertDescription::CertificateRevoked));
    drop(alice);
    let record = Stage::record(&gateway);
    assert_eq!(record["audit"][0]["reason"], "trust_changed", "{record}");
    gateway.settled();
}

#[test]
fn a_stream_that_never_pauses_is_closed_at_once_where_close_is_written() {
    let stage = Stage::new();
    let gateway = stage.start("close");
    let alice = stage.connect(&gateway, &stage.pki.alice);
    let Change { trust, filter, .. } = &CHANGES[0];
    let pump = std::thread::spawn(move || {
        let mut alice = alice;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let sent = std::io::Write::write_all(&mut alice, &[7; 16 * 1024]);
            if let Err(error) = sent.and_then(|()| alice.read(&mut buffer).map(drop)) {
                return error.kind();
            }
        }
    });
    gateway.reload(&stage.config("close", &trust(&stage), filter).to_string());
    let record = Stage::record(&gateway);
    assert_eq!(record["reason"], "trust_changed", "{record}");
    assert!(matches!(pump.join().unwrap(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
}

#[test]
fn a_ca_that_is_gone_ends_the_sessions_that_it_vouched_for() {
    let stage = Stage::new();
    let others = Authority::new("Others");
    let carol = others.client(&ClientSpec::new("carol"));
    let both = stage.pki.ca.write("both", "crt", &(stage.pki.ca.ca_pem() + &others.ca_pem()));
    let config = |anchors: &std::path::Path| {
        Config::new(1)
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .downstream("edge", &[&stage.pki.server], "trust = \"clients\"")
            .table(&format!(
                "[trust.clients]\nanchors = [\"{}\"]\non_change = \"close\"",
                anchors.display()
            ))
            .cluster("app", &[stage.upstream.address()], "")
    };
    let gateway = config(&both).start();
    let mut alice = stage.connect(&gateway, &stage.pki.alice);
    let mut carol = stage.connect(&gateway, &carol);
    gateway.reload(&config(stage.pki.ca.ca_path()).to_string());
    assert_eq!(read_to_end(&mut carol).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let record = gateway.wait_access(PATIENCE, |line| line["reason"] == "trust_changed");
    assert!(record["detail"].as_str().unwrap().contains("anchor"), "{record}");
    talks(&mut alice);
}

#[test]
fn a_session_whose_certificate_has_expired_ends_all_the_same_once_it_is_revoked() {
    let stage = Stage::new();
    let soon = Validity::For(std::time::Duration::from_secs(3));
    let gateway = stage.start("close");
    let carol = stage.pki.ca.client(&ClientSpec::new("carol").validity(soon));
    let mut session = stage.connect(&gateway, &carol);
    let again = ClientTls::trusting(&stage.pki.ca).identity(&carol).without_resumption().build();
    let expired = Refusal::Alert(AlertDescription::CertificateExpired);
    eventually(PATIENCE, "her certificate expires", || {
        let tried = connect_tls(gateway.addr("edge"), NAME, &again);
        let met = tried.and_then(|mut stream| round_trip(&mut stream, b"hello").map(drop));
        met.is_err().then_some(())
    });
    assert_eq!(refusal(gateway.addr("edge"), NAME, &again), expired);
    talks(&mut session);
    let list = stage.pki.ca.revocation_list(&[&carol]);
    let list = stage.pki.ca.write("carol", "crl", &list);
    let trust = format!("crls = [\"{}\"]", list.display());
    gateway.reload(&stage.config("close", &trust, "").to_string());
    assert_eq!(read_to_end(&mut session).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let record = gateway.wait_access(PATIENCE, |line| line["reason"] == "trust_changed");
    assert!(record["detail"].as_str().unwrap().contains("it is revoked"), "{record}");
}

#[test]
fn clients_without_a_certificate_stay_where_none_is_required() {
    let stage = Stage::new();
    let config = |trust: &str| {
        stage
            .config("close", trust, "")
            .to_string()
            .replace("[tls.downstream.edge]", "[tls.downstream.edge]\nclient_auth = \"optional\"")
    };
    let gateway = Gateway::start(crate::support::BINARY, &config(""));
    let nobody = ClientTls::trusting(&stage.pki.ca).build();
    let mut nobody = connect_tls(gateway.addr("edge"), NAME, &nobody).unwrap();
    talks(&mut nobody);
    let mut alice = stage.connect(&gateway, &stage.pki.alice);
    gateway.reload(&config("san = [{ uri = \"spiffe://test/bob\" }]"));
    assert_eq!(read_to_end(&mut alice).unwrap_err().kind(), ErrorKind::ConnectionReset);
    talks(&mut nobody);
}

#[test]
fn a_reload_that_changes_no_trust_ends_nothing() {
    let stage = Stage::new();
    let gateway = stage.start("close");
    let mut alice = stage.connect(&gateway, &stage.pki.alice);
    let trust = format!("crls = [\"{}\"]", stage.good.display());
    for _ in 0..3 {
        gateway.reload(&stage.config("close", &trust, "").to_string());
        talks(&mut alice);
    }
}
