//! `redis-cli --tls` through the gateway to a real redis-server that speaks plain TCP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_kit::Identity;

use crate::front::{Front, TLS13};
use crate::program::{Running, command, find, must, run, serve};
use crate::sample::Sample;

#[test]
fn redis_cli_sets_and_gets_ten_megabytes() {
    let Some((cli, _server, address)) = redis() else { return };
    let front = Front::before(address);
    assert_eq!(must(redis_cli(&cli, &front, Some(&front.client), "PING")), "PONG\n");
    let value = "0123456789abcdef".repeat(VALUE_BYTES / 16);
    // -x takes the value from standard input, as it is.
    let mut set = Running::start(redis_cli(&cli, &front, Some(&front.client), "-x SET big"));
    set.say(&value);
    assert_eq!(set.finish().text, "OK\n");
    let got = run(redis_cli(&cli, &front, Some(&front.client), "GET big"));
    assert!(got.stdout.strip_suffix(b"\n") == Some(value.as_bytes()), "{}", got.stdout.len());
    let line = front.logged(|line| line["bytes_sent"].as_u64() > Some(VALUE_BYTES as u64));
    assert_eq!(line["sni"], "redis.example.test", "{line}");
    assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
}

#[test]
fn redis_cli_pipelines_a_hundred_thousand_commands() {
    let Some((cli, _server, address)) = redis() else { return };
    let front = Front::before(address);
    let mut pipe = Running::start(redis_cli(&cli, &front, Some(&front.client), "--pipe"));
    pipe.say(&"INCR counter\r\n".repeat(100_000));
    let finished = pipe.finish();
    assert!(finished.status.success(), "{}", finished.text);
    assert!(finished.text.contains("errors: 0, replies: 100000"), "{}", finished.text);
    let count = must(redis_cli(&cli, &front, Some(&front.client), "GET counter"));
    assert_eq!(count, "100000\n");
    front.served(TLS13, false);
}

#[test]
fn the_sample_serves_redis_cli() {
    let Some((_, _server, address)) = redis() else { return };
    let served = Sample::prepare("redis.toml").with("127.0.0.1:6379", address).start();
    assert_eq!(must(served.said(&["redis-cli "], "")), "PONG\n");
    let line = served.logged(|line| line["outcome"] == "closed");
    assert_eq!(line["sni"], "redis.example.com", "{line}");
    assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
    // Without --sni no name is sent, and the chain is for a name.
    let options = "-h 127.0.0.1 -p {port} --tls --cacert pki/ca.crt";
    let nameless = run(served.command("redis-cli", &format!("{options} ping")));
    assert!(!nameless.text.contains("PONG"), "{}", nameless.text);
    served.refused("no_chain");
}

/// In TLS 1.3, where a refusal comes after the client's handshake, redis-cli keeps the alert to itself,
/// with every server.
#[test]
fn redis_cli_is_told_why_it_is_refused() {
    let Some((cli, _server, address)) = redis() else { return };
    let end = "Server closed the connection";
    for (number, none, stranger) in
        [("1.2", "alert handshake failure", "alert unknown ca"), ("1.3", end, end)]
    {
        let front = Front::before_with(address, &format!("versions = [\"{number}\"]"));
        for (identity, words, reason) in
            [(None, none, "no_certificate"), (Some(&front.stranger), stranger, "unknown_issuer")]
        {
            let finished = run(redis_cli(&cli, &front, identity, "PING"));
            assert!(!finished.text.contains("PONG"), "{}", finished.text);
            assert!(finished.text.contains(words), "{number}, {words}: {}", finished.text);
            front.refused(reason);
        }
    }
}

/// `redis-cli`, and a server that lives as long as the guard.
pub(crate) fn redis() -> Option<(PathBuf, Running, SocketAddr)> {
    let cli = find("redis-cli", "redis-tools")?;
    let server = find("redis-server", "redis-server")?;
    let (server, address) = serve("Ready to accept connections", |port| {
        let words = format!("--bind 127.0.0.1 --port {port} --appendonly no --loglevel notice");
        let mut command = command(&server, &words);
        // Nothing is kept.
        command.args(["--save", ""]);
        command
    });
    Some((cli, server, address))
}

fn redis_cli(cli: &Path, front: &Front, identity: Option<&Identity>, words: &str) -> Command {
    let tls = "--tls --sni redis.example.test --cacert {ca} -h 127.0.0.1 -p {port}";
    let mut command = front.command(cli, tls);
    if let Some(identity) = identity {
        command.arg("--cert").arg(&identity.chain_path).arg("--key").arg(&identity.key_path);
    }
    command.args(words.split_whitespace());
    command
}

const VALUE_BYTES: usize = 10_000_000;
