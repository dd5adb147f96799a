//! Owns the gateways that are compared: how each is configured at its best, started on its core, and
//! found again in `/proc`. One file for each configuration; `stage.rs` is what is around them.

mod envoy;
mod haproxy;
mod nginx;
mod portcullis;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{Process, Programs, run};
use crate::row::{Load, Row};
use crate::stage::Stage;
use crate::way::{Leg, Way};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    Portcullis,
    /// With `runtime.io = "io_uring"`.
    IoUring,
    Envoy,
    /// With its chains chosen by server name where it terminates TLS too, as portcullis' are.
    EnvoySni,
    Nginx,
    Haproxy,
    /// No gateway: a bare forwarder of TCP with read and write, which the floor is made from.
    ReadWrite,
    /// The same with `splice(2)`.
    Splice,
}

/// A gateway that runs.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) program: Program,
    /// Whose CPU time and memory count.
    pub(crate) pid: u32,
    ports: Ports,
    _process: Process,
}

/// How a gateway that terminates TLS finds the chain of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    ByPort,
    /// By what the ClientHello asks for.
    ByName,
}

pub(crate) type Ports = BTreeMap<Way, SocketAddr>;

impl Program {
    /// Those that have a column.
    pub(crate) const ALL: [Self; 6] =
        [Self::Portcullis, Self::Envoy, Self::EnvoySni, Self::Nginx, Self::Haproxy, Self::IoUring];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Portcullis => "portcullis",
            Self::IoUring => "io_uring",
            Self::Envoy => "envoy",
            Self::EnvoySni => "envoy-sni",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::ReadWrite => "read-write",
            Self::Splice => "splice",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    /// What it says of itself, and the OpenSSL that it was built with.
    pub(crate) fn version(self, programs: &Programs) -> Result<String> {
        let (path, argument) = match self {
            Self::Portcullis | Self::IoUring | Self::ReadWrite | Self::Splice => {
                (&programs.gateway, "--version")
            }
            Self::Envoy | Self::EnvoySni => (&programs.envoy, "--version"),
            Self::Nginx => (&programs.nginx, "-V"),
            Self::Haproxy => (&programs.haproxy, "-vv"),
        };
        let missing = || format!("{} is not there: see perf/run", path.display());
        let output = Command::new(path).arg(argument).output().with_context(missing)?;
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let told = ["version: ", "HAProxy version", "uilt with OpenSSL", "portcullis "];
        let lines = text.lines().filter(|line| told.iter().any(|told| line.contains(told)));
        // Envoy begins with the path that it was called by.
        let short = lines.map(|line| line.split_once("  version: ").map_or(line, |(_, rest)| rest));
        Ok(short.map(str::trim).collect::<Vec<_>>().join("; "))
    }

    /// Starts it on the cores where the calling thread is.
    pub(crate) fn start(self, programs: &Programs, stage: &Stage) -> Result<Gateway> {
        let ports = reserve()?;
        let started = match self {
            Self::Portcullis => portcullis::start(programs, stage, &ports, "epoll"),
            Self::IoUring => portcullis::start(programs, stage, &ports, "io_uring"),
            Self::Envoy => envoy::start(programs, stage, &ports, Choice::ByPort),
            Self::EnvoySni => envoy::start(programs, stage, &ports, Choice::ByName),
            Self::Nginx => nginx::start(programs, stage, &ports),
            Self::Haproxy => haproxy::start(programs, stage, &ports),
            Self::ReadWrite => forwarder(programs, stage, &ports, "read-write"),
            Self::Splice => forwarder(programs, stage, &ports, "splice"),
        };
        let mut process = started.with_context(|| format!("cannot start {}", self.name()))?;
        let pid = match self {
            Self::Nginx => worker_of(&mut process)?,
            Self::Portcullis
            | Self::IoUring
            | Self::Envoy
            | Self::EnvoySni
            | Self::Haproxy
            | Self::ReadWrite
            | Self::Splice => process.id(),
        };
        Ok(Gateway { program: self, pid, ports, _process: process })
    }

