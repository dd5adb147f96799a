//! The processes that are measured and those that serve them: one gateway with one worker, an echo
//! over plain TCP and one over mTLS, with certificates of their own in a folder that goes again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// The programs under test.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) gateway: PathBuf,
    pub(crate) load: PathBuf,
}

/// Everything that runs for one work.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: TempDir,
    gateway: Process,
    pub(crate) address: String,
    _upstreams: [Process; 2],
}

/// A child that ends with its owner.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Programs {
    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        let program = |name: &str| {
            let path = folder.join(name);
            ensure!(
                path.is_file(),
                "{} is not there: cargo build --release -p portcullis -p portcullis-load",
                path.display()
            );
            Ok(path)
        };
        Ok(Self { gateway: program("portcullis")?, load: program("portcullis-load")? })
    }
}

impl Stage {
    pub(crate) fn set_up(programs: &Programs) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("portcullis-perf-").tempdir()?;
        for line in PKI {
            let mut pki = Command::new(&programs.gateway);
            pki.arg("pki").args(line.split_whitespace());
            run(pki.current_dir(folder.path()))?;
        }
        let mut upstream = Command::new(&programs.load);
        upstream.args(["upstream", "--mode", "echo"]).current_dir(folder.path());
        let (plain, plain_address) = Process::start(&mut upstream, "ready ")?;
        upstream.args(["--cert", "pki/upstream.test.crt", "--key", "pki/upstream.test.key"]);
        upstream.args(["--client-ca", "pki/ca.crt"]);
        let (mtls, mtls_address) = Process::start(&mut upstream, "ready ")?;
        let config = folder.path().join("portcullis.toml");
        fs::write(&config, configuration(&plain_address, &mtls_address))?;
        let mut gateway = Command::new(&programs.gateway);
        gateway.args(["run", "-c"]).arg(&config);
        let (gateway, address) = Process::start(&mut gateway, "ready listener.edge=")?;
        Ok(Self { folder, gateway, address, _upstreams: [plain, mtls] })
    }

    /// The gateway's process.
    pub(crate) fn pid(&self) -> u32 {
        self.gateway.id()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Process {
    /// Starts a program and waits for a line that begins with `ready`; returns its next word.
    pub(crate) fn start(command: &mut Command, ready: &str) -> Result<(Self, String)> {
        let (process, rest) = Self::start_with_line(command, ready)?;
        let word = rest.split_whitespace().next().unwrap_or_default().to_owned();
        Ok((process, word))
    }

    /// As `start`; returns the rest of the line.
    pub(crate) fn start_with_line(command: &mut Command, ready: &str) -> Result<(Self, String)> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let process = Self(child);
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if let Some(rest) = line.strip_prefix(ready) {
                return Ok((process, rest.to_owned()));
            }
        }
        bail!("{command:?} ended before it was ready");
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(())
}

const PKI: [&str; 5] = [
    "init",
    "server plain.test --dns mtls.test --out-name edge",
    "server upstream.test",
    "client gateway",
    "client alice",
];

/// One worker, no access log: what is left is the work itself.
fn configuration(plain: &str, mtls: &str) -> String {
    format!(
        r#"[runtime]
workers = 1

[access_log]
path = "off"

[listener.edge]
address = "127.0.0.1:0"

[listener.edge.chain.plain]
match   = {{ server_names = ["plain.test"] }}
tls     = "edge"
cluster = "plain"

[listener.edge.chain.mtls]
match   = {{ server_names = ["mtls.test"] }}
tls     = "edge"
cluster = "mtls"

[tls.downstream.edge]
certificates = [{{ chain = "pki/edge.crt", key = "pki/edge.key" }}]
trust        = "perf"

[tls.upstream.mtls]
server_name = "upstream.test"
trust       = "perf"
certificate = {{ chain = "pki/gateway.crt", key = "pki/gateway.key" }}

[trust.perf]
anchors = ["pki/ca.crt"]

[cluster.plain]
endpoints = ["{plain}"]

[cluster.mtls]
endpoints = ["{mtls}"]
tls       = "mtls"
pool      = {{ ready_min = 4, ready_max = 64 }}
"#
    )
}
