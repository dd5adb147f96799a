//! What one listener does with a client: the steps of `worker::hello` up to the chain, and what the
//! chain's terms say then.
//!
//! The peek, the router and the terms decide, here as there; this file only asks them in order.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;

use crate::config::plan::{Chain, Listener, Plan, WeightedCluster};
use crate::core::client_hello::{self, HelloBuffer, Peek, RejectReason, peek};
use crate::core::identity::Identity;
use crate::core::refusal::{Reason, Refusal};
use crate::core::route::{ChainId, Query, Transport};
use crate::tls::{
    Explanation, HelloFacts, OfferedGroups, Step, SupposeError, SupposedClient, Verdict, Version,
    identify,
};
use crate::worker::Snapshot;

/// The client that the question is about.
#[derive(Debug)]
pub(super) struct Client {
    pub says: Says,
    pub alpn: Vec<String>,
    pub source: IpAddr,
    pub is_source_said: bool,
    pub version: Option<Version>,
    /// As it would send them; empty: it has none.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Unix seconds of the question, and whether that is the present.
    pub now: u64,
    pub is_now: bool,
}

/// How it begins.
#[derive(Debug)]
pub(super) enum Says {
    /// With this name in its hello, as typed.
    Hello(Option<String>),
    PlainText,
}

/// What a listener does with it.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub listener: &'a Listener,
    /// `None`: no chain takes it.
    pub taken: Option<Taken<'a>>,
    pub explanation: Explanation,
}

/// By which chain it is taken, and what happens there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken<'a> {
    pub chain: &'a Chain,
    plan: &'a Plan,
    pub handling: Handling,
}

impl Taken<'_> {
    /// The cluster that connections go to, or all of them with their shares.
    pub(super) fn cluster(&self) -> String {
        let name = |one: &WeightedCluster| &self.plan.cluster(one.cluster).name;
        let clusters = &self.chain.clusters;
        let sum: u32 = clusters.iter().map(|one| one.weight).sum();
        match clusters.as_slice() {
            [one] => name(one).to_string(),
            several => {
                let share = |one| format!("{} ({} of {sum})", name(one), one.weight);
                several.iter().map(share).collect::<Vec<_>>().join(" or ")
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    Terminate,
    Passthrough,
    Raw,
}

impl Handling {
    /// As answers write it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Passthrough => "passthrough",
            Self::Raw => "raw",
        }
    }
}

impl Client {
    /// What its certificate says of itself; `None` also where it is none.
    pub(super) fn identity(&self) -> Option<Identity> {
        identify(self.certificates.first()?)
    }
}

impl<'a> Answer<'a> {
    /// Asks the listener at this place of the plan.
    ///
    /// # Errors
    /// No TLS client can be like this one.
    pub(super) fn of(
        snapshot: &'a Snapshot,
        place: usize,
        client: &Client,
    ) -> Result<Self, SupposeError> {
        let question = Question { snapshot, place, client };
        match &client.says {
            // Nothing is peeked at where every chain takes plain text.
            Says::Hello(_) if question.listener().is_raw_only() => Ok(question.raw(None)),
            Says::PlainText if question.listener().is_raw_only() => Ok(question.raw(None)),
            Says::PlainText => Ok(question.plain_text()),
            Says::Hello(name) => question.hello(name.as_deref()),
        }
    }

    pub(super) fn is_in(&self) -> bool {
        self.explanation.refusal.is_none()
    }
}

struct Question<'a, 'c> {
    snapshot: &'a Snapshot,
    place: usize,
    client: &'c Client,
}

