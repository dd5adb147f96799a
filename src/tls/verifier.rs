//! Whether a peer's certificate chain is good: webpki decides, this file bounds the work, spares
//! what `chain_memo` remembers, and keeps the precise reason.
//!
//! Never loosens what webpki says. What was found goes into the `handshake_context`; `alert` turns
//! rustls' error and that into a refusal.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::alert::{certificate_failure, has_namesake};
use super::chain_memo::{self, ChainKey, Validity};
use super::handshake_context::{self, Authentication};
use super::identity::{Identity, sha256};
use super::pem::Bundle;
use crate::core::refusal::Reason;

/// Verifies clients of one chain.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    trust: Bundle,
}

/// Verifies upstreams under one `tls.upstream`.
#[derive(Debug)]
pub(super) struct UpstreamVerifier {
    inner: Arc<WebPkiServerVerifier>,
    trust: Bundle,
}

impl ClientVerifier {
    /// Over webpki's verifier for `trust`; `mandatory`: a client without a certificate is refused.
    ///
    /// # Errors
    /// webpki's, when there are no anchors.
    pub(super) fn build(
        trust: Bundle,
        provider: Arc<CryptoProvider>,
        mandatory: bool,
    ) -> Result<Self, VerifierBuilderError> {
        let roots = Arc::clone(&trust.roots);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let builder = if mandatory { builder } else { builder.allow_unauthenticated() };
        Ok(Self { inner: builder.build()?, trust })
    }
}

impl UpstreamVerifier {
    /// Over webpki's verifier for `trust`.
    ///
    /// # Errors
    /// webpki's, when there are no anchors.
    pub(super) fn build(
        trust: Bundle,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let roots = Arc::clone(&trust.roots);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
        Ok(Self { inner, trust })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        bound(end_entity, intermediates)?;
        let key = ChainKey::new(&self.trust.digest, b"client", end_entity, intermediates);
        let known = match chain_memo::recall(key, now.as_secs()) {
            Some(known) => Some(known),
            None => {
                self.inner
                    .verify_client_cert(end_entity, intermediates, now)
                    .map_err(|error| explain(error, end_entity, intermediates, &self.trust, now))?;
                memorise(key, end_entity, intermediates)
            }
        };
        let authentication = Authentication {
            at: now.as_secs(),
            // Without a known end the ticket is worth nothing.
            not_after: known.map_or(0, |known| known.until),
            identity: sha256(end_entity),
        };
        handshake_context::with(|context| context.verified = Some(authentication));
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, cert, dss)
            .inspect_err(|_| proof_failed(cert, Reason::CertificateSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, cert, dss)
            .inspect_err(|_| proof_failed(cert, Reason::CertificateSignature))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        bound(end_entity, intermediates)?;
        let name = server_name.to_str();
        let key = ChainKey::new(&self.trust.digest, name.as_bytes(), end_entity, intermediates);
        if chain_memo::recall(key, now.as_secs()).is_none() {
            self.inner
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| explain(error, end_entity, intermediates, &self.trust, now))?;
            memorise(key, end_entity, intermediates);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, cert, dss)
            .inspect_err(|_| proof_failed(cert, Reason::UpstreamUntrusted))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, cert, dss)
            .inspect_err(|_| proof_failed(cert, Reason::UpstreamUntrusted))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Threat 11: before anything is parsed.
fn bound(end_entity: &[u8], intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
    let count = 1 + intermediates.len();
    let bytes = end_entity.len() + intermediates.iter().map(|der| der.len()).sum::<usize>();
    let detail = if count > CHAIN_CERTIFICATES_MAX {
        format!("the peer sent {count} certificates, more than {CHAIN_CERTIFICATES_MAX}")
    } else if bytes > CHAIN_BYTES_MAX {
        format!("the peer sent {bytes} bytes of certificates, more than {CHAIN_BYTES_MAX}")
    } else {
        return Ok(());
    };
    handshake_context::with(|context| context.fail(Reason::CertificateInvalid, detail));
    Err(CertificateError::BadEncoding.into())
}

fn memorise(
    key: ChainKey,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Option<Validity> {
    let known = Validity::of(end_entity, intermediates);
    if let Some(known) = known {
        chain_memo::remember(key, known);
    }
    known
}

/// Writes down what is wrong with a chain, and returns the error from which rustls takes its alert.
fn explain(
    error: Error,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &Bundle,
    now: UnixTime,
) -> Error {
    let error = match error {
        Error::InvalidCertificate(CertificateError::BadSignature)
            if has_namesake(end_entity, intermediates, &trust.roots) =>
        {
            CertificateError::UnknownIssuer.into()
        }
        other => other,
    };
    let (reason, detail) =
        certificate_failure(&error, end_entity, intermediates, &trust.roots, now.as_secs());
    handshake_context::with(|context| context.fail(reason, detail));
    error
}

fn proof_failed(certificate: &CertificateDer<'_>, reason: Reason) {
    let who = Identity::of(certificate)
        .map_or_else(|| "the certificate".to_owned(), |identity| identity.sentence());
    let detail = format!("{who}: the peer could not prove that it holds the private key");
    handshake_context::with(|context| context.fail(reason, detail));
}

/// Root, eight levels below, leaf: more than any PKI that a person understands.
const CHAIN_CERTIFICATES_MAX: usize = 10;
const CHAIN_BYTES_MAX: usize = 32 * 1024;
