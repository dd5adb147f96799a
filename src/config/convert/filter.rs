//! Network filters of a chain. Next: `identity`, the rules that an authorize filter has.

use super::super::error::{Location, Problems};
use super::super::node::At;
use super::super::plan::{ClientAuth, Filter, FilterKind, Plan};
use super::super::raw::{RawFilter, Table};
use super::trust::MODES;
use super::{all, choice, identity, one_of, required};
use crate::core::trust::{Authorize, Mode};

/// All filters of a chain, in the order written.
pub(super) fn filters(
    written: Option<&At<Vec<At<RawFilter>>>>,
    problems: &mut Problems,
) -> Option<Vec<Filter>> {
    all(written.map_or(&[][..], |written| &written.value), |filter| {
        let kind = required(filter.value.kind.as_ref(), &filter.at, KIND, problems)?;
        // Other types are refused as not available, at the same place.
        one_of(kind, &[("authorize", ())], problems)?;
        let authorize = authorize(filter, problems)?;
        Some(Filter { at: filter.at.clone(), kind: FilterKind::Authorize(authorize) })
    })
}

/// Filters that ask for an identity, on chains where nobody has one.
pub(super) fn cross_check(plan: &Plan, problems: &mut Problems) {
    for chain in plan.listeners.iter().flat_map(|listener| &listener.chains) {
        let Some(Filter { at, kind: FilterKind::Authorize(_) }) = chain.filters.first() else {
            continue;
        };
        let (message, help) = match chain.tls.map(|tls| plan.downstream_tls(tls)) {
            None => (
                format!("chain {} has no tls, and nobody in it has an identity", chain.name),
                "write tls = \"NAME\" of a [tls.downstream.NAME] with a trust, or leave the filter out",
            ),
            Some(tls) if tls.client_auth == ClientAuth::None => (
                format!("[tls.downstream.{}] asks nobody for a certificate", tls.name),
                "write client_auth = \"require\" and a trust there, or leave the filter out",
            ),
            Some(_) => continue,
        };
        problems.add(at.clone(), message, help);
    }
}

fn authorize(filter: &At<RawFilter>, problems: &mut Problems) -> Option<Authorize> {
    let raw = &filter.value;
    let mine = others(filter, problems);
    let mode = choice(raw.mode.as_ref(), Mode::Enforce, MODES, problems);
    let allow = identity::matchers(raw.allow.as_ref(), problems);
    let deny = identity::matchers(raw.deny.as_ref(), problems);
    let (allow, deny) = (allow?, deny?);
    if let (Some(written), true) = (&raw.allow, allow.is_empty()) {
        // It reads as nobody, and would let everybody in.
        let help = "leave allow out to let in whoever is not denied, or write whom to allow";
        problems.add(written.at.clone(), "may not be empty", help);
        return None;
    }
    if allow.is_empty() && deny.is_empty() {
        let excused = |key| problems.is_excused(&filter.at.child(key).key);
        if !excused("allow") && !excused("deny") {
            let help = "write allow = [{ uri = \"spiffe://example.org/**\" }], or deny";
            problems.add(filter.at.clone(), "authorize without allow and deny", help);
        }
        return None;
    }
    mine?;
    Some(Authorize { allow, deny, mode: mode? })
}

/// Notes keys that are for filters of other types.
fn others(filter: &At<RawFilter>, problems: &mut Problems) -> Option<()> {
    let mut holds = Some(());
    for (key, at) in filter.value.written() {
        if !["type", "allow", "deny", "mode"].contains(&key) {
            let at: Location = at.clone();
            let help = "an authorize filter has allow, deny and mode";
            problems.add(at, format!("{key} is not for authorize filters"), help);
            holds = None;
        }
    }
    holds
}

const KIND: (&str, &str) = ("type", "\"authorize\"");
