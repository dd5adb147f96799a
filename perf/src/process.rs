//! Owns child processes: on which core they start, when they are ready, and that they end with their
//! owner. Read `stage.rs` and `gateway` for what is started.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The programs under test, and those that test them.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) gateway: PathBuf,
    pub(crate) load: PathBuf,
    /// This one.
    pub(crate) own: PathBuf,
    pub(crate) envoy: PathBuf,
    pub(crate) nginx: PathBuf,
    pub(crate) haproxy: PathBuf,
    /// The gateway may write files of its own, as one does that counts its branches.
    pub(crate) no_sandbox: bool,
}

/// A child that ends with its owner.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program and waits for a line that begins with `ready`; returns the rest of the line.
    pub(crate) fn start(command: &mut Command, ready: &str) -> Result<(Self, String)> {
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

    /// Starts a program and waits until all of `addresses` accept; what it says goes to `log`.
    pub(crate) fn listening(
        command: &mut Command,
        addresses: &[SocketAddr],
        log: &Path,
    ) -> Result<Self> {
        let mut process = Self::spawn(command, log)?;
        for address in addresses {
            process
                .until("does not listen", || Ok(TcpStream::connect(address).is_ok()))
                .with_context(|| fs::read_to_string(log).unwrap_or_default())?;
        }
        Ok(process)
    }

    /// Starts a program; what it says goes to `log`.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self(command.spawn().with_context(|| format!("{command:?}"))?))
    }

    /// Waits until something holds, as long as the program runs.
    pub(crate) fn until(
        &mut self,
        otherwise: &str,
        holds: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let deadline = monotonic() + START_MAX;
        while !holds()? {
            if let Some(status) = self.0.try_wait()? {
                bail!("{otherwise}: it ended, {status}");
            }
            ensure!(monotonic() < deadline, "{otherwise} after {START_MAX:?}");
            pause(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx' master ends its worker only if it is asked to. What has ended by itself hears nothing.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let deadline = monotonic() + END_MAX;
        while matches!(self.0.try_wait(), Ok(None)) && monotonic() < deadline {
            pause(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program of this workspace.
pub(crate) fn built(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "{} is not there: cargo build --release -p portcullis -p portcullis-load",
        path.display()
    );
    // Some are started in another folder.
    Ok(path.canonicalize()?)
}

/// Runs a program to its end; its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // Without the command, whose paths differ from machine to machine: that is the context.
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().display();
        let words = format!("{name}: {}: {said}{errors}", output.status);
        return Err(anyhow!("{}", words.trim_end())).with_context(|| format!("{command:?}"));
    }
    Ok(said.into_owned())
}

/// Puts this thread, and what it starts from now on, on these cores.
pub(crate) fn on_cores(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).with_context(|| format!("no cores {cores:?} for this process"))
}

/// For thousands of connections; children inherit it.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let many = Some(DESCRIPTORS);
    if setrlimit(Resource::Nofile, Rlimit { current: many, maximum: many }).is_ok() {
        return Ok(());
    }
    // Only root goes beyond what it was given.
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

#[expect(clippy::disallowed_methods, reason = "deadlines and durations of whole programs")]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// A program that starts or settles gives no event to wait for.
#[expect(clippy::disallowed_methods, reason = "programs of others give no event to wait on")]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

const DESCRIPTORS: u64 = 100_000;
/// Sessions that are still open would let a gateway drain for longer.
const END_MAX: Duration = Duration::from_secs(2);
/// Envoy takes a second on a busy machine; thousands of handshakes take several.
const START_MAX: Duration = Duration::from_secs(60);
