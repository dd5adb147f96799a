//! The gateway binary under test: started with a configuration, watched until it is ready, read
//! line by line, ended by signal; killed when dropped. It knows the binary only from outside.
//!
//! A process that takes its place is the gateway from then on (`upgrade`).
//!
//! What it relies on: `run -c FILE`; one line `ready listener.NAME=ADDRESS … admin=ADDRESS` on
//! standard output; access-log lines there that start with `{`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, kill_process_group, pidfd_open,
    set_child_subreaper, waitpid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::connect::connect_plain;
use crate::deadline::{Deadline, PATIENCE, POLL};
use crate::driver::driven;
use crate::metrics::Metrics;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    /// Of all its processes.
    group: Pid,
    status: Option<ExitStatus>,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    addresses: HashMap<String, String>,
    directory: TempDir,
}

/// One process of a gateway. Killed when dropped, unless its end was waited for.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    /// Readable once the process has ended.
    pidfd: OwnedFd,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Output {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    ready: Option<String>,
    access: Vec<Value>,
    /// Standard error, and what of standard output is neither ready line nor access log.
    other: String,
    /// Of standard output and standard error, how many have ended.
    ended: usize,
}

impl Gateway {
    /// Starts `binary run -c FILE` with this configuration and waits until it is ready. Tests pass
    /// `env!("CARGO_BIN_EXE_portcullis")`.
    ///
    /// # Panics
    /// When it ends, or is not ready within `PATIENCE`; the message holds what it printed.
    pub fn start(binary: impl AsRef<Path>, config: &str) -> Self {
        let directory = TempDir::with_prefix("portcullis-gateway-").expect("a temporary directory");
        Self::start_as(Command::new(binary.as_ref()), directory, config)
    }

    /// `start`, with a command that ends in the binary (`prlimit … portcullis`) and in a directory
    /// that may hold what the configuration names.
    ///
    /// # Panics
    /// As `start`.
    pub fn start_as(command: Command, directory: TempDir, config: &str) -> Self {
        Self::start_given(command, directory, config, &[])
    }

    /// `start_as`, with descriptors that the command inherits under the numbers that they have here,
    /// and that no gateway of another test does.
    ///
    /// # Panics
    /// As `start`.
    #[expect(clippy::zombie_processes, reason = "`Process` waits for it, by its number")]
    pub fn start_given(
        mut command: Command,
        directory: TempDir,
        config: &str,
        given: &[OwnedFd],
    ) -> Self {
        // Children of children become ours when their parents end.
        set_child_subreaper(Some(getpid())).expect("a process that inherits orphans");
        let file = directory.path().join(CONFIG);
        fs::write(&file, driven(config).as_bytes()).expect("the temporary directory takes a file");
        command
            .args(["run".as_ref(), "-c".as_ref(), file.as_os_str()])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // One of its own, so that nothing that it started outlives the test.
            .process_group(0);
        let mut child =
            spawn(&mut command, given).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let group = Pid::from_child(&child);
        let process = Process::new(group);
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let readers = vec![output.read_stdout(stdout), output.read_stderr(stderr)];
        let addresses = HashMap::new();
        let mut gateway =
            Self { process, group, status: None, output, readers, addresses, directory };
        gateway.addresses = gateway.wait_ready();
        gateway
    }

    /// The address of `[listener.NAME]`.
    ///
    /// # Panics
    /// When the ready line named no such listener.
    pub fn addr(&self, listener: &str) -> SocketAddr {
        self.address(&format!("listener.{listener}"))
    }

    /// The address of `[admin]`, where it listens on TCP.
    ///
    /// # Panics
    /// When the ready line named none.
    pub fn admin(&self) -> SocketAddr {
        self.address("admin")
    }