impl<'a> Question<'a, '_> {
    fn listener(&self) -> &'a Listener {
        &self.snapshot.plan.listeners[self.place]
    }

    fn hello(&self, name: Option<&str>) -> Result<Answer<'a>, SupposeError> {
        let mut buffer = [0; 255];
        // A client of ours would not send a bad name, so it is judged before there is one.
        let name = match name.map(|name| client_hello::server_name(name.as_bytes(), &mut buffer)) {
            None => None,
            Some(Ok(name)) => Some(name),
            Some(Err(reason)) => return Ok(self.rejected(reason)),
        };
        let client = self.client;
        let alpn = client.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let supposed =
            SupposedClient::new(name, alpn, client.version, client.certificates.clone())?;
        let bytes = supposed.hello()?;
        let mut joined = HelloBuffer::new();
        let hello = match peek(&bytes, &mut joined) {
            Peek::Hello(hello) => hello,
            Peek::Reject(reason) => return Ok(self.rejected(reason)),
            Peek::NeedMore { .. } => {
                return Ok(self.rejected(RejectReason::TooManyRecords));
            }
        };
        let offered: Vec<&[u8]> = hello.alpn().collect();
        let query = Query {
            server_name: hello.server_name(),
            alpn: &offered,
            source: client.source,
            transport: Transport::Tls,
        };
        let Some(id) = self.snapshot.routers[self.place].route(query) else {
            return Ok(self.refused("route", no_chain(self.listener(), hello.server_name())));
        };
        let route = self.route_step(id, hello.server_name());
        let taken = self.taken(id);
        let explanation = match self.snapshot.material.downstream(self.place, id) {
            None => unopened(route, &taken.cluster()),
            Some(terms) => {
                let facts = HelloFacts {
                    sni: hello.server_name(),
                    prefers_chacha20: hello.prefers_chacha20(),
                    newest: hello.newest(),
                    takes_raw_keys_only: hello.takes_raw_keys_only(),
                    record_limit: hello.record_limit(),
                    groups: OfferedGroups::of(&hello),
                };
                let mut explanation = terms.explain(&supposed, facts, client.now);
                explanation.steps.insert(0, route);
                explanation
            }
        };
        Ok(Answer { listener: self.listener(), taken: Some(taken), explanation })
    }

    fn plain_text(&self) -> Answer<'a> {
        let mut joined = HelloBuffer::new();
        match peek(PLAIN_TEXT, &mut joined) {
            Peek::Reject(reason) => self.raw(Some(refusal(reason))),
            Peek::Hello(_) | Peek::NeedMore { .. } => self.raw(None),
        }
    }

    /// To the raw chain, or refused as what it was taken for.
    fn raw(&self, otherwise: Option<Refusal>) -> Answer<'a> {
        let source = self.client.source;
        let query = Query { server_name: None, alpn: &[], source, transport: Transport::Raw };
        match self.snapshot.routers[self.place].route(query) {
            None => {
                let unmatched =
                    || Refusal::new(Reason::NoRawChain, "no raw chain takes this source");
                self.refused("route", otherwise.unwrap_or_else(unmatched))
            }
            Some(id) => {
                let taken = self.taken(id);
                let text = format!(
                    "whatever it sends goes to cluster {} as it is: no TLS, nobody to verify",
                    taken.cluster()
                );
                let steps =
                    vec![self.route_step(id, None), Step::new("tls", Verdict::NotAsked, text)];
                let explanation = Explanation { steps, ..Explanation::default() };
                Answer { listener: self.listener(), taken: Some(taken), explanation }
            }
        }
    }

    fn taken(&self, id: ChainId) -> Taken<'a> {
        let chain = &self.listener().chains[usize::from(id.0)];
        let handling = match (chain.matches.transport, chain.tls) {
            (Transport::Raw, _) => Handling::Raw,
            (Transport::Tls, None) => Handling::Passthrough,
            (Transport::Tls, Some(_)) => Handling::Terminate,
        };
        Taken { chain, plan: &self.snapshot.plan, handling }
    }

    fn route_step(&self, id: ChainId, name: Option<&str>) -> Step {
        let chain = self.taken(id).chain;
        let matches = &chain.matches;
        let mut by = Vec::new();
        let names = matches.server_names.iter();
        let names = names.filter(|pattern| name.is_some_and(|name| pattern.matches(name)));
        by.extend(names.map(|pattern| format!("server_names has {pattern}")));
        let offered = |protocol: &str| self.client.alpn.iter().any(|one| one == protocol);
        let alpn = matches.alpn.iter().filter(|protocol| offered(protocol));
        by.extend(alpn.map(|protocol| format!("alpn has {protocol}")));
        let sources = matches.sources.iter().filter(|one| one.contains(self.client.source));
        by.extend(sources.map(|source| format!("sources has {source}")));
        let text = match by.is_empty() {
            true => format!("chain {} takes whom no other does", chain.name),
            false => format!("chain {}: {}", chain.name, by.join(", ")),
        };
        let rule = Some(chain.at.key.to_string());
        Step { rule, ..Step::new("route", Verdict::Ok, text) }
    }

    fn rejected(&self, reason: RejectReason) -> Answer<'a> {
        self.refused("hello", refusal(reason))
    }

    fn refused(&self, step: &'static str, refusal: Refusal) -> Answer<'a> {
        let steps = vec![Step::new(step, Verdict::Refused, refusal.detail.clone())];
        let explanation = Explanation { steps, refusal: Some(refusal), ..Explanation::default() };
        Answer { listener: self.listener(), taken: None, explanation }
    }
}

fn refusal(reason: RejectReason) -> Refusal {
    Refusal { alert: reason.alert(), ..Refusal::new(reason.reason(), reason.to_string()) }
}

/// In the words of `worker::hello`.
fn no_chain(listener: &Listener, name: Option<&str>) -> Refusal {
    let listener = &listener.name;
    let detail = match name {
        Some(name) => {
            format!("listener {listener} has no chain for \"{name}\" with this ALPN and source")
        }
        None => format!(
            "the client sent no SNI and listener {listener} has no chain without server_names"
        ),
    };
    Refusal::new(Reason::NoChain, detail).with_alert(UNRECOGNIZED_NAME)
}

fn unopened(route: Step, cluster: &str) -> Explanation {
    let text = format!(
        "it is not opened: the client speaks TLS with cluster {cluster}, and whom that lets in is not \
         known here"
    );
    let steps = vec![route, Step::new("tls", Verdict::NotAsked, text)];
    Explanation { steps, ..Explanation::default() }
}

/// What nobody could take for TLS.
const PLAIN_TEXT: &[u8] = b"plain text\r\n";

/// RFC 6066 §3: the server does not know the name.
const UNRECOGNIZED_NAME: u8 = 112;
