//! Owns nginx's configuration: the stream module, one worker, no logs, one ticket as portcullis sends, and
//! half-close as the others do it, for without it answers to a client that has sent FIN are lost.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Ports, Program, certificate, check, is_post_quantum, write};
use crate::process::{Process, Programs};
use crate::stage::{EDGE, Stage, UPSTREAM};
use crate::way::{Leg, Mode, Way};

pub(super) fn start(programs: &Programs, stage: &Stage, ports: &Ports) -> Result<Process> {
    let file = stage.file("nginx.conf");
    let groups = if is_post_quantum(Program::Nginx, programs) {
        "X25519MLKEM768:X25519:P-256"
    } else {
        "X25519:P-256"
    };
    write(&file, &configuration(stage, ports, groups)?)?;
    check(Command::new(&programs.nginx).arg("-t").arg("-c").arg(&file))?;
    let mut command = Command::new(&programs.nginx);
    let addresses: Vec<_> = ports.values().copied().collect();
    Process::listening(command.arg("-c").arg(&file), &addresses, &stage.file("nginx.log"))
}

fn configuration(stage: &Stage, ports: &Ports, groups: &str) -> Result<String> {
    let folder = stage.file("").display().to_string();
    let mut text = String::new();
    if Path::new(MODULE).exists() {
        writeln!(text, "load_module {MODULE};")?;
    }
    let (chain, key) = certificate(stage, EDGE);
    let (own_chain, own_key) = certificate(stage, "gateway");
    let authority = stage.file("pki/ca.crt").display().to_string();
    write!(
        text,
        r"daemon off;
user root;
worker_processes 1;
pid {folder}nginx.pid;
error_log {folder}nginx-error.log crit;
events {{
    worker_connections 60000;
    multi_accept on;
    accept_mutex off;
}}
stream {{
    access_log off;
    ssl_certificate {chain};
    ssl_certificate_key {key};
    ssl_client_certificate {authority};
    ssl_verify_client on;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_conf_command NumTickets 1;
    ssl_ecdh_curve {groups};
    ssl_session_tickets on;
    proxy_half_close on;
    proxy_ssl_certificate {own_chain};
    proxy_ssl_certificate_key {own_key};
    proxy_ssl_trusted_certificate {authority};
    proxy_ssl_verify on;
    proxy_ssl_name {UPSTREAM};
    proxy_ssl_server_name on;
    proxy_ssl_session_reuse on;
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
"
    )?;
    for (way, address) in ports {
        let (name, upstream) = (way.name(), stage.upstream(*way)?);
        writeln!(text, "    upstream {name} {{ server {upstream}; }}")?;
        if way.leg == Leg::Pass {
            writeln!(
                text,
                "    map $ssl_preread_server_name ${} {{ {UPSTREAM} {name}; }}",
                variable(*way)
            )?;
        }
        writeln!(text, "    server {{\n{}    }}", server(*way, &address.to_string()))?;
    }
    text += "}\n";
    Ok(text)
}

fn server(way: Way, address: &str) -> String {
    // Its default of 16 KiB is one record; larger buffers suit streams, and cost memory for others.
    let buffer = if way.mode == Mode::Echo { "" } else { "        proxy_buffer_size 64k;\n" };
    let rest = match way.leg {
        Leg::Plain => format!("        proxy_pass {};\n", way.name()),
        Leg::Mtls => format!("        proxy_pass {};\n        proxy_ssl on;\n", way.name()),
        Leg::Pass => format!("        ssl_preread on;\n        proxy_pass ${};\n", variable(way)),
    };
    let ssl = if way.leg == Leg::Pass { "" } else { " ssl" };
    format!("        listen {address}{ssl} reuseport backlog=4096;\n{buffer}{rest}")
}

fn variable(way: Way) -> String {
    way.name().replace('-', "_")
}

/// Where Debian puts it; elsewhere it may be built in.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
