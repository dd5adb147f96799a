//! Owns whether the server's certificate is verified: against a CA file, its signature only, or
//! not at all (`--cheap-client`). Read `tls_client.rs` next.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Whom a client believes to be the server.
#[derive(Debug, Clone, Args)]
pub struct ServerTrustFlags {
    /// Verify the server against these CAs
    #[arg(long, value_name = "PEM")]
    pub ca: Option<PathBuf>,
    /// Whether the server is verified; off believes any certificate that it has the key of
    /// [default: on with --ca, else off]
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub verify_server: Option<VerifyServer>,
}

/// `--verify-server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyServer {
    /// Against --ca; without it, against the CAs of --tenants-from
    On,
    /// Not, even with --ca
    Off,
}

impl ServerTrustFlags {
    /// The CAs to verify the server against: those of `--ca`, else those in the files that `of_tenants`
    /// names; `None` if it is not verified.
    ///
    /// # Errors
    /// It is to be verified and there is no CA; a file that cannot be read or holds something else.
    pub fn roots(
        &self,
        of_tenants: impl FnOnce() -> Result<Vec<PathBuf>>,
    ) -> Result<Option<Arc<RootCertStore>>> {
        let files = match (self.verify_server, &self.ca) {
            (Some(VerifyServer::Off), _) | (None, None) => return Ok(None),
            (_, Some(ca)) => vec![ca.clone()],
            (Some(VerifyServer::On), None) => of_tenants()?,
        };
        if files.is_empty() {
            bail!("--verify-server on: say with --ca PEM which CAs may vouch for the server");
        }
        let mut roots = RootCertStore::empty();
        for file in files {
            add(&mut roots, &file)?;
        }
        Ok(Some(Arc::new(roots)))
    }
}

fn add(roots: &mut RootCertStore, ca: &Path) -> Result<()> {
    for certificate in CertificateDer::pem_file_iter(ca)
        .with_context(|| format!("cannot read {}", ca.display()))?
    {
        roots.add(certificate.with_context(|| format!("{}: bad PEM", ca.display()))?)?;
    }
    Ok(())
}

/// Verifies the chain, the name and the signature.
///
/// # Errors
/// No CA.
pub fn verified(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>> {
    let builder =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    Ok(builder.build().context("there is no CA to verify the server against")?)
}

/// Believes any certificate; still checks that the server holds its key, unless `cheap`.
#[must_use]
pub fn unverified(provider: &Arc<CryptoProvider>, cheap: bool) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Unverified { provider: Arc::clone(provider), cheap })
}

#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
    cheap: bool,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if end_entity.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.cheap {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.cheap {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
