//! Connections made ahead of need: taken, replaced when they died, given to other workers, and used by
//! one client only.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use portcullis_kit::{
    ClosedPort, Gateway, PATIENCE, ServerTls, TlsEcho, close_write, eventually, monotonic_now,
    read_to_end, round_trip,
};

use crate::support::{Config, Pki};

const POOL: &str = "pool = { ready_min = 3, ready_max = 3 }";

const POOL_OF_TWO: &str = "{ ready_min = 2, ready_max = 2 }";

fn ready(gateway: &Gateway, count: u64) {
    eventually(PATIENCE, "ready connections", || {
        let ready = gateway.metrics().sum("portcullis_upstream_ready", &[]);
        (ready == count).then_some(())
    });
}

#[test]
fn clients_take_connections_that_were_made_ahead_of_need() {
    let pki = Pki::new();
    let upstream = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(&pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster("db", &[upstream.address()], &format!("tls = \"db\"\n{POOL}"))
        .start();
    for _ in 0..6 {
        ready(&gateway, 3);
        let mut stream = pki.connect(&gateway);
        assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
        close_write(&mut stream).unwrap();
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_upstream_ready_hits_total", &[]), 6);
    assert_eq!(metrics.sum("portcullis_upstream_ready_misses_total", &[]), 0);
    let log = gateway.access_log();
    assert!(log.iter().all(|line| line["upstream_ready"] == true));
    ready(&gateway, 3);
    // Each session used up one connection, and each was replaced.
    let counts = upstream.wait("nine dials", |counts| counts.accepted == 9);
    assert_eq!(counts.closed, 6);
}

#[test] // threat 28
fn an_outage_is_in_the_log_once_before_a_client_meets_it() {
    let pki = Pki::new();
    let closed = ClosedPort::new();
    let address = closed.address;
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(&pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster("db", &[address], &format!("tls = \"db\"\n{POOL}"))
        .start();
    // Three dials a round: the second round has failed, too.
    eventually(PATIENCE, "failed dials", || {
        let failed = gateway.metrics().sum("portcullis_upstream_dial_failures_total", &[]);
        (failed >= 4).then_some(())
    });
    let said = gateway.other_output();
    let lines: Vec<_> = said.lines().filter(|line| line.contains("no ready connections")).collect();
    let [line] = lines[..] else { panic!("{said}") };
    assert!(line.contains("cluster=db") && line.contains(&address.to_string()), "{line}");
    gateway.settled();
}

#[test] // threat 30
fn no_upstream_connection_ever_carries_two_clients() {
    let pki = Pki::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // What each connection heard: identities, if more than one came over it.
    let heard = Arc::new(Mutex::new(Vec::<String>::new()));
    let collected = Arc::clone(&heard);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, heard) = (socket.unwrap(), Arc::clone(&collected));
            thread::spawn(move || {
                let (mut all, mut buffer) = (String::new(), [0; 256]);
                while let Ok(length @ 1..) = socket.read(&mut buffer) {
                    all += std::str::from_utf8(&buffer[..length]).unwrap();
                    drop(socket.write_all(&buffer[..length]));
                }
                heard.lock().unwrap().push(all);
            });
        }
    });
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[address], POOL)
        .start();
    for round in 0..5 {
        let mut together: Vec<_> = (0..6).map(|_| pki.connect(&gateway)).collect();
        for (at, stream) in together.iter_mut().enumerate() {
            let identity = format!("<client {round}.{at}>");
            let back = round_trip(stream, identity.as_bytes()).unwrap();
            assert_eq!(back, identity.as_bytes());
        }
        for mut stream in together {
            close_write(&mut stream).unwrap();
            assert_eq!(read_to_end(&mut stream).unwrap(), b"");
        }
    }
    gateway.settled();
    let used = eventually(PATIENCE, "thirty sessions at the upstream", || {
        let heard = heard.lock().unwrap();
        let used: Vec<_> = heard.iter().filter(|all| !all.is_empty()).cloned().collect();
        (used.len() >= 30).then_some(used)
    });
    assert!(used.iter().all(|all| all.matches('<').count() == 1), "{used:?}");
    assert_eq!(used.iter().collect::<HashSet<_>>().len(), 30, "{used:?}");
}

/// Accepts, and closes every connection but those after the first `count` at once or later.
struct Closing {
    listener: TcpListener,
    held: Vec<TcpStream>,
}

