//! The admin endpoint of a gateway that runs: what it shows of sessions, what its orders do, and that no
//! secret is on any of its pages.

use std::process::Command;

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, close_write, eventually, read_to_end, round_trip,
};
use serde_json::Value;

use crate::support::{BINARY, Config, NAME, Pki};

/// A page as JSON.
fn page(gateway: &Gateway, path: &str) -> Value {
    let (status, body) = gateway.admin_get(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The answer to an order as JSON, with its status.
fn order(gateway: &Gateway, path: &str) -> (u16, Value) {
    let (status, body) = gateway.admin_order(path);
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn sessions_are_listed_on_whatever_worker_they_are_and_leave_the_list() {
    let (pki, echo) = (Pki::new(), PlainEcho::start());
    let gateway = Config::new(2)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echo.address()], "")
        .start();
    let mut sessions: Vec<_> = (0..5).map(|_| pki.connect(&gateway)).collect();
    for session in &mut sessions {
        assert_eq!(round_trip(session, b"hello").unwrap(), b"hello");
    }
    let silent = std::net::TcpStream::connect(gateway.addr("edge")).unwrap();
    let listed = eventually(PATIENCE, "all to be listed", || {
        let listed = page(&gateway, "/connections");
        (listed["connections"].as_array().map(Vec::len) == Some(6)).then_some(listed)
    });
    assert_eq!((&listed["open"], &listed["next"]), (&6.into(), &Value::Null));
    let rows = listed["connections"].as_array().unwrap();
    let row = rows.iter().find(|row| row["phase"] == "relaying").unwrap();
    assert_eq!((&row["server_name"], &row["chain"]), (&NAME.into(), &"default".into()));
    assert_eq!(
        (&row["client"], &row["listener"]),
        (&"uri:spiffe://test/alice".into(), &"edge".into())
    );
    assert_eq!((&row["bytes_received"], &row["bytes_sent"]), (&5.into(), &5.into()));
    assert_eq!(row["upstream"], echo.address().to_string());
    let waiting = rows.iter().find(|row| row["phase"] == "hello").unwrap();
    assert_eq!(waiting["source"], silent.local_addr().unwrap().to_string());
    drop(silent);

    // Page by page.
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let some = page(&gateway, &format!("/connections?limit=2&chain=default{after}"));
        let rows = some["connections"].as_array().unwrap();
        assert!(rows.len() <= 2, "{some}");
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        match some["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    assert_eq!(page(&gateway, "/connections?listener=side")["connections"], Value::Array(vec![]));

    for mut session in sessions {
        close_write(&mut session).unwrap();
        assert_eq!(read_to_end(&mut session).unwrap(), b"");
    }
    gateway.settled();
    assert_eq!(page(&gateway, "/connections")["connections"], Value::Array(vec![]));
}

#[test]
fn bytes_and_times_are_counted_while_a_session_lives() {
    let (pki, echo) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echo.address()).start();
    let mut session = pki.connect(&gateway);
    assert_eq!(round_trip(&mut session, &[7; 1_000]).unwrap(), [7; 1_000]);
    let metrics = gateway.metrics();
    for direction in ["received", "sent"] {
        let labels = [("chain", "default"), ("direction", direction)];
        assert_eq!(metrics.sum("portcullis_bytes_total", &labels), 1_000, "{direction}");
    }
    let count = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels);
    assert_eq!(count("portcullis_handshake_seconds_count", &[("resumed", "false")]), 1);
    assert_eq!(count("portcullis_handshake_seconds_count", &[("resumed", "true")]), 0);
    assert_eq!(count("portcullis_upstream_first_byte_seconds_count", &[("cluster", "app")]), 1);
    assert_eq!(count("portcullis_connection_life_seconds_count", &[]), 0);
    let stats = page(&gateway, "/stats");
    assert_eq!(stats["chains"][0]["bytes_sent"], 1_000);
    assert_eq!(stats["process"]["sessions_open"], 1);
    close_write(&mut session).unwrap();
    assert_eq!(read_to_end(&mut session).unwrap(), b"");
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_connection_life_seconds_count", &[("listener", "edge")]), 1);
}

