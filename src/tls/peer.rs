//! TLS peers of the demonstration: clients that make load, servers that stand in for upstreams.
//!
//! Plain rustls under tokio-rustls: simplicity, not speed. Nothing of a gateway's data path is here.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
pub use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A certificate chain with its key, as two PEM files.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    pub chain: &'a Path,
    pub key: &'a Path,
}

/// Whether a client keeps the tickets it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tickets {
    Keep,
    Refuse,
}

/// What a handshake turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Full,
    Resumed,
}

/// A client that trusts `ca` and shows `pair`, if there is one.
///
/// # Errors
/// A file cannot be read, or does not hold what it should.
pub fn connector(ca: &Path, pair: Option<Pair<'_>>, tickets: Tickets) -> io::Result<TlsConnector> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots(ca)?);
    let mut config = match pair {
        Some(pair) => {
            let (chain, key) = load(pair)?;
            builder.with_client_auth_cert(chain, key).map_err(io::Error::other)?
        }
        None => builder.with_no_client_auth(),
    };
    if tickets == Tickets::Refuse {
        config.resumption = Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A server that shows `pair` and wants a client certificate of `ca`.
///
/// # Errors
/// As for [`connector`].
pub fn acceptor(ca: &Path, pair: Pair<'_>) -> io::Result<TlsAcceptor> {
    let (chain, key) = load(pair)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider())
        .build()
        .map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Shakes hands as a client that asks for `name`.
///
/// # Errors
/// The name is none, or the handshake fails. In TLS 1.3 a refusal of the client's certificate only
/// shows with the first read.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    connector: &TlsConnector,
    name: &str,
    stream: S,
) -> io::Result<client::TlsStream<S>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    connector.connect(name, stream).await
}

/// Whether the client's session was resumed, as negotiated and not as hoped.
pub fn kind<S>(stream: &client::TlsStream<S>) -> Kind {
    match stream.get_ref().1.handshake_kind() {
        Some(HandshakeKind::Resumed) => Kind::Resumed,
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => Kind::Full,
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(ca: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    Ok(roots)
}

fn load(pair: Pair<'_>) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key = PrivateKeyDer::from_pem_file(pair.key).map_err(io::Error::other)?;
    Ok((certificates(pair.chain)?, key))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(io::Error::other)?;
    certificates.collect::<Result<_, _>>().map_err(io::Error::other)
}
