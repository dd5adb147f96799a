//! Which endpoint, and which of several clusters, a client comes to, and what of it is counted.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;

use portcullis_kit::{
    Authority, Behaviour, ClientSpec, ClosedPort, Gateway, Identity, Metrics, PATIENCE, PlainEcho,
    Refusal, ServerTls, TlsEcho, TlsStream, close_write, connect_tls, eventually, monotonic_now,
    read_to_end, refusal, reset, round_trip,
};
use rustls::AlertDescription;

use crate::support::{BlackHole, Config, NAME, Pki, UPSTREAM_NAME};

/// Mutual TLS with clients, plain TCP to these endpoints, each as it is written in the list.
fn over(pki: &Pki, endpoints: &str, keys: &str) -> Gateway {
    Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(pki, "")
        .table(&format!("[cluster.app]\nendpoints = [{endpoints}]\n{keys}"))
        .start()
}

fn servers<const N: usize>() -> [PlainEcho; N] {
    [(); N].map(|()| PlainEcho::start())
}

fn list(servers: &[PlainEcho]) -> String {
    let addresses = servers.iter().map(|server| format!("\"{}\"", server.address()));
    addresses.collect::<Vec<_>>().join(", ")
}

fn use_once(mut stream: TlsStream) {
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

fn connect_as(pki: &Pki, gateway: &Gateway, client: &Identity, name: &str) -> TlsStream {
    let config = pki.client().identity(client).build();
    connect_tls(gateway.addr("edge"), name, &config).unwrap()
}

fn dials(metrics: &Metrics, endpoint: SocketAddr) -> u64 {
    let endpoint = endpoint.to_string();
    let labels = [("cluster", "app"), ("endpoint", endpoint.as_str())];
    metrics.sum("portcullis_endpoint_dials_total", &labels)
}

#[test]
fn endpoints_get_as_many_clients_as_their_weights_say() {
    let pki = Pki::new();
    let [heavy, light] = servers();
    let endpoints =
        format!("{{ address = \"{}\", weight = 3 }}, \"{}\"", heavy.address(), light.address());
    let gateway = over(&pki, &endpoints, "");
    for _ in 0..8 {
        use_once(pki.connect(&gateway));
    }
    assert_eq!((heavy.counts().accepted, light.counts().accepted), (6, 2));
    let metrics = gateway.settled();
    assert_eq!(dials(&metrics, heavy.address()), 6);
    assert_eq!(dials(&metrics, light.address()), 2);
    assert_eq!(metrics.sum("portcullis_endpoint_active", &[]), 0);
    drop(gateway);
    let gateway = over(&pki, &endpoints, "balance = \"least_connections\"");
    let held: Vec<_> = (0..8).map(|_| pki.connect(&gateway)).collect();
    heavy.wait("six", |counts| counts.accepted - counts.closed == 6);
    light.wait("two", |counts| counts.accepted - counts.closed == 2);
    held.into_iter().for_each(use_once);
    gateway.settled();
}

#[test]
fn random_reaches_every_endpoint_and_loses_no_client() {
    let pki = Pki::new();
    let all = servers::<3>();
    let gateway = over(&pki, &list(&all), "balance = \"random\"");
    for _ in 0..40 {
        use_once(pki.connect(&gateway));
    }
    assert_eq!(all.iter().map(|server| server.counts().accepted).sum::<u64>(), 40);
    // 3 · (2/3)^40: that one stays without a client is as likely as one in three million.
    assert!(all.iter().all(|server| server.counts().accepted > 0));
    gateway.settled();
}

#[test]
fn a_client_keeps_its_endpoint_when_its_certificate_is_renewed() {
    let pki = Pki::new();
    let all = servers::<4>();
    let gateway = over(&pki, &list(&all), "balance = \"maglev\"\nhash_by = \"client\"");
    let mut used = Vec::new();
    // 4^-15: that all come to one of four is as likely as one in a thousand million.
    for at in 0..16 {
        let spec = ClientSpec::new("worker").uri(&format!("spiffe://test/{at}"));
        let before: Vec<_> = all.iter().map(|server| server.counts().accepted).collect();
        for _renewal in 0..3 {
            use_once(connect_as(&pki, &gateway, &pki.ca.client(&spec), NAME));
        }
        let after = all.iter().map(|server| server.counts().accepted);
        let new: Vec<_> = after.zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(new.iter().max(), Some(&3), "{new:?}");
        used.extend(new.iter().position(|new| *new == 3));
    }
    used.sort_unstable();
    used.dedup();
    assert!(used.len() > 1, "every client came to {used:?}");
    gateway.settled();
}

#[test]
fn clients_of_one_name_meet_at_one_endpoint() {
    let pki = Pki::new();
    let all = servers::<4>();
    let gateway = over(&pki, &list(&all), "balance = \"maglev\"\nhash_by = \"server_name\"");
    for tenant in ["a.edge.test", "b.edge.test", "c.edge.test"] {
        let before: Vec<_> = all.iter().map(|server| server.counts().accepted).collect();
        for name in ["one", "two", "three"] {
            let client = pki.ca.client(&ClientSpec::new(name));
            use_once(connect_as(&pki, &gateway, &client, tenant));
        }
        let after = all.iter().map(|server| server.counts().accepted);
        assert!(after.zip(before).any(|(after, before)| after - before == 3), "{tenant}");
    }
    gateway.settled();
}

#[test]
fn an_endpoint_that_is_down_costs_its_own_clients_a_dial_and_nobody_else() {
    let pki = Pki::new();
    let all = servers::<3>();
    let down = ClosedPort::new();
    let endpoints = format!("\"{}\", {}", down.address, list(&all));
    let gateway = over(&pki, &endpoints, "balance = \"maglev\"\nhash_by = \"client\"");
    for at in 0..12 {
        let client = pki.ca.client(&ClientSpec::new(&format!("client {at}")));
        use_once(connect_as(&pki, &gateway, &client, NAME));
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_sessions_total", &[]), 12);
    let failures = metrics.sum("portcullis_endpoint_dial_failures_total", &[]);
    assert_eq!(failures, dials(&metrics, down.address));
}

#[test]
fn several_clusters_share_a_chain_by_weight() {
    let pki = Pki::new();
    let [old, new, off] = servers();
    let clusters = "clusters = [{ cluster = \"old\", weight = 3 }, { cluster = \"new\" }, \
                    { cluster = \"off\", weight = 0 }]";
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", &format!("tls = \"edge\"\n{clusters}"))
        .mutual(&pki, "")
        .cluster("old", &[old.address()], "")
        .cluster("new", &[new.address()], "")
        .cluster("off", &[off.address()], "")
        .start();
    for _ in 0..80 {
        use_once(pki.connect(&gateway));
    }
    let metrics = gateway.settled();
    let counts = [&old, &new, &off].map(|server| server.counts().accepted);
    let dials = ["old", "new", "off"]
        .map(|cluster| metrics.sum("portcullis_upstream_dials_total", &[("cluster", cluster)]));
    assert_eq!(counts, dials);
    assert_eq!(counts.iter().sum::<u64>(), 80);
    // 20 of 80 on average, and a deviation of 3.9: five of them either way.
    assert!(counts[2] == 0 && (1..=39).contains(&counts[1]), "{counts:?}");
    let log = gateway.access_log();
    let of_new = log.iter().filter(|line| line["cluster"] == "new").count() as u64;
    assert_eq!(of_new, counts[1]);
}

