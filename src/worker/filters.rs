//! The network filters of a chain, in their order, between the handshake (or the hello, where nothing
//! is terminated) and the upstream.
//!
//! `tls::filters` has asked those that look at certificates, and this carries out what they say;
//! `sources` counts for those that limit.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::connection::Connection;
use super::sources::prefix;
use crate::config::plan::{Chain, Filter, FilterKind, RateBy};
use crate::core::rate::Rate;
use crate::core::refusal::{Evidence, Reason, Refusal};
use crate::sys::clock;
use crate::tls::ClientFacts;
use crate::tls::filters::is_enforced;

impl Connection {
    /// Takes the client through the filters of `chain` of `listener`; those behind the first that
    /// refuses are not asked. What filters in audit mode would have refused is noted.
    ///
    /// # Errors
    /// What the first filter that refuses has against it.
    pub(super) fn pass_filters(&mut self, listener: &str, chain: &Chain) -> Result<(), Refusal> {
        for (at, filter) in chain.filters.iter().enumerate() {
            let place = Place { listener, chain: &chain.name, at };
            match &filter.kind {
                FilterKind::ConnectionLimit(limit) => {
                    self.join_those_of(place, *limit).map_err(|refusal| by(filter, refusal))?;
                }
                FilterKind::RateLimit { by: whose, rate } => {
                    self.ask_rate(place, *whose, *rate).map_err(|refusal| by(filter, refusal))?;
                }
                FilterKind::Authorize(_) => {
                    let client = self.client.as_mut().and_then(Arc::get_mut);
                    match client.and_then(|client| client.take_denial(at)) {
                        None => {}
                        Some(denial) if is_enforced(filter) => return Err(denial),
                        Some(denial) => self.audits.push(denial),
                    }
                }
            }
        }
        Ok(())
    }

    fn join_those_of(&mut self, place: Place<'_>, limit: NonZeroU32) -> Result<(), Refusal> {
        let sources = &self.worker.sources;
        match sources.enter(sources.configured(("connections", place)), limit.get()) {
            Some(present) => self.places.push(present),
            None => {
                let detail = format!("{limit} are open");
                return Err(Refusal::new(Reason::ChainConnections, detail));
            }
        }
        Ok(())
    }

    fn ask_rate(&self, place: Place<'_>, whose: RateBy, rate: Rate) -> Result<(), Refusal> {
        let sources = &self.worker.sources;
        let source = self.card.source.get().ip();
        let client = match whose {
            RateBy::Client => self.client.as_deref().and_then(ClientFacts::lasting_name),
            RateBy::Chain | RateBy::Source => None,
        };
        let key = match (whose, &client) {
            (RateBy::Chain, _) => sources.configured((place, "chain")),
            (RateBy::Client, Some(client)) => sources.client((place, "client", client)),
            // A client that was let in without a certificate is known by where it comes from.
            (RateBy::Source | RateBy::Client, _) => {
                sources.client((place, "source", prefix(source)))
            }
        };
        if sources.admits(key, rate, 0, clock::now) {
            return Ok(());
        }
        let name = self.client.as_deref().filter(|_| client.is_some()).and_then(ClientFacts::name);
        let whom = match (whose, name) {
            (RateBy::Chain, _) => format!("chain {}", place.chain),
            (_, Some(name)) => name,
            (RateBy::Source | RateBy::Client, None) => source.to_string(),
        };
        let detail = format!("more than {rate}, {} at once, of {whom}", rate.burst());
        Err(Refusal::new(Reason::RateLimited, detail))
    }
}

/// A filter by what outlives a reload.
#[derive(Debug, Clone, Copy, Hash)]
struct Place<'a> {
    listener: &'a str,
    chain: &'a str,
    at: usize,
}

/// Says which filter it was.
fn by(filter: &Filter, refusal: Refusal) -> Refusal {
    let rule = Some(filter.at.key.to_string());
    let evidence = Evidence { leaf: None, depth: 0, at_depth: None, rule, hint: None };
    Refusal { evidence: Some(Box::new(evidence)), ..refusal }
}
