//! The live page of the admin endpoint, in headless Chromium: it shows what goes on, its buttons do what
//! they say, it asks nobody else, and it can be read in light, in dark and on a phone.
//!
//! With `PORTCULLIS_PICTURES` set to a folder, the pictures are left there.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use portcullis_kit::{
    Authority, ClientSpec, ClientTls, Gateway, Identity, PATIENCE, PlainEcho, connect_tls,
    round_trip,
};

use crate::program::{Running, find, python_with};

#[test]
fn the_live_page_shows_the_gateway_and_obeys_in_a_browser() {
    let Some(chromium) = find("chromium", "chromium") else { return };
    let Some(chromedriver) = find("chromedriver", "chromium-driver") else { return };
    let probe = "import selenium";
    let Some(python) = python_with(probe, "the Python package selenium", "selenium") else {
        return;
    };

    let ca = Authority::new("Test Root");
    let server = ca.server(&["edge.test", "*.edge.test"]);
    let alice = ca.client(&ClientSpec::new("alice").uri("spiffe://test/alice"));
    let echo = PlainEcho::start();
    // Nobody listens there once it is dropped.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = config(&ca, &server, echo.address(), gone);
    let mut gateway = Gateway::start(env!("CARGO_BIN_EXE_portcullis"), &config);
    let client = ClientTls::trusting(&ca).identity(&alice).build();
    let mut sessions: Vec<_> = (0..3)
        .map(|_| connect_tls(gateway.addr("edge"), "blue.edge.test", &client).unwrap())
        .collect();
    for session in &mut sessions {
        assert_eq!(round_trip(session, b"hello").unwrap(), b"hello");
    }
    let nobody = ClientTls::trusting(&ca).build();
    let refused = connect_tls(gateway.addr("edge"), "blue.edge.test", &nobody);
    drop(refused.map(|mut stream| round_trip(&mut stream, b"hello")));
    gateway.wait_access(PATIENCE, |line| line["reason"] == "no_certificate");

    let mut command = Command::new(python);
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/admin_page.py"))
        .arg(gateway.admin().to_string())
        .args([chromedriver, chromium])
        .arg(std::env::var_os("PORTCULLIS_PICTURES").unwrap_or_else(|| "-".into()));
    let seen = Running::start(command).finish_within(BROWSER_PATIENCE);
    assert!(seen.status.success(), "{}", seen.text);
    assert!(seen.text.contains("seen, clicked and drained"), "{}", seen.text);
    drop(sessions);
    assert_eq!(gateway.wait_exit(BROWSER_PATIENCE).code(), Some(0));
}

/// Two chains, and two clusters of which nobody is behind `down`.
fn config(ca: &Authority, server: &Identity, up: SocketAddr, down: SocketAddr) -> String {
    format!(
        r#"
runtime = {{ workers = 2, drain = {{ grace = "15s", spread = "0s", deadline = "30s" }} }}
[admin]
listen = "127.0.0.1:0"
[listener.edge]
address = "127.0.0.1:0"
[listener.edge.chain.blue]
match   = {{ server_names = ["blue.edge.test"] }}
tls     = "edge"
cluster = "app"
[listener.edge.chain.default]
tls     = "edge"
cluster = "down"
[tls.downstream.edge]
certificates = [{{ chain = {:?}, key = {:?} }}]
trust = "clients"
[trust.clients]
anchors = [{:?}]
[cluster.app]
endpoints = ["{up}"]
health = {{ type = "tcp", interval = "1s" }}
pool = {{ ready_min = 1, ready_max = 4 }}
[cluster.down]
endpoints = ["{down}"]
health = {{ type = "tcp", interval = "1s" }}
"#,
        server.chain_path,
        server.key_path,
        ca.ca_path(),
    )
}

/// A browser that starts on a busy machine takes its time, and so does the drain's grace, in which the page
/// shows that it drains.
const BROWSER_PATIENCE: Duration = Duration::from_secs(180);
