//! What the command line says when it cannot do what it was asked: all of it, with places and help.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output};

use portcullis_kit::{PATIENCE, within};
use tempfile::TempDir;

use crate::support::{BINARY, Config, Pki};

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs a command that ends by itself, with a file `gateway.toml` in its directory.
fn run(mut command: Command, config: &str) -> Said {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("gateway.toml"), config).unwrap();
    command.current_dir(directory.path());
    let Output { status, stdout, stderr } =
        within(PATIENCE, "the command", move || command.output().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn portcullis(words: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.args(words.split_whitespace());
    command
}

/// A configuration that works, on this address.
fn listening_on(pki: &Pki, address: &str) -> String {
    Config::edge(pki, (Ipv4Addr::LOCALHOST, 9).into()).to_string().replacen(
        "[listener.edge]\naddress = \"127.0.0.1:0\"",
        &format!("[listener.edge]\naddress = \"{address}\""),
        1,
    )
}

/// The examples of `--help`, up to those that go on by themselves, one after the other beside the samples.
#[test]
fn the_examples_of_help_work_as_they_stand() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("config")).unwrap();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml");
    fs::copy(sample, directory.path().join("config/minimal.toml")).unwrap();
    let help = String::from_utf8(portcullis("--help").output().unwrap().stdout).unwrap();
    let examples = help.lines().filter_map(|line| line.strip_prefix("  portcullis "));
    // What an example is for stands behind two spaces.
    let mut examples = examples.map(|line| line.split("  ").next().unwrap());
    assert_eq!(examples.next(), Some("demo"));
    let mut tried = Vec::new();
    for example in examples.take_while(|example| !example.starts_with("run ")) {
        let mut command = portcullis(example);
        command.current_dir(directory.path());
        let output = within(PATIENCE, example, move || command.output().unwrap());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{example}: {stderr}");
        tried.extend(example.split(' ').next());
    }
    assert_eq!(tried, ["pki", "pki", "pki", "check", "explain"]);
}

#[test]
fn check_prints_every_mistake_at_once_with_its_place() {
    let config = r#"[listener.edge]
adress = "127.0.0.1:0"
timeouts = { hello = "5" }

[listener.edge.chain.default]
tls = "nothing"
cluster = "app"

[cluster.app]
endpoints = ["127.0.0.1"]
pool = { ready_min = 5, ready_max = 1 }
"#;
    for command in ["check", "run"] {
        let said = run(portcullis(&format!("{command} -c gateway.toml")), config);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert_eq!(said.stdout, "");
        for place in [
            "gateway.toml:2:1: ",
            "gateway.toml:3:22: ",
            "gateway.toml:6:7: ",
            "gateway.toml:10:14: ",
        ] {
            assert!(said.stderr.contains(place), "{place} in\n{}", said.stderr);
        }
        assert!(said.stderr.contains("problems found"), "{}", said.stderr);
    }
}

#[test]
fn check_names_files_that_are_missing_with_the_line_that_names_them() {
    let pki = Pki::new();
    let config = listening_on(&pki, "127.0.0.1:0")
        .replace(&pki.server.key_path.display().to_string(), "missing.key")
        .replace(&pki.ca.ca_path().display().to_string(), "missing.crt");
    let said = run(portcullis("check -c gateway.toml"), &config);
    assert_eq!(said.code, Some(1));
    for file in ["missing.key", "missing.crt"] {
        assert!(said.stderr.contains(file), "{file} in\n{}", said.stderr);
    }
    assert!(said.stderr.contains("2 problems found"), "{}", said.stderr);
}

