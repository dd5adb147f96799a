//! Every file in `config/` loads, and one that writes every key.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis::config::{self, Style, plan::ClientAuth, plan::Plan};

#[test]
fn every_sample_loads() {
    let mut loaded = 0;
    for entry in fs::read_dir(samples()).expect("config/ is there") {
        let path = entry.expect("can be listed").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            sample(&path);
            loaded += 1;
        }
    }
    assert!(loaded >= 6, "only {loaded} samples in config/");
}

#[test]
fn samples_name_their_files_beside_themselves() {
    let plan = sample(&samples().join("minimal.toml"));
    let pair = &plan.downstream_tls[0].certificates[0];
    assert_eq!(pair.chain.path, samples().join("pki/edge.crt"));
    let text = fs::read_to_string(samples().join("minimal.toml")).expect("is there");
    let line = text.lines().nth(pair.chain.at.line as usize - 1).expect("within the file");
    assert!(line.starts_with("certificates = "), "{line}");
}

/// The reference spells out the defaults: leaving them out must mean the same.
#[test]
fn reference_writes_the_defaults() {
    let reference = sample(&samples().join("reference.toml"));
    let minimal = sample(&samples().join("minimal.toml"));
    let same = |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
    };
    same(&reference.runtime, &minimal.runtime);
    same(&reference.limits, &minimal.limits);
    same(&reference.log, &minimal.log);
    same(&reference.access_log.sink, &minimal.access_log.sink);
    same(&reference.access_log.format, &minimal.access_log.format);
    same(&reference.session_tickets, &minimal.session_tickets);
    same(&reference.listeners[0].timeouts, &minimal.listeners[0].timeouts);
    same(&reference.listeners[0].connections_max, &minimal.listeners[0].connections_max);
    let orders = reference.downstream_tls.iter().find(|tls| &*tls.name == "orders");
    let (orders, edge) = (orders.expect("is there"), &minimal.downstream_tls[0]);
    same(&orders.crypto, &edge.crypto);
    assert!(matches!(orders.client_auth, ClientAuth::Require(_)));
    assert!(matches!(edge.client_auth, ClientAuth::Require(_)));
    same(&orders.resumption, &edge.resumption);
    same(&orders.tickets_sent, &edge.tickets_sent);
    let db = reference.clusters.iter().find(|cluster| &*cluster.name == "orders-db");
    let (db, service) = (db.expect("is there"), &minimal.clusters[0]);
    same(&db.balance, &service.balance);
    same(&db.connect, &service.connect);
    assert_eq!((db.pool.ready_min, db.pool.ready_max), (1, 64));
    assert_eq!((service.pool.ready_min, service.pool.ready_max), (0, 0), "off for plain TCP");
}

/// Every key that there is, in one file that nobody would run.
#[test]
fn the_whole_surface_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reference-full.toml");
    let plan = sample(&path);
    assert_eq!((plan.listeners.len(), plan.clusters.len(), plan.trusts.len()), (3, 4, 2));
}

#[expect(clippy::panic, reason = "a helper of tests: clippy knows only the tests themselves")]
fn sample(path: &Path) -> Plan {
    config::load(path).unwrap_or_else(|problems| {
        panic!("{} does not load:\n{}", path.display(), config::render(&problems, Style::Plain))
    })
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}
