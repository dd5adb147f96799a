//! The gateway's own certificates as operators and clients meet them: a directory of pairs, staples,
//! what ends soon.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use portcullis_kit::{
    Authority, ClientSpec, ClientTls, Gateway, Identity, KeyKind, PATIENCE, PlainEcho, Refusal,
    TlsStream, Validity, close_write, connect_tls, eventually, read_to_end, refusal, round_trip,
};
use rustls::AlertDescription;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{BINARY, Config, NAME, Pki};

fn add(directory: &Path, stem: &str, chain: &Identity, key: &Identity) {
    fs::write(directory.join(format!("{stem}.crt")), &chain.chain_pem).unwrap();
    fs::write(directory.join(format!("{stem}.key")), &key.key_pem).unwrap();
}

/// Listener `edge`, served from a directory, for everybody.
fn served_from(directory: &Path, echoes: &PlainEcho) -> Config {
    Config::new(2)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"many\"\ncluster = \"app\"")
        .table(&format!(
            "[tls.downstream.many]\ncertificate_dir = \"{}\"\nclient_auth = \"none\"",
            directory.display()
        ))
        .cluster("app", &[echoes.address()], "")
}

fn talk(mut stream: TlsStream) {
    assert_eq!(round_trip(&mut stream, b"to and fro").unwrap(), b"to and fro");
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

#[test] // threat 36
fn a_directory_serves_each_name_and_refuses_what_is_broken_or_not_there() {
    let (ca, echoes, directory) =
        (Authority::new("CA"), PlainEcho::start(), TempDir::new().unwrap());
    let names: Vec<String> = (0..20).map(|number| format!("n{number}.test")).collect();
    let servers: Vec<_> = names.iter().map(|name| ca.server(&[name])).collect();
    for (name, server) in names.iter().zip(&servers) {
        add(directory.path(), name, server, server);
    }
    add(directory.path(), "mixed.test", &servers[0], &servers[1]);
    let gateway = served_from(directory.path(), &echoes).start();
    let edge = gateway.addr("edge");
    let client = ClientTls::trusting(&ca).without_resumption().build();
    for _ in 0..2 {
        for (name, server) in names.iter().zip(&servers) {
            let stream = connect_tls(edge, name, &client).unwrap();
            assert_eq!(&stream.conn.peer_certificates().unwrap()[0], server.leaf());
            talk(stream);
        }
    }
    let unknown = Refusal::Alert(AlertDescription::UnrecognisedName);
    assert_eq!(refusal(edge, "nobody.test", &client), unknown);
    let broken = Refusal::Alert(AlertDescription::InternalError);
    for _ in 0..3 {
        assert_eq!(refusal(edge, "mixed.test", &client), broken);
    }
    let line = gateway.wait_access(PATIENCE, |line| line["reason"] == "certificate_unavailable");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("mixed.test.key") && detail.contains("does not belong"), "{line}");
    assert_eq!(
        (&line["alert_name"], &line["sni"]),
        (&"internal_error".into(), &"mixed.test".into())
    );
    gateway.wait_access(PATIENCE, |line| line["reason"] == "no_certificate_for_name");
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("certificate_unavailable"), 3);
    assert_eq!(metrics.refusals("no_certificate_for_name"), 1);
    let pairs = |state| metrics.sum("portcullis_certificate_dir_pairs", &[("state", state)]);
    assert_eq!((pairs("known"), pairs("loaded"), pairs("unusable")), (21, 20, 1));
    assert_eq!(metrics.sum("portcullis_certificate_dir_loads_total", &[]), 21);
    let told = gateway.other_output();
    assert_eq!(told.matches("its clients are refused").count(), 1, "once: {told}");
}

#[test] // threat 36
fn a_pair_that_is_added_or_renewed_is_served_without_a_signal_and_costs_the_others_nothing() {
    let (ca, echoes, directory) =
        (Authority::new("CA"), PlainEcho::start(), TempDir::new().unwrap());
    let names = ["a.test", "b.test"];
    let servers = names.map(|name| ca.server(&[name]));
    for (name, server) in names.iter().zip(&servers) {
        add(directory.path(), name, server, server);
    }
    let gateway = served_from(directory.path(), &echoes).start();
    let edge = gateway.addr("edge");
    let client = ClientTls::trusting(&ca).without_resumption().build();
    let shown = |name: &str| {
        let stream = connect_tls(edge, name, &client).ok()?;
        let leaf = stream.conn.peer_certificates()?.first()?.clone();
        talk(stream);
        Some(leaf)
    };
    for (name, server) in names.iter().zip(&servers) {
        assert_eq!(shown(name).as_ref(), Some(server.leaf()));
    }
    let (renewed, new) = (ca.server(&["a.test"]), ca.server(&["c.test"]));
    add(directory.path(), "a.test", &renewed, &renewed);
    fs::create_dir(directory.path().join("c.test")).unwrap();
    fs::copy(&new.chain_path, directory.path().join("c.test/tls.crt")).unwrap();
    fs::copy(&new.key_path, directory.path().join("c.test/tls.key")).unwrap();
    for (name, server) in [("a.test", &renewed), ("c.test", &new)] {
        eventually(PATIENCE, name, || shown(name).filter(|leaf| leaf == server.leaf()));
    }
    // The one that nobody touched is as it was read at first.
    let loads =
        |gateway: &Gateway| gateway.metrics().sum("portcullis_certificate_dir_loads_total", &[]);
    let before = loads(&gateway);
    assert_eq!(shown("b.test").as_ref(), Some(servers[1].leaf()));
    assert_eq!(loads(&gateway), before);
}

