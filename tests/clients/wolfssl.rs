//! wolfSSL, by `wolfssl_client.py`: the library of many small devices, which takes no long nonces in tickets.

use std::path::{Path, PathBuf};

use portcullis_kit::{Identity, PlainEcho};

use crate::front::{Front, TLS12, TLS13};
use crate::program::{Finished, command, find, missing, run};

#[test]
fn wolfssl_is_served_and_resumes() {
    let Some(python) = with_wolfssl() else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for version in [TLS12, TLS13] {
        let finished = talk(&python, &front, version, Some(&front.client));
        let expected =
            "resumed=False echoed=True\nresumed=True echoed=True\nresumed=True echoed=True\n";
        assert_eq!(finished.text, expected, "{version}");
        assert!(finished.status.success(), "{version}: {}", finished.text);
        assert_eq!(front.served(version, true)["client"]["subject"], "CN=alice");
    }
}

#[test]
fn wolfssl_is_told_that_it_is_refused() {
    let Some(python) = with_wolfssl() else { return };
    let upstream = PlainEcho::start();
    let front = Front::before(upstream.address());
    for (version, identity, reason) in [
        (TLS12, None, "no_certificate"),
        (TLS13, None, "no_certificate"),
        (TLS12, Some(&front.stranger), "unknown_issuer"),
        (TLS13, Some(&front.stranger), "unknown_issuer"),
    ] {
        let finished = talk(&python, &front, version, identity);
        assert!(!finished.status.success(), "{version}: {}", finished.text);
        // Which one it keeps to itself.
        assert!(finished.text.contains("received alert fatal"), "{version}: {}", finished.text);
        front.refused(reason);
    }
    assert_eq!(upstream.counts().accepted, 0);
}

fn with_wolfssl() -> Option<PathBuf> {
    let python = find("python3", "python3")?;
    let mut load = command(&python, "-c");
    load.arg("import ctypes; ctypes.CDLL('libwolfssl.so')");
    if run(load).status.success() {
        return Some(python);
    }
    missing("libwolfssl.so", "libwolfssl-dev");
    None
}

fn talk(python: &Path, front: &Front, version: &str, identity: Option<&Identity>) -> Finished {
    let mut command = front.command(python, "");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/wolfssl_client.py"));
    command.arg(front.port().to_string()).arg(front.ca()).arg(version);
    if let Some(identity) = identity {
        command.arg(&identity.chain_path).arg(&identity.key_path);
    }
    run(command)
}
