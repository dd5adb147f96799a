//! Under a supervisor that speaks systemd's protocols: what it is told and when (sd_notify(3)), and
//! sockets that it opens (sd_listen_fds(3)). Played by the test, and by `systemd-socket-activate`.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::time::Duration;

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, close_write, connect_plain, connect_tls, missing, monotonic_now,
    read_to_end, round_trip, within,
};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::support::{BINARY, Config, NAME, Pki, free_address};

/// The socket of a supervisor.
struct Supervisor {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, directory }
    }

    /// A command that is told where this listens.
    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command
    }

    /// The next message that is none of the watchdog's.
    fn next(&self) -> String {
        loop {
            let message = self.any();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    fn any(&self) -> String {
        let mut buffer = [0; 4096];
        // A signal may come in between: of a child that ends, say.
        let length = loop {
            match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

fn microseconds() -> u64 {
    let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

fn end(mut stream: portcullis_kit::TlsStream) {
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

#[test]
fn a_supervisor_is_told_of_start_reloads_and_end() {
    let (pki, echoes, supervisor) = (Pki::new(), PlainEcho::start(), Supervisor::new());
    let text = Config::edge(&pki, echoes.address()).to_string();
    let text = text.replace("runtime = {", "runtime = { watch = false,");
    let directory = TempDir::new().unwrap();
    let mut gateway = Gateway::start_as(supervisor.command(), directory, &text);
    assert_eq!(supervisor.next(), "READY=1\nSTATUS=serving, generation 1, listeners: 1\n");
    for (text, status) in [
        (text.clone(), "serving, generation 2, listeners: 1"),
        (
            "[listener.edge".to_owned(),
            "serving, generation 2, listeners: 1; the last reload failed, see the log",
        ),
        (text.clone(), "serving, generation 3, listeners: 1"),
    ] {
        gateway.rewrite(&text);
        let asked = microseconds();
        gateway.signal(Signal::HUP);
        let reloading = supervisor.next();
        let when = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let when: u64 = when.lines().next().unwrap().parse().unwrap();
        assert!((asked..=microseconds()).contains(&when), "{asked} {when}");
        assert_eq!(supervisor.next(), format!("READY=1\nSTATUS={status}\n"));
    }
    gateway.signal(Signal::TERM);
    let stopping = supervisor.next();
    assert!(
        stopping.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000\nSTATUS=draining"),
        "{stopping}"
    );
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
}

#[test] // threat 40
fn a_watchdog_is_fed_while_workers_live_and_in_a_drain_too() {
    let (pki, echoes, supervisor) = (Pki::new(), PlainEcho::start(), Supervisor::new());
    let drain = r#"{ grace = "60s", spread = "0s", deadline = "120s" }"#;
    let config = Config::with_drain(2, drain)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "");
    let mut command = supervisor.command();
    command.env("WATCHDOG_USEC", "2000000");
    let mut gateway = Gateway::start_as(command, TempDir::new().unwrap(), &config.to_string());
    let fed = |times: u32| {
        let began = monotonic_now();
        let mut seen = 0;
        while seen < times {
            seen += u32::from(supervisor.any() == "WATCHDOG=1\n");
        }
        began.elapsed()
    };
    fed(3);
    gateway.signal(Signal::TERM);
    let took = fed(3);
    assert!(took > Duration::from_millis(500), "not more often than needed: {took:?}");
    gateway.signal(Signal::TERM);
    gateway.wait_exit(PATIENCE);
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let (pki, echoes, supervisor) = (Pki::new(), PlainEcho::start(), Supervisor::new());
    let mut command = supervisor.command();
    command.env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1");
    let text = Config::edge(&pki, echoes.address()).to_string();
    let mut gateway = Gateway::start_as(command, TempDir::new().unwrap(), &text);
    assert!(supervisor.any().starts_with("READY=1"));
    gateway.reload(&text);
    assert!(supervisor.any().starts_with("RELOADING=1"));
    assert!(supervisor.any().starts_with("READY=1"));
    gateway.signal(Signal::TERM);
    assert!(supervisor.any().starts_with("STOPPING=1"));
    gateway.wait_exit(PATIENCE);
}

#[test]
fn a_supervisor_that_does_not_read_keeps_the_gateway_from_nothing() {
    let (pki, echoes, supervisor) = (Pki::new(), PlainEcho::start(), Supervisor::new());
    let text = Config::edge(&pki, echoes.address()).to_string();
    let directory = TempDir::new().unwrap();
    let mut command = supervisor.command();
    // The kernel keeps some ten messages for it.
    command.env("WATCHDOG_USEC", "100000");
    let gateway = Gateway::start_as(command, directory, &text);
    gateway.wait_log(&["does not read what it is told", "the gateway serves on"]);
    end(pki.connect(&gateway));
    assert_eq!(gateway.reload(&format!("{text}[log]\nlevel = \"debug\"\n")), 2);
    end(pki.connect(&gateway));
    assert_eq!(gateway.terminate().code(), Some(0));
    drop(supervisor);
}

#[test] // threat 37
fn an_upgrade_tells_the_supervisor_whom_to_watch_from_now_on() {
    let (pki, echoes, supervisor) = (Pki::new(), PlainEcho::start(), Supervisor::new());
    let text = Config::edge(&pki, echoes.address()).to_string();
    let mut command = supervisor.command();
    command.env("WATCHDOG_USEC", "1000000");
    let mut gateway = Gateway::start_as(command, TempDir::new().unwrap(), &text);
    assert!(supervisor.next().starts_with("READY=1"));
    let old = gateway.upgrade();
    assert_eq!(supervisor.next(), "STATUS=upgrading: the new process starts\n");
    assert_eq!(supervisor.next(), format!("MAINPID={}\n", gateway.pid()));
    assert!(supervisor.next().starts_with("READY=1"), "the service goes on");
    assert_eq!(old.wait_exit(PATIENCE).code(), Some(0));
    // Only the new one can be there.
    assert_eq!(supervisor.any(), "WATCHDOG=1\n");
    gateway.signal(Signal::TERM);
    assert!(supervisor.next().starts_with("STOPPING=1"));
    gateway.wait_exit(PATIENCE);
}

/// Has a shell start the gateway with these descriptors from 3 on.
fn activated(sockets: Vec<(OwnedFd, &str)>, config: &str) -> Gateway {
    let mut redirections = String::new();
    let mut kept = Vec::new();
    for (at, (socket, _)) in sockets.iter().enumerate() {
        // Far from where they go to.
        let socket = rustix::io::fcntl_dupfd_cloexec(socket, 100).unwrap();
        let from = socket.as_raw_fd();
        redirections += &format!(" {}<&{from} {from}<&-", at + 3);
        kept.push(socket);
    }
    let names: Vec<_> = sockets.iter().map(|(_, name)| *name).collect();
    let script = format!(
        "exec{redirections}; LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} exec {BINARY} \"$@\"",
        sockets.len(),
        names.join(":")
    );
    drop(sockets);
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash"]);
    Gateway::start_given(command, TempDir::new().unwrap(), config, &kept)
}

#[test]
fn sockets_of_a_supervisor_are_taken_by_address_and_by_name_and_change_hands() {
    let (pki, echoes, directory) = (Pki::new(), PlainEcho::start(), TempDir::new().unwrap());
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (edge, side, stray) = (listen(), listen(), listen());
    let (edge_at, side_at) = (edge.local_addr().unwrap(), side.local_addr().unwrap());
    let stray_at = stray.local_addr().unwrap();
    let path = directory.path().join("admin.sock");
    let admin = UnixListener::bind(&path).unwrap();
    // One by its address, whatever its name; one by its name, for port 0.
    let text = Config::bare()
        .table("runtime = { workers = 2, drain = { grace = \"0s\", spread = \"0s\", deadline = \"5s\" } }")
        .table(&format!("[admin]\nlisten = \"unix:{}\"", path.display()))
        .table(&format!("[listener.edge]\naddress = \"{edge_at}\""))
        .listener("side", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .chain("side", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "")
        .to_string();
    let sockets = vec![
        (OwnedFd::from(edge), "portcullis.socket"),
        (OwnedFd::from(side), "side"),
        (OwnedFd::from(stray), "stray"),
        (OwnedFd::from(admin), "admin"),
    ];
    let mut gateway = activated(sockets, &text);
    assert_eq!((gateway.addr("edge"), gateway.addr("side")), (edge_at, side_at));
    gateway.wait_log(&["nobody listens any more on systemd's stray", &stray_at.to_string()]);
    assert!(connect_plain(stray_at).is_err(), "it is closed");
    let client = pki.client().build();
    let both = || {
        for address in [edge_at, side_at] {
            // More than there are workers.
            for _ in 0..8 {
                end(connect_tls(address, NAME, &client).unwrap());
            }
        }
    };
    both();
    let old = gateway.upgrade();
    assert_eq!(old.wait_exit(PATIENCE).code(), Some(0));
    both();
    assert_eq!(gateway.terminate().code(), Some(0));
    assert!(path.exists(), "the supervisor's file is the supervisor's");
}

#[test]
fn a_socket_of_another_address_than_its_listener_is_an_error_with_both() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, other) = (socket.local_addr().unwrap(), free_address());
    let text = Config::edge(&pki, echoes.address()).to_string();
    let text = text.replacen("address = \"127.0.0.1:0\"", &format!("address = \"{other}\""), 1);
    let start = move || activated(vec![(OwnedFd::from(socket), "edge")], &text);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(start)).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    for words in
        ["systemd's socket edge listens on", &at.to_string(), &other.to_string(), "ListenStream="]
    {
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn systemd_itself_activates_it() {
    let program = "systemd-socket-activate";
    if Command::new(program).arg("--version").output().is_err() {
        return missing(program, "apt install systemd");
    }
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let (edge, side) = (free_address(), free_address());
    let mut text = Config::bare();
    for (name, address) in [("edge", edge), ("side", side)] {
        text = text.table(&format!("[listener.{name}]\naddress = \"{address}\""));
        text = text.chain(name, "default", "tls = \"edge\"\ncluster = \"app\"");
    }
    let text = text.mutual(&pki, "").cluster("app", &[echoes.address()], "").to_string();
    let directory = TempDir::new().unwrap();
    let mut command = Command::new(program);
    command.args([format!("--listen={edge}"), format!("--listen={side}")]);
    command.args(["--fdname=edge:side", BINARY]);
    let client = pki.client().build();
    // It starts the program once somebody connects.
    let first = std::thread::spawn({
        let client = client.clone();
        move || within(PATIENCE, "the first client", move || first_session(edge, &client))
    });
    let mut gateway = Gateway::start_as(command, directory, &text);
    first.join().unwrap();
    end(connect_tls(side, NAME, &client).unwrap());
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(0));
}

/// Tries until somebody listens.
fn first_session(address: SocketAddr, client: &std::sync::Arc<rustls::ClientConfig>) {
    loop {
        match connect_tls(address, NAME, client) {
            Ok(stream) => return end(stream),
            Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
        }
    }
}
