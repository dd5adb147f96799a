//! `/trust`: whom the gateway believes, how far, and when each anchor last vouched for somebody, as JSON.
//!
//! The counts are this process' since its start, over reloads.

use serde_json::{Value, json};

use super::certs;
use super::effective::on_change_name;
use crate::config::plan::{ClientAuth, Trust};
use crate::core::identity::Identity;
use crate::tls::TrustStore;
use crate::worker::{AnchorSeries, Snapshot};

/// The page, for `now` in Unix seconds.
pub(super) fn page(snapshot: &Snapshot, now: u64) -> String {
    let stores = snapshot.plan.trusts.iter().zip(snapshot.material.trusts());
    let trusts: Vec<Value> = stores
        .zip(&snapshot.counters.anchors)
        .enumerate()
        .map(|(at, ((plan, store), series))| trust(snapshot, (at, plan), store, series, now))
        .collect();
    let page = json!({ "now": now, "generation": snapshot.generation, "trusts": trusts });
    format!("{page:#}\n")
}

fn trust(
    snapshot: &Snapshot,
    (at, plan): (usize, &Trust),
    store: &TrustStore,
    series: &[std::sync::Arc<AnchorSeries>],
    now: u64,
) -> Value {
    let anchors = store.anchors().iter().zip(series);
    let anchors: Vec<Value> =
        anchors.map(|(anchor, series)| anchor_of(&anchor.identity, series, now)).collect();
    let lists: Vec<Value> =
        store.lists().iter().map(|note| certs::certificate(note, now)).collect();
    json!({
        "name": &*plan.name,
        "digest": hex(store.digest()),
        "mode": plan.mode.to_string(),
        "on_change": on_change_name(plan.on_change),
        "depth_max": plan.depth_max,
        "client_keys": shown(&plan.leaf.keys),
        "san": shown(&plan.leaf.san),
        "pins": shown(&plan.leaf.pins),
        "clients_of": clients_of(snapshot, at),
        "upstreams_of": upstreams_of(snapshot, at),
        "anchors": anchors,
        "revocation_lists": lists,
    })
}

fn anchor_of(identity: &Identity, series: &AnchorSeries, now: u64) -> Value {
    let used_at = Some(series.max(|counters| counters.used_at.value())).filter(|at| *at > 0);
    json!({
        "subject": identity.subject,
        "serial": identity.serial,
        "fingerprint": hex(&identity.fingerprint_sha256),
        "not_after": identity.not_after,
        "uses": series.sum(|counters| counters.uses.value()),
        "last_used_at": used_at,
        "seconds_since": used_at.map(|at| now.saturating_sub(at)),
    })
}

/// The `[tls.downstream.NAME]` whose clients this trust judges.
fn clients_of(snapshot: &Snapshot, trust: usize) -> Vec<&str> {
    let is_of = |auth| match auth {
        ClientAuth::None => false,
        ClientAuth::Optional(id) | ClientAuth::Require(id) => usize::from(id.0) == trust,
    };
    let terms = snapshot.plan.downstream_tls.iter().filter(|terms| is_of(terms.client_auth));
    terms.map(|terms| &*terms.name).collect()
}

fn upstreams_of(snapshot: &Snapshot, trust: usize) -> Vec<&str> {
    let terms = snapshot.plan.upstream_tls.iter();
    let terms = terms.filter(|terms| usize::from(terms.trust.0) == trust);
    terms.map(|terms| &*terms.name).collect()
}

fn shown<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