/// As `over`, for two workers.
fn limited(pki: &Pki, endpoints: &[SocketAddr], keys: &str) -> Gateway {
    Config::new(2)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(pki, "")
        .cluster("app", endpoints, keys)
        .start()
}

#[test] // threat 42
fn the_connections_of_a_cluster_are_limited_over_all_workers() {
    let pki = Pki::new();
    let upstream = PlainEcho::start();
    let gateway = limited(&pki, &[upstream.address()], "limits = { connections = 3 }");
    let mut held: Vec<_> = (0..3).map(|_| pki.connect(&gateway)).collect();
    for stream in &mut held {
        assert_eq!(round_trip(stream, b"hello").unwrap(), b"hello");
    }
    let began = monotonic_now();
    let got = refusal(gateway.addr("edge"), NAME, &pki.client().build());
    assert_eq!(got, Refusal::Alert(AlertDescription::InternalError));
    assert!(began.elapsed().as_millis() < 1_500, "refused after {:?}", began.elapsed());
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    assert_eq!(line["reason"], "cluster_connection_limit", "{line}");
    assert_eq!(line["detail"], "cluster.app.limits.connections = 3 are open", "{line}");
    use_once(held.pop().unwrap());
    upstream.wait("room", |counts| counts.closed == 1);
    eventually(PATIENCE, "room", || {
        (gateway.metrics().sum("portcullis_upstream_active", &[]) == 2).then_some(())
    });
    use_once(pki.connect(&gateway));
    held.into_iter().for_each(use_once);
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("cluster_connection_limit"), 1);
    assert_eq!(metrics.sum("portcullis_upstream_dials_total", &[]), 4);
}