    /// The configuration file; write it anew and send `Signal::HUP` to reload.
    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join(CONFIG)
    }

    /// Puts `config` in the place of the configuration file, by rename.
    ///
    /// # Panics
    /// When the temporary directory takes no file.
    pub fn rewrite(&self, config: &str) {
        let new = self.directory.path().join("new.toml");
        fs::write(&new, driven(config).as_bytes()).expect("the temporary directory takes a file");
        fs::rename(new, self.config_path()).expect("one file replaces another");
    }

    /// Reloads `config` by SIGHUP and waits until it is live; returns its generation.
    ///
    /// # Panics
    /// When it is not within `PATIENCE`.
    pub fn reload(&self, config: &str) -> u64 {
        let before = self.generation();
        self.rewrite(config);
        self.signal(Signal::HUP);
        self.wait_generation(before + 1)
    }

    /// The generation of the configuration that runs.
    pub fn generation(&self) -> u64 {
        self.metrics().sum("portcullis_configuration_generation", &[])
    }

    /// Waits for this generation or a later one, and returns it.
    ///
    /// # Panics
    /// When it does not come within `PATIENCE`.
    pub fn wait_generation(&self, generation: u64) -> u64 {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let now = self.generation();
            if now >= generation {
                return now;
            }
            assert!(!deadline.is_over(), "generation {generation}, not {now}{}", self.report());
            thread::park_timeout(POLL);
        }
    }

    /// Waits until a line of the log holds all of `words`, and returns the last that does.
    ///
    /// # Panics
    /// When none does within `PATIENCE`.
    pub fn wait_log(&self, words: &[&str]) -> String {
        self.wait(PATIENCE, &format!("a line with {words:?}"), |seen| {
            let holds = |line: &&str| words.iter().all(|word| line.contains(word));
            seen.other.lines().rev().find(holds).map(str::to_owned)
        })
    }

    /// The address that a reload opened for a listener, as the log says it.
    ///
    /// # Panics
    /// When the log says none within `PATIENCE`.
    pub fn opened(&self, listener: &str) -> SocketAddr {
        let line = self.wait_log(&["listening ", &format!("listener={listener} ")]);
        let address = line.split_once("address=").map(|(_, address)| address.trim());
        address.and_then(|address| address.parse().ok()).expect("an address")
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Has another process take the place of this one, by SIGUSR2; returns the old one, which drains
    /// or has ended, once the new one serves.
    ///
    /// # Panics
    /// When no other one serves within `PATIENCE`.
    pub fn upgrade(&mut self) -> Process {
        self.signal(Signal::USR2);
        self.changed()
    }

    /// Waits until another process serves than the one that this knows, and returns that one.
    ///
    /// # Panics
    /// When it does not within `PATIENCE`.
    pub fn changed(&mut self) -> Process {
        let before = self.pid();
        let deadline = Deadline::after(PATIENCE);
        let after = loop {
            let now = self.page("/process")["process"].as_u64().expect("a number");
            if now != u64::from(before) {
                break i32::try_from(now).ok().and_then(Pid::from_raw).expect("a process");
            }
            assert!(!deadline.is_over(), "process {before} serves on{}", self.report());
            thread::park_timeout(POLL);
        };
        std::mem::replace(&mut self.process, Process::new(after))
    }

    /// A page of the admin listener that is JSON.
    ///
    /// # Panics
    /// When it does not answer with one.
    pub fn page(&self, path: &str) -> Value {
        let (status, page) = self.admin_get(path);
        assert_eq!(status, 200, "{path}: {page}");
        serde_json::from_str(&page).expect("a page of JSON")
    }

    /// `GET path` on the admin listener: status and body.
    pub fn admin_get(&self, path: &str) -> (u16, String) {
        self.admin_request("GET", path)
    }

    /// A request without a body to the admin listener: status and body of the answer.
    ///
    /// # Panics
    /// When there is no answer that looks like HTTP.
    pub fn admin_request(&self, method: &str, path: &str) -> (u16, String) {
        self.admin_request_with(method, path, "")
    }

    /// An order to the admin listener, as `/reload`: status and body of the answer.
    pub fn admin_order(&self, path: &str) -> (u16, String) {
        self.admin_request_with("POST", path, "X-Portcullis-Admin: 1\r\n")
    }

    fn admin_request_with(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        // HTTP/1.0: the answer is neither chunked nor followed by another.
        let request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n");
        let answer = match self.addresses.get("admin").and_then(|it| it.strip_prefix("unix:")) {
            Some(path) => ask(UnixStream::connect(path), &request),
            None => ask(connect_plain(self.admin()), &request),
        };
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status line"), body.to_owned())
    }

    /// What `/metrics` says now.
    ///
    /// # Panics
    /// When the admin listener does not answer with a page of metrics.
    pub fn metrics(&self) -> Metrics {
        let (status, page) = self.admin_get("/metrics");
        assert_eq!(status, 200, "{page}");
        Metrics::parse(&page)
    }

    /// Waits until no connection is left and what was counted agrees with what was logged; returns
    /// the metrics of that moment. Every test of a gateway that lives on ends with it.
    ///
    /// # Panics
    /// When that is not so within `PATIENCE`; the message says what differs.
    pub fn settled(&self) -> Metrics {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let metrics = self.metrics();
            let Some(why) = metrics.unsettled(&self.access_log()) else { return metrics };
            assert!(!deadline.is_over(), "not settled: {why}{}", self.report());
            thread::park_timeout(POLL);
        }
    }

    /// Memory in RAM, in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.expect("the kernel says how much") * 1024
    }

    /// Access-log lines so far, in the order they came.
    pub fn access_log(&self) -> Vec<Value> {
        self.output.seen().access.clone()
    }

    /// The first access-log line, past or to come, that `matches`.
    ///
    /// # Panics
    /// When none has come within `limit`; the message holds those that did.
    pub fn wait_access(&self, limit: Duration, mut matches: impl FnMut(&Value) -> bool) -> Value {
        let mut read = 0;
        self.wait(limit, "an access-log line that matches", |seen| {
            let new = &seen.access[read..];
            read = seen.access.len();
            new.iter().find(|line| matches(line)).cloned()
        })
    }

    /// Everything printed so far that is neither the ready line nor access log.
    pub fn other_output(&self) -> String {
        self.output.seen().other.clone()
    }

    /// # Panics
    /// When the process is gone already.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGTERM, and the exit status it leads to.
    ///
    /// # Panics
    /// When it does not end within `PATIENCE`.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(PATIENCE)
    }

    /// # Panics
    /// When it does not end by itself within `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let status = self.process.end_within(limit);
        let Some(status) = status else {
            panic!("the gateway did not end within {limit:?}{}", self.report());
        };
        self.status = Some(status);
        // What it said last may still be in the pipes.
        self.wait(limit, "the end of its output", |seen| (seen.ended == 2).then_some(()));
        status
    }

    /// The address of a listener as the process that serves now has it in its ready line.
    ///
    /// # Panics
    /// When it names no such listener within `PATIENCE`.
    pub fn ready_address(&self, listener: &str) -> SocketAddr {
        let name = format!("listener.{listener}=");
        self.wait(PATIENCE, &name, |seen| {
            let ready = seen.ready.as_ref()?;
            ready.split_whitespace().find_map(|word| word.strip_prefix(&name)?.parse().ok())
        })
    }

    fn wait_ready(&self) -> HashMap<String, String> {
        let line = self.wait(PATIENCE, "the ready line", |seen| seen.ready.clone());
        let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
        pairs.map(|(name, address)| (name.to_owned(), address.to_owned())).collect()
    }

    fn address(&self, name: &str) -> SocketAddr {
        let address = self.addresses.get(name).and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("the ready line has no {name}: {:?}", self.addresses))
    }

    fn wait<T>(&self, limit: Duration, what: &str, mut probe: impl FnMut(&Seen) -> Option<T>) -> T {
        let deadline = Deadline::after(limit);
        let mut seen = self.output.seen();
        loop {
            if let Some(value) = probe(&seen) {
                return value;
            }
            let ended = seen.ended == 2;
            if ended || deadline.is_over() {
                let why = if ended { "the gateway ended" } else { "time is up" };
                drop(seen);
                panic!("{why} before {what} came{}", self.report());
            }
            seen = self
                .output
                .changed
                .wait_timeout(seen, deadline.left())
                .map_or_else(|poisoned| poisoned.into_inner().0, |(seen, _)| seen);
        }
    }

    fn report(&self) -> String {
        let seen = self.output.seen();
        let mut report = format!("\n--- output\n{}--- access log\n", seen.other);
        for line in &seen.access {
            writeln!(report, "{line}").expect("a string grows");
        }
        report
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking() && !self.process.is_over {
            // Why a session ended is written when it is over, and may be what the test fails for.
            let _is_told = kill_process(self.process.pid, Signal::TERM);
            let _is_gone = self.process.end_within(LAST_WORDS);
        }
        self.process.kill();
        let _is_empty = kill_process_group(self.group, Signal::KILL);
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        if thread::panicking() {
            show(&self.report());
        }
    }
}

