//! Breaks out, or tries to: a child process gives up what the gateway gives up, and then does whatever
//! somebody would who has taken it over. Each attempt must fail, and what is allowed must work.
//!
//! The child is this program again: rights that are given up do not come back, so no other test may run
//! in it.
#![expect(
    clippy::unwrap_used,
    reason = "test code: what breaks fails the test at once, where it broke"
)]

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use portcullis::sys::privileges::{self, Identity, Kept};
use portcullis::sys::sandbox::{self, Entered, Right, Sandbox};
use portcullis_kit::missing;
use tempfile::TempDir;

#[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
#[path = "sandbox/calls.rs"]
mod calls;

/// Where the child finds what it may use.
const DIRECTORY: &str = "PORTCULLIS_TEST_SANDBOX";

// threat 45
#[test]
fn who_is_in_the_sandbox_opens_and_starts_nothing_else() {
    in_child("who_is_in_the_sandbox_opens_and_starts_nothing_else", |directory| {
        let mut sandbox = Sandbox::new().unwrap();
        let allow = [("read", Right::Read), ("log", Right::Write), ("socket", Right::Socket)];
        for (name, right) in allow {
            assert!(sandbox.allow(&directory.join(name), &[right]).unwrap(), "{name}");
        }
        assert!(!sandbox.allow(&directory.join("missing"), &[Right::Read]).unwrap());
        privileges::give_up(None, Kept { files: true, ..Kept::default() }).unwrap();
        assert!(!sandbox::is_inside());
        if sandbox.enter().unwrap() == Entered::No {
            missing("Landlock", "run this test on a kernel that has it");
            return;
        }

        let read = |name: &str| fs::read_to_string(directory.join(name));
        assert_eq!(read("read/file").unwrap(), "readable");
        assert_eq!(read("read/link").unwrap(), "readable");
        assert_eq!(fs::read_dir(directory.join("read")).unwrap().count(), 3);
        let log = directory.join("log/access.log");
        let append = || OpenOptions::new().append(true).create(true).open(&log);
        append().unwrap().write_all(b"a line\n").unwrap();
        // logrotate renames it, from outside, and the log is opened anew.
        append().unwrap().write_all(b"a line\n").unwrap();
        let path = directory.join("socket/admin");
        drop(UnixListener::bind(&path).unwrap());
        fs::remove_file(&path).unwrap();

        for (what, result) in [
            ("a password file", File::open("/etc/shadow").map(drop)),
            ("the list of users", File::open("/etc/passwd").map(drop)),
            ("a link that leads out", read("read/out").map(drop)),
            ("a file beside", read("secret").map(drop)),
            ("the directory above", fs::read_dir(directory).map(drop)),
            ("the home of root", fs::read_dir("/root").map(drop)),
            ("a file to write where it may read", fs::write(directory.join("read/new"), "")),
            ("a file to write beside", fs::write(directory.join("new"), "")),
            ("a file to write below /tmp", fs::write("/tmp/portcullis-broken-out", "")),
            ("a device", OpenOptions::new().write(true).open("/dev/zero").map(drop)),
            ("a log to remove", fs::remove_file(&log)),
            ("a log to move away", fs::rename(&log, directory.join("read/log"))),
            (
                "a link to what is secret",
                fs::hard_link(directory.join("secret"), directory.join("log/s")),
            ),
            ("a directory", fs::create_dir(directory.join("log/directory"))),
            ("a socket elsewhere", UnixListener::bind(directory.join("log/socket")).map(drop)),
            ("a shell", Command::new("/bin/sh").arg("-c").arg("exit 0").status().map(drop)),
            ("this program", Command::new(env::current_exe().unwrap()).status().map(drop)),
            ("a signal", kill_parent()),
        ] {
            let error = result.expect_err(what);
            // EXDEV is what a rename gets that would change what may be done with a file.
            let is_refused = error.kind() == ErrorKind::PermissionDenied
                || error.kind() == ErrorKind::CrossesDevices;
            assert!(is_refused, "{what}: {error}");
        }
        assert!(sandbox::is_inside());
        // Whatever is started from here on is in it too.
        let thread = std::thread::spawn(|| File::open("/etc/passwd").map(drop));
        assert_eq!(thread.join().unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
    });
}

// threat 45
#[test]
fn who_has_given_up_root_is_root_no_more() {
    if !is_root() {
        missing("root", "run this test as root");
        return;
    }
    in_child("who_has_given_up_root_is_root_no_more", |directory| {
        let (user, group) = (privileges::user("nobody").unwrap().unwrap().0, 65_534);
        let identity = Identity::new(user, group);
        privileges::give_up(Some(identity), Kept { low_ports: true, files: false }).unwrap();
        assert_eq!(status("Uid:"), format!("{user} {user} {user} {user}"));
        assert_eq!(status("Gid:"), "65534 65534 65534 65534");
        assert_eq!(status("Groups:"), "");
        // 10 is to listen on low ports (capabilities(7)).
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(status(set), "0000000000000400", "{set}");
        }
        assert_eq!(status("NoNewPrivs:"), "1");
        let refused = |what: &str, result: Result<(), nix::errno::Errno>| {
            assert_eq!(result, Err(nix::errno::Errno::EPERM), "{what}");
        };
        let (root, no_group) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
        refused("setuid", nix::unistd::setuid(root));
        refused("seteuid", nix::unistd::seteuid(root));
        refused("setresuid", nix::unistd::setresuid(root, root, root));
        refused("setgid", nix::unistd::setgid(no_group));
        refused("setgroups", nix::unistd::setgroups(&[no_group]));
        let error = chown(directory.join("log"), Some(0), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = File::open(directory.join("secret")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        // A program that makes its caller root does not do so here.
        let id = Command::new("setpriv").args(["--reuid=0", "id", "-u"]).output().unwrap();
        assert!(!id.status.success(), "{id:?}");
        // A second time, as the process that takes over an upgrade does it.
        privileges::give_up(Some(identity), Kept { low_ports: true, files: false }).unwrap();
        privileges::give_up(None, Kept::default()).unwrap();
        assert_eq!(status("CapPrm:"), "0000000000000000");
        assert_eq!(status("CapAmb:"), "0000000000000000");
    });
}

#[test]
fn a_process_without_root_cannot_become_another_and_says_so() {
    in_child("a_process_without_root_cannot_become_another_and_says_so", |_| {
        let nobody = privileges::user("nobody").unwrap().unwrap().0;
        if is_root() {
            privileges::give_up(Some(Identity::new(nobody, 65_534)), Kept::default()).unwrap();
        }
        let error = privileges::give_up(Some(Identity::new(1, 1)), Kept::default()).unwrap_err();
        assert!(matches!(error, privileges::GiveUpError::NotRoot), "{error}");
    });
}

// threat 46
#[test]
fn memory_is_hidden_and_no_dump_is_written() {
    in_child("memory_is_hidden_and_no_dump_is_written", |_| {
        privileges::hide_memory().unwrap();
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
        let behaviour = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behaviour, rustix::process::DumpableBehavior::NotDumpable);
    });
}

#[test]
fn users_and_groups_are_found_by_name_and_number() {
    assert_eq!(privileges::user("root").unwrap(), Some((0, Some(0))));
    assert_eq!(privileges::user("0").unwrap(), Some((0, Some(0))));
    assert_eq!(privileges::user("4294967000").unwrap(), Some((4_294_967_000, None)));
    assert_eq!(privileges::user("no such user").unwrap(), None);
    assert_eq!(privileges::group("root").unwrap(), Some(0));
    assert_eq!(privileges::group("7").unwrap(), Some(7));
    assert_eq!(privileges::group("no such group").unwrap(), None);
}

#[test]
fn the_loader_and_the_c_library_are_what_this_program_runs_on() {
    let libraries = sandbox::libraries();
    let has = |start: &str| {
        libraries.iter().any(|path| path.file_name().unwrap().to_string_lossy().starts_with(start))
    };
    assert!(has("ld-") && has("libc."), "{libraries:?}");
}

/// Runs `work` in a process of its own, in which no other thread is.
fn in_child(test: &str, work: impl FnOnce(&Path)) {
    if let Some(directory) = env::var_os(DIRECTORY) {
        work(Path::new(&directory));
        return;
    }
    let directory = prepared();
    let Output { status, stdout, stderr } = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(said.contains("1 passed") && status.success(), "{status}\n{said}");
    said.lines().filter(|line| line.contains("SKIPPED")).for_each(say);
}

/// A directory that everybody may enter, and in it what the child looks for.
fn prepared() -> TempDir {
    let directory = TempDir::with_prefix("portcullis-sandbox-").unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["read", "log", "socket"] {
        fs::create_dir(path(name)).unwrap();
        if is_root() {
            chown(path(name), Some(65_534), Some(65_534)).unwrap();
        }
    }
    fs::write(path("read/file"), "readable").unwrap();
    std::os::unix::fs::symlink("file", path("read/link")).unwrap();
    fs::write(path("secret"), "not readable").unwrap();
    fs::set_permissions(path("secret"), PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("../secret", path("read/out")).unwrap();
    directory
}

fn kill_parent() -> io::Result<()> {
    let parent = rustix::process::getppid().unwrap();
    // No signal at all: only whether one may be sent.
    Ok(rustix::process::test_kill_process(parent)?)
}

/// Of /proc/self/status, with single spaces.
fn status(key: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Not through `println!`, which libtest would swallow.
fn say(line: &str) {
    io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}
