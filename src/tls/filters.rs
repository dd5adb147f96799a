//! The filters of a chain that look at the client's certificate, asked once the handshake is done.
//!
//! `core::trust::authorize` decides; this reads the certificate for it and words what it says. The
//! worker carries it out, in the order of the filters.

use super::identity::identify;
use super::leaf::Leaf;
use crate::config::plan::{Filter, FilterKind};
use crate::core::identity::Identity;
use crate::core::refusal::{Evidence, Reason, Refusal};
use crate::core::trust::Mode;
use crate::core::trust::authorize::{Decision, Matcher};

/// What each filter that does not let the client pass has against it, by its place. `leaf`: the
/// client's certificate, where it was verified.
pub(super) fn denials(filters: &[Filter], leaf: Option<&[u8]>) -> Vec<(usize, Refusal)> {
    if filters.is_empty() {
        return Vec::new();
    }
    let parsed = leaf.and_then(Leaf::parse);
    let facts = parsed.as_ref().map(Leaf::facts);
    let mut denials = Vec::new();
    for (at, filter) in filters.iter().enumerate() {
        let FilterKind::Authorize(authorize) = &filter.kind else { continue };
        let what = match authorize.decide(facts.as_ref()) {
            Decision::Allowed(_) => continue,
            Decision::Denied(matcher) => format!("deny has {matcher}"),
            Decision::NotAllowed if facts.is_none() => {
                "the client has no verified certificate, and allow has no element for that"
                    .to_owned()
            }
            Decision::NotAllowed => {
                format!("no element of allow matches: {}", listed(&authorize.allow))
            }
        };
        denials.push((at, refusal(filter, leaf.and_then(identify), &what)));
    }
    denials
}

/// Whether a denial of this filter ends the connection; else it is counted and logged.
pub fn is_enforced(filter: &Filter) -> bool {
    match &filter.kind {
        FilterKind::Authorize(authorize) => authorize.mode == Mode::Enforce,
        FilterKind::ConnectionLimit(_) | FilterKind::RateLimit { .. } => true,
    }
}

/// Whether it is the client's certificate that a filter asks for, and not how many there are.
pub(super) fn asks_who(filter: &Filter) -> bool {
    matches!(filter.kind, FilterKind::Authorize(_))
}

/// Why a filter that denies nothing lets the client pass.
pub(super) fn passage(filter: &Filter, leaf: Option<&[u8]>) -> String {
    let FilterKind::Authorize(authorize) = &filter.kind else { return demand(filter) };
    let parsed = leaf.and_then(Leaf::parse);
    match authorize.decide(parsed.as_ref().map(Leaf::facts).as_ref()) {
        Decision::Allowed(Some(matcher)) => format!("allow has {matcher}"),
        Decision::Allowed(None) => "no element of deny matches, and allow is empty".to_owned(),
        Decision::Denied(_) | Decision::NotAllowed => String::new(),
    }
}

/// What a filter asks, of whomever it is asked about.
pub(super) fn demand(filter: &Filter) -> String {
    let authorize = match &filter.kind {
        FilterKind::Authorize(authorize) => authorize,
        FilterKind::ConnectionLimit(connections) => {
            return format!("depends on who is there: {connections} open connections of the chain");
        }
        FilterKind::RateLimit { by, rate } => {
            let (by, burst) = (by.as_str(), rate.burst());
            return format!("depends on who came before: {rate}, {burst} at once, of each {by}");
        }
    };
    match (&authorize.deny[..], &authorize.allow[..]) {
        ([], []) => "it lets everybody pass".to_owned(),
        ([], allow) => format!("allow has {}", listed(allow)),
        (deny, []) => format!("deny has {}", listed(deny)),
        (deny, allow) => format!("deny has {}; allow has {}", listed(deny), listed(allow)),
    }
}

fn refusal(filter: &Filter, leaf: Option<Identity>, what: &str) -> Refusal {
    let detail = match &leaf {
        Some(leaf) => format!("{}: {what}", leaf.sentence()),
        None => what.to_owned(),
    };
    let rule = Some(filter.at.key.to_string());
    let evidence = Evidence { leaf, depth: 0, at_depth: None, rule, hint: None };
    Refusal {
        alert: Some(ACCESS_DENIED),
        evidence: Some(Box::new(evidence)),
        ..Refusal::new(Reason::NotAuthorized, detail)
    }
}

fn listed(elements: &[Matcher]) -> String {
    let few: Vec<_> = elements.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    let more = elements.len() - few.len();
    if more == 0 { few.join(", ") } else { format!("{} and {more} more", few.join(", ")) }
}

/// RFC 8446 §6.2: "a valid certificate or PSK was received, but when access control was applied, the
/// sender decided not to proceed with negotiation".
const ACCESS_DENIED: u8 = 49;
const LISTED_MAX: usize = 6;
