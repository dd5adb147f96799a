//! Ready-made probes against the services that they are for.

use std::net::SocketAddr;

use portcullis_kit::{Gateway, PATIENCE, eventually};

use crate::database::Database;
use crate::front::Front;
use crate::mosquitto::Mqtt;
use crate::redis::redis;

/// A gateway whose only business is to probe.
fn probed(endpoint: SocketAddr, script: &str, tls: &str) {
    let gateway = Gateway::start(
        env!("CARGO_BIN_EXE_portcullis"),
        &format!(
            r#"
admin = {{ listen = "127.0.0.1:0" }}
[listener.edge]
address = "127.0.0.1:0"
chain.default = {{ cluster = "service" }}
[cluster.service]
endpoints = ["{endpoint}"]
pool = {{ ready_max = 0 }}
health = {{ type = "script", script = "{script}", interval = "50ms", timeout = "5s" }}
{tls}
"#
        ),
    );
    eventually(PATIENCE, &format!("good answers of {script}"), || {
        let metrics = gateway.metrics();
        let failures = metrics.sum("portcullis_endpoint_probe_failures_total", &[]);
        assert_eq!(failures, 0, "{}", gateway.other_output());
        (metrics.sum("portcullis_endpoint_probes_total", &[]) >= 3).then_some(())
    });
    assert_eq!(gateway.metrics().sum("portcullis_endpoint_healthy", &[]), 1);
}

#[test]
fn redis_answers_its_probe() {
    let Some((_cli, _server, address)) = redis() else { return };
    probed(address, "redis", "");
}

#[test]
fn mosquitto_answers_its_probe() {
    let Some(mqtt) = Mqtt::start() else { return };
    probed(mqtt.address, "mqtt", "");
}

#[test]
fn postgres_answers_its_probe_in_plain_text_and_in_tls() {
    let Some(postgres) = Database::plain("probed") else { return };
    probed(postgres.address, "postgres", "");
    // What speaks TLS before it is another gateway.
    let front = Front::before(postgres.address);
    let address = SocketAddr::from(([127, 0, 0, 1], front.port()));
    let (chain, key) = (&front.client.chain_path, &front.client.key_path);
    let tls = format!(
        "tls = \"front\"\n[tls.upstream.front]\nserver_name = \"localhost\"\ntrust = \"front\"\n\
         certificate = {{ chain = {chain:?}, key = {key:?} }}\n[trust.front]\nanchors = [{:?}]",
        front.ca()
    );
    probed(address, "postgres", &tls);
}
