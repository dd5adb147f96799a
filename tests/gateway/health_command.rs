//! `portcullis health`: what a supervisor learns of a gateway that runs, drains, is stopped, or is none.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::thread;

use portcullis_kit::{ClosedPort, PATIENCE, PlainEcho, eventually, round_trip, within};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{BINARY, Config, Pki};

/// What `health` says to `listen`: its exit code and both outputs.
fn ask(listen: &str, words: &[&str]) -> (Option<i32>, String) {
    ask_with(listen, "", words)
}

/// The same, with more in the file.
fn ask_with(listen: &str, more: &str, words: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gateway.toml");
    let admin =
        if listen.is_empty() { String::new() } else { format!("[admin]\nlisten = \"{listen}\"\n") };
    let rest = "[listener.edge]\naddress = \"127.0.0.1:0\"\n[listener.edge.chain.default]\n\
                cluster = \"app\"\n[cluster.app]\nendpoints = [\"127.0.0.1:9\"]\n";
    fs::write(&file, admin + rest + more).unwrap();
    let mut command = Command::new(BINARY);
    command.arg("health").arg("-c").arg(&file).args(words);
    let Output { status, stdout, stderr } =
        within(PATIENCE, "health", move || command.output().unwrap());
    let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code(), text)
}

#[test]
fn a_gateway_is_ready_until_it_drains_and_lives_until_it_ends() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let drain = r#"{ grace = "0s", spread = "1m", deadline = "1m" }"#;
    let mut gateway = Config::with_drain(1, drain)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "")
        .start();
    let listen = gateway.admin().to_string();
    assert_eq!(ask(&listen, &[]), (Some(0), "ready\n".to_owned()));
    assert_eq!(ask(&listen, &["--live"]), (Some(0), "alive\n".to_owned()));
    let mut session = pki.connect(&gateway);
    assert_eq!(round_trip(&mut session, b"hello").unwrap(), b"hello");
    gateway.signal(Signal::TERM);
    eventually(PATIENCE, "the drain", || (ask(&listen, &[]).0 == Some(1)).then_some(()));
    assert_eq!(ask(&listen, &[]), (Some(1), "portcullis: draining\n".to_owned()));
    assert_eq!(ask(&listen, &["--live"]), (Some(0), "alive\n".to_owned()));
    drop(session);
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
    let (code, said) = ask(&listen, &["--live"]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("configuration runs, or none answers at {listen}")), "{said}");
}

#[test]
fn a_mistake_in_the_file_says_nothing_of_the_gateway_that_runs() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = Config::edge(&pki, echoes.address()).start();
    let listen = gateway.admin().to_string();
    for mistake in ["[limits]\nconections = 1\n", "[limits\n", "include = [\n", "[admin]\n"] {
        let (code, said) = ask_with(&listen, mistake, &[]);
        assert_eq!(code, Some(0), "{mistake:?}: {said}");
        assert!(said.starts_with("ready\n") && said.contains("is not valid"), "{said}");
    }
    let (code, said) = ask("nowhere", &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is neither \"IP:port\" nor"), "{said}");
}

#[test]
fn it_asks_on_a_unix_socket() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n").unwrap();
        String::from_utf8(request[..read].to_vec()).unwrap()
    });
    let (code, said) = ask(&format!("unix:{}", path.display()), &[]);
    assert_eq!((code, &*said), (Some(0), "ready\n"));
    let request = within(PATIENCE, "the question", move || server.join().unwrap());
    assert!(request.starts_with("GET /readyz HTTP/1.1\r\nhost: localhost\r\n"), "{request}");
}

#[test]
fn what_is_no_answer_is_told_apart_with_what_to_do() {
    let (code, said) = ask("", &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("has no [admin] table: write one"), "{said}");

    let closed = ClosedPort::new();
    let nobody = closed.address.to_string();
    let (code, said) = ask(&nobody, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("none answers at {nobody}")), "{said}");

    // A process that is stopped: the kernel takes the connection, and that is all.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (code, said) = ask(&silent.local_addr().unwrap().to_string(), &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no answer from") && said.contains("is stopped"), "{said}");

    for answer in ["SSH-2.0-OpenSSH_9.2\r\n".to_owned(), long_answer()] {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = other.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = other.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            // It may hang up before it has all of it.
            let _ = stream.write_all(answer.as_bytes());
        });
        let (code, said) = ask(&at, &[]);
        assert_eq!(code, Some(1));
        assert!(said.contains(&format!("what answers at {at} is no gateway's")), "{said}");
        within(PATIENCE, "the other server", move || server.join().unwrap());
    }
}

/// More than any answer of a gateway.
fn long_answer() -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000))
}
