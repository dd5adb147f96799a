//! Owns the rustls configurations that connections are made from: one for each client
//! certificate and TLS version, sharing a verifier and the thread's ticket pool. Read
//! `session.rs` next for what happens on a connection.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::{Resumption, Tls12Resumption};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};

use crate::identity::Identity;
use crate::ticket_pool::TicketPool;
use crate::{cipher_suites, key_exchange, server_trust};

/// What all connections of a run have in common.
#[derive(Debug, Clone)]
pub struct TlsTerms {
    /// Key-exchange groups, the preferred one first.
    pub groups: String,
    /// Cipher suites by name; empty for all.
    pub cipher_suites: Vec<String>,
    /// Protocols to offer, in order.
    pub alpn: Vec<String>,
    /// Verify the server against these CAs; `None` believes any certificate.
    pub roots: Option<Arc<RootCertStore>>,
    /// Skip what a client may skip, so that the server is the bottleneck.
    pub cheap: bool,
}

/// TLS 1.2 or 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Version {
    /// The same as rustls names it.
    #[must_use]
    pub fn protocol(self) -> ProtocolVersion {
        match self {
            Self::Tls12 => ProtocolVersion::TLSv1_2,
            Self::Tls13 => ProtocolVersion::TLSv1_3,
        }
    }
}

/// The configurations of one load thread.
#[derive(Debug)]
pub struct TlsClients {
    tls13: Vec<Arc<ClientConfig>>,
    tls12: Vec<Arc<ClientConfig>>,
}

impl TlsClients {
    /// One configuration per identity and version, all over the same `tickets`.
    ///
    /// # Errors
    /// Unknown groups or no CA among the roots.
    pub fn new(
        terms: &TlsTerms,
        identities: &[Identity],
        tickets: &Arc<TicketPool>,
    ) -> Result<Self> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = key_exchange::groups(&terms.groups, terms.cheap)?;
        provider.cipher_suites = cipher_suites::chosen(&terms.cipher_suites, &provider)?;
        let provider = Arc::new(provider);
        let verifier = match &terms.roots {
            Some(roots) => server_trust::verified(roots, &provider)?,
            None => server_trust::unverified(&provider, terms.cheap),
        };
        let make = |version: Version| -> Result<Vec<Arc<ClientConfig>>> {
            let template = template(terms, version, &provider, verifier.clone(), tickets)?;
            Ok(identities
                .iter()
                .map(|identity| {
                    let mut config = template.clone();
                    config.client_auth_cert_resolver = Arc::clone(&identity.resolver) as _;
                    Arc::new(config)
                })
                .collect())
        };
        Ok(Self { tls13: make(Version::Tls13)?, tls12: make(Version::Tls12)? })
    }

    /// The configuration of an identity, by its index in the list given to `new`.
    #[must_use]
    pub fn config(&self, identity: usize, version: Version) -> Option<Arc<ClientConfig>> {
        match version {
            Version::Tls12 => self.tls12.get(identity).cloned(),
            Version::Tls13 => self.tls13.get(identity).cloned(),
        }
    }
}

fn template(
    terms: &TlsTerms,
    version: Version,
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    tickets: &Arc<TicketPool>,
) -> Result<ClientConfig> {
    let versions = match version {
        Version::Tls12 => &[&rustls::version::TLS12],
        Version::Tls13 => &[&rustls::version::TLS13],
    };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .context("no cipher suite fits the version")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::store(Arc::clone(tickets) as _)
        .tls12_resumption(Tls12Resumption::SessionIdOrTickets);
    config.alpn_protocols = terms.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    Ok(config)
}
