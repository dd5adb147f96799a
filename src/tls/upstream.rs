//! The upstream's side: the terms of one `tls.upstream`, the diallers under them, their handshakes.

use super::downstream::Identity;
use super::handshake::{Advance, Negotiated, Outcome};
use super::wire::Wire;
use crate::core::refusal::{Reason, Refusal};

/// Everything that a handshake with an upstream needs; shared by all workers.
#[derive(Debug)]
pub struct UpstreamTerms {}

/// Terms with a session store of their own. One for each (worker, cluster, endpoint): a session is
/// resumed only where everything that made the peer trusted is the same.
#[derive(Debug)]
pub struct Dialler {}

/// A handshake with an upstream, not yet done.
#[derive(Debug)]
pub struct ClientHandshake {}

/// Who the upstream is and what was agreed.
#[derive(Debug, Clone)]
pub struct UpstreamFacts {
    pub negotiated: Negotiated,
    pub identity: Option<Identity>,
}

impl UpstreamTerms {
    pub fn dialler(&self) -> Dialler {
        Dialler {}
    }
}

impl Dialler {
    /// `server_name` is a DNS name or an IP address; it is checked in the upstream's certificate.
    pub fn start(&self, _server_name: &str) -> Result<ClientHandshake, Refusal> {
        Ok(ClientHandshake {})
    }
}

impl ClientHandshake {
    /// The first call, with no input, makes the ClientHello; otherwise as `ServerHandshake::advance`.
    pub fn advance(&mut self, _input: &mut [u8], _out: &mut Vec<u8>) -> Advance {
        Advance { consumed: 0, outcome: Outcome::NeedMore }
    }

    /// After `Outcome::Done` only.
    pub fn finish(self) -> Result<(Wire, UpstreamFacts), Refusal> {
        Err(Refusal::new(Reason::Internal, "handshake is not done"))
    }
}
