//! A new configuration by SIGHUP: what goes live, what stays as it was, and that nobody is harmed.
//!
//! `reload_files` holds what happens without a signal.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use portcullis_kit::{
    Authority, Gateway, PATIENCE, PlainEcho, ServerTls, TlsEcho, TlsStream, close_write,
    connect_plain, connect_tls, eventually, read_to_end, round_trip,
};
use rustix::process::Signal;

use crate::support::{BINARY, Config, NAME, Pki, assert_same, files, pattern};

fn talk(stream: &mut TlsStream) {
    assert_eq!(round_trip(stream, b"hello").unwrap(), b"hello");
}

fn end(mut stream: TlsStream) {
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

fn connect(pki: &Pki, address: SocketAddr, name: &str) -> TlsStream {
    connect_tls(address, name, &pki.client().build()).unwrap()
}

/// Listeners, each with a chain `default` to the cluster `app`, on this many workers.
fn config(workers: u16, pki: &Pki, listeners: &[&str], upstream: SocketAddr) -> Config {
    let config = Config::new(workers).mutual(pki, "").cluster("app", &[upstream], "");
    listeners.iter().fold(config, |config, name| {
        config.listener(name, "").chain(name, "default", "tls = \"edge\"\ncluster = \"app\"")
    })
}

/// Waits until so many sessions of `edge` and `side` are counted.
fn counted(gateway: &Gateway, count: u64) {
    eventually(PATIENCE, "sessions to be counted", || {
        (gateway.metrics().sum("portcullis_sessions_total", &[]) == count).then_some(())
    });
}

fn failures(gateway: &Gateway) -> u64 {
    gateway.metrics().sum("portcullis_reloads_total", &[("result", "failed")])
}

#[test]
fn what_is_new_goes_live_and_who_is_here_stays_where_they_are() {
    let (pki, one, other) = (Pki::new(), PlainEcho::start(), PlainEcho::start());
    let gateway = config(2, &pki, &["edge"], one.address()).start();
    assert_eq!(gateway.generation(), 1);
    let mut old = pki.connect(&gateway);
    talk(&mut old);
    // Another upstream, another chain, another listener, and one before the old one in the plan.
    let generation = gateway.reload(
        &config(2, &pki, &["a", "edge", "side"], other.address())
            .chain("edge", "blue", "match = { server_names = [\"blue.edge.test\"] }\ntls = \"edge\"\ncluster = \"blue\"")
            .cluster("blue", &[one.address()], "")
            .to_string(),
    );
    assert_eq!(generation, 2);
    let accepted = |echo: &PlainEcho, count| {
        echo.wait("a session", |counts| counts.accepted == count);
    };
    accepted(&one, 1);
    for (address, name) in
        [(gateway.addr("edge"), NAME), (gateway.opened("side"), NAME), (gateway.opened("a"), NAME)]
    {
        let mut new = connect(&pki, address, name);
        talk(&mut new);
        end(new);
    }
    accepted(&other, 3);
    let mut blue = connect(&pki, gateway.addr("edge"), "blue.edge.test");
    talk(&mut blue);
    end(blue);
    accepted(&one, 2);
    let sent = pattern(1, 256 * 1024);
    assert_same(&round_trip(&mut old, &sent).unwrap(), &sent, "the old session");
    end(old);
    assert_eq!(gateway.settled().sum("portcullis_reload_last_success", &[]), 1);
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test] // threat 36
fn a_configuration_that_is_wrong_changes_nothing_and_is_told() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let good = config(2, &pki, &["edge"], echoes.address());
    let gateway = good.start();
    let mut old = pki.connect(&gateway);
    talk(&mut old);
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let mixed = format!(
        "[tls.downstream.mixed]\nclient_auth = \"none\"\ncertificates = [{{ chain = \"{}\", key = \"{}\" }}]\n",
        pki.server.chain_path.display(),
        pki.alice.key_path.display()
    );
    let side = |address: &str| format!("[listener.side]\naddress = \"{address}\"\n");
    let everywhere = format!("0.0.0.0:{}", gateway.addr("edge").port());
    let chain = "chain.default = { tls = \"mixed\", cluster = \"app\" }";
    let cases = [
        ("[listener.edge\n".to_owned(), "portcullis.toml:"),
        ("[limits]\nconections = 1".to_owned(), "conections"),
        ("[trust.more]\nanchors = [\"missing.crt\"]".to_owned(), "missing.crt"),
        (format!("{mixed}\n{}{chain}", side("127.0.0.1:0")), "does not belong"),
        (format!("{}chain.default.cluster = \"app\"", side(&taken.to_string())), "cannot listen"),
        // It would go live, and the next start would fail.
        (format!("{}chain.default.cluster = \"app\"", side(&everywhere)), &everywhere),
    ];
    for (failed, (bad, said)) in (1..).zip(cases) {
        gateway.rewrite(&good.clone().table(&bad).to_string());
        gateway.signal(Signal::HUP);
        eventually(PATIENCE, said, || (failures(&gateway) == failed).then_some(()));
        gateway.wait_log(&["not reloaded", "portcullis.toml:", said]);
        let metrics = gateway.metrics();
        assert_eq!(metrics.sum("portcullis_configuration_generation", &[]), 1, "{said}");
        assert_eq!(metrics.sum("portcullis_reload_last_success", &[]), 0, "{said}");
        talk(&mut old);
        let mut new = pki.connect(&gateway);
        talk(&mut new);
        end(new);
    }
    drop(holder);
    assert_eq!(gateway.reload(&good.to_string()), 2);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("portcullis_reload_last_success", &[]), 1);
    assert_eq!(metrics.sum("portcullis_reloads_total", &[("result", "ok")]), 1);
    talk(&mut old);
    end(old);
    gateway.settled();
}

