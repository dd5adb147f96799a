//! What single flags and signals promise: whose tickets are spent, which server is believed, what is told by
//! a run that is ended early. Runs the real binary.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test: by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use support::{Peer, Pki, load, path};

#[test]
fn clients_of_their_own_keep_their_own_tickets() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let out = pki.file("own.json");
    for version in ["1.3", "1.2"] {
        let ran = pki.run(
            &peer,
            &[
                "run",
                "--quiet",
                "--conns",
                "2",
                "--warmup",
                "300ms",
                "--duration",
                "700ms",
                "--tickets",
                "per-client",
                "--clients",
                "4",
                "--resume",
                "1",
                "--tls",
                version,
                "--after",
                "echo:2",
                "--close",
                "rst",
                "--out",
                path(&out),
            ],
        );
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        let result = pki.json("own.json");
        assert_eq!(result["counts"]["errors"], 0, "{}", result["errors"]);
        let got = result["resumed"]["got"].as_f64().unwrap();
        assert!(got > 0.8, "TLS {version}: {got} resumed");
    }
}

#[test]
fn a_server_is_verified_where_that_is_asked() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let peer = Peer::start(&pki, "echo");
    let own = pki.file("pki/pki.json");
    let own_ca = pki.file("pki/server-ca.crt");
    let other_ca = stranger.file("pki/server-ca.crt");
    let run = |more: &[&str]| {
        let short = ["run", "--quiet", "--conns", "1", "--warmup", "0s", "--duration", "200ms"];
        load()
            .args(short)
            .args(["--target", &peer.address, "--tenants-from", path(&own)])
            .args(more)
            .output()
            .unwrap()
    };
    for (flags, exit, word) in [
        (&["--verify-server", "on"][..], 0, ""),
        (&["--verify-server", "on", "--ca", path(&own_ca)], 0, ""),
        (&["--ca", path(&other_ca)], 1, "invalid peer certificate"),
        (&["--verify-server", "on", "--ca", path(&other_ca)], 1, "invalid peer certificate"),
        (&["--verify-server", "off", "--ca", path(&other_ca)], 0, ""),
        (&["--verify-server", "on", "--cheap-client"], 1, "--cheap-client"),
    ] {
        let ran = run(flags);
        assert_eq!(ran.status.code(), Some(exit), "{flags:?}: {ran:?}");
        let said = String::from_utf8(ran.stderr).unwrap() + &String::from_utf8(ran.stdout).unwrap();
        assert!(said.contains(word), "{flags:?}: {said}");
    }
    let without = load()
        .args(["stream", "--target", &peer.address, "--verify-server", "on"])
        .output()
        .unwrap();
    assert_eq!(without.status.code(), Some(1), "{without:?}");
    assert!(String::from_utf8_lossy(&without.stderr).contains("--ca PEM"), "{without:?}");
}

#[test]
fn what_is_ended_early_tells_what_it_knows() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    // Each is interrupted once it says that it is under way.
    let end_early = |arguments: &[&str], under_way: &str| {
        let mut child = load()
            .args(arguments)
            .args(["--target", &peer.address, "--sni", "t0.test", "--client-cert"])
            .arg(pki.file("pki/t0.test/clients/client-0000.crt"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let found = said.by_ref().any(|line| line.unwrap().contains(under_way));
        assert!(found, "{arguments:?} never said {under_way:?}");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let rest: Vec<String> = said.map(Result::unwrap).collect();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), rest.join("\n"))
    };
    let hold = ["hold", "--conns", "3", "--idle", "600s", "--reconnect-storm"];
    let (exit, told, rest) = end_early(&hold, "3 connections stand");
    assert_eq!(exit, Some(0), "{told} {rest}");
    assert!(told.contains("3 survived") && !told.contains("storm"), "{told}");

    let stream = ["stream", "--direction", "ping-pong", "--bytes", "1024g", "--streams", "2"];
    let (exit, told, rest) = end_early(&stream, "2 connections to");
    assert_eq!(exit, Some(0), "{told} {rest}");
    assert!(told.contains("0 broken, 2 unfinished"), "{told}");

    let attack = ["attack", "half-open", "-n", "3", "--patience", "600s"];
    let (exit, told, rest) = end_early(&attack, "HalfOpen against");
    assert_eq!(exit, Some(0), "{told} {rest}");
    assert!(told.contains("unfinished 3"), "{told}");

    let each = ["--warmup", "0s", "--duration", "4s", "--conns", "1", "--rounds", "100"];
    let ab = [&["ab", "--against", &peer.address][..], &each].concat();
    let (exit, told, rest) = end_early(&ab, "round 1 A");
    assert_eq!(exit, Some(1), "{told} {rest}");
    assert!(rest.contains("nothing to compare"), "{rest}");
    assert!(
        peer.counts()["accepted"].as_u64().unwrap() > 3,
        "the three that stood, and those of ab"
    );
}

#[test]
fn idle_connections_beyond_a_base_are_measured() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let out = pki.file("base.json");
    let pid = peer.pid().to_string();
    let hold = ["hold", "--base", "20", "--conns", "30", "--idle", "0s", "--server-pid", &pid];
    let ran = pki.run(&peer, &[&hold[..], &["--out", path(&out)]].concat());
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let result = pki.json("base.json");
    assert_eq!((&result["held"], &result["survived"]), (&50.into(), &50.into()));
    assert!(result["server_bytes_per_connection"].is_number(), "{result}");
}
