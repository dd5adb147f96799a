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
use crate::core::trust::authorize::{Authorize, Decision};

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
        let FilterKind::Authorize(authorize) = &filter.kind;
        let what = match authorize.decide(facts.as_ref()) {
            Decision::Allowed => continue,
            Decision::Denied(matcher) => format!("deny has {matcher}"),
            Decision::NotAllowed if facts.is_none() => {
                "the client has no verified certificate, and allow has no element for that"
                    .to_owned()
            }
            Decision::NotAllowed => format!("no element of allow matches: {}", listed(authorize)),
        };
        denials.push((at, refusal(filter, leaf.and_then(identify), &what)));
    }
    denials
}

/// Whether a denial of this filter ends the connection; else it is counted and logged.
pub fn is_enforced(filter: &Filter) -> bool {
    let FilterKind::Authorize(authorize) = &filter.kind;
    authorize.mode == Mode::Enforce
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

fn listed(authorize: &Authorize) -> String {
    let few: Vec<_> = authorize.allow.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    let more = authorize.allow.len() - few.len();
    if more == 0 { few.join(", ") } else { format!("{} and {more} more", few.join(", ")) }
}

/// RFC 8446 §6.2: "a valid certificate or PSK was received, but when access control was applied, the
/// sender decided not to proceed with negotiation".
const ACCESS_DENIED: u8 = 49;
const LISTED_MAX: usize = 6;
