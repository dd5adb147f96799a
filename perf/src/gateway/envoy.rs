//! Owns Envoy's configuration: `tcp_proxy`, one worker, no logs. Limits that would cut a measurement
//! short are raised, and it keeps as many sessions of the upstream as there are clients at once.

use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Choice, Ports, certificate, write};
use crate::process::{Process, Programs};
use crate::stage::{EDGE, Stage, UPSTREAM, server_name};
use crate::way::{Leg, Way};

pub(super) fn start(
    programs: &Programs,
    stage: &Stage,
    ports: &Ports,
    choice: Choice,
) -> Result<Process> {
    let file = stage.file("envoy.json");
    write(&file, &serde_json::to_string_pretty(&configuration(stage, ports, choice)?)?)?;
    let mut command = Command::new(&programs.envoy);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]);
    let addresses: Vec<_> = ports.values().copied().collect();
    Process::listening(command.arg(&file), &addresses, &stage.file("envoy.log"))
}

fn configuration(stage: &Stage, ports: &Ports, choice: Choice) -> Result<Value> {
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    for (way, address) in ports {
        listeners.push(listener(stage, *way, address.port(), choice));
        clusters.push(cluster(stage, *way, stage.upstream(*way)?.port()));
    }
    Ok(json!({"static_resources": {"listeners": listeners, "clusters": clusters}}))
}

fn listener(stage: &Stage, way: Way, port: u16, choice: Choice) -> Value {
    let proxy = json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": way.name(),
            "cluster": way.name(),
        },
    });
    let mut chain = json!({"filters": [proxy]});
    let mut listener = json!({
        "name": way.name(),
        "address": address(port),
        "socket_options": [{
            "description": "TCP_DEFER_ACCEPT",
            "level": IPPROTO_TCP,
            "name": TCP_DEFER_ACCEPT,
            "int_value": 1,
            "state": "STATE_LISTENING",
        }],
    });
    if way.leg == Leg::Pass || choice == Choice::ByName {
        chain["filter_chain_match"] = json!({"server_names": [server_name(way)]});
        listener["listener_filters"] = json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            },
        }]);
    }
    if way.leg != Leg::Pass {
        chain["transport_socket"] = downstream(stage);
    }
    listener["filter_chains"] = json!([chain]);
    listener
}

fn cluster(stage: &Stage, way: Way, port: u16) -> Value {
    let endpoint = json!({"endpoint": {"address": address(port)}});
    let limits = json!({
        "max_connections": LIMIT,
        "max_pending_requests": LIMIT,
        "max_requests": LIMIT,
    });
    let mut cluster = json!({
        "name": way.name(),
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": way.name(),
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    });
    if way.leg == Leg::Mtls {
        cluster["transport_socket"] = upstream(stage);
    }
    cluster
}

fn downstream(stage: &Stage) -> Value {
    let curves = ["X25519MLKEM768", "X25519", "P-256"];
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_params": parameters(&curves),
                "tls_certificates": [pair(stage, EDGE)],
                "validation_context": {"trusted_ca": authority(stage)},
            },
        },
    })
}

fn upstream(stage: &Stage) -> Value {
    let name = json!({"san_type": "DNS", "matcher": {"exact": UPSTREAM}});
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": UPSTREAM,
            // A ticket of TLS 1.3 serves once: with the default of one, most dials would be full.
            "max_session_keys": 64,
            "common_tls_context": {
                "tls_params": parameters(&["X25519"]),
                "tls_certificates": [pair(stage, "gateway")],
                "validation_context": {
                    "trusted_ca": authority(stage),
                    "match_typed_subject_alt_names": [name],
                },
            },
        },
    })
}

fn parameters(curves: &[&str]) -> Value {
    json!({
        "tls_minimum_protocol_version": "TLSv1_2",
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": ["ECDHE-ECDSA-AES128-GCM-SHA256"],
        "ecdh_curves": curves,
    })
}

fn pair(stage: &Stage, name: &str) -> Value {
    let (chain, key) = certificate(stage, name);
    json!({"certificate_chain": {"filename": chain}, "private_key": {"filename": key}})
}

fn authority(stage: &Stage) -> Value {
    json!({"filename": stage.file("pki/ca.crt")})
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

const LIMIT: u32 = 100_000;
/// Of Linux, for an option of sockets that Envoy knows by number only.
const IPPROTO_TCP: u32 = 6;
const TCP_DEFER_ACCEPT: u32 = 9;
