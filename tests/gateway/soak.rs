//! A hundred reloads under load: nobody is lost, and nothing of them stays.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_kit::{
    Deadline, Gateway, Identity, PATIENCE, PlainEcho, close_write, connect_tls, eventually,
    read_to_end, round_trip,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Config, NAME, Pki, assert_same, pattern};

/// Reloads that are measured, after those that fill caches and pools.
const RELOADS: u64 = 100;
const WARM_UP: u64 = 25;

/// Each of so many configurations is wrong.
const BAD: u64 = 5;

/// Of a chain, so that one snapshot takes more than a megabyte: one that stays each time is seen.
const NAMES: usize = 5_000;

/// What the allocator may hold back from the kernel, and what thirty-odd megabytes differ by from one
/// moment to the next. A snapshot that leaks with every reload makes a hundred megabytes.
const RESIDENT_TOLERANCE: u64 = 16 * 1024 * 1024;

/// Of the process, when nobody is connected but who stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    descriptors: u64,
    threads: u64,
}

fn config(pki: &Pki, server: &Identity, upstream: SocketAddr) -> String {
    let names: Vec<_> = (0..NAMES).map(|at| format!("\"n{at}.names.test\"")).collect();
    Config::new(2)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .chain(
            "edge",
            "many",
            &format!("match.server_names = [{}]\ncluster = \"app\"", names.join(",")),
        )
        .downstream("edge", &[server], "trust = \"clients\"")
        .trust("clients", &pki.ca)
        .cluster("app", &[upstream], "")
        .to_string()
        // What changes is loaded when the signal comes, and not in the middle of a change.
        .replace("runtime = {", "runtime = { watch = false,")
}

fn in_use(gateway: &Gateway) -> Use {
    let metrics = gateway.metrics();
    let count = |name: &str| metrics.sum(name, &[]);
    Use {
        descriptors: count("portcullis_process_open_descriptors"),
        threads: count("portcullis_process_threads"),
    }
}

/// What the descriptors of the process lead to.
fn opened(gateway: &Gateway) -> Vec<std::path::PathBuf> {
    let directory = format!("/proc/{}/fd", gateway.pid());
    let entries = fs::read_dir(directory).unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// The inodes of the sockets that listen on `address`.
fn listening(gateway: &Gateway, address: SocketAddr) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", gateway.pid())).unwrap();
    let port = format!(":{:04X}", address.port());
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row[1].ends_with(&port) && row[3] == "0A");
    let mut inodes: Vec<_> = ours.map(|row| row[9].to_owned()).collect();
    inodes.sort_unstable();
    inodes
}

/// Clients that come and go until they are told to stop, and how many there were.
fn come_and_go(
    pki: &Arc<Pki>,
    edge: SocketAddr,
    is_over: &Arc<AtomicBool>,
) -> Vec<thread::JoinHandle<u64>> {
    let client = |seed| {
        let (pki, is_over) = (Arc::clone(pki), Arc::clone(is_over));
        move || {
            let mut sessions = 0;
            while !is_over.load(Ordering::Relaxed) {
                // Every other one resumes.
                let client = pki.client().build();
                for _ in 0..2 {
                    let mut stream = connect_tls(edge, NAME, &client).unwrap();
                    let sent = pattern(seed, 2 * 1024);
                    assert_same(&round_trip(&mut stream, &sent).unwrap(), &sent, "a session");
                    close_write(&mut stream).unwrap();
                    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
                    sessions += 1;
                }
                thread::park_timeout(Duration::from_millis(2));
            }
            sessions
        }
    };
    (0..2).map(|seed| thread::spawn(client(seed))).collect()
}

/// Reloads of one gateway, each with another certificate and upstream, some wrong.
struct Turns<'a> {
    gateway: &'a Gateway,
    pki: &'a Pki,
    files: &'a TempDir,
    texts: [String; 2],
    generation: u64,
    failed: u64,
}

impl<'a> Turns<'a> {
    fn of(gateway: &'a Gateway, pki: &'a Pki, files: &'a TempDir, texts: [String; 2]) -> Self {
        Self { gateway, pki, files, texts, generation: 1, failed: 0 }
    }

    /// Puts a new certificate in the place of the present one.
    fn renew(pki: &Pki, files: &TempDir) -> Identity {
        let mut server = pki.ca.server(&[NAME]);
        for (path, name) in
            [(&mut server.chain_path, "edge.crt"), (&mut server.key_path, "edge.key")]
        {
            let stable = files.path().join(name);
            fs::copy(&*path, &stable).unwrap();
            *path = stable;
        }
        server
    }

