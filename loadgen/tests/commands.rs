//! The commands against the generator's own test peer: both ends' counts agree, bytes survive,
//! attacks are reported, and results can be read again. Runs the real binary.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test: by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use portcullis_kit::ClosedPort;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use support::{Peer, Pki, load, path};

#[test]
fn both_ends_count_the_same() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let out = pki.file("run.json");
    let ran = pki.run(
        &peer,
        &[
            "run",
            "--quiet",
            "--conns",
            "4",
            "--warmup",
            "0s",
            "--duration",
            "1s",
            "--resume",
            "0.5",
            "--out",
            path(&out),
            "--server-pid",
            &peer.pid().to_string(),
        ],
    );
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let result = pki.json("run.json");
    let counts = peer.counts();
    // threat 50: without warm-up every attempt is in the result, and each echoed one byte. The last one of
    // each connection may come to its end when the time to measure is over.
    let all = |key: &str, counted: &str| {
        let (seen, said) =
            (counts[key].as_u64().unwrap(), result["counts"][counted].as_u64().unwrap());
        assert!((said..=said + 4).contains(&seen), "{key}: {counts}, {counted} {said}");
    };
    for key in ["accepted", "handshakes", "bytes_in", "bytes_out", "ended"] {
        all(key, "confirmed");
    }
    all("resumed", "resumed");
    assert!(result["server"]["rss"].as_u64().unwrap() > 0);
    assert_eq!(result["valid"], true, "{}", result["why"]);
}

#[test]
fn a_server_that_falls_silent_after_the_proof_is_counted_and_keeps_no_connection() {
    let pki = Pki::new();
    // Echoes one byte, which is the proof, and nothing for an hour.
    let silent = ["--slow-bytes", "1", "--slow-every", "1h"];
    let peer = Peer::start_with(&pki, "slow", &silent);
    let out = pki.file("run.json");
    let ran = pki.run(
        &peer,
        &[
            "run",
            "--quiet",
            "--conns",
            "2",
            "--warmup",
            "0s",
            "--duration",
            "3s",
            "--timeout",
            "300ms",
            "--after",
            "echo:2",
            "--out",
            path(&out),
        ],
    );
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let result = pki.json("run.json");
    assert!(result["late_errors"]["timeout"].as_u64().unwrap() >= 2, "{result}");
    assert!(result["counts"]["attempted"].as_u64().unwrap() > 2, "two clients go on: {result}");
}

#[test]
fn every_flawed_certificate_is_refused_and_no_good_one() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let out = pki.file("bad.json");
    let ran = load()
        .args(["run", "--quiet", "--conns", "2", "--warmup", "0s", "--duration", "1s"])
        .args(["--target", &peer.address, "--out", path(&out), "--tenants-from"])
        .arg(pki.file("pki/pki.json"))
        // Revocation is not checked by this peer.
        .args(["--bad-cert", "expired=0.1,not-yet-valid=0.1,wrong-eku=0.1,unknown-ca=0.1"])
        .args(["--no-client-cert", "0.1", "--fail-if", "wrongly_accepted>0"])
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let result = pki.json("bad.json");
    assert_eq!(result["counts"]["errors"], 0, "{}", result["errors"]);
    assert!(result["counts"]["refused"].as_u64().unwrap() > 10);
    assert!(result["refused"].as_object().unwrap().len() >= 3, "{}", result["refused"]);
}

#[test]
fn bytes_survive_in_every_direction() {
    let pki = Pki::new();
    let sessions = ["--sessions", "12", "--streams", "4", "--bytes", "300k"];
    for (mode, direction) in
        [("sink", "up"), ("source", "down"), ("echo", "duplex"), ("echo", "ping-pong")]
    {
        let peer = Peer::start(&pki, mode);
        let ran = pki.run(&peer, &[&["stream", "--direction", direction], &sessions[..]].concat());
        assert_eq!(ran.status.code(), Some(0), "{direction}: {ran:?}");
        assert!(String::from_utf8_lossy(&ran.stdout).contains("12 intact, 0 broken"));
    }
}

