//! Connections made ahead of need: taken, replaced when they died, and used by one client only.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use portcullis_kit::{
    Gateway, PATIENCE, PlainEcho, ServerTls, TlsEcho, close_write, eventually, read_to_end,
    round_trip,
};

use crate::support::{Config, Pki};

const POOL: &str = "pool = { ready_min = 3, ready_max = 3 }";

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
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
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
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = held.local_addr().unwrap();
    drop(held);
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[address, PlainEcho::start().address()], POOL)
        .start();
    eventually(PATIENCE, "a dial that failed", || {
        let failures = gateway.metrics().sum("portcullis_upstream_dial_failures_total", &[]);
        (failures >= 1).then_some(())
    });
    let _listener = TcpListener::bind(address).unwrap();
    ready(&gateway, 3);
    gateway.settled();
}