#[test] // threat 36
fn check_reads_every_pair_and_names_those_that_are_broken() {
    let (ca, echoes, directory) =
        (Authority::new("CA"), PlainEcho::start(), TempDir::new().unwrap());
    let (good, other) = (ca.server(&["good.test"]), ca.server(&["mixed.test"]));
    add(directory.path(), "good.test", &good, &good);
    add(directory.path(), "mixed.test", &other, &good);
    let file = ca.write("config", "toml", &served_from(directory.path(), &echoes).to_string());
    let done = Command::new(BINARY).arg("check").arg("-c").arg(&file).output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.contains("mixed.test.key does not belong"), "{said}");
    assert!(said.contains("is valid"), "{said}");
}

/// What `openssl s_client` hears when it asks for a staple.
fn status(gateway: &Gateway, ca: &Authority) -> String {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-status", "-servername", NAME, "-connect"]);
    client.arg(gateway.addr("edge").to_string()).arg("-CAfile").arg(ca.ca_path());
    let done = client.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn a_staple_reaches_clients_that_ask_for_it() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let serial: String = pki.server.serial().iter().map(|byte| format!("{byte:02X}")).collect();
    let index = format!("V\t351231235959Z\t\t{serial}\tunknown\t/CN={NAME}\n");
    let index = pki.ca.write("index", "txt", &index);
    let key = pki.ca.write("ca", "key", &pki.ca.key_pem());
    let (ca, response) = (pki.ca.ca_path(), index.with_extension("ocsp"));
    let mut ask = Command::new("openssl");
    ask.args(["ocsp", "-noverify", "-ndays", "7"]);
    for (flag, path) in [
        ("-index", index.as_path()),
        ("-CA", ca),
        ("-rsigner", ca),
        ("-rkey", key.as_path()),
        ("-issuer", ca),
        ("-cert", &pki.server.chain_path),
        ("-respout", &response),
    ] {
        ask.arg(flag).arg(path);
    }
    assert!(ask.output().unwrap().status.success());
    let gateway = |ocsp: &str| {
        let (chain, key) = (pki.server.chain_path.display(), pki.server.key_path.display());
        Config::new(1)
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .table(&format!(
                "[tls.downstream.edge]\ncertificates = [{{ chain = \"{chain}\", key = \"{key}\" \
                 {ocsp} }}]\nclient_auth = \"none\""
            ))
            .cluster("app", &[echoes.address()], "")
            .start()
    };
    let with = gateway(&format!(", ocsp = \"{}\"", response.display()));
    let said = status(&with, &pki.ca);
    for part in ["OCSP Response Status: successful", "Cert Status: good", &serial] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let metrics = with.metrics();
    let labels = [("kind", "staple"), ("name", "tls.downstream.edge.certificates[0]")];
    assert_eq!(
        metrics.sum("portcullis_certificate_expiry_timestamp_seconds", &labels) / 1_000_000_000,
        1
    );
    assert!(status(&gateway(""), &pki.ca).contains("OCSP response: no response sent"));
}

#[test]
fn what_ends_soon_is_in_the_log_the_metrics_and_on_the_page() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let days = |days: u64| Validity::For(Duration::from_secs(days * 86_400 + 3_600));
    let soon = pki.ca.server_with(&[NAME], KeyKind::EcdsaP256, days(5));
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .downstream("edge", &[&soon], "trust = \"clients\"")
        .trust("clients", &pki.ca)
        .cluster("app", &[echoes.address()], "")
        .start();
    let told = eventually(PATIENCE, "a warning", || {
        let told = gateway.other_output();
        told.contains("expires in 5 days").then_some(told)
    });
    for part in [&format!("CN={NAME}"), soon.chain_path.to_str().unwrap(), "renew it"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert_eq!(told.matches("expires in").count(), 1, "{told}");
    let (code, page) = gateway.admin_get("/certs");
    assert_eq!(code, 200);
    let page: Value = serde_json::from_str(&page).unwrap();
    let shown = page["certificates"].as_array().unwrap();
    let [server, anchor] = &shown[..] else { panic!("{page}") };
    assert_eq!((&server["kind"], &server["days_left"]), (&"server".into(), &5.into()));
    assert_eq!(anchor["name"], "trust.clients.anchors[0]");
    let end = gateway.metrics().sum(
        "portcullis_certificate_expiry_timestamp_seconds",
        &[("kind", "server"), ("name", "tls.downstream.edge.certificates[0]")],
    );
    assert_eq!(server["not_after"], end);
}

#[test] // threat 36
fn more_anchors_than_a_handshake_has_room_for_keep_nobody_out() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    // 64 KiB of names is all that a handshake can tell.
    let many: Vec<_> = (0..300).map(|at| Authority::new(&format!("{at:0>230}"))).collect();
    let anchors: Vec<_> = many.iter().chain([&pki.ca]).map(Authority::ca_path).collect();
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .downstream("edge", &[&pki.server], "trust = \"clients\"")
        .table(&format!("[trust.clients]\nanchors = {anchors:?}"))
        .cluster("app", &[echoes.address()], "")
        .start();
    talk(pki.connect(&gateway));
    let stranger = Authority::new("Stranger").client(&ClientSpec::new("mallory"));
    let stranger = ClientTls::trusting(&pki.ca).identity(&stranger).build();
    let got = refusal(gateway.addr("edge"), NAME, &stranger);
    assert_eq!(got, Refusal::Alert(AlertDescription::UnknownCA));
    let told = gateway.other_output();
    assert!(told.contains("the names of the anchors of trust clients are "), "{told}");
}
