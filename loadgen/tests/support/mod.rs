//! A PKI and the generator's own test peer, for the commands: what these tests run against.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) fn load() -> Command {
    Command::new(env!("CARGO_BIN_EXE_portcullis-load"))
}

/// A PKI with one tenant.
pub(crate) struct Pki(tempfile::TempDir);

impl Pki {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("pki");
        let made = load().args(["pki", "--clients", "2", "--out"]).arg(&out).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self(dir)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn run(&self, peer: &Peer, arguments: &[&str]) -> Output {
        let mut command = load();
        command.args(arguments).args(["--target", &peer.address]);
        command.arg("--client-cert").arg(self.file("pki/t0.test/clients/client-0000.crt"));
        command.arg("--ca").arg(self.file("pki/server-ca.crt"));
        command.args(["--sni", "t0.test"]).output().unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.file(name)).unwrap()).unwrap()
    }
}

/// `upstream` with mutual TLS in a process of its own.
pub(crate) struct Peer {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    pub(crate) address: String,
}

impl Peer {
    pub(crate) fn start(pki: &Pki, mode: &str) -> Self {
        Self::start_with(pki, mode, &[])
    }

    pub(crate) fn start_with(pki: &Pki, mode: &str, flags: &[&str]) -> Self {
        let mut child = load()
            .args(["upstream", "--mode", mode])
            .args(flags)
            .arg("--cert")
            .arg(pki.file("pki/t0.test/server.crt"))
            .arg("--key")
            .arg(pki.file("pki/t0.test/server.key"))
            .arg("--client-ca")
            .arg(pki.file("pki/t0.test/client-ca.crt"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("ready ").unwrap().to_owned();
        Self { child, lines, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it and returns what it counted.
    pub(crate) fn counts(mut self) -> Value {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        serde_json::from_str(rest.trim()).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