#[test] // threat 35
fn twenty_reloads_under_load_lose_no_session_and_fail_no_handshake() {
    let (pki, one, other) = (Arc::new(Pki::new()), PlainEcho::start(), PlainEcho::start());
    let gateway = config(2, &pki, &["edge"], one.address()).start();
    let edge = gateway.addr("edge");
    let is_over = Arc::new(AtomicBool::new(false));
    let long = {
        let (pki, is_over) = (Arc::clone(&pki), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut stream = connect(&pki, edge, NAME);
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                let sent = pattern(rounds, 64 * 1024);
                assert_same(&round_trip(&mut stream, &sent).unwrap(), &sent, "a long session");
                rounds += 1;
            }
            end(stream);
            rounds
        })
    };
    let short: Vec<_> = (0..2)
        .map(|seed| {
            let (pki, is_over) = (Arc::clone(&pki), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut sessions = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream = connect(&pki, edge, NAME);
                    let sent = pattern(seed, 4 * 1024);
                    assert_same(&round_trip(&mut stream, &sent).unwrap(), &sent, "a session");
                    end(stream);
                    sessions += 1;
                }
                sessions
            })
        })
        .collect();
    for turn in 0..20 {
        // Each changes the cluster, and every other one the place of the listener in the plan.
        let (listeners, upstream) = match turn % 2 {
            0 => (&["a", "edge"][..], other.address()),
            _ => (&["edge"][..], one.address()),
        };
        gateway.reload(&config(2, &pki, listeners, upstream).to_string());
    }
    is_over.store(true, Ordering::Relaxed);
    let rounds = long.join().unwrap();
    let sessions: u64 = short.into_iter().map(|thread| thread.join().unwrap()).sum();
    println!("{rounds} rounds of one session and {sessions} sessions over twenty reloads");
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_sessions_total", &[("listener", "edge")]), sessions + 1);
    assert_eq!(metrics.sum("portcullis_refusals_total", &[]), 0);
    assert_eq!(metrics.sum("portcullis_reloads_total", &[("result", "ok")]), 20);
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test]
fn a_listener_that_is_removed_or_moved_lets_go_of_its_old_address_only() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let both = config(2, &pki, &["edge", "side"], echoes.address());
    let gateway = both.start();
    let (edge, side) = (gateway.addr("edge"), gateway.addr("side"));
    let mut held = [connect(&pki, edge, NAME), connect(&pki, side, NAME)];
    held.iter_mut().for_each(talk);
    gateway.reload(&config(2, &pki, &["edge"], echoes.address()).to_string());
    let is_closed = |address| {
        eventually(PATIENCE, "the socket to close", || match connect_plain(address) {
            Err(error) => (error.kind() == ErrorKind::ConnectionRefused).then_some(()),
            // In the queue of a socket that is about to be closed.
            Ok(_) => None,
        });
    };
    is_closed(side);
    let moved = both.to_string().replacen(
        "127.0.0.1:0\"\n\n[listener.edge.",
        "127.0.0.2:0\"\n\n[listener.edge.",
        1,
    );
    assert_ne!(moved, both.to_string());
    gateway.reload(&moved);
    is_closed(edge);
    let moved = gateway.opened("edge");
    assert_eq!(moved.ip().to_string(), "127.0.0.2");
    assert_ne!(gateway.opened("side"), side, "a new socket");
    for address in [moved, gateway.opened("side")] {
        let mut new = connect(&pki, address, NAME);
        talk(&mut new);
        end(new);
    }
    held.iter_mut().for_each(talk);
    held.into_iter().for_each(end);
    gateway.settled();
}

