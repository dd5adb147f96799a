//! A scrape over counters with known values, and the page that describes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use portcullis_kit::Authority;
use prometheus_client::encoding::text;
use tempfile::TempDir;

use super::*;
use crate::config;
use crate::config::plan::Io;
use crate::tls::{Material, StekKeys};
use crate::worker::Mailbox;

const CONFIG: &str = r#"
[listener.edge]
address = "127.0.0.1:8443"
[listener.edge.chain.blue]
match   = { server_names = ["blue.example.com"] }
cluster = "echo"
[listener.edge.chain.default]
cluster = "echo"
[listener.side]
address = "127.0.0.1:9443"
[listener.side.chain.default]
cluster = "db"
[cluster.db]
endpoints = ["127.0.0.1:6432"]
health = { type = "tcp" }
[cluster.echo]
endpoints = ["127.0.0.1:7000"]
"#;

/// A gateway of two workers, all counters at zero.
fn gateway() -> (Arc<[Peer]>, Arc<Snapshot>) {
    gateway_with("")
}

/// The same, with more in its configuration.
fn gateway_with(tables: &str) -> (Arc<[Peer]>, Arc<Snapshot>) {
    let text = format!("{CONFIG}{tables}");
    let plan = config::load_text(&text, Path::new("/portcullis.toml")).expect("a plan");
    let lifetime = Duration::from_secs(3_600);
    let stek = StekKeys::random(lifetime, lifetime, 0).expect("keys");
    let material = Material::load(&plan, &Arc::new(stek), 0, || 0, None).expect("no files");
    let snapshot = Snapshot::first(plan, material, 2).expect("chains that differ");
    let peer = || Peer { io: Io::Epoll, counters: Arc::default(), mailbox: Mailbox::new() };
    (Arc::new([peer(), peer()]), snapshot)
}

fn scrape(peers: &Arc<[Peer]>, snapshot: &Arc<Snapshot>) -> String {
    let current = Arc::new(ArcSwap::new(Arc::clone(snapshot)));
    let reloads = Arc::new(ReloadCounts::new(Duration::from_secs(1)));
    let lifetime = Duration::from_secs(3_600);
    let stek = StekKeys::random(lifetime, lifetime, 0).expect("keys");
    let registry = registry(Arc::clone(peers), current, Arc::default(), reloads, Arc::new(stek));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("text");
    page
}

/// A scrape in which every family has a sample.
fn full_scrape() -> String {
    let (ca, directory) = (Authority::new("CA"), TempDir::new().expect("a directory"));
    let anchors = ca.ca_path().display();
    let (peers, snapshot) = gateway_with(&format!(
        "[tls.downstream.many]\n\
         certificate_dir = \"{}\"\n\
         trust = \"clients\"\n\
         [trust.clients]\n\
         anchors = [\"{anchors}\", \"{anchors}\"]\n",
        directory.path().display()
    ));
    peers[0].counters.thread.set_to(crate::sys::thread::id());
    let listener = snapshot.counters.listeners[0].of(0);
    listener.refused(Reason::NotTls);
    listener.audited(Reason::SanNotAllowed);
    scrape(&peers, &snapshot)
}

fn has(page: &str, line: &str) {
    assert!(page.lines().any(|found| found == line), "no line {line} in\n{page}");
}