#[test]
fn a_rate_is_kept_by_whoever_sends() {
    let pki = Pki::new();
    let out = pki.file("rate.json");
    let flags = ["--bytes", "320k", "--write", "64k", "--rate", "512k", "--out", path(&out)];
    for (mode, direction, code) in [("sink", "up", 0), ("echo", "duplex", 0), ("source", "down", 1)]
    {
        let peer = Peer::start(&pki, mode);
        let ran = pki.run(&peer, &[&["stream", "--direction", direction], &flags[..]].concat());
        assert_eq!(ran.status.code(), Some(code), "{direction}: {ran:?}");
        if code == 0 {
            // The fifth write is due after 256 KiB; how much later it ends is the machine's affair.
            let seconds = pki.json("rate.json")["seconds"].as_f64().unwrap();
            assert!(seconds >= 0.5, "{direction}: {seconds}");
        }
    }
}

#[test]
fn bytes_of_the_wrong_peer_are_no_loss_on_the_way() {
    let pki = Pki::new();
    for (mode, direction, wanted) in
        [("echo", "up", "a sink"), ("echo", "down", "a source"), ("sink", "duplex", "an echo")]
    {
        let peer = Peer::start(&pki, mode);
        let ran = pki.run(&peer, &["stream", "--direction", direction, "--bytes", "100k"]);
        assert_eq!(ran.status.code(), Some(2), "{direction}: {ran:?}");
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(said.contains(&format!("is {wanted} (")), "{direction}: {said}");
    }
}

#[test]
fn lost_and_changed_bytes_are_found() {
    let pki = Pki::new();
    for mode in ["wrong", "source", "half-close", "rst"] {
        let peer = Peer::start(&pki, mode);
        let ran = pki.run(&peer, &["stream", "--bytes", "100k", "--timeout", "5s"]);
        assert_eq!(ran.status.code(), Some(2), "{mode}: {ran:?}");
    }
}

#[test]
fn blocks_that_change_places_are_found_after_a_handshake_too() {
    let pki = Pki::new();
    let target = swapping_echo(&pki, 1000).to_string();
    let out = pki.file("run.json");
    let ran = load()
        .args(["run", "--quiet", "--target", &target, "--conns", "1", "--warmup", "0s"])
        .args(["--duration", "500ms", "--timeout", "2s", "--after", "stream:1004", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let result = pki.json("run.json");
    assert!(result["late_errors"]["bad-data"].as_u64().unwrap() > 0, "{ran:?}\n{result}");
}

#[test]
fn an_end_without_close_notify_is_one_only_where_that_is_said() {
    let pki = Pki::new();
    let address = truncating_echo(&pki, 2).to_string();
    let stream = ["stream", "--direction", "ping-pong", "--bytes", "1k", "--write", "64"];
    for (flags, code) in [(&[][..], 2), (&["--unclean-end-ok"], 0)] {
        let ran = load().args(stream).args(flags).args(["--target", &address]).output().unwrap();
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
    }
}

/// An echo over TLS that ends its connections with FIN alone.
fn truncating_echo(pki: &Pki, connections: usize) -> SocketAddr {
    tls_server(pki, connections, |stream| {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..count]).unwrap();
        }
    })
}

/// An echo of the first byte, then of 1,004 bytes with their halves changed over.
fn swapping_echo(pki: &Pki, connections: usize) -> SocketAddr {
    tls_server(pki, connections, |stream| {
        let (mut first, mut bytes) = ([0; 1], [0; 1004]);
        if stream.read_exact(&mut first).is_ok() && stream.write_all(&first).is_ok() {
            // The client leaves at the first byte that is wrong.
            let _ = stream.read_exact(&mut bytes);
            bytes.rotate_left(502);
            let _ = stream.write_all(&bytes);
            let _ = stream.read(&mut bytes);
        }
    })
}

type Served = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

/// Serves so many connections one after the other, each ended with FIN alone.
fn tls_server(pki: &Pki, connections: usize, serve: fn(&mut Served)) -> SocketAddr {
    let chain = CertificateDer::pem_file_iter(pki.file("pki/t0.test/server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(pki.file("pki/t0.test/server.key")).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for _ in 0..connections {
            let (socket, _) = listener.accept().unwrap();
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, socket);
            serve(&mut stream);
            // The client may have gone first.
            let _ = stream.sock.shutdown(Shutdown::Both);
        }
    });
    address
}

