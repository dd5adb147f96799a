//! Which endpoint, and which of several clusters, a client comes to, and what of it is counted.

use std::net::SocketAddr;

use portcullis_kit::{
    ClientSpec, Gateway, Identity, Metrics, PlainEcho, TlsStream, close_write, connect_tls,
    read_to_end, round_trip,
};

use crate::support::{Config, NAME, Pki};

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
    for at in 0..8 {
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
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints = format!("\"{down}\", {}", list(&all));
    let gateway = over(&pki, &endpoints, "balance = \"maglev\"\nhash_by = \"client\"");
    for at in 0..12 {
        let client = pki.ca.client(&ClientSpec::new(&format!("client {at}")));
        use_once(connect_as(&pki, &gateway, &client, NAME));
    }
    let metrics = gateway.settled();
    assert_eq!(metrics.sum("portcullis_sessions_total", &[]), 12);
    let failures = metrics.sum("portcullis_endpoint_dial_failures_total", &[]);
    assert_eq!(failures, dials(&metrics, down));
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
