//! Prometheus itself: it scrapes the gateway, its rules are sound, and they fire when they should.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use portcullis_kit::{Gateway, PATIENCE, PlainEcho, connect_plain, eventually, round_trip};
use serde_json::Value;

use crate::program::{Running, command, find, must};

#[test]
fn the_rules_are_sound_and_fire_when_they_should() {
    let Some(promtool) = find("promtool", "prometheus") else { return };
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus"));
    for (words, file) in [
        ("check rules", "portcullis.rules.yml"),
        ("check config", "prometheus.yml"),
        ("test rules", "portcullis.rules.test.yml"),
    ] {
        let mut command = command(&promtool, words);
        command.arg(folder.join(file));
        let said = must(command);
        assert!(said.contains("SUCCESS"), "{words} {file}: {said}");
    }
}

#[test]
fn prometheus_scrapes_the_gateway_and_evaluates_the_rules() {
    let Some(prometheus) = find("prometheus", "prometheus") else { return };
    let echo = PlainEcho::start();
    let config = format!(
        "runtime = {{ workers = 2 }}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [listener.edge]\naddress = \"127.0.0.1:0\"\n\
         [listener.edge.chain.plain]\nmatch = {{ transport = \"raw\" }}\ncluster = \"app\"\n\
         [cluster.app]\nendpoints = [\"{}\"]\n",
        echo.address()
    );
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_portcullis"), &config);
    let mut session = connect_plain(gateway.addr("edge")).unwrap();
    assert_eq!(round_trip(&mut session, b"hello").unwrap(), b"hello");

    let folder = tempfile::tempdir().unwrap();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus/portcullis.rules.yml");
    let target = gateway.admin();
    let text = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{rules}]\n\
         scrape_configs:\n  - job_name: portcullis\n    static_configs: [{{ targets: [\"{target}\"] }}]\n"
    );
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, text).unwrap();
    let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let mut command = command(&prometheus, "--log.level=warn");
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address={listen}"));
    let _running = Running::start(command);

    let first = |query: &str| {
        ask(listen, query)["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    for (query, expected) in [
        ("up", "1"),
        ("portcullis_sessions_open{chain=\"plain\"}", "1"),
        ("portcullis_bytes_total{direction=\"sent\"}", "5"),
        ("portcullis_upstream_first_byte_seconds_count", "1"),
        ("histogram_quantile(1, portcullis_upstream_first_byte_seconds_bucket) >bool 0", "1"),
        ("count(portcullis_content_info{kind=\"configuration\"})", "1"),
        ("portcullis_build_info", "1"),
    ] {
        eventually(PATIENCE, query, || first(query).filter(|value| value == expected));
    }
    let groups = get(listen, "/api/v1/rules");
    let rules = groups["data"]["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 10, "{groups}");
    eventually(PATIENCE, "every rule to be evaluated", || {
        let groups = get(listen, "/api/v1/rules");
        let rules = groups["data"]["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
}

/// The answer to a query, as Prometheus gives it.
fn ask(address: SocketAddr, query: &str) -> Value {
    let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    get(address, &format!("/api/v1/query?query={escaped}"))
}

/// Null while nobody answers.
fn get(address: SocketAddr, path: &str) -> Value {
    let Ok(mut socket) = connect_plain(address) else { return Value::Null };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let mut answer = String::new();
    let read =
        socket.write_all(request.as_bytes()).and_then(|()| socket.read_to_string(&mut answer));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    read.ok().and_then(|_| serde_json::from_str(body).ok()).unwrap_or(Value::Null)
}