/// As nginx ends a TLS connection to its upstream.
#[test]
fn a_sink_gives_its_receipt_for_an_end_without_close_notify_too() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "sink");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.file("pki/server-ca.crt")).unwrap()).unwrap();
    let client = pki.file("pki/t0.test/clients/client-0000.crt");
    let chain = CertificateDer::pem_file_iter(&client).unwrap();
    let key = PrivateKeyDer::from_pem_file(client.with_extension("key")).unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key)
        .unwrap();
    let name = "t0.test".try_into().unwrap();
    let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(&peer.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = rustls::StreamOwned::new(tls, socket);
    stream.write_all(&[7; 1000]).unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    let mut receipt = [0; 16];
    stream.read_exact(&mut receipt).unwrap();
    assert_eq!(receipt[..8], 1000_u64.to_le_bytes());
}

#[test]
fn both_ends_can_be_held_to_a_suite_and_a_group() {
    let pki = Pki::new();
    let suites = ["--cipher-suites", "TLS_CHACHA20_POLY1305_SHA256", "--groups", "secp256r1"];
    let peer = Peer::start_with(&pki, "echo", &suites);
    let out = pki.file("suite.json");
    let short = ["run", "--quiet", "--conns", "1", "--warmup", "0s", "--duration", "200ms"];
    let ran = pki.run(&peer, &[&short[..], &["--out", path(&out)]].concat());
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let result = pki.json("suite.json");
    let agreed: Vec<_> = result["negotiated"].as_object().unwrap().keys().collect();
    assert_eq!(agreed, ["TLSv1_3 TLS13_CHACHA20_POLY1305_SHA256 secp256r1"]);
    let other = ["--cipher-suites", "TLS_AES_128_GCM_SHA256", "--out", path(&out)];
    pki.run(&peer, &[&short[..], &other].concat());
    assert_eq!(pki.json("suite.json")["counts"]["confirmed"], 0);
}

#[test]
fn counts_are_served_where_the_ready_line_says() {
    let pki = Pki::new();
    let peer = Peer::start_with(&pki, "echo", &["--counts", "127.0.0.1:0"]);
    let (address, counts) = peer.address.split_once(" counts=").unwrap();
    let at = ["stream", "--bytes", "1k", "--target", address];
    assert!(load().args(at).output().unwrap().status.code() == Some(2), "no certificate");
    // Somebody who says nothing keeps nobody from asking.
    let silent = TcpStream::connect(counts).unwrap();
    let page = portcullis_load::http::get(&format!("http://{counts}/")).unwrap();
    drop(silent);
    let counts: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((&counts["accepted"], &counts["handshakes_failed"]), (&1.into(), &1.into()));
}

#[test]
fn a_port_is_not_shared_with_a_peer_that_was_forgotten() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let ran =
        load().args(["upstream", "--duration", "1s", "--listen", &peer.address]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("Address already in use"), "{said}");
}

#[test]
fn held_connections_survive_and_come_back() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let out = pki.file("hold.json");
    let ran = pki.run(
        &peer,
        &[
            "hold",
            "--conns",
            "50",
            "--idle",
            "100ms",
            "--reconnect-storm",
            "--storm-resumes",
            "--out",
            path(&out),
            "--server-pid",
            &peer.pid().to_string(),
        ],
    );
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let result = pki.json("hold.json");
    assert_eq!((&result["held"], &result["survived"]), (&50.into(), &50.into()));
    assert_eq!(result["storm"]["recovered"], 50);
    assert!(peer.counts()["resumed"].as_u64().unwrap() > 0);
}

