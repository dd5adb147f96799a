//! A whole gateway in this process, for what cannot be brought about from outside.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use portcullis_kit::{Authority, ClientTls, PATIENCE, PlainEcho, eventually};
use rustls::ClientConnection;

use super::*;
use crate::config;
use crate::sys::socket;
use crate::worker::panic_hook;

/// The hello of a client that asks for `name`, as its upstream gets it back to it.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientTls::trusting(&Authority::new("Nobody's")).build();
    let mut client = ClientConnection::new(config, name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn echoes(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
}

/// It gets nothing, and is not left waiting.
fn is_lost(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(read) => assert_eq!(read, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test] // threat 40
fn a_panic_costs_its_connection_and_no_other() {
    let echo = PlainEcho::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.toml");
    let text = format!(
        "[runtime]\nworkers = 1\n[listener.edge]\naddress = \"127.0.0.1:0\"\n\
         [listener.edge.chain.default]\ncluster = \"only\"\n\
         [cluster.only]\nendpoints = [\"{}\"]\n",
        echo.address()
    );
    std::fs::write(&file, text).unwrap();
    let mut gateway = Gateway::start(config::load(&file).unwrap(), None).unwrap();
    let (_, address) = gateway.addresses().pop().unwrap();
    let counters = Arc::clone(&gateway.peers[0].counters);
    let held = connect(address);
    echoes(&held, &hello("held.test"));

    // While its hello is looked at, and in the middle of a pass.
    is_lost(&connect(address), &hello(&format!("{}.test", panic_hook::WORD)));
    let session = connect(address);
    echoes(&session, &hello("good.test"));
    is_lost(&session, format!("please {}", panic_hook::WORD).as_bytes());

    echoes(&held, b"still there");
    let next = connect(address);
    echoes(&next, &hello("next.test"));
    eventually(PATIENCE, "two panics, counted", || (counters.panics.value() == 2).then_some(()));
    eventually(PATIENCE, "two connections", || (counters.open.value() == 2).then_some(()));
    drop((held, next));
    eventually(PATIENCE, "no connection", || (counters.open.value() == 0).then_some(()));
    gateway.stop().unwrap();
}

#[test] // threat 40
fn a_pool_whose_dials_panic_dials_again_later_and_clients_of_others_are_served() {
    let echo = PlainEcho::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.toml");
    let (upstream, word) = (echo.address(), panic_hook::WORD);
    let text = format!(
        "[runtime]\nworkers = 1\n[listener.edge]\naddress = \"127.0.0.1:0\"\n\
         [listener.edge.chain.default]\ncluster = \"only\"\n\
         [cluster.only]\nendpoints = [\"{upstream}\"]\n\
         [cluster.{word}]\nendpoints = [\"{upstream}\"]\npool = {{ ready_min = 1, ready_max = 2 }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut gateway = Gateway::start(config::load(&file).unwrap(), None).unwrap();
    let (_, address) = gateway.addresses().pop().unwrap();
    let counters = Arc::clone(&gateway.peers[0].counters);
    eventually(PATIENCE, "another dial", || (counters.panics.value() >= 2).then_some(()));
    echoes(&connect(address), &hello("good.test"));
    gateway.stop().unwrap();
}

/// A folder for a plan, and where its upstream is.
struct Plans {
    folder: tempfile::TempDir,
    echo: PlainEcho,
}

impl Plans {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), echo: PlainEcho::start() }
    }

    fn with(&self, listeners: &[(&str, SocketAddr)]) -> Plan {
        self.with_workers(1, listeners)
    }

    fn with_workers(&self, workers: usize, listeners: &[(&str, SocketAddr)]) -> Plan {
        let upstream = self.echo.address();
        let mut text = format!(
            "[runtime]\nworkers = {workers}\n[cluster.only]\nendpoints = [\"{upstream}\"]\n"
        );
        for (name, address) in listeners {
            text.push_str(&format!(
                "[listener.{name}]\naddress = \"{address}\"\n\
                 [listener.{name}.chain.all]\ncluster = \"only\"\n"
            ));
        }
        let file = self.folder.path().join("portcullis.toml");
        std::fs::write(&file, text).unwrap();
        config::load(&file).unwrap()
    }
}

/// The kernel chooses the port.
fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[test]
fn whether_accepting_is_deferred_follows_the_configuration_while_the_socket_stays() {
    let plans = Plans::new();
    let plan = |defer_accept| {
        let mut plan = plans.with(&[("edge", anywhere())]);
        plan.listeners[0].defer_accept = defer_accept;
        plan
    };
    let is_deferred =
        |gateway: &Gateway| socket::is_accept_deferred(&gateway.sockets()[0].sockets[0]);
    let loaded = Gateway::load(plan(true), &mut Given::default()).unwrap();
    let mut gateway = loaded.spawn(None).unwrap();
    assert!(!is_deferred(&gateway), "another process may go on with the socket");
    gateway.open();
    let (_, address) = gateway.addresses().remove(0);
    assert!(is_deferred(&gateway));
    for wanted in [false, true] {
        gateway.reload(plan(wanted)).unwrap();
        assert_eq!(gateway.addresses()[0].1, address);
        assert_eq!(is_deferred(&gateway), wanted);
    }
    echoes(&connect(address), &hello("late.test"));

    let worker_socket = gateway.sockets()[0].sockets[0].try_clone().unwrap();
    gateway.drain(clock::now());
    assert!(!socket::is_accept_deferred(&worker_socket), "nobody is left behind in the grace");
    gateway.stop().unwrap();
}

