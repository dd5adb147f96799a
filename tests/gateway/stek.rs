//! Several nodes, one set of ticket keys: processes that share a root resume each other's sessions, and
//! what an operator does with `portcullis stek` is what the nodes do after it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, close_write, connect_tls, read_to_end, round_trip, within,
};
use rustls::{ClientConfig, HandshakeKind};
use tempfile::TempDir;

use crate::support::{BINARY, Config, NAME, Pki};

/// One authority, one upstream, and a folder for key files.
struct Fleet {
    pki: Pki,
    echoes: PlainEcho,
    folder: TempDir,
}

impl Fleet {
    fn new() -> Self {
        Self { pki: Pki::new(), echoes: PlainEcho::start(), folder: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text of a configuration with these keys.
    fn config(&self, source: &str) -> Config {
        let table = format!("[session_tickets]\nsource = {source}");
        Config::edge(&self.pki, self.echoes.address()).table(&table)
    }

    fn node(&self, source: &str) -> Gateway {
        self.config(source).start()
    }

    /// `portcullis stek` with a file of the folder as its last word.
    fn stek(&self, words: &str, file: &str) -> String {
        let (ok, said) = portcullis(words, &self.path(file));
        assert!(ok, "{words} {file}: {said}");
        said
    }

    fn clients(&self) -> [Arc<ClientConfig>; 2] {
        [self.pki.client().only_tls12().build(), self.pki.client().only_tls13().build()]
    }
}

fn portcullis(words: &str, file: &Path) -> (bool, String) {
    let mut command = Command::new(BINARY);
    command.args(words.split_whitespace()).arg(file);
    let Output { status, stdout, stderr } =
        within(PATIENCE, "the command", move || command.output().unwrap());
    (status.success(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

fn root(path: &Path) -> String {
    format!("{{ root = {path:?} }}")
}

/// A whole session; whether it was resumed.
fn resumes(node: &Gateway, client: &Arc<ClientConfig>) -> bool {
    let mut stream = connect_tls(node.addr("edge"), NAME, client).unwrap();
    // Reading the answer also reads the ticket for the next session.
    assert_eq!(round_trip(&mut stream, b"to and fro").unwrap(), b"to and fro");
    let kind = stream.conn.handshake_kind().unwrap();
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    kind == HandshakeKind::Resumed
}

#[test]
fn nodes_with_one_root_resume_each_others_sessions_and_after_a_restart() {
    let fleet = Fleet::new();
    fleet.stek("stek init", "stek.root");
    // Each node has a copy of its own, as a fleet has.
    fs::copy(fleet.path("stek.root"), fleet.path("copy.root")).unwrap();
    let first = fleet.node(&root(&fleet.path("stek.root")));
    let second = fleet.node(&root(&fleet.path("copy.root")));
    for client in fleet.clients() {
        assert!(!resumes(&first, &client));
        for node in [&second, &first, &second] {
            assert!(resumes(node, &client));
        }
    }
    first.settled();
    assert!(first.terminate().success());
    let [client, _] = fleet.clients();
    assert!(!resumes(&second, &client));
    let restarted = fleet.node(&root(&fleet.path("stek.root")));
    assert!(resumes(&restarted, &client));
    let line = restarted.wait_access(PATIENCE, |line| line["tls"]["resumed"] == true);
    assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
    second.settled();
    restarted.settled();
}

// threat 21
#[test]
fn nodes_with_different_roots_or_random_keys_resume_nothing_of_each_other() {
    let fleet = Fleet::new();
    fleet.stek("stek init", "one.root");
    fleet.stek("stek init", "two.root");
    let nodes = [
        fleet.node(&root(&fleet.path("one.root"))),
        fleet.node(&root(&fleet.path("two.root"))),
        fleet.node("\"auto\""),
        fleet.node("\"auto\""),
    ];
    for client in fleet.clients() {
        for node in &nodes {
            assert!(!resumes(node, &client));
            assert!(resumes(node, &client), "its own tickets it takes");
        }
    }
    for node in nodes {
        node.settled();
    }
}

#[test]
fn a_rotation_of_the_root_costs_no_client_its_session() {
    let fleet = Fleet::new();
    fleet.stek("stek init", "stek.root");
    fs::copy(fleet.path("stek.root"), fleet.path("old.root")).unwrap();
    fleet.stek("stek rotate", "stek.root");
    let behind = fleet.node(&root(&fleet.path("old.root")));
    let ahead = fleet.node(&root(&fleet.path("stek.root")));
    for client in fleet.clients() {
        assert!(!resumes(&behind, &client));
        assert!(resumes(&ahead, &client) && resumes(&behind, &client));
    }
    behind.settled();
    ahead.settled();
}

// threat 21
#[test]
fn a_revocation_makes_every_ticket_worthless_at_the_next_start() {
    let fleet = Fleet::new();
    fleet.stek("stek init", "stek.root");
    let source = root(&fleet.path("stek.root"));
    let before = fleet.node(&source);
    for client in fleet.clients() {
        assert!(!resumes(&before, &client));
        assert!(resumes(&before, &client));
        fleet.stek("stek rotate --revoke", "stek.root");
        let after = fleet.node(&source);
        assert!(!resumes(&after, &client));
        assert!(resumes(&after, &client));
        after.settled();
    }
    before.settled();
}

// threat 21
#[test]
fn a_revocation_makes_every_ticket_worthless_on_a_node_that_runs_on() {
    let fleet = Fleet::new();
    fleet.stek("stek init", "stek.root");
    let node = fleet.node(&root(&fleet.path("stek.root")));
    for client in fleet.clients() {
        assert!(!resumes(&node, &client));
        assert!(resumes(&node, &client));
    }
    let clients = fleet.clients();
    for client in &clients {
        assert!(!resumes(&node, client));
    }
    // The file is watched: no signal.
    fleet.stek("stek rotate --revoke", "stek.root");
    node.wait_log(&["session ticket keys changed"]);
    for client in &clients {
        assert!(!resumes(&node, client));
        assert!(resumes(&node, client));
    }
    // A file that cannot be used changes nothing.
    fs::write(fleet.path("stek.root"), "half").unwrap();
    node.signal(rustix::process::Signal::HUP);
    node.wait_log(&["not reloaded", "stek.root"]);
    for client in &clients {
        assert!(resumes(&node, client));
    }
    node.settled();
}

#[test]
fn nodes_with_the_files_of_nginx_and_the_list_of_haproxy_resume_each_others_sessions() {
    let fleet = Fleet::new();
    let names = ["next.key", "current.key", "previous.key"];
    let mut lines = Vec::new();
    for name in names {
        // As the pages of nginx and HAProxy say it.
        let file = fleet.path(name);
        let shell = format!("umask 077; openssl rand 80 > {file:?}; openssl base64 -A < {file:?}");
        let Output { status, stdout, .. } =
            Command::new("sh").args(["-c", &shell]).output().unwrap();
        assert!(status.success());
        lines.insert(0, String::from_utf8(stdout).unwrap());
    }
    let list = fleet.path("haproxy.keys");
    fs::write(&list, lines.join("\n") + "\n").unwrap();
    fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).unwrap();
    let paths: Vec<_> = names.iter().map(|name| format!("{:?}", fleet.path(name))).collect();
    let [next, current, previous] = [&paths[0], &paths[1], &paths[2]];
    let nginx = fleet.node(&format!("{{ keys = [{next}, {current}, {previous}] }}"));
    let haproxy = fleet.node(&format!("{{ keys = [{list:?}] }}"));
    // A node that is a rotation behind, and one that has thrown the key away.
    let behind = fleet.node(&format!("{{ keys = [{current}, {previous}] }}"));
    let without = fleet.node(&format!("{{ keys = [{next}] }}"));
    for client in fleet.clients() {
        assert!(!resumes(&nginx, &client));
        for node in [&haproxy, &behind, &nginx] {
            assert!(resumes(node, &client));
        }
        assert!(!resumes(&without, &client));
    }
    for node in [nginx, haproxy, behind, without] {
        node.settled();
    }
}

// threat 21
#[test]
fn unsound_key_files_are_told_with_all_else_that_is_wrong() {
    let fleet = Fleet::new();
    fleet.stek("stek init", "stek.root");
    let path = fleet.path("stek.root");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let gone = fleet.path("gone.crt");
    let ca = fleet.pki.ca.ca_path().display().to_string();
    let config = fleet.config(&root(&path)).to_string().replace(&ca, gone.to_str().unwrap());
    let file = fleet.path("gateway.toml");
    fs::write(&file, config).unwrap();
    for command in ["check -c", "run -c"] {
        let (ok, said) = portcullis(command, &file);
        assert!(!ok);
        assert!(said.contains("session_tickets.source.root: "), "{said}");
        assert!(said.contains("has mode 0644") && said.contains("chmod 0600"), "{said}");
        assert!(said.contains("gone.crt") && said.contains("2 problems found"), "{said}");
    }
}

// threat 46
#[test]
fn no_word_of_a_node_or_a_command_holds_a_secret() {
    let fleet = Fleet::new();
    let mut said = fleet.stek("stek init", "stek.root");
    said += &fleet.stek("stek rotate", "stek.root");
    let text = fs::read_to_string(fleet.path("stek.root")).unwrap();
    let config = fleet.config(&root(&fleet.path("stek.root"))).table("[log]\nlevel = \"trace\"\n");
    let node = config.start();
    for client in fleet.clients() {
        resumes(&node, &client);
        resumes(&node, &client);
    }
    said += &fs::read_to_string(node.config_path()).unwrap();
    let (ok, status) = portcullis("stek status --json -c", &node.config_path());
    assert!(ok, "{status}");
    said += &status;
    said += &node.admin_get("/metrics").1;
    node.settled();
    said += &node.access_log().iter().map(ToString::to_string).collect::<String>();
    said += &node.other_output();
    assert!(said.contains("stek.root"));
    let secrets = text.lines().filter(|line| !line.starts_with('#'));
    let secrets: Vec<_> = secrets.filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(secrets.len(), 2);
    for secret in secrets {
        assert!(!said.contains(&secret[..10]), "{said}");
    }
}