#[test]
fn clients_that_wait_for_a_dial_are_limited() {
    let pki = Pki::new();
    let hole = BlackHole::new();
    let keys = "limits = { pending = 1 }\nconnect = { timeout = \"2s\", attempts = 1 }";
    let gateway = limited(&pki, &[hole.address], keys);
    let waits = pki.connect(&gateway);
    let pending = |count| {
        eventually(PATIENCE, "the gauge of clients that wait", || {
            let pending = gateway.metrics().sum("portcullis_upstream_pending", &[]);
            (pending == count).then_some(())
        });
    };
    pending(1);
    let got = refusal(gateway.addr("edge"), NAME, &pki.client().build());
    assert_eq!(got, Refusal::Alert(AlertDescription::InternalError));
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    assert_eq!(line["reason"], "cluster_pending_limit", "{line}");
    assert_eq!(line["detail"], "cluster.app.limits.pending = 1 wait for a dial", "{line}");
    pending(0);
    drop(waits);
    assert_eq!(gateway.settled().refusals("upstream_timeout"), 1);
}

#[test] // threat 28
fn clients_that_go_while_they_wait_for_a_dial_hold_no_place_and_blame_no_endpoint() {
    let pki = Pki::new();
    let hole = BlackHole::new();
    let keys = "limits = { pending = 3 }\nejection.failures = 1\nconnect.timeout = \"60s\"";
    let gateway = limited(&pki, &[hole.address], keys);
    let pending = |count| {
        eventually(PATIENCE, "the gauge of clients that wait", || {
            let pending = gateway.metrics().sum("portcullis_upstream_pending", &[]);
            (pending == count).then_some(())
        });
    };
    let mut stays = pki.connect(&gateway);
    close_write(&mut stays).unwrap();
    let [resets, ends] = [pki.connect(&gateway), pki.connect(&gateway)];
    pending(3);
    reset(resets.sock);
    // Without close_notify, and with nothing unread that would make a reset of it.
    ends.sock.shutdown(std::net::Shutdown::Write).unwrap();
    pending(1);
    for reason in ["client_reset", "client_unclean_eof"] {
        let line = gateway.wait_access(PATIENCE, |line| line["reason"] == reason);
        assert!(line["detail"].as_str().unwrap().starts_with("while its upstream"), "{line}");
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("portcullis_upstream_dials_total", &[]), 3);
    assert_eq!(metrics.sum("portcullis_upstream_dial_failures_total", &[]), 0);
    assert_eq!(metrics.sum("portcullis_endpoint_ejections_total", &[]), 0);
    drop(stays);
}

#[test] // threat 28
fn a_black_hole_is_ejected_though_its_clients_give_up_first() {
    let pki = Pki::new();
    let hole = BlackHole::new();
    // They are looked at after half of it.
    let keys = "ejection = { failures = 1, percent_max = 100 }\n\
                connect = { timeout = \"1s\", attempts = 1 }";
    let gateway = limited(&pki, &[hole.address], keys);
    let client = pki.connect(&gateway);
    eventually(PATIENCE, "a dial", || {
        (gateway.metrics().sum("portcullis_upstream_dials_total", &[]) == 1).then_some(())
    });
    reset(client.sock);
    gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_upstream_dial_failures_total", &[]), 1);
    assert_eq!(metrics.sum("portcullis_endpoint_ejections_total", &[]), 1);
}

#[test]
fn a_cluster_that_a_reload_replaced_leaves_the_gauges_of_the_next_alone() {
    let (pki, hole, upstream) = (Pki::new(), BlackHole::new(), PlainEcho::start());
    let keys = "ejection = { failures = 1, percent_max = 100 }\n\
                connect = { timeout = \"1s\", attempts = 1 }";
    let gateway = over(&pki, &format!("\"{}\"", hole.address), keys);
    let client = pki.connect(&gateway);
    let is = |name: &str, value| {
        let seen = || (gateway.metrics().sum(name, &[]) == value).then_some(());
        eventually(PATIENCE, name, seen);
    };
    is("portcullis_upstream_dials_total", 1);
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    let next = text.replace(&hole.address.to_string(), &upstream.address().to_string());
    gateway.reload(&next.replace(keys, "pool = { ready_min = 2, ready_max = 2 }"));
    is("portcullis_upstream_ready", 2);
    gateway.wait_log(&["ejected: its dials fail", &hole.address.to_string()]);
    drop(client);
    gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    assert_eq!(gateway.metrics().sum("portcullis_upstream_ready", &[]), 2);
}

