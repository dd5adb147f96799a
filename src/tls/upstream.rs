//! The upstream's side: the terms of one `tls.upstream`, the diallers under them, their handshakes.
//!
//! `material` builds the terms; `handshake` drives; what comes out is a `wire`.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{ClientSessionMemoryCache, Resumption, UnbufferedClientConnection};
use rustls_pki_types::ServerName;

use super::UnixClock;
use super::alert::{self, Peer};
use super::handshake::{Advance, Handshake, Negotiated, Version};
use super::handshake_context::HandshakeContext;
use super::identity::Identity;
use super::wire::Wire;
use crate::core::refusal::{Reason, Refusal};

/// Everything that a handshake with an upstream needs; shared by all workers.
#[derive(Debug)]
pub struct UpstreamTerms {
    /// Without a session store; each dialler adds its own.
    pub(super) config: ClientConfig,
    pub(super) resumes: bool,
    pub(super) clock: UnixClock,
    pub(super) digest: [u8; 32],
}

/// Terms with a session store of their own. One for each (worker, cluster, endpoint): a session is
/// resumed only where everything that made the peer trusted is the same.
#[derive(Debug)]
pub struct Dialler {
    config: Arc<ClientConfig>,
    clock: UnixClock,
}

/// A handshake with an upstream, not yet done.
#[derive(Debug)]
pub struct ClientHandshake {
    inner: Handshake<UnbufferedClientConnection>,
    clock: UnixClock,
}

/// Who the upstream is and what was agreed.
#[derive(Debug, Clone)]
pub struct UpstreamFacts {
    pub negotiated: Negotiated,
    pub identity: Option<Identity>,
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
            Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS_MAX)))
        } else {
            Resumption::disabled()
        };
        Dialler { config: Arc::new(config), clock: self.clock }
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
        let engine = UnbufferedClientConnection::new(Arc::clone(&self.config), name.to_owned())
            .map_err(|error| alert::refusal(&error, None, Peer::Upstream))?;
        let inner = Handshake::new(engine, HandshakeContext::default());
        Ok(ClientHandshake { inner, clock: self.clock })
    }
}

impl ClientHandshake {
    /// The first call, with no input, makes the ClientHello; otherwise as `ServerHandshake::advance`.
    pub fn advance(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Advance {
        self.inner.advance(input, out)
    }

    /// The established connection.
    ///
    /// # Errors
    /// Before `Outcome::Done`; when a resumed upstream's certificate has expired since.
    pub fn finish(self) -> Result<(Wire, UpstreamFacts), Refusal> {
        let negotiated = self.inner.negotiated()?;
        let common: &rustls::CommonState = &self.inner.engine;
        let identity = common.peer_certificates().and_then(<[_]>::first).and_then(Identity::of);
        if let Some(identity) = &identity
            && negotiated.resumed
            && identity.not_after < (self.clock)()
        {
            let detail = format!("{}: expired since it was verified", identity.sentence());
            return Err(Refusal::new(Reason::UpstreamUntrusted, detail));
        }
        let engine = self.inner.engine;
        let wire = match negotiated.version {
            Version::Tls13 => Wire::tls13_client(engine)?,
            Version::Tls12 => Wire::tls12_client(engine),
        };
        Ok((wire, UpstreamFacts { negotiated, identity }))
    }
}

/// Server names of one endpoint: one, unless it is "$sni".
const SESSIONS_MAX: usize = 32;
