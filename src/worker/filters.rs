//! The network filters of a chain, in their order, between the handshake and the upstream.
//!
//! `tls::filters` has asked those that look at certificates; this carries out what they say.

use crate::config::plan::{Filter, FilterKind};
use crate::core::refusal::Refusal;
use crate::core::trust::Mode;
use crate::tls::ClientFacts;

/// What filters came to.
#[derive(Debug, Default)]
pub(super) struct Passage {
    /// The first filter that refuses; those behind it are not asked.
    pub refusal: Option<Refusal>,
    /// What filters in audit mode would have refused.
    pub audits: Vec<Refusal>,
}

/// Takes a client through the filters.
pub(super) fn pass(filters: &[Filter], client: &mut ClientFacts) -> Passage {
    let mut passage = Passage::default();
    for (at, filter) in filters.iter().enumerate() {
        match &filter.kind {
            FilterKind::Authorize(authorize) => {
                let Some(denial) = client.take_denial(at) else { continue };
                match authorize.mode {
                    Mode::Audit => passage.audits.push(denial),
                    Mode::Enforce => {
                        passage.refusal = Some(denial);
                        return passage;
                    }
                }
            }
        }
    }
    passage
}
