//! curl: HTTP over mutual TLS to a plain HTTP/1.0 upstream, routed by the name in the URL.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use portcullis_kit::{Identity, PATIENCE};

use crate::front::{Front, TLS12, TLS13};
use crate::program::{Finished, find, run};

const VERSIONS: [(&str, &str); 2] = [("--tls-max 1.2", TLS12), ("--tlsv1.3", TLS13)];

#[test]
fn curl_gets_back_what_it_posts() {
    let Some(curl) = find("curl", "curl") else { return };
    let front = Front::before(http_echo("one"));
    let folder = tempfile::tempdir().unwrap();
    let posted = folder.path().join("posted");
    let body: Vec<u8> = (0..BODY_BYTES).map(|at: usize| at.to_le_bytes()[at % 2]).collect();
    fs::write(&posted, &body).unwrap();
    for (flags, version) in VERSIONS {
        let data = format!("{flags} --data-binary @{}", posted.display());
        let finished = request(&curl, &front, Some(&front.client), "localhost", &data);
        assert!(finished.status.success(), "{version}: {}", finished.text);
        assert!(finished.stdout == body, "{version}: {} bytes", finished.stdout.len());
        let line = front.served(version, false);
        assert!(line["bytes_received"].as_u64().unwrap() > BODY_BYTES as u64, "{line}");
        assert_eq!(line["closing"], "clean", "{line}");
    }
}

#[test]
fn curl_reaches_the_upstream_of_the_name_it_asks_for() {
    let Some(curl) = find("curl", "curl") else { return };
    let chains = [
        ("one", "one.example.test", http_echo("one")),
        ("two", "two.example.test", http_echo("two")),
    ];
    let front = Front::with(&chains, r#"alpn = ["http/1.1"]"#);
    for (name, option) in [
        ("one", "--connect-to one.example.test:443:127.0.0.1:{port}"),
        ("two", "--connect-to two.example.test:443:127.0.0.1:{port}"),
        ("one", "--connect-to ONE.Example.Test:443:127.0.0.1:{port}"),
        ("two", "--resolve two.example.test:{port}:127.0.0.1"),
    ] {
        let host = option.split([' ', ':']).nth(1).unwrap();
        let port = if option.starts_with("--resolve") { front.port() } else { 443 };
        let words = format!("--include --cacert {{ca}} {option} https://{host}:{port}/");
        let mut command = front.command(&curl, &words);
        command.arg("--cert").arg(&front.client.chain_path);
        command.arg("--key").arg(&front.client.key_path);
        let finished = run(command);
        assert!(finished.text.contains(&format!("Upstream: {name}")), "{}", finished.text);
        let line = front.logged(|line| line["sni"] == host.to_lowercase() && line["chain"] == name);
        assert_eq!(line["tls"]["alpn"], "http/1.1", "{line}");
    }
    let elsewhere = request(&curl, &front, Some(&front.client), "localhost", "");
    assert_eq!(elsewhere.status.code(), Some(CANNOT_CONNECT), "{}", elsewhere.text);
    assert!(elsewhere.text.contains("unrecognized name"), "{}", elsewhere.text);
}

#[test]
fn curl_without_certificate_says_that_it_needs_one() {
    let Some(curl) = find("curl", "curl") else { return };
    let front = Front::before(http_echo("one"));
    for (flags, words, code) in [
        ("--tls-max 1.2", "alert handshake failure", CANNOT_CONNECT),
        ("--tlsv1.3", "alert certificate required", CANNOT_RECEIVE),
    ] {
        let finished = request(&curl, &front, None, "localhost", flags);
        assert_eq!(finished.status.code(), Some(code), "{}", finished.text);
        assert!(finished.text.contains(words), "{words}: {}", finished.text);
    }
    front.refused("no_certificate");
}

#[test]
fn curl_of_a_stranger_says_that_its_ca_is_unknown() {
    let Some(curl) = find("curl", "curl") else { return };
    let front = Front::before(http_echo("one"));
    for (flags, code) in [("--tls-max 1.2", CANNOT_CONNECT), ("--tlsv1.3", CANNOT_RECEIVE)] {
        let finished = request(&curl, &front, Some(&front.stranger), "localhost", flags);
        assert_eq!(finished.status.code(), Some(code), "{}", finished.text);
        assert!(finished.text.contains("alert unknown ca"), "{}", finished.text);
    }
    front.refused("unknown_issuer");
}

/// With `Expect:`, curl asks an HTTP/1.0 server for leave that it never gives.
fn request(
    curl: &Path,
    front: &Front,
    identity: Option<&Identity>,
    host: &str,
    options: &str,
) -> Finished {
    let words = "--silent --show-error --max-time 20 --cacert {ca} --header Expect:";
    let mut command = front.command(curl, words);
    command.args(options.split_whitespace());
    if let Some(identity) = identity {
        command.arg("--cert").arg(&identity.chain_path).arg("--key").arg(&identity.key_path);
    }
    command.arg(format!("https://{host}:{}/", front.port()));
    run(command)
}

/// An HTTP/1.0 server that answers with the body of the request and its own name. Its thread ends
/// with the test's process; a connection has its timeouts.
pub(crate) fn http_echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(socket, name));
        }
    });
    address
}

fn answer(socket: TcpStream, name: &str) -> io::Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(socket);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut socket = reader.into_inner();
    write!(socket, "HTTP/1.0 200 OK\r\nUpstream: {name}\r\nContent-Length: {length}\r\n\r\n")?;
    socket.write_all(&body)
}

const BODY_BYTES: usize = 3_000_000;
/// CURLE_SSL_CONNECT_ERROR: refused within the handshake.
const CANNOT_CONNECT: i32 = 35;
/// CURLE_RECV_ERROR: a TLS 1.3 client is done before the server has looked at its certificate.
const CANNOT_RECEIVE: i32 = 56;