/// How long a gateway of a test that has failed gets to write what it knows.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a child inherits is a matter of the whole process: alone where there is something.
fn spawn(command: &mut Command, given: &[OwnedFd]) -> io::Result<Child> {
    if given.is_empty() {
        let _with_others = SPAWNING.read().unwrap_or_else(PoisonError::into_inner);
        return command.spawn();
    }
    let _alone = SPAWNING.write().unwrap_or_else(PoisonError::into_inner);
    for descriptor in given {
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    let child = command.spawn();
    for descriptor in given {
        fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
    }
    child
}

static SPAWNING: RwLock<()> = RwLock::new(());

/// A request and its answer.
fn ask<S: Read + Write>(socket: io::Result<S>, request: &str) -> String {
    let mut socket = socket.expect("the admin listener is open");
    socket.write_all(request.as_bytes()).expect("the admin listener reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the admin listener answers");
    answer
}

impl Process {
    fn new(pid: Pid) -> Self {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("the process runs");
        Self { pid, pidfd, is_over: false }
    }

    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// # Panics
    /// When the process is gone already.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the process runs");
    }

    /// # Panics
    /// When it does not end by itself within `limit`.
    pub fn wait_exit(mut self, limit: Duration) -> ExitStatus {
        let status = self.end_within(limit);
        status.unwrap_or_else(|| panic!("process {} did not end within {limit:?}", self.id()))
    }

    fn end_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let timeout = Timespec::try_from(limit).expect("a limit that fits");
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let ended = poll(&mut watched, Some(&timeout)).expect("a pidfd can be polled");
        (ended == 1).then(|| self.reap())
    }

    fn reap(&mut self) -> ExitStatus {
        self.is_over = true;
        // One whose parent drains becomes our child when that ends.
        let deadline = Deadline::after(PATIENCE);
        loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return ExitStatus::from_raw(status.as_raw()),
                Ok(None) | Err(Errno::INTR) => {}
                Err(Errno::CHILD) if !deadline.is_over() => thread::park_timeout(POLL),
                Err(error) => panic!("process {} is nobody's: {error}", self.id()),
            }
        }
    }

    fn kill(&mut self) {
        if !self.is_over {
            let _is_gone = kill_process(self.pid, Signal::KILL);
            self.is_over = true;
            let _is_reaped = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Output {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }

    fn read_stdout(self: &Arc<Self>, stdout: ChildStdout) -> JoinHandle<()> {
        let output = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                output.update(|seen| seen.take(line));
            }
            output.update(|seen| seen.ended += 1);
        })
    }

    fn read_stderr(self: &Arc<Self>, stderr: ChildStderr) -> JoinHandle<()> {
        let output = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                output.update(|seen| seen.other += &(line + "\n"));
            }
            output.update(|seen| seen.ended += 1);
        })
    }
}

