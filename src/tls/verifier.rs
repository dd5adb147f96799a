//! rustls' two verifiers over `path`: spares what `chain_memo` remembers, keeps the precise reason, and
//! lets through what a trust in audit mode only counts.
//!
//! Never loosens what webpki says. What was found goes into the `handshake_context`.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::chain_memo::{self, ChainKey};
use super::diagnosis::{self, Diagnosis};
use super::handshake_context::{self, Memo};
use super::path::{self, Chain, Fault, Purpose};
use super::standing::{Standing, Verified};
use super::trust::TrustStore;
use crate::core::trust::Mode;

/// Verifies clients of one chain.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    trust: Arc<TrustStore>,
    algorithms: WebPkiSupportedAlgorithms,
    mandatory: bool,
}

/// Verifies upstreams under one `tls.upstream`.
#[derive(Debug)]
pub(super) struct UpstreamVerifier {
    trust: Arc<TrustStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    /// `mandatory`: a client without a certificate is refused, unless the trust only audits.
    pub(super) fn new(trust: Arc<TrustStore>, provider: &CryptoProvider, mandatory: bool) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
            mandatory: mandatory && trust.mode == Mode::Enforce,
            trust,
        }
    }
}

impl UpstreamVerifier {
    pub(super) fn new(trust: Arc<TrustStore>, provider: &CryptoProvider) -> Self {
        Self { trust, algorithms: provider.signature_verification_algorithms }
    }

    pub(super) fn trust(&self) -> &TrustStore {
        &self.trust
    }

    /// Verifies an upstream's chain for `name`: in a full handshake by rustls' call, in a resumed one
    /// by the dialler's.
    ///
    /// # Errors
    /// What is wrong with it, worded.
    pub(super) fn verify(
        &self,
        chain: Chain<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Box<Diagnosis>> {
        let purpose = Purpose::Server(name);
        match verify(&self.trust, &self.algorithms, chain, purpose, now) {
            Ok(verified) => {
                let standing = Standing { at: now.as_secs(), verified };
                handshake_context::with(|context| context.verified = Some(standing));
                Ok(())
            }
            Err(fault) => {
                let found = diagnosis::diagnose(&fault, chain, &self.trust, now.as_secs());
                if self.trust.mode == Mode::Audit {
                    handshake_context::with(|context| context.audit = Some(found.refusal));
                    return Ok(());
                }
                Err(Box::new(found))
            }
        }
    }
}

/// As `path::verify`, or from memory.
fn verify(
    trust: &TrustStore,
    algorithms: &WebPkiSupportedAlgorithms,
    chain: Chain<'_>,
    purpose: Purpose<'_>,
    now: UnixTime,
) -> Result<Arc<Verified>, Fault> {
    // A chain beyond the bounds is not even digested.
    path::bound(chain)?;
    let key = ChainKey::new(trust, chain, purpose);
    if let Some(known) = chain_memo::recall(key, trust, now.as_secs()) {
        handshake_context::with(|context| context.memo = Some(Memo::Hit));
        return Ok(known);
    }
    handshake_context::with(|context| context.memo = Some(Memo::Miss));
    let verified = path::verify(trust, algorithms, chain, purpose, now)?;
    chain_memo::remember(key, &verified);
    Ok(verified)
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.hints.told()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = Chain { leaf: end_entity, intermediates };
        match verify(&self.trust, &self.algorithms, chain, Purpose::Client, now) {
            Ok(verified) => {
                let standing = Standing { at: now.as_secs(), verified };
                handshake_context::with(|context| context.verified = Some(standing));
                Ok(ClientCertVerified::assertion())
            }
            Err(fault) => {
                let Diagnosis { refusal, error } =
                    diagnosis::diagnose(&fault, chain, &self.trust, now.as_secs());
                if self.trust.mode == Mode::Audit {
                    handshake_context::with(|context| context.audit = Some(refusal));
                    return Ok(ClientCertVerified::assertion());
                }
                handshake_context::with(|context| context.fail(refusal));
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12_signature(&self.algorithms, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(&self.algorithms, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = Chain { leaf: end_entity, intermediates };
        match self.verify(chain, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(found) => {
                let Diagnosis { refusal, error } = *found;
                handshake_context::with(|context| context.fail(refusal));
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12_signature(&self.algorithms, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(&self.algorithms, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Proof of possession; never remembered.
fn tls12_signature(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        .inspect_err(|error| note_failed_proof(certificate, signed.scheme, error))
}

fn tls13_signature(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        .inspect_err(|error| note_failed_proof(certificate, signed.scheme, error))
}

fn note_failed_proof(certificate: &CertificateDer<'_>, scheme: SignatureScheme, error: &Error) {
    let refusal = diagnosis::proof_failed(certificate, scheme, error);
    handshake_context::with(|context| context.fail(refusal));
}