    fn turn(&mut self, turn: u64) {
        if turn % BAD == BAD - 1 {
            // Once the text is wrong, once what it names.
            let bad = match turn % 2 {
                0 => self.texts[0].replace("[cluster.app]", "[cluster.ap]"),
                _ => self.texts[0].replace("edge.crt", "missing.crt"),
            };
            self.gateway.rewrite(&bad);
            self.gateway.signal(Signal::HUP);
            self.failed += 1;
            let labels = [("result", "failed")];
            eventually(PATIENCE, "the failure", || {
                let failed = self.gateway.metrics().sum("portcullis_reloads_total", &labels);
                (failed == self.failed).then_some(())
            });
            return;
        }
        Self::renew(self.pki, self.files);
        self.gateway.rewrite(&self.texts[usize::from(turn % 2 == 1)]);
        self.gateway.signal(Signal::HUP);
        self.generation += 1;
        assert_eq!(self.gateway.wait_generation(self.generation), self.generation);
    }
}

/// Waits until the process has no more descriptors and threads than it had when it was fresh.
fn back_to(gateway: &Gateway, want: Use) {
    // Threads that loaded configurations end when they have been idle for a while.
    let deadline = Deadline::after(PATIENCE);
    loop {
        let now = in_use(gateway);
        if now.descriptors <= want.descriptors && now.threads <= want.threads {
            return;
        }
        assert!(!deadline.is_over(), "{now:?}, at first {want:?}: {:?}", opened(gateway));
        thread::park_timeout(Duration::from_millis(50));
    }
}

#[test] // threat 35
fn a_hundred_reloads_under_load_lose_nobody_and_leave_nothing_behind() {
    let (pki, one, other) = (Arc::new(Pki::new()), PlainEcho::start(), PlainEcho::start());
    let files = TempDir::new().unwrap();
    let server = Turns::renew(&pki, &files);
    let texts = [one.address(), other.address()].map(|at| config(&pki, &server, at));
    let gateway = Gateway::start(crate::support::BINARY, &texts[0]);
    let edge = gateway.addr("edge");
    let sockets = listening(&gateway, edge);
    assert_eq!(sockets.len(), 2);
    let mut stays = pki.connect(&gateway);
    assert_eq!(round_trip(&mut stays, b"hello").unwrap(), b"hello");
    let fresh = in_use(&gateway);
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = come_and_go(&pki, edge, &is_over);
    let mut turns = Turns::of(&gateway, &pki, &files, texts.clone());
    let mut reload = |turn| {
        turns.turn(turn);
        let sent = pattern(turn, 32 * 1024);
        assert_same(&round_trip(&mut stays, &sent).unwrap(), &sent, "who stays");
    };
    (0..WARM_UP).for_each(&mut reload);
    let resident = gateway.resident();
    (WARM_UP..WARM_UP + RELOADS - 1).for_each(&mut reload);
    let newest = Turns::renew(&pki, &files);
    gateway.reload(&texts[0]);
    let grown = gateway.resident().saturating_sub(resident);
    is_over.store(true, Ordering::Relaxed);
    let sessions: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    println!("{sessions} sessions; {} KiB more in RAM than {} KiB", grown / 1024, resident / 1024);
    assert!(grown < RESIDENT_TOLERANCE, "{grown} bytes more after {RELOADS} reloads");
    assert_eq!(listening(&gateway, edge), sockets, "the same sockets");
    let mut last = connect_tls(edge, NAME, &pki.client().build()).unwrap();
    assert_eq!(last.conn.peer_certificates().unwrap()[0], newest.chain_der[0]);
    close_write(&mut last).unwrap();
    assert_eq!(read_to_end(&mut last).unwrap(), b"");
    back_to(&gateway, fresh);
    // Who stays is with the chain and the upstream that it began with.
    close_write(&mut stays).unwrap();
    assert_eq!(read_to_end(&mut stays).unwrap(), b"");
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_refusals_total", &[]), 0);
    assert_eq!(metrics.sum("portcullis_sessions_total", &[]), sessions + 2);
    let line = gateway.access_log().into_iter().max_by_key(|line| line["bytes_sent"].as_u64());
    assert_eq!(line.unwrap()["upstream"], one.address().to_string());
    assert_eq!(gateway.terminate().code(), Some(0));
}
