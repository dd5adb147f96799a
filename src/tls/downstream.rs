//! The client's side: the terms of one (listener, chain) and the handshakes under them.
//!
//! `material` builds the terms; `handshake` drives; what comes out is a `wire`.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;

use super::alert::{self, Peer};
use super::handshake::{Advance, Handshake, Negotiated, Outcome, Version};
use super::handshake_context::{ExpectedName, HandshakeContext};
use super::identity::Identity;
use super::wire::Wire;
use crate::core::refusal::{Reason, Refusal};

/// Everything that a handshake on one (listener, chain) needs; shared by all workers.
#[derive(Debug)]
pub struct DownstreamTerms {
    /// In the order of the policy.
    pub(super) config: Arc<ServerConfig>,
    /// The same with ChaCha20 first.
    pub(super) config_chacha: Arc<ServerConfig>,
}

/// What the peek read in the ClientHello.
#[derive(Debug, Clone, Copy)]
pub struct HelloFacts<'a> {
    /// Lower-cased, as the peek normalised it: rustls must see the same name (threat 6).
    pub sni: Option<&'a str>,
    /// The client lists a ChaCha20 suite before any AES suite: it has no AES hardware.
    pub prefers_chacha20: bool,
}

/// A handshake with a client, not yet done.
#[derive(Debug)]
pub struct ServerHandshake {
    /// An error when rustls would not even start.
    inner: Result<Handshake<UnbufferedServerConnection>, Refusal>,
}

/// Who the client is and what was agreed.
#[derive(Debug, Clone)]
pub struct ClientFacts {
    pub negotiated: Negotiated,
    /// `None`: the client presented no certificate (only where it need not).
    pub identity: Option<Identity>,
    /// Unix seconds of the client's last full handshake: earlier than now on resumption. `None`
    /// without a certificate.
    pub authenticated_at: Option<u64>,
}

impl DownstreamTerms {
    /// Begins a handshake; nothing is sent before `ServerHandshake::advance`.
    pub fn start(&self, hello: HelloFacts<'_>) -> ServerHandshake {
        let config = if hello.prefers_chacha20 { &self.config_chacha } else { &self.config };
        let expected = hello.sni.map_or(ExpectedName::None, |name| ExpectedName::Name(name.into()));
        let context =
            HandshakeContext { expected_name: Some(expected), ..HandshakeContext::default() };
        let inner = match UnbufferedServerConnection::new(Arc::clone(config)) {
            Ok(engine) => Ok(Handshake::new(engine, context)),
            Err(error) => Err(alert::refusal(&error, None, Peer::Client)),
        };
        ServerHandshake { inner }
    }
}

impl ServerHandshake {
    /// Takes all bytes received and not yet consumed (the ClientHello that the peek kept comes
    /// first), appends what is to be sent to `out`. See `Advance` for what to do then.
    pub fn advance(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Advance {
        match &mut self.inner {
            Ok(handshake) => handshake.advance(input, out),
            Err(refusal) => Advance { consumed: 0, outcome: Outcome::Failed(refusal.clone()) },
        }
    }

    /// The established connection.
    ///
    /// # Errors
    /// Before `Outcome::Done`, or when rustls keeps the secrets to itself.
    pub fn finish(self) -> Result<(Wire, ClientFacts), Refusal> {
        let handshake = self.inner?;
        let negotiated = handshake.negotiated()?;
        let common: &rustls::CommonState = &handshake.engine;
        let leaf = common.peer_certificates().and_then(<[_]>::first);
        let identity = leaf.and_then(Identity::of);
        if leaf.is_some() && identity.is_none() {
            return Err(Refusal::new(Reason::CertificateInvalid, "the leaf cannot be parsed"));
        }
        let Handshake { engine, context, .. } = handshake;
        let authentication = context.verified.or(context.ticket);
        let authenticated_at = identity.as_ref().and(authentication).map(|found| found.at);
        let wire = match negotiated.version {
            Version::Tls13 => Wire::tls13_server(engine)?,
            Version::Tls12 => Wire::tls12_server(engine),
        };
        Ok((wire, ClientFacts { negotiated, identity, authenticated_at }))
    }
}
