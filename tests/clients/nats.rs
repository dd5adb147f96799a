//! NATS' Python client through `config/nats.toml` to a real nats-server that speaks plain TCP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::program::{Finished, Running, command, find, python_with, run, serve};
use crate::sample::{Sample, Served};

#[test]
fn a_subscriber_hears_what_a_publisher_says() {
    let Some((_server, address)) = nats() else { return };
    let Some(python) = python() else { return };
    let served = Sample::prepare("nats.toml").with("127.0.0.1:4222", address).start();
    let finished = talk(&python, &served, "first pki/alice.crt pki/alice.key");
    // Python's asyncio has something to say on standard error, whatever the server.
    assert_eq!(finished.stdout, b"heard\nheard all\n", "{}", finished.text);
    let line = served.logged(|line| line["bytes_received"].as_u64() > Some(2_000_000));
    assert_eq!(line["sni"], "nats.example.com", "{line}");
    assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
}

#[test]
fn a_client_that_waits_for_the_server_is_cut_and_one_without_certificate_refused() {
    let Some((_server, address)) = nats() else { return };
    let Some(python) = python() else { return };
    let served = Sample::prepare("nats.toml").with("127.0.0.1:4222", address).start();
    let waits = talk(&python, &served, "second pki/alice.crt pki/alice.key");
    assert!(waits.text.contains("refused: "), "{}", waits.text);
    let line = served.refused("hello_timeout");
    assert!(line["hint"].as_str().unwrap().contains("waits for the server to speak first"));
    let nobody = talk(&python, &served, "first");
    assert!(nobody.text.contains("refused: "), "{}", nobody.text);
    served.refused("no_certificate");
}

fn nats() -> Option<(Running, SocketAddr)> {
    let server = find("nats-server", "nats-server")?;
    Some(serve("Server is ready", |port| command(&server, &format!("-a 127.0.0.1 -p {port}"))))
}

fn python() -> Option<PathBuf> {
    // Before 2.7 it could not begin with TLS.
    python_with("import nats.aio.client as c; c.Client.connect", "nats-py", "nats-py>=2.7")
}

fn talk(python: &Path, served: &Served, words: &str) -> Finished {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/nats_client.py");
    let mut command = served.command(python, script);
    command.arg(served.port().to_string()).args(words.split_whitespace());
    run(command)
}
