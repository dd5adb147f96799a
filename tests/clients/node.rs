//! Node's `tls`, by `client.js`: sessions, a half-closed end, the error codes that programs match.

use std::path::Path;

use portcullis_kit::{Identity, PlainEcho};

use crate::front::{Front, TLS12, TLS13};
use crate::program::{Finished, find, run};

#[test]
fn node_resumes_and_hears_what_it_says() {
    let Some(node) = find("node", "nodejs") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for version in [TLS12, TLS13] {
        let finished = talk(&node, &front, version, Some(&front.client));
        assert!(finished.status.success(), "{version}: {}", finished.text);
        let expected = "reused=false echoed=true ended=true\n\
                        reused=true echoed=true ended=true\n\
                        reused=true echoed=true ended=true\n";
        assert_eq!(finished.text, expected, "{version}");
        let line = front.served(version, true);
        assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
        assert_eq!(line["closing"], "clean", "{line}");
    }
}

#[test]
fn node_is_told_why_it_is_refused() {
    let Some(node) = find("node", "nodejs") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    let stranger = Some(&front.stranger);
    for (version, identity, words) in [
        (TLS12, None, "ALERT_HANDSHAKE_FAILURE"),
        (TLS13, None, "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        (TLS12, stranger, "ERR_SSL_TLSV1_ALERT_UNKNOWN_CA"),
        (TLS13, stranger, "ERR_SSL_TLSV1_ALERT_UNKNOWN_CA"),
    ] {
        let finished = talk(&node, &front, version, identity);
        assert!(!finished.status.success(), "{version}: {}", finished.text);
        assert!(finished.text.contains(words), "{version}, {words}: {}", finished.text);
    }
    assert_eq!(upstream.counts().accepted, 0);
}

fn talk(node: &Path, front: &Front, version: &str, identity: Option<&Identity>) -> Finished {
    let mut command = front.command(node, "");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/client.js"));
    command.arg(front.port().to_string()).arg(front.ca()).arg(version);
    if let Some(identity) = identity {
        command.arg(&identity.chain_path).arg(&identity.key_path);
    }
    run(command)
}
