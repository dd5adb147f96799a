//! Python's `ssl`, by `client.py`: sessions, data in both directions at once, `unwrap`.

use std::path::Path;

use portcullis_kit::{Identity, PlainEcho};

use crate::front::{Front, TLS12, TLS13};
use crate::program::{Finished, find, run};

#[test]
fn python_resumes_and_ends_with_close_notify() {
    let Some(python) = find("python3", "python3") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for version in [TLS12, TLS13] {
        let finished = talk(&python, &front, version, Some(&front.client));
        assert!(finished.status.success(), "{version}: {}", finished.text);
        let expected = "reused=False echoed=True unwrapped=True\n\
                        reused=True echoed=True unwrapped=True\n\
                        reused=True echoed=True unwrapped=True\n";
        assert_eq!(finished.text, expected, "{version}");
        let line = front.served(version, true);
        assert_eq!(line["client"]["subject"], "CN=alice", "{line}");
        assert_eq!(line["closing"], "clean", "{line}");
    }
}

#[test]
fn python_is_told_why_it_is_refused() {
    let Some(python) = find("python3", "python3") else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    let stranger = Some(&front.stranger);
    for (version, identity, words) in [
        (TLS12, None, "alert handshake failure"),
        (TLS13, None, "alert certificate required"),
        (TLS12, stranger, "alert unknown ca"),
        (TLS13, stranger, "alert unknown ca"),
    ] {
        let finished = talk(&python, &front, version, identity);
        assert!(!finished.status.success(), "{version}: {}", finished.text);
        assert!(finished.text.contains(words), "{version}, {words}: {}", finished.text);
    }
    assert_eq!(upstream.counts().accepted, 0);
}

fn talk(python: &Path, front: &Front, version: &str, identity: Option<&Identity>) -> Finished {
    let mut command = front.command(python, "");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/client.py"));
    command.arg(front.port().to_string()).arg(front.ca()).arg(version);
    if let Some(identity) = identity {
        command.arg(&identity.chain_path).arg(&identity.key_path);
    }
    run(command)
}