#[test]
fn listeners_may_change_places_and_cover_each_other() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let at = |address: &str, name: &str| {
        config(2, &pki, &[name], echoes.address())
            .to_string()
            .replace("\"127.0.0.1:0\"\n\n[listener", &format!("\"{address}\"\n\n[listener"))
    };
    let gateway = config(2, &pki, &["edge"], echoes.address()).start();
    // Whether it is live; somebody else may have the port on another address of this machine.
    let goes_live = |text: &str| {
        let (generation, failed) = (gateway.generation(), failures(&gateway));
        gateway.rewrite(text);
        gateway.signal(Signal::HUP);
        eventually(PATIENCE, "an answer", || {
            let is_live = gateway.generation() > generation;
            (is_live || failures(&gateway) > failed).then_some(is_live)
        })
    };
    let through_all = |turn: u8| {
        // No port of the range that clients on their way out have: with many of them about, as in a
        // busy test run, hardly one of those is free on all addresses of the machine.
        let port = 20_000 + u16::try_from(gateway.pid() % 10_000).unwrap() + u16::from(turn);
        let (one, all) = (format!("127.0.0.3:{port}"), format!("0.0.0.0:{port}"));
        // The same address under another name, then all addresses of the machine, and back.
        for (address, name) in [(&one, "edge"), (&one, "other"), (&all, "other"), (&one, "edge")] {
            if !goes_live(&at(address, name)) {
                return false;
            }
            let mut new = connect(&pki, one.parse().unwrap(), NAME);
            talk(&mut new);
            end(new);
            gateway.wait_access(PATIENCE, |line| line["listener"] == name);
        }
        true
    };
    assert!((0..5).any(through_all), "none of five ports is free on all addresses");
}

#[test]
fn counters_keep_their_values_and_what_is_removed_goes_with_its_last_session() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let both = config(1, &pki, &["edge", "side"], echoes.address());
    let gateway = both.start();
    let side = gateway.addr("side");
    for _ in 0..3 {
        end(connect(&pki, gateway.addr("edge"), NAME));
    }
    let mut held = connect(&pki, side, NAME);
    talk(&mut held);
    let total = |name: &str, listener: &str| gateway.metrics().sum(name, &[("listener", listener)]);
    let sessions = |listener: &str| total("portcullis_sessions_total", listener);
    counted(&gateway, 4);
    // `side` goes, and another comes before `edge`.
    gateway.reload(&config(1, &pki, &["a", "edge"], echoes.address()).to_string());
    assert_eq!((sessions("edge"), sessions("a"), sessions("side")), (3, 0, 1));
    assert_eq!(total("portcullis_connections_open", "side"), 1);
    assert_eq!(gateway.metrics().sum("portcullis_upstream_dials_total", &[("cluster", "app")]), 4);
    talk(&mut held);
    end(held);
    eventually(PATIENCE, "the series to go", || {
        (!gateway.admin_get("/metrics").1.contains("listener=\"side\"")).then_some(())
    });
    end(connect(&pki, gateway.addr("edge"), NAME));
    counted(&gateway, 4);
    assert_eq!(sessions("edge"), 4);
    // The client has seen the end before the worker has counted it.
    eventually(PATIENCE, "the last session to go", || {
        (gateway.metrics().sum("portcullis_sessions_open", &[]) == 0).then_some(())
    });
}

