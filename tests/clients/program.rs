//! Other people's programs: found or skipped, started, read and spoken to, ended. What still runs is
//! ended when its guard is dropped, by a panic as well.
//!
//! It knows no TLS and no gateway; `front` does.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portcullis_kit::{Deadline, PATIENCE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// A program that runs.
pub(crate) struct Running {
    name: String,
    child: Child,
    /// Readable once the process has ended.
    pidfd: OwnedFd,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    end_with: Signal,
}

/// A program that has ended.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// Standard error and standard output as text: clients do not agree on which is for what.
    pub(crate) text: String,
}

#[derive(Default)]
struct Output {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Of standard output and standard error, how many have ended.
    ended: usize,
}

/// Where `program` lies. Without it: `None` and a loud line, or a failure where `CI=true`, so that a
/// machine that is meant to prove everything cannot prove less in silence.
pub(crate) fn find(program: &str, packages: &str) -> Option<PathBuf> {
    let found = candidates(program).find(|path| path.is_file());
    if found.is_none() {
        missing(program, packages);
    }
    found
}

/// A `python3` that `probe` runs on without a mistake: with `what`, which `package` of PyPI brings.
pub(crate) fn python_with(probe: &str, what: &str, package: &str) -> Option<PathBuf> {
    let python = find("python3", "python3")?;
    let mut import = command(&python, "-c");
    import.arg(probe);
    if run(import).status.success() {
        return Some(python);
    }
    missing(what, &format!("python3-venv, then pip install '{package}'"));
    None
}

/// Says that a test cannot run without `what`, which these Debian packages bring.
///
/// # Panics
/// Where `CI=true`.
pub(crate) fn missing(what: &str, packages: &str) {
    portcullis_kit::missing(what, &format!("apt-get install {packages}"));
}

/// A command for `program` with words parted by spaces; add what may hold spaces with `arg`.
pub(crate) fn command(program: impl AsRef<OsStr>, words: &str) -> Command {
    let mut command = Command::new(program);
    // The words that tests compare are English ones.
    command.args(words.split_whitespace()).env("LC_ALL", "C");
    command
}

/// Runs a command without input to its end.
pub(crate) fn run(command: Command) -> Finished {
    Running::start(command).finish()
}

/// Runs a command that must succeed, and returns its words.
pub(crate) fn must(command: Command) -> String {
    let what = format!("{command:?}");
    let finished = run(command);
    assert!(finished.status.success(), "{what}: {}\n{}", finished.status, finished.text);
    finished.text
}

/// Starts a service on a port that the kernel names and waits for the words with which it says that
/// it serves. The port is free between its choice and its use: another attempt if somebody took it.
pub(crate) fn serve(ready: &str, command: impl Fn(u16) -> Command) -> (Running, SocketAddr) {
    for _ in 0..PORT_ATTEMPTS {
        let address = free_address();
        let service = Running::start(command(address.port()));
        if service.wait_or_end(ready) {
            return (service, address);
        }
        let text = service.text();
        assert!(text.contains("in use"), "no \"{ready}\" from {}:\n{text}", service.name);
    }
    panic!("no port stayed free for long enough");
}

impl Running {
    /// # Panics
    /// When the program does not start.
    pub(crate) fn start(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("our child");
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let readers = vec![
            Output::read(&output, stdout, |seen| &mut seen.stdout),
            Output::read(&output, stderr, |seen| &mut seen.stderr),
        ];
        let stdin = child.stdin.take();
        Self { name, child, pidfd, stdin, output, readers, end_with: Signal::TERM }
    }

    /// The signal on which this program ends at once.
    pub(crate) fn end_with(&mut self, signal: Signal) {
        self.end_with = signal;
    }

    /// What a user's keys do, as Ctrl-C.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Writes to standard input, as a user types.
    pub(crate) fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open until `finish`");
        stdin.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Waits until standard output or standard error holds `text`.
    ///
    /// # Panics
    /// When the program ends, or `PATIENCE` does, before that.
    pub(crate) fn wait_for(&self, text: &str) {
        assert!(self.wait_or_end(text), "{} ended without \"{text}\":\n{}", self.name, self.text());
    }

    /// Ends standard input, waits for the end of the program, and returns what it left.
    ///
    /// # Panics
    /// When it has not ended within `PATIENCE`.
    pub(crate) fn finish(self) -> Finished {
        self.finish_within(PATIENCE)
    }

    /// As `finish`, for a program that takes longer.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub(crate) fn finish_within(mut self, limit: Duration) -> Finished {
        drop(self.stdin.take());
        assert!(self.ends_within(limit), "{} does not end:\n{}", self.name, self.text());
        let status = self.child.wait().expect("our child");
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        let text = self.text();
        let stdout = std::mem::take(&mut self.output.seen().stdout);
        Finished { status, stdout, text }
    }

    fn text(&self) -> String {
        let seen = self.output.seen();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&seen.stderr) + &text(&seen.stdout)
    }

    /// False when the program ends without saying `text`.
    fn wait_or_end(&self, text: &str) -> bool {
        let deadline = Deadline::after(PATIENCE);
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        let mut seen = self.output.seen();
        while !holds(&seen.stdout) && !holds(&seen.stderr) {
            if seen.ended == 2 {
                return false;
            }
            if deadline.is_over() {
                drop(seen);
                panic!("no \"{text}\" from {} in time:\n{}", self.name, self.text());
            }
            let changed = self.output.changed.wait_timeout(seen, deadline.left());
            seen = changed.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let timeout = Timespec::try_from(limit).expect("a limit that fits");
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut watched, Some(&timeout)).expect("a pidfd can be polled") == 1
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), self.end_with);
            if !self.ends_within(PATIENCE) {
                drop(self.child.kill());
            }
            drop(self.child.wait());
        }
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
    }
}

impl Output {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(
        output: &Arc<Self>,
        mut pipe: impl Read + Send + 'static,
        part: fn(&mut Seen) -> &mut Vec<u8>,
    ) -> JoinHandle<()> {
        let output = Arc::clone(output);
        thread::spawn(move || {
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = pipe.read(&mut bytes) {
                part(&mut output.seen()).extend_from_slice(&bytes[..length]);
                output.changed.notify_all();
            }
            output.seen().ended += 1;
            output.changed.notify_all();
        })
    }
}

/// PATH, then where Debian keeps what only root starts, then PostgreSQL's own folders, newest first.
fn candidates(program: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    let program = program.to_owned();
    folders.into_iter().map(move |folder| Path::new(&folder).join(&program))
}

fn free_address() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("a bound socket has an address")
}

const PORT_ATTEMPTS: usize = 5;
