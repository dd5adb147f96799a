//! rustls configurations of test peers: what a client shows and trusts, what a server asks for.
//!
//! Versions, ALPN and resumption are said one by one; what is not said is rustls' default.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::authority::{Authority, Identity};

/// A client: whom it trusts, and what it shows.
#[derive(Debug)]
pub struct ClientTls<'a> {
    roots: Arc<RootCertStore>,
    identity: Option<&'a Identity>,
    options: Options,
}

/// A server: its certificate, and whose clients it lets in.
#[derive(Debug)]
pub struct ServerTls<'a> {
    identity: &'a Identity,
    clients: Option<(Arc<RootCertStore>, Demand)>,
    options: Options,
}

#[derive(Debug)]
struct Options {
    versions: Vec<&'static SupportedProtocolVersion>,
    groups: Option<Vec<&'static dyn SupportedKxGroup>>,
    alpn: Vec<Vec<u8>>,
    resumption: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    Required,
    Optional,
}

impl<'a> ClientTls<'a> {
    /// A client without certificate that trusts the root of this authority.
    pub fn trusting(authority: &Authority) -> Self {
        Self { roots: authority.roots(), identity: None, options: Options::default() }
    }

    #[must_use]
    pub fn identity(mut self, identity: &'a Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    #[must_use]
    pub fn only_tls12(mut self) -> Self {
        self.options.versions = vec![&TLS12];
        self
    }

    #[must_use]
    pub fn only_tls13(mut self) -> Self {
        self.options.versions = vec![&TLS13];
        self
    }

    /// Key-exchange groups in this order, from `rustls::crypto::aws_lc_rs::kx_group`.
    #[must_use]
    pub fn groups(mut self, groups: &[&'static dyn SupportedKxGroup]) -> Self {
        self.options.groups = Some(groups.to_vec());
        self
    }

    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.options.alpn = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Every handshake a full one. Without this, connections that share the configuration resume.
    #[must_use]
    pub fn without_resumption(mut self) -> Self {
        self.options.resumption = false;
        self
    }

    pub fn build(self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(self.options.provider())
            .with_protocol_versions(&self.options.versions)
            .expect("the provider speaks the versions")
            .with_root_certificates(self.roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain_der.clone(), identity.key_der.clone_key())
                .expect("a certificate and its key"),
        };
        config.alpn_protocols = self.options.alpn;
        if !self.options.resumption {
            config.resumption = Resumption::disabled();
        }
        Arc::new(config)
    }
}

impl<'a> ServerTls<'a> {
    /// A server that asks no client for a certificate.
    pub fn new(identity: &'a Identity) -> Self {
        Self { identity, clients: None, options: Options::default() }
    }

    /// Only clients of this authority's root.
    #[must_use]
    pub fn require_clients_of(mut self, authority: &Authority) -> Self {
        self.clients = Some((authority.roots(), Demand::Required));
        self
    }

    /// Clients of this authority's root, and those without certificate.
    #[must_use]
    pub fn accept_clients_of(mut self, authority: &Authority) -> Self {
        self.clients = Some((authority.roots(), Demand::Optional));
        self
    }

    #[must_use]
    pub fn only_tls12(mut self) -> Self {
        self.options.versions = vec![&TLS12];
        self
    }

    #[must_use]
    pub fn only_tls13(mut self) -> Self {
        self.options.versions = vec![&TLS13];
        self
    }

    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.options.alpn = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Neither tickets nor session ids.
    #[must_use]
    pub fn without_resumption(mut self) -> Self {
        self.options.resumption = false;
        self
    }

    pub fn build(self) -> Arc<ServerConfig> {
        let provider = self.options.provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.options.versions)
            .expect("the provider speaks the versions");
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some((roots, demand)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match demand {
                    Demand::Required => verifier,
                    Demand::Optional => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().expect("a root to trust"))
            }
        };
        let mut config = builder
            .with_single_cert(self.identity.chain_der.clone(), self.identity.key_der.clone_key())
            .expect("a certificate and its key");
        config.alpn_protocols = self.options.alpn;
        if !self.options.resumption {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Arc::new(config)
    }
}

impl Options {
    fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(groups) = &self.groups {
            provider.kx_groups.clone_from(groups);
        }
        Arc::new(provider)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { versions: vec![&TLS13, &TLS12], groups: None, alpn: Vec::new(), resumption: true }
    }
}
