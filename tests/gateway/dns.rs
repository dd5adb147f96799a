//! Endpoints that are host names: found, moved, and kept while nobody answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use portcullis_kit::{
    DnsAnswer, Gateway, PATIENCE, PlainEcho, Refusal, StubDns, TlsStream, close_write, eventually,
    monotonic_now, read_to_end, refusal, round_trip,
};
use rustls::AlertDescription;

use crate::support::{Config, NAME, Pki};

/// Loopback has more than one address.
fn loopback(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// Echo servers on one port of three addresses.
struct Servers {
    port: u16,
    _servers: [PlainEcho; 3],
}

impl Servers {
    fn start() -> Self {
        let first = PlainEcho::start();
        let port = first.address().port();
        let other = |last| PlainEcho::on(SocketAddr::new(loopback(last), port));
        Self { port, _servers: [first, other(2), other(3)] }
    }
}

fn at(last: u8, seconds: u32) -> DnsAnswer {
    DnsAnswer::Addresses(vec![loopback(last)], seconds)
}

fn config(pki: &Pki, dns: &StubDns, name: &str, port: u16, keys: &str) -> Config {
    let runtime = format!(
        "[runtime]\nworkers = 2\nresolvers = [\"{}\"]\n\
         drain = {{ grace = \"0s\", spread = \"0s\", deadline = \"5s\" }}",
        dns.address()
    );
    Config::bare()
        .table(&runtime)
        .table("[admin]\nlisten = \"127.0.0.1:0\"")
        .listener("edge", "")
        .chain("edge", "default", "tls = \"edge\"\ncluster = \"app\"")
        .mutual(pki, "")
        .table(&format!(
            "[cluster.app]\nendpoints = [\"{name}:{port}\"]\ndiscovery = \"dns\"\n{keys}"
        ))
}

fn use_once(mut stream: TlsStream) {
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    close_write(&mut stream).unwrap();
    assert_eq!(read_to_end(&mut stream).unwrap(), b"");
}

/// Where the next client comes.
fn upstream_of_next(pki: &Pki, gateway: &Gateway) -> String {
    let before = gateway.access_log().len();
    use_once(pki.connect(gateway));
    let mut seen = 0;
    let line = gateway.wait_access(PATIENCE, |_| {
        seen += 1;
        seen > before
    });
    line["upstream"].as_str().unwrap().to_owned()
}

#[test]
fn a_name_is_found_before_the_first_client_and_followed_when_it_moves() {
    let (pki, dns, upstream) = (Pki::new(), StubDns::start(), Servers::start());
    let port = upstream.port;
    dns.set("db.test", at(1, 0));
    let gateway = config(&pki, &dns, "DB.test", port, "").start();
    assert_eq!(upstream_of_next(&pki, &gateway), format!("127.0.0.1:{port}"));
    let mut stays = pki.connect(&gateway);
    assert_eq!(round_trip(&mut stays, b"before").unwrap(), b"before");
    dns.set("db.test", DnsAnswer::Addresses(vec![loopback(2), loopback(3)], 0));
    gateway.wait_log(&["the name has other addresses", "127.0.0.2", "127.0.0.3"]);
    let mut used: Vec<_> = (0..4).map(|_| upstream_of_next(&pki, &gateway)).collect();
    used.sort();
    used.dedup();
    assert_eq!(used, [format!("127.0.0.2:{port}"), format!("127.0.0.3:{port}")]);
    // A session outlives its address.
    assert_eq!(round_trip(&mut stays, b"after").unwrap(), b"after");
    use_once(stays);
    let metrics = gateway.settled();
    let gone = format!("127.0.0.1:{port}");
    assert_eq!(metrics.sum("portcullis_endpoint_active", &[("endpoint", &gone)]), 0);
    let all = metrics.each("portcullis_endpoint_active").len();
    assert_eq!(all, 2, "the one that is gone is shown no longer");
}

#[test] // threat 39
fn the_last_good_addresses_are_kept_while_nobody_answers() {
    let (pki, dns, upstream) = (Pki::new(), StubDns::start(), Servers::start());
    let port = upstream.port;
    dns.set("db.test", at(2, 0));
    let gateway = config(&pki, &dns, "db.test", port, "").start();
    for answer in [DnsAnswer::NXDOMAIN, DnsAnswer::SERVFAIL, DnsAnswer::NOTHING, DnsAnswer::Silence]
    {
        dns.set("db.test", answer.clone());
        let before = dns.asked("db.test");
        eventually(PATIENCE, "another question", || {
            (dns.asked("db.test") > before + 1).then_some(())
        });
        let began = monotonic_now();
        assert_eq!(upstream_of_next(&pki, &gateway), format!("127.0.0.2:{port}"), "{answer:?}");
        assert!(began.elapsed().as_secs() < 2, "{answer:?} held a client up");
        // The next failure is news again.
        dns.set("db.test", at(2, 0));
        let before = dns.asked("db.test");
        eventually(PATIENCE, "an answer", || (dns.asked("db.test") > before + 1).then_some(()));
    }
    let line = gateway.wait_log(&["the name cannot be looked up", "name=db.test"]);
    assert!(line.contains("cluster=app") && line.contains("kept=1"), "{line}");
    for cause in ["db.test does not exist", "db.test has no address"] {
        gateway.wait_log(&["the name cannot be looked up", cause]);
    }
    gateway.settled();
}

/// Those that the gateway knows of.
fn endpoints(gateway: &Gateway) -> Vec<String> {
    let metrics = gateway.metrics();
    let mut all = metrics.labels("portcullis_endpoint_active", "endpoint");
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(str::to_owned).collect()
}

#[test] // threat 39
fn a_family_that_nobody_speaks_of_keeps_its_addresses() {
    let (pki, dns, upstream) = (Pki::new(), StubDns::start(), Servers::start());
    let port = upstream.port;
    let (v4, v6) = (format!("127.0.0.1:{port}"), format!("[fd00::6]:{port}"));
    let six: IpAddr = "fd00::6".parse().unwrap();
    dns.set("db.test", at(1, 0));
    dns.set_v6("db.test", DnsAnswer::Addresses(vec![six], 0));
    let gateway = config(&pki, &dns, "db.test", port, "").start();
    assert_eq!(endpoints(&gateway), [v4.clone(), v6.clone()]);
    dns.set_v6("db.test", DnsAnswer::SERVFAIL);
    let line = gateway.wait_log(&["does not say what addresses of this family", "family=IPv6"]);
    for word in ["name=db.test", "kept=1", "Server Failure"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    // What is said of the other family counts.
    dns.set("db.test", at(2, 0));
    gateway.wait_log(&["the name has other addresses", "127.0.0.2"]);
    assert_eq!(endpoints(&gateway), [format!("127.0.0.2:{port}"), v6]);
    dns.set("db.test", at(1, 0));
    gateway.wait_log(&["the name has other addresses", "127.0.0.1"]);
    // That there are none is an answer.
    dns.set_v6("db.test", DnsAnswer::NOTHING);
    eventually(PATIENCE, "an end of the address that is gone", || {
        (endpoints(&gateway) == [v4.clone()]).then_some(())
    });
    assert_eq!(upstream_of_next(&pki, &gateway), v4);
    gateway.settled();
}

#[test] // threat 39
fn a_name_is_found_although_nobody_speaks_of_the_other_family() {
    let (pki, dns, upstream) = (Pki::new(), StubDns::start(), Servers::start());
    let port = upstream.port;
    dns.set("db.test", at(1, 60));
    dns.set_v6("db.test", DnsAnswer::Silence);
    let gateway = config(&pki, &dns, "db.test", port, "").start();
    // Not in time for the start: it is waited for what nobody says.
    let only = [format!("127.0.0.1:{port}")];
    eventually(PATIENCE, "the address", || (endpoints(&gateway) == only).then_some(()));
    assert_eq!(upstream_of_next(&pki, &gateway), only[0]);
    gateway.settled();
}

#[test] // threat 39
fn a_start_without_dns_serves_what_has_no_name_and_the_rest_when_it_is_found() {
    let (pki, dns, upstream) = (Pki::new(), StubDns::start(), Servers::start());
    let port = upstream.port;
    dns.set("late.test", DnsAnswer::Silence);
    let gateway = config(&pki, &dns, "late.test", port, "").start();
    gateway.wait_log(&["nobody has said yet", "name=late.test"]);
    let got = refusal(gateway.addr("edge"), NAME, &pki.client().build());
    assert_eq!(got, Refusal::Alert(AlertDescription::InternalError));
    let line = gateway.wait_access(PATIENCE, |line| line["outcome"] == "refused");
    assert_eq!(line["reason"], "upstream_connect", "{line}");
    assert!(line["detail"].as_str().unwrap().contains("none of its names"), "{line}");
    dns.set("late.test", at(1, 60));
    gateway.wait_log(&["the name has other addresses", "127.0.0.1"]);
    use_once(pki.connect(&gateway));
    gateway.settled();
}

#[test]
fn ready_connections_follow_a_name() {
    let (pki, dns, upstream) = (Pki::new(), StubDns::start(), Servers::start());
    let port = upstream.port;
    dns.set("db.test", at(1, 0));
    let pool = "pool = { ready_min = 2, ready_max = 2 }";
    let gateway = config(&pki, &dns, "db.test", port, pool).start();
    let ready_at = |last: u8| {
        let endpoint = format!("127.0.0.{last}:{port}");
        eventually(PATIENCE, &format!("ready connections to {endpoint}"), || {
            let metrics = gateway.metrics();
            let active = metrics.sum("portcullis_endpoint_active", &[("endpoint", &endpoint)]);
            // Two for each worker.
            (active == 4 && metrics.sum("portcullis_upstream_active", &[]) == 4).then_some(())
        });
    };
    ready_at(1);
    dns.set("db.test", at(2, 60));
    ready_at(2);
    assert_eq!(upstream_of_next(&pki, &gateway), format!("127.0.0.2:{port}"));
    gateway.settled();
}

#[test]
fn a_reload_refuses_nobody_while_it_asks_for_a_new_name() {
    let (pki, dns, upstream) = (Pki::new(), StubDns::start(), Servers::start());
    let port = upstream.port;
    dns.set("old.test", at(1, 60));
    dns.set("new.test", at(2, 60));
    let gateway = config(&pki, &dns, "old.test", port, "").start();
    gateway.reload(&config(&pki, &dns, "new.test", port, "").to_string());
    assert_eq!(upstream_of_next(&pki, &gateway), format!("127.0.0.2:{port}"));
    // What is reached otherwise keeps the addresses of its names.
    dns.set("new.test", DnsAnswer::Silence);
    gateway.reload(&config(&pki, &dns, "new.test", port, "balance = \"random\"").to_string());
    assert_eq!(upstream_of_next(&pki, &gateway), format!("127.0.0.2:{port}"));
    assert_eq!(gateway.settled().sum("portcullis_refusals_total", &[]), 0);
}

#[test] // threat 39
fn a_reload_asks_for_no_name_that_has_its_addresses() {
    let (pki, dns, upstream) = (Pki::new(), StubDns::start(), Servers::start());
    let port = upstream.port;
    dns.set("late.test", DnsAnswer::SERVFAIL);
    dns.set("db.test", at(1, 3600));
    let names = format!("late.test:{port}\", \"db.test");
    let text = config(&pki, &dns, &names, port, "").to_string();
    let gateway = config(&pki, &dns, &names, port, "").start();
    // For both families, by the start and by who follows the name from then on.
    eventually(PATIENCE, "four questions", || (dns.asked("db.test") >= 4).then_some(()));
    let (late, known) = (dns.asked("late.test"), dns.asked("db.test"));
    gateway.reload(&text);
    assert!(dns.asked("late.test") > late);
    // It could be older than what was found out since, and would stay.
    assert_eq!(dns.asked("db.test"), known);
    assert_eq!(upstream_of_next(&pki, &gateway), format!("127.0.0.1:{port}"));
    gateway.settled();
}

#[test]
fn an_address_of_a_name_is_probed_like_any_other() {
    let (pki, dns, upstream) = (Pki::new(), StubDns::start(), PlainEcho::start());
    // Of the two addresses of the name only one listens on this port.
    let port = upstream.address().port();
    dns.set("db.test", DnsAnswer::Addresses(vec![loopback(1), loopback(9)], 60));
    let health = "health = { type = \"tcp\", interval = \"50ms\" }";
    let gateway = config(&pki, &dns, "db.test", port, health).start();
    let down = format!("127.0.0.9:{port}");
    gateway.wait_log(&["unhealthy", &down]);
    for _ in 0..4 {
        assert_eq!(upstream_of_next(&pki, &gateway), format!("127.0.0.1:{port}"));
    }
    gateway.settled();
}