#[test]
fn an_unchanged_cluster_keeps_its_ready_connections_and_a_changed_one_closes_them() {
    let pki = Pki::new();
    let upstream = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let with = |pool: &str, comment: &str| {
        Config::new(1)
            .table(comment)
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
            .mutual(&pki, "")
            .upstream("db", "")
            .trust("upstreams", &pki.ca)
            .cluster("db", &[upstream.address()], &format!("tls = \"db\"\npool = {pool}"))
    };
    let three = "{ ready_min = 3, ready_max = 3 }";
    let gateway = with(three, "").start();
    let ready = |count: u64| {
        eventually(PATIENCE, "ready connections", || {
            let ready = gateway.metrics().sum("portcullis_upstream_ready", &[]);
            (ready == count).then_some(())
        });
    };
    ready(3);
    let mut held = pki.connect(&gateway);
    talk(&mut held);
    ready(3);
    // Other lines, and another `tls.upstream` before this one: nothing about the cluster changes.
    let other =
        "# moved\n\n[tls.upstream.another]\nserver_name = \"a.test\"\ntrust = \"upstreams\"\n";
    gateway.reload(&with(three, other).to_string());
    talk(&mut held);
    let mut new = pki.connect(&gateway);
    talk(&mut new);
    ready(3);
    let counts = upstream.wait("what was dialled", |counts| counts.accepted == 5);
    assert_eq!(counts.closed, 0, "{counts:?}");
    gateway.reload(&with("{ ready_min = 1, ready_max = 1 }", "").to_string());
    ready(1);
    upstream.wait("three closed, one dialled", |counts| (counts.closed, counts.accepted) == (3, 6));
    talk(&mut held);
    talk(&mut new);
    end(held);
    end(new);
    eventually(PATIENCE, "only the ready connection to be left", || {
        (gateway.metrics().sum("portcullis_upstream_active", &[]) == 1).then_some(())
    });
    gateway.settled();
}

#[test]
fn an_upstream_that_is_trusted_no_more_gets_no_new_client() {
    let pki = Pki::new();
    let upstream = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let stranger = Authority::new("Another Root");
    // Where the gateway may read.
    let strangers = fs::read_to_string(stranger.ca_path()).unwrap();
    let strangers = pki.ca.write("stranger", "crt", &strangers);
    let with = |trusted: &Path| {
        Config::new(2)
            .listener("edge", "")
            .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
            .mutual(&pki, "")
            .upstream("db", "")
            .table(&format!("[trust.upstreams]\nanchors = [\"{}\"]", trusted.display()))
            .cluster(
                "db",
                &[upstream.address()],
                "tls = \"db\"\npool = { ready_min = 2, ready_max = 4 }",
            )
            .to_string()
    };
    let gateway = Gateway::start(BINARY, &with(pki.ca.ca_path()));
    let mut old = pki.connect(&gateway);
    talk(&mut old);
    // The same names all over, and other certificates behind one of them.
    gateway.reload(&with(&strangers));
    let mut new = pki.connect(&gateway);
    assert!(round_trip(&mut new, b"hello").is_err());
    gateway.wait_access(PATIENCE, |line| line["reason"] == "upstream_untrusted");
    talk(&mut old);
    end(old);
    gateway.reload(&with(pki.ca.ca_path()));
    let mut new = pki.connect(&gateway);
    talk(&mut new);
    end(new);
}

#[test]
fn tickets_of_before_a_reload_are_good_after_it() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let config = config(2, &pki, &["edge"], echoes.address());
    let gateway = config.start();
    let client = pki.client().build();
    let session = || {
        let mut stream = connect_tls(gateway.addr("edge"), NAME, &client).unwrap();
        talk(&mut stream);
        end(stream);
    };
    session();
    gateway.reload(&config.to_string());
    session();
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_handshakes_total", &[("resumed", "true")]), 1);
}

#[test]
fn limits_and_log_level_take_effect_and_what_takes_a_restart_is_told() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = config(1, &pki, &["edge"], echoes.address()).start();
    let held = pki.connect(&gateway);
    let other = config(2, &pki, &["edge"], echoes.address())
        .table("[limits]\nconnections = 1\n[log]\nformat = \"json\"\nlevel = \"debug\"");
    gateway.reload(&other.to_string());
    for key in ["runtime.workers", "log.format"] {
        gateway.wait_log(&["WARN", key, "has changed", "next start"]);
    }
    assert!(!gateway.other_output().contains("admin.listen has changed"));
    // A file that is written as it was is looked at, and that is worth a line at this level only.
    gateway.rewrite(&other.to_string());
    gateway.wait_log(&["DEBUG", "say what they said"]);
    assert_eq!(gateway.metrics().each("portcullis_worker_connections_open").len(), 1);
    let refused = connect_tls(gateway.addr("edge"), NAME, &pki.client().build());
    assert!(refused.is_err());
    gateway.wait_access(PATIENCE, |line| line["reason"] == "connection_limit");
    end(held);
}