#[test] // threat 35
fn a_listener_that_comes_back_while_its_socket_is_still_open_is_bound() {
    let plans = Plans::new();
    let mut gateway =
        Gateway::start(plans.with(&[("edge", anywhere()), ("other", anywhere())]), None).unwrap();
    let (_, address) = gateway.addresses().remove(0);
    let both = [("edge", address), ("other", anywhere())];
    gateway.reload(plans.with(&both)).unwrap();

    // As on a worker that has other things to do: it holds its socket, and what it was told it by.
    let edge = gateway.sockets().into_iter().find(|held| &*held.name == "edge").unwrap();
    let worker_socket = edge.sockets[0].try_clone().unwrap();
    let worker_snapshot = gateway.current().load_full();
    gateway.reload(plans.with(&both[1..])).unwrap();
    let report = gateway.reload(plans.with(&both)).unwrap();
    assert_eq!(report.opened, [("edge".into(), address)]);

    // Whose socket it is once no worker has one is not for us to say.
    gateway.reload(plans.with(&both[1..])).unwrap();
    drop(worker_snapshot);
    eventually(PATIENCE, "no former snapshot", || {
        gateway.take_unused();
        gateway.former.is_empty().then_some(())
    });
    let StartError::Problems(problems) = gateway.reload(plans.with(&both)).unwrap_err() else {
        panic!("not a problem of the address");
    };
    assert!(problems[0].message.contains("in use"), "{}", problems[0].message);
    drop(worker_socket);
    gateway.reload(plans.with(&both)).unwrap();
    echoes(&connect(address), &hello("back.test"));
    gateway.stop().unwrap();
}

#[test] // threat 35
fn a_socket_that_comes_behind_the_reload_that_gives_it_up_is_emptied_and_closed() {
    let plans = Plans::new();
    let mut gateway = Gateway::start(plans.with(&[("other", anywhere())]), None).unwrap();
    let (with, without) = ([("other", anywhere()), ("brief", anywhere())], [("other", anywhere())]);
    let first = gateway.loader().load(plans.with(&with)).unwrap().snapshot;
    let loader = Loader { before: Arc::clone(&first), ..gateway.loader() };
    let second = loader.load(plans.with(&without)).unwrap().snapshot;
    let at = first.plan.listeners.iter().position(|it| &*it.name == "brief").unwrap();
    let socket = socket::listen(anywhere()).unwrap();
    let address = socket.local_addr().unwrap();
    let waits = connect(address);

    // The second one came with a client that another worker had accepted, ahead of the orders.
    let mailbox = &gateway.peers[0].mailbox;
    mailbox.order(Order::Take(Arc::clone(&second), Vec::new()));
    mailbox.order(Order::Take(Arc::clone(&first), vec![(first.listener_keys()[at], socket)]));
    mailbox.order(Order::Take(second, Vec::new()));

    echoes(&waits, &hello("waits.test"));
    eventually(PATIENCE, "nobody listens", || socket::ensure_free(address).ok());
    gateway.stop().unwrap();
}

#[test] // threat 37
fn a_worker_that_has_not_heard_of_a_drain_hands_no_client_to_one_that_has_ended() {
    let plans = Plans::new();
    let mut gateway = Gateway::start(plans.with_workers(2, &[("edge", anywhere())]), None).unwrap();
    let (_, address) = gateway.addresses().remove(0);
    gateway.kept.clear();
    let now = clock::now();
    let drain = Drain::new(now, Duration::ZERO, Duration::ZERO, PATIENCE);
    gateway.peers[1].mailbox.order(Order::Drain(drain, Arc::from([])));
    eventually(PATIENCE, "one worker", || gateway.is_gone(1).then_some(()));
    let held = connect(address);
    echoes(&held, &hello("held.test"));
    echoes(&connect(address), &hello("next.test"));
    gateway.stop().unwrap();
}

#[test] // threat 40
fn a_worker_that_is_lost_is_no_good_end_whatever_it_had_open() {
    let lost: [fn() -> io::Result<Ended>; 2] =
        [|| Err(io::Error::other("it has lost its timers")), || panic!("as a worker would")];
    for lose in lost {
        let plans = Plans::new();
        let mut gateway = Gateway::start(plans.with(&[("edge", anywhere())]), None).unwrap();
        gateway.threads.push(std::thread::spawn(lose));
        eventually(PATIENCE, "one worker", || gateway.has_ended().then_some(()));
        gateway.drain(clock::now());
        assert_eq!(gateway.stop(), Err(WorkerLost));
    }
}