#[test]
fn check_is_content_with_what_run_would_take() {
    let pki = Pki::new();
    let said = run(portcullis("check -c gateway.toml"), &listening_on(&pki, "127.0.0.1:0"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("is valid: 1 listener, 1 filter chain, 1 cluster"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for command in ["check", "run"] {
        let said = run(portcullis(&format!("{command} -c other.toml")), "");
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("other.toml"), "{}", said.stderr);
    }
}

#[test]
fn an_address_in_use_is_named_with_the_place_and_what_to_do() {
    let pki = Pki::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = run(portcullis("run -c gateway.toml"), &listening_on(&pki, &address));
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains(&format!("cannot listen on {address}")), "{}", said.stderr);
    assert!(said.stderr.contains("ss -ltnp"), "{}", said.stderr);
    assert!(!said.stdout.contains("ready"), "{}", said.stdout);
}

#[test]
fn a_second_gateway_on_the_same_port_is_refused() {
    let pki = Pki::new();
    let first = Config::edge(&pki, (Ipv4Addr::LOCALHOST, 9).into()).start();
    let config = listening_on(&pki, &first.addr("edge").to_string());
    let said = run(portcullis("run -c gateway.toml"), &config);
    assert_eq!(said.code, Some(1), "SO_REUSEPORT would let both listen\n{}", said.stderr);
    first.settled();
}

#[test]
fn a_privileged_port_without_the_right_is_explained() {
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if first_free.is_ok_and(|port| port.trim().parse::<u32>().is_ok_and(|port| port < 2)) {
        // Not through `println!`, which libtest would swallow.
        writeln!(std::io::stderr(), "SKIPPED: no port is privileged here").unwrap();
        return;
    }
    let pki = Pki::new();
    let mut command = Command::new("setpriv");
    // Where the test may bind such ports itself, the right is taken from the gateway.
    if rustix::process::geteuid().is_root() {
        command.args(["--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]);
    }
    command.args([BINARY, "run", "-c", "gateway.toml"]);
    let said = run(command, &listening_on(&pki, "127.0.0.1:1"));
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("cannot listen on 127.0.0.1:1"), "{}", said.stderr);
    assert!(said.stderr.contains("CAP_NET_BIND_SERVICE"), "{}", said.stderr);
}

#[test]
fn directories_to_write_in_that_are_missing_are_told_at_their_place() {
    let pki = Pki::new();
    let config = listening_on(&pki, "127.0.0.1:0");
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    assert!(config.contains(admin), "{config}");
    let socket = config.replace(admin, "[admin]\nlisten = \"unix:gone/admin.sock\"\n");
    let log = format!("{config}[access_log]\npath = \"gone/access.log\"\n");
    let folder = format!("{config}[access_log]\npath = \".\"\n");
    for (config, key, help) in [
        (&socket, "admin.listen: the admin server cannot listen on", "make the directory"),
        (&log, "access_log.path: the access log cannot be written", "make the directory"),
        (&folder, "access_log.path: the access log cannot be written", "path of a file"),
    ] {
        for command in ["check", "run"] {
            let said = run(portcullis(&format!("{command} -c gateway.toml")), config);
            assert_eq!(said.code, Some(1), "{command}: {}", said.stderr);
            assert!(said.stderr.contains("gateway.toml:"), "{command}: {}", said.stderr);
            assert!(said.stderr.contains(key), "{command}: {}", said.stderr);
            assert!(said.stderr.contains(help), "{command}: {}", said.stderr);
        }
    }
}

#[test]
fn two_listeners_that_overlap_are_told_before_anything_is_bound() {
    let pki = Pki::new();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let config = format!(
        "{}[listener.all]\naddress = \"0.0.0.0:{port}\"\n\
         [listener.all.chain.raw]\nmatch = {{ transport = \"raw\" }}\ncluster = \"app\"\n",
        listening_on(&pki, &format!("127.0.0.1:{port}"))
    );
    let said = run(portcullis("run -c gateway.toml"), &config);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("overlaps with the address of listener"), "{}", said.stderr);
    assert!(!said.stderr.contains("another process"), "{}", said.stderr);
}

#[test]
fn without_a_command_the_help_is_shown_and_nothing_is_in_colours() {
    let bare = run(portcullis(""), "");
    assert_eq!((bare.code, &*bare.stdout), (Some(2), ""));
    assert!(bare.stderr.contains("Usage: portcullis <COMMAND>"), "{}", bare.stderr);
    let version = run(portcullis("--version"), "");
    assert_eq!(version.code, Some(0));
    assert_eq!(version.stdout, concat!("portcullis ", env!("CARGO_PKG_VERSION"), "\n"));
    for words in ["", "--help", "run --help", "run", "check -c gateway.toml"] {
        let said = run(portcullis(words), "wrong = 1");
        let all = said.stdout + &said.stderr;
        assert!(!all.is_empty() && !all.contains('\u{1b}'), "{words}: {all:?}");
    }
}
