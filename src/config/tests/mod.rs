//! Tests of the whole way from text to plan, and of what is said when there is none.
//!
//! `mistakes.txt` has, for each mistake that people make, the text and all that is printed for it.

mod includes;
mod properties;
mod trust;

use std::path::Path;

use super::error::Problem;
use super::load_text;
use super::plan::{ClientAuth, Io, Plan, TrustId, Workers};
use super::render::{Style, render_with};

/// What a text needs beside what it is about; lines are counted before it.
const NAMES: &str = r#"
[tls.downstream.edge]
certificates = [{ chain = "edge.crt", key = "edge.key" }]
trust = "clients"
[trust.clients]
anchors = ["ca.crt"]
[cluster.echo]
endpoints = ["127.0.0.1:7000"]
"#;

const LISTENER: &str = r#"
[listener.base]
address = "127.0.0.1:0"
chain.default = { cluster = "echo" }
"#;

#[test]
fn mistakes_are_explained_as_recorded() {
    let cases = include_str!("mistakes.txt");
    let mut recorded = String::new();
    for case in cases.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').expect("a title ends with its line");
        let text = rest.split("--- \n").next().unwrap_or(rest);
        let text = text.split("---\n").next().unwrap_or(text);
        recorded.push_str(&format!("=== {title}\n{text}---\n{}", explained(text)));
    }
    if recorded != cases {
        let actual = std::env::temp_dir().join("mistakes.txt");
        std::fs::write(&actual, &recorded).expect("can be written");
        let differs = recorded.lines().zip(cases.lines()).find(|(actual, wanted)| actual != wanted);
        panic!("not as recorded: {differs:#?}\nwhole: {}", actual.display());
    }
}

#[test]
fn values_that_say_the_default_are_taken() {
    let plan = plan(
        r#"
        [runtime]
        io = "epoll"
        [session_tickets]
        source = "auto"
        [cluster.c]
        endpoints = [{ address = "127.0.0.1:1", weight = 1 }]
        sources = []
        discovery = "static"
        limits = { connections = 0, pending = 0 }
        [listener.l]
        address = "127.0.0.1:0"
        chain.default = { cluster = "c" }
        "#,
    );
    assert_eq!(plan.clusters.len(), 2);
}

#[test]
fn every_key_is_documented() {
    for key in super::keys() {
        assert!(!key.doc.is_empty(), "{} has no comment", key.key);
    }
}

#[test]
fn defaults_are_safe() {
    let plan = plan("");
    assert_eq!((plan.runtime.workers, plan.runtime.io), (Workers::Auto, Io::Epoll));
    assert!(plan.admin.is_none());
    assert_eq!(plan.limits.connections.map(usize::from), Some(100_000));
    assert_eq!(plan.downstream_tls[0].client_auth, ClientAuth::Require(TrustId(0)));
    assert_eq!(plan.downstream_tls[0].tickets_sent, 1);
}

#[test]
fn zero_turns_a_limit_off() {
    let plan = plan("[limits]\nconnections = 0\nhandshakes_in_flight = 0\n");
    assert_eq!((plan.limits.connections, plan.limits.handshakes_in_flight), (None, None));
}

#[test]
fn the_memory_limit_is_a_size_and_zero_is_none() {
    let memory = |text: &str| plan(text).limits.memory.map(std::num::NonZeroU64::get);
    assert_eq!(memory("[limits]\nmemory = \"1GiB\"\n"), Some(1 << 30));
    assert_eq!(memory("[limits]\nmemory = \"0B\"\n"), None);
    assert_eq!(memory(""), None);
}

#[test]
fn limits_of_sources_chains_and_time_are_off_until_they_are_written() {
    let text = |limit: u32| {
        format!(
            "[limits]\nhandshakes_per_second = {limit}\n[listener.l]\naddress = \"127.0.0.1:0\"\n\
             limits = {{ connections_per_source = {limit}, \
             handshakes_per_second_per_source = {limit} }}\n[listener.l.chain.c]\n\
             cluster = \"echo\"\nlimits = {{ handshakes_per_second = {limit} }}\n"
        )
    };
    let limits = |text: &str| {
        let plan = plan(text);
        let listener = &plan.listeners[0];
        [
            plan.limits.handshakes_per_second,
            listener.connections_per_source,
            listener.handshakes_per_second_per_source,
            listener.chains[0].limits.handshakes_per_second,
        ]
        .map(|limit| limit.map_or(0, std::num::NonZeroU32::get))
    };
    assert_eq!(limits(""), [0; 4]);
    assert_eq!(limits(&text(0)), [0; 4]);
    assert_eq!(limits(&text(7)), [7; 4]);
}