impl Closing {
    fn accept(&mut self, count: usize) {
        for _ in 0..count {
            self.held.push(self.listener.accept().unwrap().0);
        }
    }
}

#[test] // threat 29
fn ready_connections_that_the_upstream_closed_are_replaced_unseen() {
    let pki = Pki::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut upstream = Closing { listener, held: Vec::new() };
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[address], POOL)
        .start();
    for reset in [false, true] {
        upstream.accept(3 - upstream.held.len());
        ready(&gateway, 3);
        // All that are ready die.
        for socket in upstream.held.drain(..) {
            if reset {
                portcullis_kit::reset(socket);
            }
        }
        let mut stream = pki.connect(&gateway);
        stream.write_all(b"hello").unwrap();
        // Dead ones were replaced by dials of which one carries the client.
        upstream.accept(4);
        let mut carried = None;
        for at in 0..upstream.held.len() {
            let socket = &mut upstream.held[at];
            socket.set_nonblocking(true).unwrap();
        }
        eventually(PATIENCE, "the client's bytes", || {
            carried = upstream.held.iter_mut().position(|socket| {
                let mut bytes = [0; 5];
                matches!(socket.read(&mut bytes), Ok(5)) && &bytes == b"hello"
            });
            carried
        });
        let mut socket = upstream.held.swap_remove(carried.unwrap());
        socket.write_all(b"there").unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"there");
        close_write(&mut stream).unwrap();
        drop(socket);
        assert_eq!(read_to_end(&mut stream).unwrap(), b"");
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_sessions_total", &[]), 2);
}

#[test] // threat 29
fn a_ready_connection_that_dies_before_the_clients_first_byte_is_replaced() {
    let pki = Pki::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[address], "pool = { ready_min = 1, ready_max = 1 }")
        .start();
    let (first, _) = listener.accept().unwrap();
    ready(&gateway, 1);
    // Whichever comes after it answers.
    thread::spawn(move || {
        for socket in listener.incoming() {
            thread::spawn(move || {
                let (mut socket, mut heard) = (socket.unwrap(), [0; 5]);
                if socket.read_exact(&mut heard).is_ok() {
                    drop(socket.write_all(&heard));
                }
            });
        }
    });
    let mut stream = pki.connect(&gateway);
    // The session has it, and the client is still silent.
    eventually(PATIENCE, "the session", || {
        (gateway.metrics().sum("portcullis_sessions_open", &[]) == 1).then_some(())
    });
    drop(first);
    stream.write_all(b"hello").unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"hello");
    close_write(&mut stream).unwrap();
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_sessions_total", &[]), 1);
}

#[test]
fn an_upstream_that_comes_back_is_dialled_ahead_again() {
    let pki = Pki::new();
    let closed = ClosedPort::new();
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[closed.address], POOL)
        .start();
    eventually(PATIENCE, "a dial that failed", || {
        let failures = gateway.metrics().sum("portcullis_upstream_dial_failures_total", &[]);
        (failures >= 1).then_some(())
    });
    let _listener = closed.open();
    ready(&gateway, 3);
    gateway.settled();
}

/// What stands before an upstream and lets new connections through, or not.
struct Gate {
    address: SocketAddr,
    door: Arc<(Mutex<Door>, Condvar)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    /// Who comes waits until it is open.
    Closed,
    /// Who comes is reset.
    Forbidden,
}

impl Gate {
    fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let door = Arc::new((Mutex::new(Door::Open), Condvar::new()));
        let guarded = Arc::clone(&door);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, door) = (socket.unwrap(), Arc::clone(&guarded));
                thread::spawn(move || pass(socket, &door, upstream));
            }
        });
        Self { address, door }
    }

    fn set(&self, door: Door) {
        *self.door.0.lock().unwrap() = door;
        self.door.1.notify_all();
    }
}

fn pass(socket: TcpStream, door: &(Mutex<Door>, Condvar), upstream: SocketAddr) {
    let (state, changed) = door;
    let found = changed.wait_while(state.lock().unwrap(), |door| *door == Door::Closed).unwrap();
    if *found == Door::Forbidden {
        return portcullis_kit::reset(socket);
    }
    drop(found);
    let there = TcpStream::connect(upstream).unwrap();
    let (mut from, mut to) = (socket.try_clone().unwrap(), there.try_clone().unwrap());
    let forth = thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(std::net::Shutdown::Write));
    });
    let (mut from, mut to) = (there, socket);
    drop(std::io::copy(&mut from, &mut to));
    drop(to.shutdown(std::net::Shutdown::Write));
    forth.join().unwrap();
}