    /// Whether it does the work of a row in a way of its own.
    pub(crate) fn takes_part(self, row: &Row) -> bool {
        let by_name = row.way.leg != Leg::Pass && matches!(row.load, Load::Handshakes { .. });
        self != Self::EnvoySni || by_name
    }

    /// Why it is not to be compared here, if that is so.
    pub(crate) fn unavailable(self, programs: &Programs, stage: &Stage) -> Option<String> {
        match self {
            Self::IoUring => portcullis::refusal(programs, stage, "io_uring"),
            _ => self.version(programs).err().map(|error| format!("{error:#}")),
        }
    }
}

impl Gateway {
    pub(crate) fn address(&self, way: Way) -> Result<SocketAddr> {
        self.ports.get(&way).copied().context("the gateway has no such way")
    }
}

fn forwarder(programs: &Programs, stage: &Stage, ports: &Ports, how: &str) -> Result<Process> {
    let mut command = Command::new(&programs.own);
    command.args(["forwarder", how]);
    for (way, address) in ports.iter().filter(|(way, _)| way.leg == Leg::Pass) {
        command.arg(format!("{address}={}", stage.upstream(*way)?));
    }
    let addresses: Vec<_> = passthrough(ports).collect();
    Process::listening(&mut command, &addresses, &stage.file("forwarder.log"))
}

fn passthrough(ports: &Ports) -> impl Iterator<Item = SocketAddr> {
    ports.iter().filter(|(way, _)| way.leg == Leg::Pass).map(|(_, address)| *address)
}

/// Ports that were free a moment ago: not all gateways can say which ones they took.
fn reserve() -> Result<Ports> {
    let mut sockets = Vec::new();
    let mut ports = Ports::new();
    for way in Way::all() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        ports.insert(way, socket.local_addr()?);
        sockets.push(socket);
    }
    Ok(ports)
}

/// nginx's master listens and does no work; its worker, which starts a moment later, does.
fn worker_of(master: &mut Process) -> Result<u32> {
    let file = format!("/proc/{0}/task/{0}/children", master.id());
    let children = || -> Result<Vec<u32>> {
        let text = fs::read_to_string(&file)?;
        text.split_whitespace().map(|pid| Ok(pid.parse()?)).collect()
    };
    master.until("there is no worker", || Ok(!children()?.is_empty()))?;
    match children()?[..] {
        [worker] => Ok(worker),
        ref others => bail!("{} worker processes", others.len()),
    }
}

/// Whether a program that was built with this OpenSSL, by its version, knows ML-KEM.
fn has_ml_kem(version: &str) -> bool {
    let Some((_, rest)) = version.rsplit_once("OpenSSL ") else { return true };
    let mut numbers = rest.split(['.', ' ']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(3), Some(5))
}

/// Whether `program` can do the exchange of the post-quantum rows.
pub(crate) fn is_post_quantum(program: Program, programs: &Programs) -> bool {
    program.version(programs).is_ok_and(|version| has_ml_kem(&version))
}

fn certificate(stage: &Stage, name: &str) -> (String, String) {
    let file = |end: &str| stage.file(&format!("pki/{name}.{end}")).display().to_string();
    (file("crt"), file("key"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn check(command: &mut Command) -> Result<()> {
    run(command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_knows_ml_kem_since_3_5() {
        for (version, known) in [
            ("nginx/1.22.1; built with OpenSSL 3.0.22 25 Aug 2026", false),
            ("built with OpenSSL 3.5.0 8 Apr 2025", true),
            ("built with OpenSSL 4.0.0", true),
            ("built with OpenSSL 1.1.1w", false),
            ("envoy version: 1/1.40.0/Clean/RELEASE/BoringSSL", true),
        ] {
            assert_eq!(has_ml_kem(version), known, "{version}");
        }
    }

    #[test]
    fn reserved_ports_differ() {
        let ports: std::collections::BTreeSet<_> = reserve().unwrap().into_values().collect();
        assert_eq!(ports.len(), Way::all().count());
    }
}