#[test]
fn ids_point_to_what_the_names_mean() {
    let plan = plan(
        r#"
        [listener.l]
        address = "[::1]:0"
        chain.z = { cluster = "b", match = { server_names = ["z.example"] } }
        chain.a = { cluster = "echo", tls = "edge", match = { server_names = ["a.example"] } }
        [cluster.b]
        endpoints = ["127.0.0.1:2"]
        "#,
    );
    let chains = &plan.listeners[0].chains;
    assert_eq!(&*chains[0].name, "a", "chains are in name order");
    assert_eq!(&*plan.cluster(chains[0].clusters[0].cluster).name, "echo");
    assert_eq!(&*plan.cluster(chains[1].clusters[0].cluster).name, "b");
    assert_eq!(&*plan.downstream_tls(chains[0].tls.expect("is there")).name, "edge");
    assert_eq!(chains[1].tls, None);
}

#[test]
fn rendering_obeys_no_control_characters_and_cuts_long_lines() {
    let names = vec!["\"a.example\""; 500].join(", ");
    let text = format!("[log]\nlevel = \"\\u001b[2J\u{202e}\"\nx = [{names}]\n");
    let shown = explained(&text);
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() < 250), "{shown}");
}

#[test]
fn files_that_are_not_utf8_say_where() {
    let directory = tempfile::tempdir().expect("can be made");
    let path = directory.path().join("latin1.toml");
    std::fs::write(&path, b"[log]\nlevel = \"\xe4\"\n").expect("can be written");
    let problems = super::load(&path).expect_err("is not UTF-8");
    assert_eq!((problems[0].at.line, problems[0].at.column), (2, 10));
    let missing = super::load(&directory.path().join("none.toml")).expect_err("is not there");
    assert!(missing[0].message.starts_with("cannot be read: "), "{}", missing[0]);
    let folder = super::load(directory.path()).expect_err("is a directory");
    assert_eq!(folder[0].help, "write the path of a file in it", "{}", folder[0]);
}

#[test]
fn of_many_mistakes_in_the_syntax_the_first_are_told() {
    let yaml = "listeners:\n  edge: yes\n".repeat(20);
    for (file, is_told) in [("gateway.yaml", true), ("gateway.toml", false)] {
        let problems = load_text(&yaml, Path::new(file)).expect_err("no TOML");
        assert_eq!(problems.len(), 11, "{problems:?}");
        assert_eq!(problems[0].help.contains("written in TOML"), is_told, "{problems:?}");
        assert!(problems[10].message.ends_with(" more mistakes in the syntax"), "{problems:?}");
    }
}

/// 100,000 tenants on one port, in one list on one line: the time must not grow with the square.
/// (Places are found by counting characters from the one before: 0.4 s of CPU in a debug build, and
/// 4.3 s when each was counted from the start of the line.)
#[test]
fn a_hundred_thousand_names_on_one_line_load() {
    let names: Vec<String> = (0..100_000).map(|i| format!("\"t{i}.example.com\"")).collect();
    let names = names.join(", ");
    let plan = plan(&format!(
        "[listener.edge]\naddress = \"127.0.0.1:0\"\n[listener.edge.chain.all]\n\
         match = {{ server_names = [{names}] }}\ncluster = \"echo\"\n"
    ));
    assert_eq!(plan.listeners[0].chains[0].matches.server_names.len(), 100_000);
}

/// The text of a whole configuration: `text`, and what it lacks.
#[test]
fn no_more_protocols_than_a_hello_has_room_for() {
    let terms = |count: usize| {
        let alpn: Vec<_> = (0..count).map(|number| format!("{number:0>255}")).collect();
        format!(
            "[tls.upstream.many]\nserver_name = \"x.test\"\ntrust = \"clients\"\nalpn = {alpn:?}\n{LISTENER}"
        )
    };
    assert_eq!(plan(&terms(64)).upstream_tls[0].alpn.len(), 64);
    let problems = problems(&terms(65));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("65 protocols, more than 64"), "{problems:?}");
}

fn whole(text: &str) -> String {
    let listener = if text.contains("listener.") { "" } else { LISTENER };
    format!("{text}{listener}{NAMES}")
}

fn plan(text: &str) -> Plan {
    load_text(&whole(text), Path::new("test.toml"))
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn problems(text: &str) -> Vec<Problem> {
    load_text(&whole(text), Path::new("test.toml")).expect_err("something is wrong")
}

fn explained(text: &str) -> String {
    render_with(&problems(text), Style::Plain, |_| Some(whole(text)))
}