#[test]
fn ready_connections_leave_half_of_the_limit_to_clients() {
    let pki = Pki::new();
    let upstream = PlainEcho::start();
    let keys = "limits = { connections = 4 }\npool = { ready_min = 8, ready_max = 8 }";
    let gateway = over(&pki, &list(std::slice::from_ref(&upstream)), keys);
    upstream.wait("two", |counts| counts.accepted == 2);
    let mut held: Vec<_> = (0..4).map(|_| pki.connect(&gateway)).collect();
    for stream in &mut held {
        assert_eq!(round_trip(stream, b"hello").unwrap(), b"hello");
    }
    let counts = upstream.counts();
    assert_eq!(counts.accepted - counts.closed, 4);
    held.into_iter().for_each(use_once);
    gateway.settled();
}

/// Waits until this endpoint is ejected by so many workers.
fn ejected(gateway: &Gateway, endpoint: SocketAddr, workers: u64) {
    let endpoint = endpoint.to_string();
    let labels = [("endpoint", endpoint.as_str())];
    eventually(PATIENCE, "the gauge of ejections", || {
        let ejected = gateway.metrics().sum("portcullis_endpoint_ejected", &labels);
        (ejected == workers).then_some(())
    });
}

#[test] // threat 28
fn an_endpoint_that_refuses_is_left_alone_and_tried_again_later() {
    let pki = Pki::new();
    let flapping = ClosedPort::new();
    let address = flapping.address;
    let upstream = PlainEcho::start();
    let endpoints = format!("\"{address}\", \"{}\"", upstream.address());
    let keys = "ejection = { failures = 2, base = \"2s\", percent_max = 50 }";
    let gateway = over(&pki, &endpoints, keys);
    for _ in 0..12 {
        use_once(pki.connect(&gateway));
    }
    let metrics = gateway.metrics();
    assert_eq!(dials(&metrics, address), 2, "two failures are enough");
    assert_eq!(metrics.sum("portcullis_endpoint_ejections_total", &[]), 1);
    ejected(&gateway, address, 1);
    let line = gateway.wait_log(&["ejected: its dials fail", &address.to_string()]);
    assert!(line.contains("cluster=app"), "{line}");
    // It is back, and gets its clients again once its time is over.
    let back = flapping.open();
    let (says, came) = mpsc::channel();
    let server = thread::spawn(move || says.send(back.accept().unwrap().1));
    eventually(PATIENCE, "a client at the endpoint that is back", || {
        // One that comes there is closed without an answer.
        drop(round_trip(&mut pki.connect(&gateway), b"hello"));
        came.try_recv().ok()
    });
    server.join().unwrap().unwrap();
    assert_eq!(gateway.metrics().sum("portcullis_endpoint_ejections_total", &[]), 1);
}

#[test]
fn an_ejection_that_a_reload_forgets_is_shown_no_longer() {
    let (pki, upstream, nobody) = (Pki::new(), PlainEcho::start(), ClosedPort::new());
    let endpoints = format!("\"{}\", \"{}\"", nobody.address, upstream.address());
    let gateway = over(&pki, &endpoints, "ejection = { failures = 1, base = \"1h\" }");
    (0..2).for_each(|_| use_once(pki.connect(&gateway)));
    ejected(&gateway, nobody.address, 1);
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    gateway.reload(&format!("{text}\n# of no account\n"));
    ejected(&gateway, nobody.address, 1);
    for (keys, workers) in [("ejection = { failures = 1, base = \"2h\" }", 1), ("", 0)] {
        gateway.reload(&text.replace("ejection = { failures = 1, base = \"1h\" }", keys));
        ejected(&gateway, nobody.address, 0);
        let before = dials(&gateway.metrics(), nobody.address);
        (0..2).for_each(|_| use_once(pki.connect(&gateway)));
        assert_eq!(dials(&gateway.metrics(), nobody.address), before + 1, "{keys}");
        ejected(&gateway, nobody.address, workers);
    }
}

#[test]
fn the_only_endpoint_is_dialled_though_it_fails() {
    let pki = Pki::new();
    let nobody = ClosedPort::new();
    let endpoints = format!("\"{}\"", nobody.address);
    let keys = "ejection = { failures = 1, percent_max = 100 }\nconnect = { attempts = 2 }";
    let gateway = over(&pki, &endpoints, keys);
    for _ in 0..2 {
        let got = refusal(gateway.addr("edge"), NAME, &pki.client().build());
        assert_eq!(got, Refusal::Alert(AlertDescription::InternalError));
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.refusals("upstream_connect"), 2);
    assert_eq!(dials(&metrics, nobody.address), 4);
    assert_eq!(metrics.sum("portcullis_endpoint_ejections_total", &[]), 1);
}

