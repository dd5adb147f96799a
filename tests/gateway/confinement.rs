//! What a gateway has given up, seen from outside: in /proc, by another process of its user, and by what
//! a reload can reach.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use portcullis_kit::{
    Authority, Gateway, PlainEcho, close_write, is_root, missing, read_to_end, round_trip,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{BINARY, Config, NAME, Pki};

const NOBODY: u32 = 65_534;

/// A gateway that has become `nobody`, whose files are.
struct Fixture {
    pki: Pki,
    _echoes: PlainEcho,
    gateway: Gateway,
}

impl Fixture {
    fn new(directory: TempDir, runtime: &str, tables: &str) -> Self {
        let (pki, echoes) = (Pki::new(), PlainEcho::start());
        let config = Config::bare()
            .table(&format!("[runtime]\nworkers = 2\nuser = \"nobody\"\n{runtime}"))
            .table(tables)
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .mutual(&pki, "")
            .cluster("app", &[echoes.address()], "");
        let authority = pki.ca.ca_path().parent().unwrap();
        for path in files(authority).into_iter().chain(files(directory.path())) {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let gateway = Gateway::start_as(Command::new(BINARY), directory, &config.to_string());
        Self { pki, _echoes: echoes, gateway }
    }

    fn serves(&self) {
        let mut stream = self.pki.connect(&self.gateway);
        assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
        close_write(&mut stream).unwrap();
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    }

    /// Of each of its threads.
    fn status(&self, key: &str) -> Vec<String> {
        of_threads(&self.gateway, key)
    }
}

/// A line of the status of each thread.
fn of_threads(gateway: &Gateway, key: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let line = |path: PathBuf| {
        let status = fs::read_to_string(path.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    threads.map(|thread| line(thread.unwrap().path())).collect()
}

// threat 45
#[test]
fn a_gateway_serves_as_its_user_with_no_rights_in_any_thread() {
    if !is_root() {
        return;
    }
    let directory = TempDir::with_prefix("portcullis-gateway-").unwrap();
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n[access_log]\npath = \"access.log\"";
    let fixture = Fixture::new(directory, "sandbox = \"required\"", admin);
    fixture.serves();
    let nobody = format!("{NOBODY} {NOBODY} {NOBODY} {NOBODY}");
    for (key, expected) in [
        ("Uid:", nobody.as_str()),
        ("Gid:", &nobody),
        ("Groups:", ""),
        ("CapInh:", NO_CAPABILITY),
        ("CapPrm:", NO_CAPABILITY),
        ("CapEff:", NO_CAPABILITY),
        ("CapBnd:", NO_CAPABILITY),
        ("CapAmb:", NO_CAPABILITY),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", FILTERED),
    ] {
        let found = fixture.status(key);
        assert!(found.len() >= 4, "control, two workers, and the log: {found:?}");
        assert!(found.iter().all(|found| found == expected), "{key} {found:?}");
    }
    let log = fixture.gateway.config_path().with_file_name("access.log");
    assert!(fs::metadata(&log).is_ok(), "the access log was made by {NOBODY}");
    fixture.gateway.wait_log(&["can open files of its configuration"]);
    assert!(fixture.gateway.metrics().sum("portcullis_process_resident_memory_bytes", &[]) > 0);
}

// threat 45
#[test]
fn every_thread_is_filtered_after_an_upgrade_too_unless_the_sandbox_is_off() {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    if own.lines().any(|line| line.starts_with("Seccomp:") && !line.ends_with('0')) {
        return missing("a process without a filter", "a machine, or a container without seccomp");
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let text = Config::edge(&pki, echoes.address()).to_string();
    let serves = |gateway: &Gateway| {
        let mut stream = pki.connect(gateway);
        assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    };
    let mut gateway = Gateway::start(BINARY, &text);
    // Two programs for each process, one within the other.
    for filters in ["2", "4", "6"] {
        serves(&gateway);
        let found = of_threads(&gateway, "Seccomp:");
        assert!(found.len() >= 3 && found.iter().all(|found| found == FILTERED), "{found:?}");
        let counted = of_threads(&gateway, "Seccomp_filters:");
        assert!(counted.iter().all(|found| found == filters), "{counted:?}");
        gateway.wait_log(&["logs only", "landlock=", "seccomp=true"]);
        if filters != "6" {
            assert_eq!(gateway.upgrade().wait_exit(portcullis_kit::PATIENCE).code(), Some(0));
        }
    }
    let gateway =
        Gateway::start(BINARY, &text.replace("runtime = {", "runtime = { sandbox = \"off\","));
    serves(&gateway);
    let found = of_threads(&gateway, "Seccomp:");
    assert!(found.len() >= 3 && found.iter().all(|found| found == "0"), "{found:?}");
}

// threat 46
#[test]
fn nobody_reads_the_memory_of_a_gateway_not_even_its_user() {
    if !is_root() {
        return;
    }
    let directory = TempDir::with_prefix("portcullis-gateway-").unwrap();
    let fixture = Fixture::new(directory, "", "");
    fixture.serves();
    let pid = fixture.gateway.pid();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    for file in ["mem", "environ", "maps", "auxv"] {
        let Output { status, stderr, .. } =
            as_nobody(&["head", "-c1", &format!("/proc/{pid}/{file}")]);
        let said = String::from_utf8_lossy(&stderr);
        assert!(!status.success() && said.contains("Permission denied"), "{file}: {said}");
    }
    // That it is the gateway that hides, and not the kernel in any case.
    let sleeper = Command::new("setpriv").args(AS_NOBODY).args(["sleep", "60"]).spawn();
    let mut sleeper = sleeper.unwrap();
    let environ = format!("/proc/{}/environ", sleeper.id());
    portcullis_kit::eventually(portcullis_kit::PATIENCE, "a process to look at", || {
        as_nobody(&["head", "-c1", &environ]).status.success().then_some(())
    });
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

// threat 45
#[test]
fn a_reload_beyond_the_sandbox_is_refused_and_says_what_to_do() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echoes.address()).start();
    let before = gateway.generation();
    let elsewhere = Authority::new("Elsewhere");
    let mut other = elsewhere.server(&[NAME]);
    // Not below the directory of temporary files, which the gateway may read where it is nobody else's.
    let away = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for path in [&mut other.chain_path, &mut other.key_path] {
        let to = away.path().join(path.file_name().unwrap());
        fs::copy(&*path, &to).unwrap();
        *path = to;
    }
    let config = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .downstream("edge", &[&other], "trust = \"clients\"")
        .trust("clients", &pki.ca)
        .cluster("app", &[echoes.address()], "");
    gateway.rewrite(&config.to_string());
    gateway.signal(Signal::HUP);
    gateway.wait_log(&["help:", "restart the process"]);
    let said = gateway.wait_log(&["not reloaded", "outside of the sandbox"]);
    assert!(said.contains(&other.key_path.parent().unwrap().display().to_string()), "{said}");
    let mut stream = pki.connect(&gateway);
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    drop(stream);
    assert_eq!(gateway.generation(), before);
    // Beside what it may read, the same is no question.
    let moved = |from: &Path| {
        let name = from.file_name().unwrap().to_str().unwrap();
        let to = pki.ca.ca_path().with_file_name(format!("moved-{name}"));
        fs::copy(from, &to).unwrap();
        to.display().to_string()
    };
    let config = config
        .to_string()
        .replace(&other.chain_path.display().to_string(), &moved(&other.chain_path))
        .replace(&other.key_path.display().to_string(), &moved(&other.key_path));
    gateway.reload(&config);
}

#[test]
fn a_file_that_cannot_be_replaced_is_told_of_at_the_start() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let shared = tempfile::Builder::new().prefix("portcullis-shared-").tempfile_in("/tmp").unwrap();
    fs::copy(pki.ca.ca_path(), shared.path()).unwrap();
    let config = Config::edge(&pki, echoes.address()).to_string();
    let anchors = pki.ca.ca_path().display().to_string();
    let gateway = Gateway::start_as(
        Command::new(BINARY),
        TempDir::with_prefix("portcullis-gateway-").unwrap(),
        &config.replace(&anchors, &shared.path().display().to_string()),
    );
    let said = gateway.wait_log(&["a directory that the whole machine shares"]);
    assert!(said.contains("portcullis-shared-"), "{said}");
}

#[test]
fn a_user_that_is_not_there_is_told_at_its_place() {
    let directory = TempDir::new().unwrap();
    let (pki, file) = (Pki::new(), directory.path().join("gateway.toml"));
    let with = |runtime: &str| {
        let config = Config::bare().table(&format!("[runtime]\n{runtime}"));
        let config = config
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
            .mutual(&pki, "")
            .cluster("app", &[([127, 0, 0, 1], 9).into()], "");
        fs::write(&file, config.to_string()).unwrap();
        let mut said = Vec::new();
        for command in ["check", "run"] {
            let output = Command::new(BINARY).args([command, "-c"]).arg(&file).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            said.push(String::from_utf8(output.stderr).unwrap());
        }
        said
    };
    for said in with("user = \"no-such-user\"") {
        assert!(said.contains("there is no user \"no-such-user\""), "{said}");
        assert!(said.contains("useradd --system no-such-user") && said.contains(":2:8"), "{said}");
    }
    for said in with("user = \"root\"\ngroup = \"no-such-group\"") {
        assert!(said.contains("there is no group \"no-such-group\""), "{said}");
    }
    for said in with("group = \"root\"") {
        assert!(said.contains("a group without a user"), "{said}");
    }
}

#[test]
fn a_sandbox_that_is_required_is_there_or_nothing_is() {
    let strace = Command::new("strace").arg("--version").output();
    if !strace.is_ok_and(|output| output.status.success()) {
        return missing("strace", "apt install strace");
    }
    let (pki, directory) = (Pki::new(), TempDir::new().unwrap());
    let file = directory.path().join("gateway.toml");
    let config = Config::bare()
        .table("[runtime]\nsandbox = \"required\"")
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[([127, 0, 0, 1], 9).into()], "");
    fs::write(&file, config.to_string()).unwrap();
    // Kernels without either.
    for (call, message, help) in [
        ("landlock_create_ruleset", "this kernel has no Landlock", "lsm="),
        ("seccomp", "this process may not filter its system calls", "SystemCallFilter=seccomp"),
    ] {
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error=ENOSYS")])
            .args([BINARY, "run", "-c"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("\"required\", and") && said.contains(message), "{said}");
        assert!(said.contains(help), "{said}");
    }
}

/// SECCOMP_MODE_FILTER
const FILTERED: &str = "2";

const NO_CAPABILITY: &str = "0000000000000000";

const AS_NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

/// A start reads as its user, so `check` does too: root itself could read the key.
#[test]
fn check_reads_as_the_user_that_the_gateway_would_be() {
    if !is_root() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let (pki, file) = (Pki::new(), directory.path().join("gateway.toml"));
    let config = Config::bare()
        .table("[runtime]\nuser = \"nobody\"")
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[([127, 0, 0, 1], 9).into()], "");
    fs::write(&file, config.to_string()).unwrap();
    let authority = pki.ca.ca_path().parent().unwrap();
    let all = files(authority).into_iter().chain(files(directory.path()));
    let (keys, others): (Vec<_>, Vec<_>) =
        all.partition(|path| path.extension() == Some("key".as_ref()));
    let give = |paths: &[PathBuf]| {
        paths.iter().for_each(|path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap());
    };
    let check = || Command::new(BINARY).args(["check", "-c"]).arg(&file).output().unwrap();
    give(&others);
    let said = check();
    let error = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(1), "{error}");
    assert!(error.contains(".key: Permission denied"), "{error}");
    give(&keys);
    let said = check();
    assert!(said.status.success(), "{said:?}");
}

fn as_nobody(command: &[&str]) -> Output {
    Command::new("setpriv").args(AS_NOBODY).args(command).output().unwrap()
}

/// The directory, and all in it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    std::iter::once(directory.to_owned()).chain(entries).collect()
}
