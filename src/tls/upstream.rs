//! The upstream's side: the terms of one `tls.upstream`, the diallers under them, their handshakes.
//!
//! `material` builds the terms; `handshake` drives; what comes out is a `wire`.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::UnixClock;
use super::alert::{self, Peer};
use super::asked;
use super::handshake::{Advance, Handshake, Negotiated, Outcome, Version};
use super::handshake_context::{self, HandshakeContext, Memo};
use super::identity::identify;
use super::path::Chain;
use super::sessions::Sessions;
use super::trust::AnchorPlace;
use super::verifier::UpstreamVerifier;
use super::wire::Wire;
use crate::core::identity::Identity;
use crate::core::refusal::{Reason, Refusal};

/// Everything that a handshake with an upstream needs; shared by all workers.
#[derive(Debug)]
pub struct UpstreamTerms {
    /// Without a session store; each dialler adds its own.
    pub(super) config: ClientConfig,
    pub(super) verifier: Arc<UpstreamVerifier>,
    pub(super) resumes: bool,
    pub(super) clock: UnixClock,
    pub(super) digest: [u8; 32],
}

/// Terms with a session store of their own. One for each (worker, cluster, endpoint): a session is
/// resumed only where everything that made the peer trusted is the same.
#[derive(Debug)]
pub struct Dialler {
    config: Arc<ClientConfig>,
    verifier: Arc<UpstreamVerifier>,
    clock: UnixClock,
}

/// A handshake with an upstream, not yet done.
#[derive(Debug)]
pub struct ClientHandshake {
    inner: Handshake<UnbufferedClientConnection>,
    name: ServerName<'static>,
    verifier: Arc<UpstreamVerifier>,
    clock: UnixClock,
}

/// Who the upstream is and what was agreed.
#[derive(Debug, Clone)]
pub struct UpstreamFacts {
    pub negotiated: Negotiated,
    pub leaf: Option<CertificateDer<'static>>,
    /// The anchor that vouched for the upstream.
    pub anchor: Option<AnchorPlace>,
    /// What a trust in audit mode would have refused.
    pub audit: Option<Refusal>,
    /// Whether the chain was verified from memory.
    pub memo: Option<Memo>,
    /// What it got when it asked for our certificate, in words; `None` where it did not.
    pub asked: Option<Arc<str>>,
}

impl UpstreamFacts {
    /// The upstream's certificate in words.
    pub fn identity(&self) -> Option<Identity> {
        self.leaf.as_deref().and_then(identify)
    }

    /// Adds to why the upstream ended the session what it got when it asked for our certificate. In TLS 1.2 it has
    /// taken that, or there would be no session.
    pub fn explain(&self, detail: &mut String) {
        if self.negotiated.version == Version::Tls13 {
            asked::add_to(detail, self.asked.as_deref());
        }
    }
}

impl UpstreamTerms {
    /// Of all that a handshake under these terms goes by: equal digests, equal terms.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// A dialler that has seen no session yet.
    pub fn dialler(&self) -> Dialler {
        let mut config = self.config.clone();
        config.resumption = if self.resumes {
            Resumption::store(Arc::new(Sessions::default()))
        } else {
            Resumption::disabled()
        };
        Dialler {
            config: Arc::new(config),
            verifier: Arc::clone(&self.verifier),
            clock: self.clock,
        }
    }
}

impl Dialler {
    /// `server_name` is a DNS name or an IP address; it is checked in the upstream's certificate.
    ///
    /// # Errors
    /// When `server_name` is neither.
    pub fn start(&self, server_name: &str) -> Result<ClientHandshake, Refusal> {
        let Ok(name) = ServerName::try_from(server_name) else {
            let detail = format!("{server_name:?} is neither a DNS name nor an IP address");
            return Err(Refusal::new(Reason::UpstreamTls, detail));
        };
        let name = name.to_owned();
        let engine = UnbufferedClientConnection::new(Arc::clone(&self.config), name.clone())
            .map_err(|error| alert::refusal(&error, Peer::Upstream))?;
        let inner = Handshake::new(engine, HandshakeContext::default());
        Ok(ClientHandshake { inner, name, verifier: Arc::clone(&self.verifier), clock: self.clock })
    }
}

impl ClientHandshake {
    /// The first call, with no input, makes the ClientHello; otherwise as `ServerHandshake::advance`.
    pub fn advance(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Advance {
        let mut advance = self.inner.advance(input, out);
        if let Outcome::Failed(refusal) = &mut advance.outcome
            && matches!(refusal.reason, Reason::UpstreamAlert | Reason::UpstreamTls)
        {
            self.explain(&mut refusal.detail);
        }
        advance
    }

    /// Adds to why it failed what the upstream got when it asked for our certificate.
    pub fn explain(&self, detail: &mut String) {
        asked::add_to(detail, self.inner.context.asked.as_deref());
    }

    /// The established connection.
    ///
    /// # Errors
    /// Before `Outcome::Done`; when a resumed upstream's certificate is not good any more. rustls asks
    /// the verifier in full handshakes only, so a resumed one is verified here, by the same code.
    pub fn finish(mut self) -> Result<(Wire, UpstreamFacts), Refusal> {
        let negotiated = self.inner.negotiated()?;
        let leaf = if negotiated.resumed { self.verify_again()? } else { self.leaf() };
        let Self { inner: Handshake { engine, context, .. }, verifier, .. } = self;
        let wire = match negotiated.version {
            Version::Tls13 => Wire::tls13_client(engine)?,
            Version::Tls12 => Wire::tls12_client(engine),
        };
        let HandshakeContext { audit, memo, asked, verified, .. } = context;
        let anchor = verified.and_then(|standing| verifier.trust().place_of(&standing.verified));
        Ok((wire, UpstreamFacts { negotiated, leaf, anchor, audit, memo, asked }))
    }

    fn leaf(&self) -> Option<CertificateDer<'static>> {
        let common: &rustls::CommonState = &self.inner.engine;
        let leaf = common.peer_certificates().and_then(<[_]>::first)?;
        Some(leaf.clone().into_owned())
    }

    fn verify_again(&mut self) -> Result<Option<CertificateDer<'static>>, Refusal> {
        let Self { inner: Handshake { engine, context, .. }, name, verifier, clock } = self;
        let common: &rustls::CommonState = engine;
        let Some((leaf, intermediates)) = common.peer_certificates().and_then(<[_]>::split_first)
        else {
            let detail = "the resumed session has no certificate";
            return Err(Refusal::new(Reason::UpstreamUntrusted, detail));
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs((clock)()));
        let verify = || verifier.verify(Chain { leaf, intermediates }, name, now);
        match handshake_context::enter(context, verify) {
            Ok(()) => Ok(Some(leaf.clone().into_owned())),
            Err(found) => Err(alert::of_upstream(found.refusal)),
        }
    }
}