#[test]
fn workers_are_summed_and_shown_apart() {
    let (peers, snapshot) = gateway();
    let counters = &snapshot.counters;
    for (worker, (peer, count)) in peers.iter().zip([3, 4]).enumerate() {
        peer.counters.accepted.add(count);
        counters.chains[2].of(worker).bytes_sent.add(count * 1_000);
        counters.clusters[1].of(worker).dialled.add(count);
        counters.listeners[1].of(worker).refused(Reason::NoChain);
        counters.listeners[0].of(worker).open.up();
        peer.counters.reports_dropped.add(count);
    }
    peers[1].counters.open.up();
    for (worker, milliseconds) in [(0, 2), (1, 2), (1, 30_000)] {
        let time = Duration::from_millis(milliseconds);
        counters.listeners[1].of(worker).full_handshake.observe(time);
        counters.clusters[1].of(worker).first_byte.observe(time);
    }
    counters.chains[0].of(0).handshakes.resumed.increment();
    let page = scrape(&peers, &snapshot);
    has(&page, "portcullis_connections_accepted_total 7");
    has(&page, r#"portcullis_connections_open{listener="edge"} 2"#);
    has(&page, r#"portcullis_connections_open{listener="side"} 0"#);
    has(&page, r#"portcullis_worker_connections_open{worker="0"} 0"#);
    has(&page, r#"portcullis_worker_connections_open{worker="1"} 1"#);
    has(&page, r#"portcullis_refusals_total{listener="side",reason="no_chain"} 2"#);
    has(&page, r#"portcullis_bytes_total{listener="side",chain="default",direction="sent"} 7000"#);
    has(&page, r#"portcullis_handshakes_total{listener="edge",chain="blue",resumed="true"} 1"#);
    has(&page, r#"portcullis_upstream_dials_total{cluster="echo"} 7"#);
    has(&page, r#"portcullis_upstream_dials_total{cluster="db"} 0"#);
    has(&page, r#"portcullis_access_log_dropped_total{cause="queue_full"} 7"#);
    for (bound, count) in [("0.001", 0), ("0.0025", 2), ("10.0", 2), ("+Inf", 3)] {
        let labels = format!("le=\"{bound}\",listener=\"side\",resumed=\"false\"");
        has(&page, &format!("portcullis_handshake_seconds_bucket{{{labels}}} {count}"));
    }
    has(&page, r#"portcullis_handshake_seconds_count{listener="side",resumed="true"} 0"#);
    has(&page, r#"portcullis_upstream_first_byte_seconds_sum{cluster="echo"} 30.004"#);
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn workers_show_what_their_threads_have_had_of_the_cores() {
    let (peers, snapshot) = gateway();
    assert!(!scrape(&peers, &snapshot).contains("portcullis_worker_cpu_seconds_total{"));
    // In the place of a worker's thread.
    peers[1].counters.thread.set_to(crate::sys::thread::id());
    let page = scrape(&peers, &snapshot);
    for name in ["cpu", "wait"] {
        let series = format!("portcullis_worker_{name}_seconds_total{{worker=\"1\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&series));
        assert!(value.is_some_and(|value| value.parse::<f64>().is_ok()), "{name}: {value:?}");
    }
}

/// The digests of one kind, by name.
fn digests(page: &str, kind: &str) -> Vec<String> {
    let start = format!("portcullis_content_info{{kind=\"{kind}\"");
    page.lines().filter(|line| line.starts_with(&start)).map(str::to_owned).collect()
}

#[test]
fn nodes_that_run_on_the_same_show_the_same_digests_and_others_do_not() {
    let (ca, other) = (Authority::new("CA"), Authority::new("Other"));
    let trust = |anchors: &[&Authority]| {
        let paths: Vec<_> =
            anchors.iter().map(|ca| format!("{:?}", ca.ca_path().display().to_string())).collect();
        let anchors = paths.join(", ");
        let (peers, snapshot) = gateway_with(&format!("[trust.clients]\nanchors = [{anchors}]\n"));
        scrape(&peers, &snapshot)
    };
    let (one, same, more) = (trust(&[&ca]), trust(&[&ca]), trust(&[&ca, &other]));
    for (kind, count) in [("configuration", 1), ("client_ca", 1), ("trust", 1)] {
        assert_eq!(digests(&one, kind), digests(&same, kind), "{kind}");
        assert_eq!(digests(&one, kind).len(), count, "{kind} in {one}");
    }
    assert_ne!(digests(&one, "configuration"), digests(&more, "configuration"));
    assert_ne!(digests(&one, "trust"), digests(&more, "trust"));
    assert_eq!(digests(&more, "client_ca")[0], digests(&one, "client_ca")[0], "the same file");
    // Keys that are random at start are no node's but its own.
    assert!(digests(&one, "ticket_keys").is_empty());
    assert!(one.contains("role=\"seals\",source=\"auto\""), "{one}");
}

#[test]
fn a_gauge_that_another_worker_lowers_sums_to_zero() {
    let (peers, snapshot) = gateway();
    snapshot.counters.clusters[0].of(0).ready.up();
    snapshot.counters.clusters[0].of(1).ready.down();
    has(&scrape(&peers, &snapshot), r#"portcullis_upstream_ready{cluster="db"} 0"#);
}

#[test]
fn only_reasons_that_occurred_are_series() {
    let (peers, snapshot) = gateway();
    assert!(!scrape(&peers, &snapshot).contains("portcullis_refusals_total{"));
    let refusals = |page: &str| page.matches("portcullis_refusals_total{").count();
    assert_eq!(refusals(&full_scrape()), 1);
}

#[test]
fn a_name_cannot_break_out_of_its_label() {
    // threat 48
    assert_eq!(Name::new("a\"b\\c\nd").as_str(), r#"a\"b\\c\nd"#);
}

#[test]
fn files_show_when_they_end_by_the_place_that_names_them() {
    let page = full_scrape();
    for number in [0, 1] {
        let series = format!(
            "portcullis_certificate_expiry_timestamp_seconds{{kind=\"client_ca\",\
             name=\"trust.clients.anchors[{number}]\"}} "
        );
        let line = page.lines().find(|line| line.starts_with(&series)).expect("a series");
        let end: u64 = line[series.len()..].parse().expect("a time");
        assert!(end > clock::unix_now(), "{line}");
        let series = series.replace("timestamp_seconds", "days");
        let line = page.lines().find(|line| line.starts_with(&series)).expect("a series");
        let days: f64 = line[series.len()..].parse().expect("a number");
        let left = (end - clock::unix_now()) as f64 / 86_400.0;
        assert!((days - left).abs() < 0.1, "{line}, and it is {left}");
    }
    let name = "name=\"tls.downstream.many.certificate_dir\"";
    has(&page, &format!("portcullis_certificate_dir_pairs{{{name},state=\"known\"}} 0"));
    has(&page, &format!("portcullis_certificate_dir_loads_total{{{name}}} 0"));
}

#[test]
fn the_process_shows_itself() {
    let page = full_scrape();
    has(&page, &format!("portcullis_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
    for name in [
        "portcullis_process_resident_memory_bytes",
        "portcullis_process_open_descriptors",
        "portcullis_process_threads",
        "portcullis_process_start_time_seconds",
        "portcullis_process_cpu_seconds_total",
    ] {
        let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        assert!(value.is_some_and(|value| value > 0.0), "{name}: {line:?}");
    }
}

#[test]
fn the_page_describes_exactly_what_a_scrape_shows() {
    let mut shown = BTreeMap::<String, (String, BTreeSet<String>)>::new();
    let page = full_scrape();
    let mut kind = "";
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            kind = family.split(' ').nth(1).expect("a type");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let pairs = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
        let keys = pairs.filter_map(|pair| pair.split_once('=')).map(|(key, _)| key.to_owned());
        // A histogram is described as one, and its bounds are no label of ours.
        let keys = keys.filter(|key| key != "le");
        let parts = ["_bucket", "_sum", "_count"];
        let base = parts.iter().find_map(|part| name.strip_suffix(part));
        let name = base.filter(|_| kind == "histogram").unwrap_or(name);
        shown.insert(name.to_owned(), (kind.to_owned(), keys.collect()));
    }
    let described: BTreeMap<_, _> = include_str!("../../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `portcullis_"))
        .map(|row| {
            let (name, rest) = row.split_once("` |").expect("a name");
            let mut cells = rest.split('|');
            let kind = cells.next().expect("a type").trim().to_owned();
            let labels = cells.next().expect("labels").split('`').skip(1).step_by(2);
            (format!("portcullis_{name}"), (kind, labels.map(str::to_owned).collect()))
        })
        .collect();
    assert_eq!(described, shown);
}