/// For so long a client whose own dial has failed waits for a connection of another worker.
const ANSWER_TIME: Duration = Duration::from_millis(50);

/// Whether a client is served, which by the time it is. Else the other worker had no processor for as long as
/// is waited for it.
fn is_served(pki: &Pki, gateway: &Gateway) -> bool {
    let began = monotonic_now();
    let mut stream = pki.connect(gateway);
    let said = stream.write_all(b"hello").and_then(|()| close_write(&mut stream));
    match said.and_then(|()| read_to_end(&mut stream)) {
        // Behind a header, if the upstream is sent one.
        Ok(back) => assert!(back.ends_with(b"hello"), "{back:?}"),
        Err(error) => {
            let took = began.elapsed();
            assert!(took >= ANSWER_TIME, "refused after {took:?}: {error}");
            return false;
        }
    }
    true
}

/// Four ready connections on two workers, four clients one after another, and no way to a fifth: all are
/// served, wherever the kernel puts them.
fn four_clients_of_four_connections(door: Door, keys: &str, rounds: u32) {
    let pki = Pki::new();
    let upstream = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let gate = Gate::before(upstream.address());
    let gateway = Config::new(2)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(&pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster("db", &[gate.address], &format!("tls = \"db\"\npool = {POOL_OF_TWO}\n{keys}"))
        .start();
    let (mut clients, mut late) = (0, 0);
    for round in 1..=60 {
        gate.set(Door::Open);
        ready(&gateway, 4);
        gate.set(door);
        for _ in 0..4 {
            late += u64::from(!is_served(&pki, &gateway));
            clients += 1;
        }
        // In three of eight rounds the kernel happens to give each worker as many as it has.
        if round >= rounds
            && late <= clients / LATE_PART
            && gateway.metrics().sum("portcullis_upstream_ready_stolen_total", &[]) > 0
        {
            break;
        }
    }
    gate.set(Door::Open);
    ready(&gateway, 4);
    let metrics = gateway.settled();
    let stolen = metrics.sum("portcullis_upstream_ready_stolen_total", &[]);
    let hits = metrics.sum("portcullis_upstream_ready_hits_total", &[]);
    assert!(stolen > 0, "no worker was ever without one");
    assert_eq!(hits + stolen + late, clients);
    // Whose dial hangs waits for as long as that.
    let late_max = if door == Door::Forbidden { clients / LATE_PART } else { 0 };
    assert!(late <= late_max, "{late} of {clients} clients were refused");
    assert_eq!(metrics.sum("portcullis_upstream_ready_misses_total", &[]), late);
    assert_eq!(metrics.sum("portcullis_panics_total", &[]), 0);
    let log = gateway.access_log();
    let (refused, served): (Vec<_>, Vec<_>) =
        log.iter().partition(|line| line["outcome"] == "refused");
    // The dial of each was reset: before its hello was sent, or after.
    let reasons: Vec<_> = refused.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    let is_reset = |reason: &&str| ["upstream_connect", "upstream_tls"].contains(reason);
    assert!(reasons.iter().all(is_reset), "{reasons:?}");
    assert!(served.iter().all(|line| line["upstream_ready"] == true));
    // Each is counted where it is: once no dial is on its way, those that are ready are all that are open.
    eventually(PATIENCE, "the counts of what is open", || {
        let metrics = gateway.metrics();
        let open = ["portcullis_upstream_active", "portcullis_endpoint_active"];
        (open.map(|gauge| metrics.sum(gauge, &[])) == [4, 4]).then_some(())
    });
}

/// On a busy machine one client in so many may be refused.
const LATE_PART: u64 = 20;

#[test]
fn a_worker_that_has_none_ready_takes_one_of_another_while_its_dial_hangs() {
    four_clients_of_four_connections(Door::Closed, "", 1);
}

#[test]
fn a_worker_that_has_none_ready_takes_one_of_another_when_its_dial_fails() {
    four_clients_of_four_connections(Door::Forbidden, "", 1);
}

/// Its header is still unsent when the dial fails, now and then.
#[test]
fn one_that_came_of_another_worker_is_kept_when_the_dial_fails_before_its_header_is_sent() {
    let header = "proxy_protocol = { version = 2, inside_tls = true }\nconnect = { attempts = 1 }";
    four_clients_of_four_connections(Door::Forbidden, header, 30);
}
