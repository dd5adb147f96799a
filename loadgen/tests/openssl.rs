//! The generator against a server that is not rustls: `openssl s_server`. Skipped with a note
//! where there is no openssl.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test: by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn load(arguments: &[&str]) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.json");
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis-load"))
        .args(arguments)
        .args(["--quiet", "--conns", "1", "--warmup", "300ms", "--duration", "1s", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&out).unwrap_or_else(|_| "null".to_owned());
    (output.status.code(), serde_json::from_str(&text).unwrap())
}

fn start(more: &[&str]) -> Option<(Server, String)> {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    let file = dir.path().join("server.pem");
    std::fs::write(&file, pem).unwrap();
    let child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert"])
        .arg(&file)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        let _ = writeln!(std::io::stderr(), "skipped: no openssl");
        return None;
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // "ACCEPT 127.0.0.1:43210", after it has read the certificate.
    let address = lines.find_map(|line| line.ok()?.strip_prefix("ACCEPT ").map(str::to_owned));
    // The pipe must stay open, or its reports end the server.
    std::thread::spawn(move || lines.for_each(drop));
    Some((Server(child), address.unwrap()))
}

#[test]
fn openssl_resumes_in_both_versions() {
    for version in ["1.3", "1.2"] {
        let Some((_server, address)) = start(&[]) else { return };
        let (exit, result) = load(&[
            "handshakes",
            "--target",
            &address,
            "--confirm",
            "ticket",
            "--resume",
            "0.5",
            "--tls",
            version,
        ]);
        assert_eq!(exit, Some(0), "{version}: {result}");
        assert!(result["counts"]["confirmed"].as_u64().unwrap() > 10);
        assert_eq!(result["counts"]["errors"], 0, "{}", result["errors"]);
        let got = result["resumed"]["got"].as_f64().unwrap();
        assert!(got > 0.3 && got < 0.7, "TLS {version}: {got} resumed");
    }
}

#[test]
fn openssl_without_tickets_resumes_nothing() {
    let Some((_server, address)) = start(&["-num_tickets", "0", "-no_ticket"]) else { return };
    let (_, result) =
        load(&["handshakes", "--target", &address, "--confirm", "close", "--resume", "0.5"]);
    assert_eq!(result["counts"]["resumed"], 0);
}

#[test]
fn a_group_that_openssl_refuses_shows_as_a_retry() {
    let Some((_server, address)) = start(&["-groups", "P-256"]) else { return };
    let (exit, result) = load(&[
        "handshakes",
        "--target",
        &address,
        "--confirm",
        "ticket",
        "--groups",
        "x25519,secp256r1",
    ]);
    assert_eq!(exit, Some(0), "{result}");
    assert_eq!(result["counts"]["retried"], result["counts"]["full"]);
    assert!(result["warnings"].to_string().contains("HelloRetryRequest"));
}

#[test]
fn a_client_without_a_certificate_is_refused_by_name() {
    let Some((_server, address)) = start(&["-Verify", "1", "-verify_return_error"]) else { return };
    let (_, result) = load(&["handshakes", "--target", &address, "--confirm", "ticket"]);
    assert_eq!(result["counts"]["confirmed"], 0);
    let errors = result["errors"].as_object().unwrap();
    assert!(errors.contains_key("alert-116"), "{errors:?}");
}