#[test] // threat 28
fn nothing_is_made_ready_at_an_endpoint_that_is_ejected() {
    let pki = Pki::new();
    let good = TlsEcho::start(ServerTls::new(&pki.upstream).build());
    let impostor = Authority::new("Others").server(&[UPSTREAM_NAME]);
    let bad = TlsEcho::start(ServerTls::new(&impostor).build());
    let gateway = Config::new(1)
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"db\"")
        .mutual(&pki, "")
        .upstream("db", "")
        .trust("upstreams", &pki.ca)
        .cluster(
            "db",
            &[bad.address(), good.address()],
            "tls = \"db\"\npool = { ready_min = 2, ready_max = 2 }\n\
             ejection = { failures = 1, base = \"1h\" }",
        )
        .start();
    ejected(&gateway, bad.address(), 1);
    let ready = || {
        eventually(PATIENCE, "ready connections", || {
            (gateway.metrics().sum("portcullis_upstream_ready", &[]) == 2).then_some(())
        });
    };
    ready();
    let tried = bad.counts().accepted;
    for _ in 0..6 {
        ready();
        use_once(pki.connect(&gateway));
    }
    ready();
    assert_eq!(bad.counts().accepted, tried);
    assert_eq!(bad.counts().bytes, 0);
    assert_eq!(gateway.settled().sum("portcullis_upstream_ready_hits_total", &[]), 6);
}

#[test] // threat 34
fn dials_come_from_the_sources_in_turn() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (says, sources) = mpsc::channel();
    thread::spawn(move || {
        while let Ok((_socket, from)) = listener.accept() {
            if says.send(from.ip().to_string()).is_err() {
                return;
            }
        }
    });
    let keys = "sources = [\"127.0.0.7\", \"127.0.0.8\"]\nhealth = { type = \"tcp\" }";
    let gateway = over(&pki, &format!("\"{address}\""), keys);
    // Each is there until all were dialled for: the upstream might never see one that goes without a word.
    let _clients: Vec<_> = (0..6).map(|_| pki.connect(&gateway)).collect();
    let mut from = [("127.0.0.7", 0), ("127.0.0.8", 0)];
    while from.iter().any(|(_, dials)| *dials < 3) {
        let source = sources.recv_timeout(PATIENCE).unwrap();
        let (_, dials) = from.iter_mut().find(|(known, _)| *known == source).unwrap();
        *dials += 1;
    }
    // Probes come from the first.
    assert_eq!(from[1].1, 3, "{from:?}");
}

#[test] // threat 34
fn a_source_that_is_not_ours_is_told_as_this_machines_fault() {
    let pki = Pki::new();
    let upstream = PlainEcho::start();
    // TEST-NET-1 (RFC 5737) is no machine's.
    let keys = "sources = [\"192.0.2.1\"]\nejection = { failures = 1, percent_max = 100 }";
    let gateway = over(&pki, &list(std::slice::from_ref(&upstream)), keys);
    let got = refusal(gateway.addr("edge"), NAME, &pki.client().build());
    assert_eq!(got, Refusal::Alert(AlertDescription::InternalError));
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    assert_eq!(line["reason"], "local_resources", "{line}");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("{} from 192.0.2.1", upstream.address())), "{line}");
    // The endpoint is not to blame.
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_endpoint_ejections_total", &[]), 0);
    assert_eq!(metrics.sum("portcullis_endpoint_dial_failures_total", &[]), 3);
}

#[test] // threat 49
fn bytes_that_nobody_takes_end_the_session_where_that_has_a_limit() {
    let pki = Pki::new();
    let much = vec![b'x'; 32 << 20];
    let talks = PlainEcho::with(Behaviour::Say(much.clone()));
    let limit = "timeouts = { unacknowledged = \"1s\" }";
    let gateway = Config::new(1)
        .listener("edge", limit)
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(&pki, "")
        .cluster("app", &[talks.address()], "")
        .start();
    let deaf = pki.connect(&gateway);
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert_eq!(line["reason"], "client_reset", "{line}");
    assert!(line["detail"].as_str().unwrap().contains("timed out"), "{line}");
    drop(deaf);
    gateway.settled();
    let stalls = PlainEcho::with(Behaviour::Stall);
    let limit = "connect = { unacknowledged = \"1s\" }";
    let gateway = over(&pki, &format!("\"{}\"", stalls.address()), limit);
    let mut talks = pki.connect(&gateway);
    let writer = thread::spawn(move || std::io::Write::write_all(&mut talks, &much));
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "closed");
    assert_eq!(line["reason"], "upstream_reset", "{line}");
    assert!(writer.join().unwrap().is_err());
    gateway.settled();
}
