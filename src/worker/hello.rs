//! The first bytes of a client: read until the peek has an answer, then the filter chain is chosen.

use std::sync::Arc;

use super::connection::Connection;
use super::generation::Entrance;
use super::prelude::Prelude;
use crate::core::client_hello::{ClientHello, Newest, Peek, RecordLimit, peek};
use crate::core::refusal::{Reason, Refusal};
use crate::core::route::{ChainId, Query, Transport};
use crate::core::session::Event;
use crate::tls::OfferedGroups;

/// A TLS record begins with its type (RFC 8446 §5.1): what begins with a handshake record is TLS and
/// is never taken for plain text, however broken the rest is.
const HANDSHAKE_RECORD: u8 = 22;

/// ALPN protocols of a hello that take part in routing; nobody offers more in earnest.
const ALPN_MAX: usize = 32;

/// What the hello said, kept for the handshake and the log.
#[derive(Debug, Default)]
pub(super) struct HelloNotes {
    pub(super) server_name: Option<Arc<str>>,
    pub(super) prefers_chacha20: bool,
    pub(super) newest: Newest,
    pub(super) takes_raw_keys_only: bool,
    pub(super) record_limit: RecordLimit,
    pub(super) groups: OfferedGroups,
    /// It shows a ticket of ours, or one that it takes for ours.
    pub(super) offers_resumption: bool,
}

impl Connection {
    /// Receives until a chain is chosen or the client is refused.
    pub(super) async fn read_hello(&mut self, entrance: &Entrance) -> Event {
        // Before anything of the client's: whom the connection is from is asked by all that follows.
        if let Err(refusal) = self.read_proxy_header(entrance).await {
            return Event::Refused(refusal);
        }
        if let Err(refusal) = self.take_place(entrance) {
            return Event::Refused(refusal);
        }
        if entrance.plan().is_raw_only() {
            let chosen = self.choose_raw(entrance, None);
            return self.decided(entrance, chosen);
        }
        let prelude = match self.prelude(entrance).await {
            Ok(Prelude::PlainText(chain)) => return self.routed(entrance, chain),
            Ok(prelude) => prelude,
            Err(refusal) => return Event::Refused(refusal),
        };
        loop {
            if let Some(chosen) = self.look(entrance, &prelude) {
                return self.decided(entrance, chosen);
            }
            if let Err(refusal) = self.receive(&prelude).await {
                return Event::Refused(refusal);
            }
        }
    }

    /// More of the first bytes, or how the client left without a hello.
    pub(super) async fn receive(&mut self, prelude: &Prelude) -> Result<(), Refusal> {
        let is_silent = self.down.partial.is_empty() && matches!(prelude, Prelude::Nothing);
        let why = match self.down.fill(&self.worker).await {
            Ok(1..) => return Ok(()),
            Ok(0) => String::new(),
            Err(error) => format!(": {error}"),
        };
        if is_silent {
            let behind = if self.proxied.is_some() { " behind the PROXY header" } else { "" };
            return Err(Refusal::new(Reason::Probe, format!("no byte was sent{behind}{why}")));
        }
        let held = self.down.partial.len();
        let detail = format!("closed after {held} bytes of the hello{why}");
        Err(Refusal::new(Reason::HelloTruncated, detail))
    }

    /// One look at what is held; `None` while more is needed.
    fn look(&mut self, entrance: &Entrance, prelude: &Prelude) -> Option<Result<ChainId, Refusal>> {
        let worker = std::rc::Rc::clone(&self.worker);
        let mut joined = worker.hello.borrow_mut();
        match peek(&self.down.partial, &mut joined) {
            Peek::NeedMore { .. } => None,
            Peek::Hello(hello) => {
                self.notes = HelloNotes {
                    server_name: hello.server_name().map(Into::into),
                    prefers_chacha20: hello.prefers_chacha20(),
                    newest: hello.newest(),
                    takes_raw_keys_only: hello.takes_raw_keys_only(),
                    record_limit: hello.record_limit(),
                    groups: OfferedGroups::of(&hello),
                    offers_resumption: hello.offers_resumption(),
                };
                Some(self.choose_tls(entrance, &hello))
            }
            Peek::Reject(reason) => {
                let refusal = Refusal {
                    alert: reason.alert(),
                    ..Refusal::new(reason.reason(), reason.to_string())
                };
                let is_promised = matches!(prelude, Prelude::TlsPromised);
                if is_promised || self.down.partial.first() == Some(&HANDSHAKE_RECORD) {
                    return Some(Err(refusal));
                }
                Some(self.choose_raw(entrance, Some(refusal)))
            }
        }
    }

    fn choose_tls(&self, entrance: &Entrance, hello: &ClientHello<'_>) -> Result<ChainId, Refusal> {
        let mut offered: [&[u8]; ALPN_MAX] = [&[]; ALPN_MAX];
        let mut count = 0;
        for (place, protocol) in offered.iter_mut().zip(hello.alpn()) {
            *place = protocol;
            count += 1;
        }
        let query = Query {
            server_name: hello.server_name(),
            alpn: &offered[..count],
            source: self.card.source.get().ip(),
            transport: Transport::Tls,
        };
        entrance.router().route(query).ok_or_else(|| {
            let listener = &entrance.plan().name;
                let detail = match hello.server_name() {
                    Some(name) => format!(
                        "listener {listener} has no chain for \"{name}\" with this ALPN and source"
                    ),
                    None => format!(
                        "the client sent no SNI and listener {listener} has no chain without server_names"
                    ),
                };
            Refusal::new(Reason::NoChain, detail).with_alert(UNRECOGNIZED_NAME)
        })
    }

    /// Plain text: to the raw chain, or refused as what it was taken for.
    pub(super) fn choose_raw(
        &self,
        entrance: &Entrance,
        otherwise: Option<Refusal>,
    ) -> Result<ChainId, Refusal> {
        let query = Query {
            server_name: None,
            alpn: &[],
            source: self.card.source.get().ip(),
            transport: Transport::Raw,
        };
        entrance.router().route(query).ok_or_else(|| {
            otherwise.unwrap_or_else(|| {
                Refusal::new(Reason::NoRawChain, "no raw chain takes this source")
            })
        })
    }

    fn decided(&mut self, entrance: &Entrance, chosen: Result<ChainId, Refusal>) -> Event {
        match chosen {
            Ok(chain) => self.routed(entrance, chain),
            Err(refusal) => Event::Refused(refusal),
        }
    }
}

/// RFC 6066 §3: the server does not know the name.
const UNRECOGNIZED_NAME: u8 = 112;
