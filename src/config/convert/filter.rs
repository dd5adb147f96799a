//! Network filters of a chain. Next: `identity`, the rules that an authorize filter has.

use std::num::NonZeroU32;

use super::super::error::{Location, Problems};
use super::super::node::At;
use super::super::plan::{ClientAuth, Filter, FilterKind, Plan, RateBy};
use super::super::raw::{RawFilter, Table};
use super::trust::MODES;
use super::{all, choice, identity, number, one_of, required};
use crate::core::rate::Rate;
use crate::core::trust::{Authorize, Mode};

/// All filters of a chain, in the order written.
pub(super) fn filters(
    written: Option<&At<Vec<At<RawFilter>>>>,
    problems: &mut Problems,
) -> Option<Vec<Filter>> {
    all(written.map_or(&[][..], |written| &written.value), |filter| {
        let kind = required(filter.value.kind.as_ref(), &filter.at, KIND, problems)?;
        let kind = match one_of(kind, KINDS, problems)? {
            Kind::ConnectionLimit => connection_limit(filter, problems)?,
            Kind::RateLimit => rate_limit(filter, problems)?,
            Kind::Authorize => FilterKind::Authorize(authorize(filter, problems)?),
        };
        Some(Filter { at: filter.at.clone(), kind })
    })
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    ConnectionLimit,
    RateLimit,
    Authorize,
}

fn connection_limit(filter: &At<RawFilter>, problems: &mut Problems) -> Option<FilterKind> {
    let mine = others(filter, &["type", "connections"], "connection_limit", problems);
    let example = ("connections", "10_000");
    let written = required(filter.value.connections.as_ref(), &filter.at, example, problems)?;
    let connections = number(Some(written), 1, 1..=u32::MAX, problems)?;
    mine?;
    NonZeroU32::new(connections).map(FilterKind::ConnectionLimit)
}

fn rate_limit(filter: &At<RawFilter>, problems: &mut Problems) -> Option<FilterKind> {
    let raw = &filter.value;
    let mine = others(filter, &["type", "by", "rate", "burst"], "rate_limit", problems);
    let by = choice(raw.by.as_ref(), RateBy::Chain, RATE_BY, problems);
    let burst = number(raw.burst.as_ref(), 0, 1..=u32::MAX, problems);
    let written = required(raw.rate.as_ref(), &filter.at, ("rate", "\"500/s\""), problems)?;
    let rate = match written.value.parse::<Rate>() {
        Ok(rate) => Some(rate),
        Err(error) => {
            let help = "write a number and a time: \"500/s\", \"30/m\" or \"1000/h\"";
            problems.add(written.at.clone(), format!("{:?}: {error}", written.value), help);
            None
        }
    };
    let (by, burst, rate) = (by?, burst?, rate?);
    mine?;
    let rate = NonZeroU32::new(burst).map_or(rate, |burst| rate.with_burst(burst));
    Some(FilterKind::RateLimit { by, rate })
}

/// Filters that ask for an identity, on chains where nobody has one.
pub(super) fn cross_check(plan: &Plan, problems: &mut Problems) {
    for chain in plan.listeners.iter().flat_map(|listener| &listener.chains) {
        let asks = |filter: &&Filter| match &filter.kind {
            FilterKind::Authorize(_) | FilterKind::RateLimit { by: RateBy::Client, .. } => true,
            FilterKind::ConnectionLimit(_) | FilterKind::RateLimit { .. } => false,
        };
        let Some(Filter { at, .. }) = chain.filters.iter().find(asks) else { continue };
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
    let mine = others(filter, &["type", "allow", "deny", "mode"], "authorize", problems);
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
fn others(filter: &At<RawFilter>, own: &[&str], kind: &str, problems: &mut Problems) -> Option<()> {
    let mut holds = Some(());
    for (key, at) in filter.value.written().filter(|(key, _)| !own.contains(key)) {
        let at: Location = at.clone();
        let help = format!("a filter of type {kind:?} has {}", own[1..].join(", "));
        problems.add(at, format!("{key} is not for filters of type {kind:?}"), help);
        holds = None;
    }
    holds
}

const KIND: (&str, &str) = ("type", "\"authorize\"");

const KINDS: &[(&str, Kind)] = &[
    ("connection_limit", Kind::ConnectionLimit),
    ("rate_limit", Kind::RateLimit),
    ("authorize", Kind::Authorize),
];

const RATE_BY: &[(&str, RateBy)] =
    &[("chain", RateBy::Chain), ("source", RateBy::Source), ("client", RateBy::Client)];