#[test]
fn nobody_there_is_exit_1_with_the_reason() {
    let nobody = ClosedPort::new();
    let address = nobody.address.to_string();
    for command in [&["hold", "--conns", "2"][..], &["stream"], &["attack", "garbage", "-n", "2"]] {
        let ran = load().args(command).args(["--target", &address]).output().unwrap();
        assert_eq!(ran.status.code(), Some(1), "{command:?}: {ran:?}");
        if command[0] != "attack" {
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(said.contains("Connection refused"), "{command:?}: {said}");
            assert!(!said.contains("echo"), "{command:?}: it is not to blame: {said}");
        }
    }
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let ran = load().args(["hold", "--conns", "2", "--target", &peer.address]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("CertificateRequired") && !said.contains("echo"), "{said}");
    let stall = Peer::start(&pki, "stall");
    let ran = pki.run(&stall, &["hold", "--conns", "1", "--timeout", "300ms"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("is an echo behind the server?"), "{said}");
}

#[test]
fn dead_connections_are_looked_at_all_at_once() {
    let pki = Pki::new();
    // One echo, which establishes a connection, and no second one.
    let silent = ["--slow-bytes", "1", "--slow-every", "1h"];
    let peer = Peer::start_with(&pki, "slow", &silent);
    let out = pki.file("hold.json");
    // One after the other they take 25 minutes.
    let ran = Command::new("timeout")
        .args(["300", env!("CARGO_BIN_EXE_portcullis-load"), "hold", "--target", &peer.address])
        .args(["--conns", "300", "--idle", "0s", "--timeout", "5s", "--sni", "t0.test", "--out"])
        .arg(&out)
        .arg("--client-cert")
        .arg(pki.file("pki/t0.test/clients/client-0000.crt"))
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    let result = pki.json("hold.json");
    assert_eq!((&result["held"], &result["survived"]), (&300.into(), &0.into()));
}

#[test]
fn held_connections_show_the_certificates_of_a_directory_in_turn() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let out = pki.file("turn.json");
    let folder = pki.file("pki/t0.test/clients");
    let hold = |flags: &[&str]| {
        let mut command = load();
        command.args(["hold", "--idle", "0s", "--sni", "t0.test", "--target", &peer.address]);
        command.arg("--client-cert").arg(&folder).args(["--out", path(&out)]);
        command.args(flags).output().unwrap()
    };
    let ran = hold(&["--base", "10", "--conns", "40", "--reconnect-storm", "--storm-resumes"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    // A third, which the peer refuses: so it is known who came.
    for end in ["crt", "key"] {
        let from = pki.file(&format!("pki/t0.test/bad/expired.{end}"));
        std::fs::copy(from, folder.join(format!("expired.{end}"))).unwrap();
    }
    let ran = hold(&["--base", "4", "--conns", "26"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    let result = pki.json("turn.json");
    assert_eq!((&result["held"], &result["failed"]), (&20.into(), &10.into()));
    // Each came back with a ticket of its own: with another's certificate it is good for nothing.
    assert_eq!(peer.counts()["resumed"], 50);
}

#[test]
fn attacks_end_as_a_sound_server_ends_them() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    // rustls refuses what claims too much, what is no TLS, and floods; it serves a hello in pieces
    // and falls back from a ticket that was tampered with. It has no deadline for a silent client.
    for (name, ends, exit) in [
        ("fragmented-hello", &["served"][..], 0),
        ("big-hello", &["reset", "alert", "closed"], 0),
        ("garbage", &["alert", "closed", "reset"], 0),
        ("ticket-garbage", &["served"], 0),
        ("key-update", &["reset", "closed"], 0),
        ("empty-records", &["reset", "closed"], 0),
        ("half-open", &["still open"], 2),
        ("handshake-flood", &["served"], 0),
    ] {
        let out = pki.file("attack.json");
        let ran =
            pki.run(&peer, &["attack", name, "-n", "5", "--patience", "2s", "--out", path(&out)]);
        let result = pki.json("attack.json");
        assert_eq!(ran.status.code(), Some(exit), "{name}: {result}");
        for (end, _) in result["ends"].as_object().unwrap() {
            assert!(ends.iter().any(|known| end.starts_with(known)), "{name}: {end}");
        }
    }
}

#[test]
fn attacks_stay_at_home() {
    // 192.0.2.0/24 is nobody's (RFC 5737); nothing is sent there.
    let ran = load().args(["attack", "garbage", "--target", "192.0.2.1:443"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("not on loopback"));
}

#[test]
fn a_search_brackets_and_its_trials_can_be_reported() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let (out, page, csv) = (pki.file("find.json"), pki.file("find.html"), pki.file("find.csv"));
    let ran = pki.run(
        &peer,
        &[
            // No server meets a microsecond, every server the lag of ten seconds.
            "find",
            "--rate",
            "20",
            "--rate-max",
            "40",
            "--duration",
            "300ms",
            "--warmup",
            "0s",
            "--slo",
            "p50<10s",
            "--lag-max",
            "10s",
            "--out",
            path(&out),
        ],
    );
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(text.contains("lower bound"), "{text}");
    let result = pki.json("find.json");
    assert_eq!(result["schema"], "find/1");
    let trials = result["trials"].as_array().unwrap();
    assert!(trials.len() >= 2);
    let begun = trials[0]["begun_unix_ms"].as_u64().unwrap();
    let looked = trials[0]["env"]["started_unix"].as_u64().unwrap() * 1000;
    assert!((looked..looked + 60_000).contains(&begun), "{begun} is not just after {looked}");
    let report = load()
        .arg("report")
        .arg(&out)
        .args(["--html", path(&page), "--csv", path(&csv), "--objective", "20ms"])
        .output()
        .unwrap();
    assert!(report.status.success(), "{report:?}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Rate against latency") && page.contains("<svg"));
    assert!(!page.contains("<script") && !page.contains("http"), "the page needs nothing else");
    assert!(std::fs::read_to_string(csv).unwrap().starts_with("run,second,phase"));
}

#[test]
fn short_runs_are_not_comparable_and_say_so() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let out = pki.file("short.json");
    pki.run(
        &peer,
        &[
            "run",
            "--quiet",
            "--conns",
            "1",
            "--warmup",
            "0s",
            "--duration",
            "1s",
            "--out",
            path(&out),
        ],
    );
    let ran = load().arg("compare").args([&out, &out]).output().unwrap();
    assert_eq!(ran.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&ran.stdout).contains("not comparable"));
}