#[test] // threat 35
fn a_hundred_reloads_leave_descriptors_threads_and_sessions_as_they_were() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let texts = [
        config(2, &pki, &["edge", "side"], echoes.address()).to_string(),
        config(2, &pki, &["edge"], echoes.address()).to_string(),
    ];
    let gateway = config(2, &pki, &["edge"], echoes.address()).start();
    let mut held = pki.connect(&gateway);
    talk(&mut held);
    let counts = || {
        let metrics = gateway.metrics();
        let count = |name: &str| metrics.sum(name, &[]);
        (count("portcullis_process_open_descriptors"), count("portcullis_process_threads"))
    };
    for text in &texts {
        gateway.reload(text);
    }
    let before = counts();
    for _ in 0..49 {
        for text in &texts {
            gateway.reload(text);
        }
    }
    eventually(PATIENCE, "the old sockets to be closed", || (counts() <= before).then_some(()));
    talk(&mut held);
    end(held);
    gateway.settled();
}

#[test] // threat 35
fn sessions_of_old_generations_do_not_keep_their_configurations_in_memory() {
    const GENERATIONS: u64 = 12;
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let plain = config(1, &pki, &["edge"], echoes.address());
    let with_names = |turn: u64| {
        let names: Vec<_> =
            (0..20_000).map(|name| format!("\"n{name}.t{turn}.edge.test\"")).collect();
        let names = names.join(", ");
        let keys = format!("match = {{ server_names = [{names}] }}\ncluster = \"app\"");
        plain.clone().chain("edge", "many", &keys).to_string()
    };
    let gateway = plain.start();
    let before = gateway.resident();
    gateway.reload(&with_names(0));
    let one = gateway.resident() - before;
    // A few without sessions: what the allocator keeps is no leak.
    for turn in 1..4 {
        gateway.reload(&with_names(turn));
    }
    let before = gateway.resident();
    let mut held = Vec::new();
    for turn in 4..4 + GENERATIONS {
        gateway.reload(&with_names(turn));
        held.push(pki.connect(&gateway));
        held.last_mut().into_iter().for_each(talk);
    }
    let grown = gateway.resident().saturating_sub(before);
    println!("one configuration takes {one} bytes, {GENERATIONS} with sessions took {grown} more");
    assert!(grown < one * GENERATIONS / 3, "{grown} of {one} each");
    held.iter_mut().for_each(talk);
    held.into_iter().for_each(end);
}

#[test]
fn hangups_in_a_row_are_reloads_one_after_the_other() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = config(1, &pki, &["edge"], echoes.address()).start();
    for _ in 0..200 {
        gateway.signal(Signal::HUP);
    }
    gateway.wait_generation(2);
    // Whatever they came to, it ends, and the gateway serves.
    let generation = gateway.reload(&config(1, &pki, &["edge"], echoes.address()).to_string());
    assert!(generation < 200);
    end(pki.connect(&gateway));
    assert_eq!(failures(&gateway), 0);
    gateway.settled();
}

#[test]
fn a_hangup_in_a_drain_is_told_and_changes_nothing() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let drain = r#"{ grace = "60s", spread = "0s", deadline = "120s" }"#;
    let mut gateway = Config::with_drain(1, drain)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[echoes.address()], "")
        .start();
    let mut stream = pki.connect(&gateway);
    gateway.signal(Signal::TERM);
    gateway.wait_log(&["draining"]);
    gateway.signal(Signal::HUP);
    gateway.wait_log(&["SIGHUP changed nothing: the process drains"]);
    talk(&mut stream);
    assert_eq!(gateway.generation(), 1);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait_exit(PATIENCE).code(), Some(2));
}

#[test]
fn a_certificate_that_is_named_anew_is_served_to_who_comes_after() {
    let (pki, echoes) = (Pki::new(), PlainEcho::start());
    let gateway = config(1, &pki, &["edge"], echoes.address()).start();
    let old = pki.connect(&gateway);
    let renewed = pki.ca.server(&[NAME]);
    let text = config(1, &pki, &["edge"], echoes.address()).to_string();
    gateway.reload(&text.replace(&files(&pki.server), &files(&renewed)));
    let new = pki.connect(&gateway);
    let leaf = |stream: &TlsStream| stream.conn.peer_certificates().unwrap()[0].clone();
    assert_eq!(leaf(&old), *pki.server.leaf());
    assert_eq!(leaf(&new), *renewed.leaf());
    end(old);
    end(new);
}
