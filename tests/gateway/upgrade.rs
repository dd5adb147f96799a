//! Another process in the place of the one that serves, by SIGUSR2: nobody is refused or cut, tickets
//! stay good, and what fails leaves everything as it was.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, TlsStream, close_write, connect_plain, connect_tls, eventually,
    missing, read_to_end, round_trip,
};
use rustix::process::{Pid, Signal, getuid, kill_process};
use rustls::HandshakeKind;
use tempfile::TempDir;

use crate::support::{BINARY, Config, NAME, Pki, assert_same, free_address, pattern};

fn talk(stream: &mut TlsStream) {
    assert_eq!(round_trip(stream, b"hello").unwrap(), b"hello");
}

fn end(mut stream: TlsStream) {
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

/// Listeners, each with a chain `default` to the cluster `app`.
fn config(workers: u16, pki: &Pki, listeners: &[&str], upstream: SocketAddr) -> Config {
    // Who is idle when its process lets go is closed within the spread.
    let drain = r#"{ grace = "5s", spread = "10s", deadline = "15s" }"#;
    let config = Config::with_drain(workers, drain).mutual(pki, "").cluster("app", &[upstream], "");
    listeners.iter().fold(config, |config, name| {
        config.listener(name, "").chain(name, "default", "tls = \"edge\"\ncluster = \"app\"")
    })
}

/// A gateway that is called by a link, and where the link is.
fn by_link(config: &str) -> (Gateway, std::path::PathBuf) {
    let directory = TempDir::with_prefix("portcullis-upgrade-").unwrap();
    let link = directory.path().join("portcullis");
    symlink(BINARY, &link).unwrap();
    (Gateway::start_as(Command::new(&link), directory, config), link)
}

/// Puts a shell script in the place of the program.
fn replace(link: &Path, script: &str, mode: u32) {
    let new = link.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(new, link).unwrap();
}

#[test] // threat 37
fn upgrades_under_load_refuse_and_cut_nobody_and_sessions_resume() {
    let (pki, echoes) = (Arc::new(Pki::new()), PlainEcho::start());
    // The number of workers differs from process to process. In a short spread the turn of a session that
    // is idle for a moment may come in just that moment.
    let text = |workers| {
        let text = config(workers, &pki, &["edge"], echoes.address()).to_string();
        let (short, long) = ("\"10s\", deadline = \"15s\"", "\"1h\", deadline = \"2h\"");
        assert!(text.contains(short), "{text}");
        text.replace(short, long)
    };
    let mut gateway = Gateway::start(BINARY, &text(2));
    let edge = gateway.addr("edge");
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|seed| {
            let (pki, is_over) = (Arc::clone(&pki), Arc::clone(&is_over));
            thread::spawn(move || {
                let client = pki.client().build();
                let (mut sessions, mut full) = (0, 0);
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream = connect_tls(edge, NAME, &client).unwrap();
                    let sent = pattern(seed, 4 * 1024);
                    assert_same(&round_trip(&mut stream, &sent).unwrap(), &sent, "a session");
                    full += u64::from(stream.conn.handshake_kind() == Some(HandshakeKind::Full));
                    end(stream);
                    sessions += 1;
                }
                (sessions, full)
            })
        })
        .collect();
    let mut before = pki.connect(&gateway);
    talk(&mut before);
    for workers in [4, 1, 3, 2] {
        gateway.rewrite(&text(workers));
        let old = gateway.upgrade();
        // A scrape that comes in the moment of the change may still be answered by the old process.
        eventually(PATIENCE, "the pages of the new process", || {
            let by_worker = gateway.metrics().each("portcullis_worker_connections_open");
            (by_worker.len() == usize::from(workers)).then_some(())
        });
        if workers == 4 {
            // A session of the old process goes on in it, as long as it moves.
            let sent = pattern(9, 256 * 1024);
            assert_same(&round_trip(&mut before, &sent).unwrap(), &sent, "a session of before");
            close_write(&mut before).unwrap();
            assert_eq!(read_to_end(&mut before).unwrap(), b"");
        }
        assert_eq!(old.wait_exit(PATIENCE).code(), Some(0), "every session ended by itself");
        // Each queue of the first process is still served by somebody.
        let mut many: Vec<_> = (0..24).map(|_| pki.connect(&gateway)).collect();
        many.iter_mut().for_each(talk);
        many.into_iter().for_each(end);
    }
    is_over.store(true, Ordering::Relaxed);
    let results: Vec<(u64, u64)> =
        clients.into_iter().map(|thread| thread.join().unwrap()).collect();
    println!("sessions and full handshakes of each client over four upgrades: {results:?}");
    assert!(results.iter().all(|(sessions, full)| *sessions > 5 && *full == 1), "{results:?}");
    assert!(gateway.access_log().iter().all(|line| line["outcome"] == "closed"));
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test] // threat 37
fn a_configuration_that_is_wrong_leaves_the_old_process_serving_and_says_why() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let good = config(2, &pki, &["edge"], echoes.address());
    let good = good.table("").to_string().replace("runtime = {", "runtime = { watch = false,");
    let mut gateway = Gateway::start(BINARY, &good);
    let (pid, mut held) = (gateway.pid(), pki.connect(&gateway));
    talk(&mut held);
    for (attempts, bad) in
        [(1, "[limits]\nconections = 1"), (2, "[trust.x]\nanchors = [\"no.crt\"]")]
    {
        gateway.rewrite(&format!("{good}\n{bad}"));
        gateway.signal(Signal::USR2);
        let said = if attempts == 1 { "conections" } else { "no.crt" };
        gateway.wait_log(&[
            "not upgraded",
            "serves on",
            "could not start",
            "portcullis.toml:",
            said,
        ]);
        let page = gateway.page("/process");
        assert_eq!((&page["process"], &page["readiness"]), (&pid.into(), &"ready".into()));
        assert_eq!(
            (&page["upgrade"]["attempts"], &page["upgrade"]["is_running"]),
            (&attempts.into(), &false.into())
        );
        assert!(page["upgrade"]["error"].as_str().unwrap().contains(said), "{page}");
    }
    talk(&mut held);
    end(pki.connect(&gateway));
    // What was wrong is mended: the next attempt is as good as the first.
    gateway.rewrite(&good);
    end(held);
    let old = gateway.upgrade();
    assert_eq!(old.wait_exit(PATIENCE).code(), Some(0));
    end(pki.connect(&gateway));
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test] // threat 37
fn a_program_that_crashes_hangs_or_is_none_leaves_the_old_process_serving() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let text = config(1, &pki, &["edge"], echoes.address()).to_string();
    // A script is started by another program, which the sandbox keeps closed.
    let within = |deadline| {
        let keys = format!("sandbox = \"off\", upgrade_deadline = \"{deadline}\",");
        text.replace("runtime = {", &format!("runtime = {{ {keys}"))
    };
    let (mut gateway, link) = by_link(&within("2s"));
    let mut held = pki.connect(&gateway);
    let started = link.with_file_name("started");
    let hang = format!(
        "echo $$ > {0}.tmp; mv {0}.tmp {0}; while :; do read line || exit; done",
        started.display()
    );
    for (script, mode, said) in [
        ("exit 7", 0o755, "exit status: 7"),
        ("kill -SEGV $$", 0o755, "SIGSEGV"),
        ("exit 0", 0o644, "executable, and in the sandbox"),
        (&hang, 0o755, "not ready within 2s"),
    ] {
        replace(&link, script, mode);
        gateway.signal(Signal::USR2);
        gateway.wait_log(&["not upgraded", said]);
        talk(&mut held);
        end(pki.connect(&gateway));
    }
    // Nothing of it is left.
    let hung = fs::read_to_string(&started).unwrap();
    assert!(!Path::new(&format!("/proc/{}", hung.trim())).exists());
    fs::remove_file(&link).unwrap();
    gateway.signal(Signal::USR2);
    gateway.wait_log(&["not upgraded", "could not be started", "No such file"]);
    symlink(BINARY, &link).unwrap();
    end(held);
    // What is no script may need longer, on a busy machine.
    gateway.reload(&within("20s"));
    let old = gateway.upgrade();
    assert_eq!(old.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test] // threat 37
