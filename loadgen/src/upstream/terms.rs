//! Owns the TLS terms of the test peer. Read `mod.rs` for the flags they come from.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::Upstream;
use crate::{cipher_suites, key_exchange};

/// An acceptor, or none for plain TCP.
pub(super) fn server(flags: &Upstream) -> Result<Option<TlsAcceptor>> {
    let (Some(chain), Some(key)) = (&flags.cert, &flags.key) else { return Ok(None) };
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = cipher_suites::chosen(&flags.cipher_suites, &provider)?;
    if let Some(groups) = &flags.groups {
        provider.kx_groups = key_exchange::groups(groups, false)?;
    }
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match &flags.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read a key from {}", key.display()))?;
    let mut config = builder.with_single_cert(certificates(chain)?, key)?;
    config.alpn_protocols = flags.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if flags.no_tickets {
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 1;
    }
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read certificates from {}", path.display()))
}
