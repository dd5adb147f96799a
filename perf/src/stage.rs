//! Owns what is around a gateway: a folder with certificates, and the upstreams, on their core.
//! `gateway` starts the gateways between it and the load.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::crowd::{self, CROWD};
use crate::process::{Process, Programs, run};
use crate::row::Row;
use crate::way::{Leg, Mode, Way};

/// Everything around the gateways.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: TempDir,
    upstreams: BTreeMap<(bool, Mode), Upstream>,
}

#[derive(Debug)]
struct Upstream {
    process: Process,
    address: SocketAddr,
    counts: SocketAddr,
}

impl Stage {
    /// Makes certificates and starts the upstreams, where the calling thread is.
    pub(crate) fn set_up(programs: &Programs) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("portcullis-perf-").tempdir()?;
        for line in PKI {
            let mut pki = Command::new(&programs.gateway);
            pki.arg("pki").args(line.split_whitespace());
            run(pki.current_dir(folder.path()))?;
        }
        std::fs::create_dir(folder.path().join("clients"))?;
        for name in CLIENTS {
            for end in ["crt", "key"] {
                let file = format!("{name}.{end}");
                let from = folder.path().join("pki").join(&file);
                std::fs::copy(from, folder.path().join("clients").join(file))?;
            }
        }
        let mut stage = Self { folder, upstreams: BTreeMap::new() };
        for mode in Mode::ALL {
            for is_tls in [false, true] {
                let upstream = stage.start_upstream(programs, mode, is_tls)?;
                stage.upstreams.insert((is_tls, mode), upstream);
            }
        }
        Ok(stage)
    }

    /// Makes the crowd, if one of the rows is of one.
    pub(crate) fn gather(&self, rows: &[&Row]) -> Result<()> {
        if rows.iter().any(|row| row.is_of_a_crowd()) {
            crowd::make(&self.file("pki"), &self.crowd(), CROWD)?;
        }
        Ok(())
    }

    /// The folder of the crowd's certificates.
    pub(crate) fn crowd(&self) -> PathBuf {
        self.file("crowd")
    }

    fn start_upstream(&self, programs: &Programs, mode: Mode, is_tls: bool) -> Result<Upstream> {
        let mut command = Command::new(&programs.load);
        command.args(["upstream", "--mode", mode.name(), "--counts", "127.0.0.1:0"]);
        if is_tls {
            command.args(["--cert", "pki/upstream.test.crt", "--key", "pki/upstream.test.key"]);
            command.args(["--client-ca", "pki/ca.crt", "--cipher-suites", SUITES]);
            command.args(["--groups", crate::row::CLASSICAL]);
        }
        let (process, line) = Process::start(command.current_dir(self.folder.path()), "ready ")?;
        let (address, counts) = line.split_once(" counts=").context("no address of counts")?;
        Ok(Upstream { process, address: address.parse()?, counts: counts.parse()? })
    }

    pub(crate) fn upstream(&self, way: Way) -> Result<SocketAddr> {
        Ok(self.behind(way)?.address)
    }

    /// Handshakes that an upstream has had so far, and how many of them were resumed.
    pub(crate) fn handshakes(&self, way: Way) -> Result<(u64, u64)> {
        let mut stream = TcpStream::connect(self.behind(way)?.counts)?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let (_, body) = page.split_once("\r\n\r\n").context("no counts")?;
        let counts: Value = serde_json::from_str(body)?;
        let count = |key: &str| counts.get(key).and_then(Value::as_u64).context("no such count");
        Ok((count("handshakes")?, count("resumed")?))
    }

    fn behind(&self, way: Way) -> Result<&Upstream> {
        let key = (way.is_tls_upstream(), way.mode);
        self.upstreams.get(&key).context("no such upstream")
    }

    /// The upstreams' processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.upstreams.values().map(|upstream| upstream.process.id()).collect()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

const PKI: [&str; 7] = [
    "init",
    "server edge.test *.edge.test",
    "server upstream.test",
    "client gateway",
    "client alice",
    "client bob",
    "client carol",
];
/// A load of one client only would flatter whoever remembers clients.
const CLIENTS: [&str; 3] = ["alice", "bob", "carol"];

/// What everybody speaks, so that cryptography is the same.
pub(crate) const SUITES: &str = "TLS_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
pub(crate) const EDGE: &str = "edge.test";
pub(crate) const UPSTREAM: &str = "upstream.test";

/// Whom a client asks for.
pub(crate) fn server_name(way: Way) -> &'static str {
    if way.leg == Leg::Pass { UPSTREAM } else { EDGE }
}