#[test]
fn a_reload_that_is_asked_for_answers_with_what_it_changed() {
    let (pki, echo) = (Pki::new(), PlainEcho::start());
    let config = Config::edge(&pki, echo.address());
    // Nothing reloads but what is ordered.
    let unwatched =
        |config: &Config| config.to_string().replace("runtime = {", "runtime = { watch = false,");
    let before = config.clone().table("[limits]\nconnections = 1_000");
    let gateway = Gateway::start(BINARY, &unwatched(&before));
    let (status, same) = order(&gateway, "/reload");
    assert_eq!((status, &same["generation"]), (200, &2.into()), "{same}");
    assert_eq!(
        (&same["changes"]["key_count"], &same["changes"]["file_count"]),
        (&0.into(), &0.into())
    );

    let after = config
        .listener("side", "")
        .chain("side", "default", "cluster = \"app\"")
        .table("[limits]\nconnections = 1_000\nhandshakes_per_second = 900");
    gateway.rewrite(&unwatched(&after));
    let (status, changed) = order(&gateway, "/reload");
    assert_eq!((status, &changed["generation"]), (200, &3.into()), "{changed}");
    let keys: Vec<_> = changed["changes"]["keys"].as_array().unwrap().iter().collect();
    assert_eq!(keys.len(), 2, "{changed}");
    assert_eq!(
        (&keys[0]["key"], &keys[0]["after"]),
        (&"limits.handshakes_per_second".into(), &900.into())
    );
    assert_eq!((&keys[1]["key"], &keys[1]["is"]), (&"listener.side".into(), &"new".into()));
    assert_eq!(changed["opened"][0]["listener"], "side");
    let address = changed["opened"][0]["address"].as_str().unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok(), "{address}");
    let listeners = page(&gateway, "/listeners");
    assert_eq!(listeners["listeners"][1]["address"], address);

    // The same files, another certificate.
    let other = pki.ca.server(&[NAME, "renewed.test"]);
    std::fs::copy(&other.key_path, &pki.server.key_path).unwrap();
    std::fs::copy(&other.chain_path, &pki.server.chain_path).unwrap();
    let (status, renewed) = order(&gateway, "/reload");
    assert_eq!(status, 200, "{renewed}");
    let files = renewed["changes"]["files"].as_array().unwrap();
    // The watch may have been quicker: then there is nothing left to change.
    let was_watched = page(&gateway, "/certs").to_string().contains("renewed.test");
    assert!(was_watched && (files.is_empty() || files[0]["kind"] == "server"), "{renewed}");
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test]
fn a_reload_that_fails_answers_with_every_mistake_and_changes_nothing() {
    let (pki, echo) = (Pki::new(), PlainEcho::start());
    let config = Config::edge(&pki, echo.address());
    let gateway = config.start();
    gateway.rewrite(&config.clone().table("[limits]\nconections = 1\nmemmory = 2").to_string());
    let (status, told) = order(&gateway, "/reload");
    assert_eq!((status, &told["problem_count"]), (422, &2.into()), "{told}");
    let problem = &told["problems"][0];
    assert_eq!(problem["key"], "limits.conections");
    assert_eq!(problem["help"], "did you mean `connections`?");
    assert!(problem["line"].as_u64().unwrap() > 1 && problem["file"].is_string(), "{problem}");
    assert_eq!(gateway.generation(), 1);
    assert_eq!(page(&gateway, "/config")["generation"], 1);
}

#[test]
fn a_drain_that_is_asked_for_waits_for_sessions_and_ends_the_process() {
    let (pki, echo) = (Pki::new(), PlainEcho::start());
    let mut gateway = Config::edge(&pki, echo.address()).start();
    let mut session = pki.connect(&gateway);
    assert_eq!(round_trip(&mut session, b"hello").unwrap(), b"hello");
    let (status, told) = order(&gateway, "/drain");
    assert_eq!((status, &told["draining"]), (200, &true.into()));
    drop(session);
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn the_log_says_more_until_the_next_reload() {
    let (pki, echo) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echo.address()).start();
    let (status, told) = order(&gateway, "/log?level=debug");
    assert_eq!((status, &told["level"]), (200, &"debug".into()));
    gateway.wait_log(&["WARN", "log level was set"]);
    assert_eq!(order(&gateway, "/log?level=error").0, 200);
    assert_eq!(order(&gateway, "/reload").0, 200);
    // As the file has it.
    gateway.wait_log(&["INFO", "configuration reloaded", "generation=2"]);
}

#[test]
fn no_page_shows_a_secret() {
    // threat 46
    let pki = Pki::new();
    let echo = PlainEcho::start();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("stek.root");
    let init = Command::new(BINARY).args(["stek", "init"]).arg(&root).output().unwrap();
    assert!(init.status.success(), "{init:?}");
    let roots = std::fs::read_to_string(&root).unwrap();
    let config = Config::edge(&pki, echo.address())
        .table(&format!(
            "[session_tickets]\nsource = {{ root = {:?} }}",
            root.display().to_string()
        ))
        .cluster(
            "probed",
            &[echo.address()],
            "health = { type = \"script\", send = \"AUTH sesame\\r\\n\", expect = \"+OK\" }",
        );
    let gateway = Gateway::start(BINARY, &config.to_string());
    let key = std::fs::read_to_string(&pki.server.key_path).unwrap();
    let words = roots.lines().filter(|line| !line.starts_with('#'));
    let words = words.flat_map(str::split_whitespace).filter(|word| word.len() > 20);
    let lines = key.lines().filter(|line| !line.starts_with('-'));
    let secrets: Vec<&str> = lines.chain(words).chain(["sesame", "PRIVATE KEY"]).collect();
    assert!(secrets.len() > 4, "{roots}\n{key}");
    for path in PAGES {
        let (status, body) = gateway.admin_get(path);
        assert_eq!(status, 200, "{path}: {body}");
        for secret in &secrets {
            assert!(!body.contains(secret), "{path} shows {secret}");
        }
    }
    let config = page(&gateway, "/config");
    assert_eq!(config["config"]["session_tickets"]["source"]["root"], root.display().to_string());
    let digests = gateway.admin_get("/metrics").1;
    for kind in ["configuration", "server", "client_ca", "trust", "ticket_keys"] {
        assert!(digests.contains(&format!("portcullis_content_info{{kind=\"{kind}\"")), "{kind}");
    }
}

#[test]
fn pages_are_served_by_a_thread_of_their_own() {
    let (pki, echo) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echo.address()).start();
    // The admin endpoint has a thread of its own.
    let task = format!("/proc/{}/task", gateway.pid());
    // A thread gives itself its name, once it runs, and others come and go.
    eventually(PATIENCE, "a thread of this name", || {
        let threads = std::fs::read_dir(&task).unwrap();
        let names = threads.flatten().map(|one| std::fs::read_to_string(one.path().join("comm")));
        names.flatten().any(|name| name.trim() == "admin").then_some(())
    });
}

const PAGES: [&str; 13] = [
    "/",
    "/app.js",
    "/style.css",
    "/stats",
    "/listeners",
    "/clusters",
    "/connections",
    "/certs",
    "/trust",
    "/tickets",
    "/config",
    "/metrics",
    "/readyz",
];