impl Seen {
    fn take(&mut self, line: String) {
        if line.split_whitespace().next() == Some("ready") {
            self.ready = Some(line);
        } else if let (true, Ok(value)) = (line.starts_with('{'), serde_json::from_str(&line)) {
            self.access.push(value);
        } else {
            self.other += &(line + "\n");
        }
    }
}

#[expect(clippy::print_stderr, reason = "libtest captures it and shows it with the failure")]
fn show(report: &str) {
    eprintln!("{report}");
}

const CONFIG: &str = "portcullis.toml";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A shell script in the place of the gateway.
    fn script(directory: &TempDir, text: &str) -> PathBuf {
        let path = directory.path().join("gateway.sh");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[test]
    fn a_ready_gateway_is_read_and_terminated() {
        let directory = TempDir::new().unwrap();
        let binary = script(
            &directory,
            r#"trap 'echo "{\"n\":2}"; exit 7' TERM
               test "$1 $2" = 'run -c' && cat "$3" && echo
               echo 'ready listener.edge=127.0.0.1:40001 admin=127.0.0.1:40002'
               echo '{"n":1}'
               mkfifo wait; while :; do read line < wait; done"#,
        );
        let gateway = Gateway::start(binary, "workers = 1");
        assert_eq!(gateway.addr("edge").port(), 40001);
        assert_eq!(gateway.admin().port(), 40002);
        assert_eq!(gateway.wait_access(PATIENCE, |line| line["n"] == 1)["n"], 1);
        assert!(gateway.other_output().contains("workers = 1"));
        assert_eq!(gateway.terminate().code(), Some(7));
    }

    #[test]
    fn a_gateway_that_ends_early_is_reported_with_its_words() {
        let directory = TempDir::new().unwrap();
        let binary = script(&directory, "echo 'no such listener' >&2; exit 1");
        let panic = std::panic::catch_unwind(|| Gateway::start(binary, "")).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(message.contains("ended before the ready line"), "{message}");
        assert!(message.contains("no such listener"), "{message}");
    }
}