fn the_command_upgrades_and_says_what_came_of_it() {
    let (pki, echoes, directory) = (Pki::new(), PlainEcho::start(), TempDir::new().unwrap());
    let port = free_address();
    let text = Config::edge(&pki, echoes.address()).to_string();
    let text =
        text.replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{port}\""));
    let text = text.replace("runtime = {", "runtime = { watch = false,");
    let mut gateway = Gateway::start(BINARY, &text);
    let upgrade = |file: &Path| {
        let output = Command::new(BINARY).args(["upgrade", "-c"]).arg(file).output().unwrap();
        let said = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
        (output.status.code(), said)
    };
    // What the command finds right need not be right for the process: its program is told otherwise.
    let (file, other) = (gateway.config_path(), directory.path().join("other.toml"));
    fs::write(&other, &text).unwrap();
    let before = gateway.pid();
    gateway.rewrite(&format!("{text}\n[limits]\nconections = 1"));
    let (code, said) = upgrade(&other);
    assert_eq!(code, Some(1), "{said}");
    for words in
        ["not upgraded", &format!("process {before} serves on"), "portcullis.toml", "conections"]
    {
        assert!(said.contains(words), "{words} in {said}");
    }
    gateway.rewrite(&text);
    let (code, said) = upgrade(&file);
    assert_eq!(code, Some(0), "{said}");
    let old = gateway.changed();
    let after = gateway.pid();
    assert_eq!(said, format!("upgraded: process {after} serves, process {before} drains\n"));
    assert_eq!(old.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!(gateway.terminate().code(), Some(0));
    let (code, said) = upgrade(&other);
    assert_eq!(code, Some(1));
    for words in ["no process was found", &port.to_string(), "nobody answers there"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    fs::write(&other, text.replace(&format!("[admin]\nlisten = \"{port}\""), "")).unwrap();
    let (code, said) = upgrade(&other);
    assert_eq!(code, Some(1));
    assert!(said.contains("no [admin] table") && said.contains("SIGUSR2"), "{said}");
}

#[test] // threat 37
fn who_is_told_to_end_in_an_upgrade_ends_the_new_process_too() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let text = Config::edge(&pki, echoes.address()).to_string();
    // As above: a script.
    let text = text.replace("runtime = {", "runtime = { sandbox = \"off\",");
    let (mut gateway, link) = by_link(&text);
    let started = link.with_file_name("started");
    replace(
        &link,
        &format!(
            "echo $$ > {0}.tmp; mv {0}.tmp {0}; while :; do read line || exit; done",
            started.display()
        ),
        0o755,
    );
    gateway.signal(Signal::USR2);
    let hung = eventually(PATIENCE, "the new process", || fs::read_to_string(&started).ok());
    gateway.signal(Signal::USR2);
    gateway.wait_log(&["SIGUSR2 changed nothing", "under way already"]);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
    assert!(!Path::new(&format!("/proc/{}", hung.trim())).exists());
    assert!(connect_plain(gateway.addr("edge")).is_err());
}

