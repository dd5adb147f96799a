//! Owns HAProxy's configuration: mode tcp, one thread, no logs, splicing wherever it can.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::Result;

use super::{Ports, Program, certificate, check, is_post_quantum, write};
use crate::process::{Process, Programs};
use crate::stage::{EDGE, Stage, UPSTREAM};
use crate::way::Leg;

pub(super) fn start(programs: &Programs, stage: &Stage, ports: &Ports) -> Result<Process> {
    for name in [EDGE, "gateway"] {
        let (chain, key) = certificate(stage, name);
        let both = fs::read_to_string(chain)? + &fs::read_to_string(key)?;
        write(&stage.file(&format!("{name}.pem")), &both)?;
    }
    let file = stage.file("haproxy.cfg");
    let groups = if is_post_quantum(Program::Haproxy, programs) {
        "X25519MLKEM768:X25519:P-256"
    } else {
        "X25519:P-256"
    };
    write(&file, &configuration(stage, ports, groups)?)?;
    check(Command::new(&programs.haproxy).args(["-c", "-f"]).arg(&file))?;
    let mut command = Command::new(&programs.haproxy);
    let addresses: Vec<_> = ports.values().copied().collect();
    command.args(["-db", "-f"]).arg(&file);
    Process::listening(&mut command, &addresses, &stage.file("haproxy.log"))
}

fn configuration(stage: &Stage, ports: &Ports, groups: &str) -> Result<String> {
    let folder = stage.file("").display().to_string();
    let mut text = String::from(
        "global
    nbthread 1
    maxconn 6000
    ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
    ssl-default-server-ciphers ECDHE-ECDSA-AES128-GCM-SHA256
    ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
defaults
    mode tcp
    maxconn 6000
    option splice-auto
    option tcp-smart-connect
    timeout connect 5s
    timeout client 1h
    timeout server 1h
",
    );
    for (way, address) in ports {
        let (name, upstream) = (way.name(), stage.upstream(*way)?);
        let tls = format!(
            " ssl crt {folder}{EDGE}.pem ca-file {folder}pki/ca.crt verify required curves {groups}"
        );
        let (bind, rules) = match way.leg {
            Leg::Plain | Leg::Mtls => (tls.as_str(), format!("    default_backend {name}\n")),
            Leg::Pass => (
                "",
                format!(
                    "    tcp-request inspect-delay 5s\n    \
                     tcp-request content accept if {{ req.ssl_hello_type 1 }}\n    \
                     use_backend {name} if {{ req.ssl_sni -i {UPSTREAM} }}\n"
                ),
            ),
        };
        let terms = match way.leg {
            Leg::Plain | Leg::Pass => String::new(),
            Leg::Mtls => format!(
                " ssl crt {folder}gateway.pem ca-file {folder}pki/ca.crt verify required \
                 sni str({UPSTREAM}) verifyhost {UPSTREAM}"
            ),
        };
        write!(
            text,
            "frontend {name}\n    bind {address}{bind} defer-accept\n{rules}\
             backend {name}\n    server only {upstream}{terms}\n"
        )?;
    }
    Ok(text)
}
