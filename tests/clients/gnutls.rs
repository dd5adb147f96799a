//! `gnutls-cli`: a TLS stack that shares no code with OpenSSL or rustls.

use std::path::Path;

use portcullis_kit::{Identity, PlainEcho};

use crate::front::{Front, TLS12, TLS13};
use crate::program::{Finished, Running, find};

const ONLY_TLS12: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
const ONLY_TLS13: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.3";

#[test]
fn gnutls_cli_resumes_and_hears_what_it_says() {
    let Some(gnutls) = find("gnutls-cli", "gnutls-bin") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for (priority, version) in [(ONLY_TLS12, TLS12), (ONLY_TLS13, TLS13)] {
        let mut client = start(&gnutls, &front, Some(&front.client), priority, RESUME);
        client.wait_for("*** This is a resumed session");
        client.wait_for("Simple Client Mode");
        client.say("who goes there\n");
        client.wait_for("who goes there");
        let finished = client.finish();
        assert!(finished.status.success(), "{}", finished.text);
        assert!(finished.text.contains("The certificate is trusted"), "{}", finished.text);
        let full = front.served(version, false);
        let resumed = front.served(version, true);
        assert_eq!(resumed["client"], full["client"]);
        assert_eq!(resumed["closing"], "clean", "{resumed}");
    }
}

/// A client with little room is sent records that it has room for (RFC 8449).
#[test]
fn gnutls_cli_gets_no_longer_records_than_it_asks_for() {
    let Some(gnutls) = find("gnutls-cli", "gnutls-bin") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for (priority, version) in [(ONLY_TLS12, TLS12), (ONLY_TLS13, TLS13)] {
        let options = "--recordsize 512 -d 5";
        let mut client = start(&gnutls, &front, Some(&front.client), priority, options);
        client.wait_for("Simple Client Mode");
        client.say("who goes there\n");
        client.wait_for("who goes there");
        let finished = client.finish();
        assert!(finished.status.success(), "{}", finished.text);
        let records = finished.text.lines().filter(|line| line.contains("Decrypted Packet["));
        let lengths = records.map(|line| line.rsplit_once(": ").unwrap().1.parse().unwrap());
        let longest: usize = lengths.max().unwrap();
        assert!(longest <= 512, "{version}: {longest}");
        // The rest of its flight comes in one piece in TLS 1.3.
        assert!(version == TLS12 || longest == 512, "{version}: {longest}");
    }
}

#[test]
fn gnutls_cli_without_certificate_reads_that_it_needs_one() {
    let Some(gnutls) = find("gnutls-cli", "gnutls-bin") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for (priority, words) in
        [(ONLY_TLS12, "alert [40]: Handshake failed"), (ONLY_TLS13, "alert [116]: Certificate is")]
    {
        let finished = refused(&gnutls, &front, None, priority);
        assert!(finished.text.contains(words), "{words}: {}", finished.text);
    }
    front.refused("no_certificate");
    assert_eq!(upstream.counts().accepted, 0);
}

#[test]
fn gnutls_cli_of_a_stranger_reads_that_its_ca_is_unknown() {
    let Some(gnutls) = find("gnutls-cli", "gnutls-bin") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for priority in [ONLY_TLS12, ONLY_TLS13] {
        let finished = refused(&gnutls, &front, Some(&front.stranger), priority);
        assert!(finished.text.contains("alert [48]: CA is unknown"), "{}", finished.text);
    }
    front.refused("unknown_issuer");
    assert_eq!(upstream.counts().accepted, 0);
}

fn refused(gnutls: &Path, front: &Front, identity: Option<&Identity>, priority: &str) -> Finished {
    let client = start(gnutls, front, identity, priority, "");
    client.wait_for("Received alert");
    let finished = client.finish();
    assert!(!finished.status.success(), "{}", finished.text);
    finished
}

fn start(
    gnutls: &Path,
    front: &Front,
    identity: Option<&Identity>,
    priority: &str,
    options: &str,
) -> Running {
    // By the name: with an address gnutls-cli sends no SNI.
    let words = format!("--x509cafile {{ca}} --priority {priority} -p {{port}} {options}");
    let mut command = front.command(gnutls, &words);
    if let Some(identity) = identity {
        command.arg("--x509certfile").arg(&identity.chain_path);
        command.arg("--x509keyfile").arg(&identity.key_path);
    }
    command.arg("localhost");
    Running::start(command)
}
/// In TLS 1.3 the ticket comes after the handshake; without the second word gnutls-cli may be gone
/// by then.
const RESUME: &str = "--resume --waitresumption";