#[test] // threat 37
fn the_first_process_of_a_container_which_would_end_with_it_serves_on() {
    let mut container = vec!["--pid", "--fork", "--kill-child"];
    if !getuid().is_root() {
        container.extend(["--user", "--map-current-user"]);
    }
    let made = Command::new("unshare").args(&container).arg("true").output();
    if !made.is_ok_and(|made| made.status.success()) {
        return missing(
            "unshare --pid",
            "apt install util-linux, and be root or allow user namespaces",
        );
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let text = Config::edge(&pki, echoes.address()).to_string();
    let mut command = Command::new("unshare");
    command.args(&container).arg(BINARY);
    let mut gateway = Gateway::start_as(command, TempDir::new().unwrap(), &text);
    let children = format!("/proc/{0}/task/{0}/children", gateway.pid());
    let first = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let first = Pid::from_raw(first).unwrap();
    kill_process(first, Signal::USR2).unwrap();
    gateway.wait_log(&["not upgraded", "serves on", "first process of a container"]);
    end(pki.connect(&gateway));
    kill_process(first, Signal::TERM).unwrap();
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
}

#[test] // threat 37
fn listeners_that_come_and_go_with_an_upgrade_are_bound_and_closed() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let mut gateway = config(2, &pki, &["edge", "side"], echoes.address()).start();
    let side = gateway.addr("side");
    gateway.rewrite(&config(2, &pki, &["edge", "new"], echoes.address()).to_string());
    let old = gateway.upgrade();
    gateway.wait_log(&["nobody listens any more on", "side"]);
    end(pki.connect(&gateway));
    assert_eq!(old.wait_exit(PATIENCE).code(), Some(0));
    assert!(connect_plain(side).is_err(), "nobody listens there any more");
    let new = gateway.ready_address("new");
    end(connect_tls(new, NAME, &pki.client().build()).unwrap());
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test] // threat 37
fn a_unix_socket_of_the_admin_pages_changes_hands_with_its_file() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("admin.sock");
    let text = Config::edge(&pki, echoes.address()).to_string();
    let text = text.replace(
        "[admin]\nlisten = \"127.0.0.1:0\"",
        &format!("[admin]\nlisten = \"unix:{}\"", socket.display()),
    );
    let mut gateway = Gateway::start(BINARY, &text);
    let first = gateway.page("/process")["process"].clone();
    // One that has the socket already when it cannot start leaves it where it is.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let more = format!("[listener.more]\naddress = \"{address}\"\n[listener.more.chain.default]");
    gateway.rewrite(&format!("{text}\n{more}\ncluster = \"app\"\n"));
    gateway.signal(Signal::USR2);
    gateway.wait_log(&["not upgraded", "could not start", "listener.more"]);
    assert_eq!(gateway.page("/process")["process"], first);
    gateway.rewrite(&text);
    let old = gateway.upgrade();
    assert_eq!(old.wait_exit(PATIENCE).code(), Some(0));
    assert!(socket.metadata().unwrap().file_type().is_socket(), "the old one leaves the file");
    let page = gateway.page("/process");
    assert_ne!(page["process"], first);
    assert_eq!(gateway.terminate().code(), Some(0));
    assert!(!socket.exists(), "the last one removes it");
}
