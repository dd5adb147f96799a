//! Owns portcullis' configuration: one worker, no access log, and no ready connections, for the peers
//! have none.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;

use super::{Ports, write};
use crate::process::{Process, Programs};
use crate::row::CLASSICAL;
use crate::stage::{EDGE, Stage, UPSTREAM};
use crate::way::Leg;

pub(super) fn start(
    programs: &Programs,
    stage: &Stage,
    ports: &Ports,
    io: &str,
) -> Result<Process> {
    let file = stage.file(&format!("portcullis-{io}.toml"));
    write(&file, &configuration(programs, stage, ports, io)?)?;
    let mut command = Command::new(&programs.gateway);
    command.args(["run", "-c"]).arg(&file);
    let addresses: Vec<_> = ports.values().copied().collect();
    Process::listening(&mut command, &addresses, &stage.file(&format!("portcullis-{io}.log")))
}

/// Why the gateway does not take this driver.
pub(super) fn refusal(programs: &Programs, stage: &Stage, io: &str) -> Option<String> {
    let file = stage.file(&format!("check-{io}.toml"));
    let text = configuration(programs, stage, &super::reserve().ok()?, io).ok()?;
    write(&file, &text).ok()?;
    let output = Command::new(&programs.gateway).args(["check", "-c"]).arg(&file).output().ok()?;
    if output.status.success() {
        return None;
    }
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().find_map(|line| Some(&line[line.find("runtime.io")?..]));
    Some(reason.unwrap_or("the configuration is refused").to_owned())
}

fn configuration(programs: &Programs, stage: &Stage, ports: &Ports, io: &str) -> Result<String> {
    let sandbox = if programs.no_sandbox { "sandbox = \"off\"\n" } else { "" };
    let mut text = format!(
        r#"[runtime]
workers = 1
io      = "{io}"
{sandbox}
[access_log]
path = "off"

[tls.downstream.edge]
certificates = [{{ chain = "pki/{EDGE}.crt", key = "pki/{EDGE}.key" }}]
trust        = "perf"

[tls.upstream.mtls]
server_name = "{UPSTREAM}"
trust       = "perf"
certificate = {{ chain = "pki/gateway.crt", key = "pki/gateway.key" }}
groups      = ["{CLASSICAL}"]

[trust.perf]
anchors = ["pki/ca.crt"]
"#
    );
    for (way, address) in ports {
        let (name, upstream) = (way.name(), stage.upstream(*way)?);
        let (chain, terms) = match way.leg {
            Leg::Plain => ("tls = \"edge\"".to_owned(), ""),
            Leg::Mtls => ("tls = \"edge\"".to_owned(), "tls = \"mtls\"\n"),
            Leg::Pass => (format!("match = {{ server_names = [\"{UPSTREAM}\"] }}"), ""),
        };
        write!(
            text,
            r#"
[listener.{name}]
address = "{address}"
defer_accept = true
[listener.{name}.chain.only]
{chain}
cluster = "{name}"
[cluster.{name}]
endpoints = ["{upstream}"]
{terms}pool = {{ ready_min = 0, ready_max = 0 }}
"#
        )?;
    }
    Ok(text)
}