#[test]
fn a_sweep_runs_every_cell_and_two_targets_are_measured_in_turn() {
    let pki = Pki::new();
    let peer = Peer::start(&pki, "echo");
    let csv = pki.file("sweep.csv");
    let short = ["--duration", "200ms", "--warmup", "0s", "--conns", "1"];
    let grid = ["sweep", "--resumes", "0,1", "--each-group", "x25519,secp256r1", "--csv"];
    let ran = pki.run(&peer, &[&grid[..], &[path(&csv)], &short].concat());
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert_eq!(std::fs::read_to_string(csv).unwrap().lines().count(), 1 + 4);

    let files = [pki.file("a.json"), pki.file("b.json")];
    let too_short = ["ab", "--against", &peer.address, "--rounds", "2"];
    let ran = pki.run(&peer, &[&too_short[..], &short].concat());
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("--rounds"), "{ran:?}");
    let enough = ["ab", "--against", &peer.address, "--rounds", "4", "--out"];
    let ran = pki.run(&peer, &[&enough[..], &[path(&files[0]), path(&files[1])], &short].concat());
    // A target is no better than itself, but in runs this short anything may happen.
    assert!(matches!(ran.status.code(), Some(0 | 2 | 3)), "{ran:?}");
    for file in ["a.json", "b.json"] {
        let result = pki.json(file);
        // A B B A, four times: eight runs a side, each with at least one second begun.
        let ticks = result["ticks"].as_array().unwrap();
        assert!(ticks.len() >= 8);
        // Without a warm-up the counts are those of the seconds.
        let attempted: u64 = ticks.iter().map(|tick| tick["attempted"].as_u64().unwrap()).sum();
        assert_eq!(result["counts"]["attempted"].as_u64(), Some(attempted));
    }
    assert_eq!(peer.counts()["broken"], 0);
}

#[test]
fn packages_get_a_page_for_every_command_and_completions() {
    let folder = tempfile::tempdir().unwrap();
    for what in ["man", "completions"] {
        let made = load().args(["docs", what]).arg(folder.path()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let missing = load().args(["docs", what, "/nonexistent/pages"]).output().unwrap();
        assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    }
    let help = String::from_utf8(load().arg("--help").output().unwrap().stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names = commands.lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?;
        name.split_whitespace().next().filter(|_| !name.starts_with(' '))
    });
    let completions = std::fs::read_to_string(folder.path().join("portcullis-load.bash")).unwrap();
    let mut compared = 0;
    for name in names.filter(|name| *name != "help") {
        let page = folder.path().join(format!("portcullis-load-{name}.1"));
        assert!(page.is_file(), "{} was not written", page.display());
        assert!(completions.contains(name), "no completion of {name}");
        compared += 1;
    }
    assert!(compared > 10, "only {compared} commands in {help}");
    assert!(folder.path().join("_portcullis-load").is_file());
    assert!(folder.path().join("portcullis-load.fish").is_file());
}
