//! A handshake with a client that is only supposed, in memory, under the terms of a real chain: what
//! it would come to, found out by the code that does it.
//!
//! The supposed client shows a certificate chain without having its key, so the handshake ends where
//! it would have to prove that it has. Until then everything is decided as for anybody: nothing in
//! here, and nothing for its sake anywhere, accepts a proof. `explain` asks, and says it in words.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion,
    SignatureAlgorithm, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::crypto::suite_name;
use super::downstream::{ClientFacts, DownstreamTerms, HelloFacts};
use super::handshake::{Outcome, Version};
use super::standing::Standing;
use crate::core::refusal::{Reason, Refusal};

/// A client as somebody describes it.
#[derive(Debug, Clone)]
pub struct SupposedClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// What one would have to say to be no client at all.
#[derive(Debug, thiserror::Error)]
#[error("no TLS client can be like this")]
pub struct SupposeError(#[source] Error);

/// What hello and answer agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    pub version: Version,
    /// IANA's name.
    pub suite: &'static str,
    pub alpn: Option<Vec<u8>>,
}

/// How far it went.
#[derive(Debug)]
pub(super) struct Rehearsal {
    /// `None`: refused before anything was agreed.
    pub agreed: Option<Agreed>,
    pub end: End,
}

#[derive(Debug)]
pub(super) enum End {
    Refused(Refusal),
    /// Everything but the proof of possession.
    Unproved {
        /// `None`: the chain is not accepted, and the trust only audits.
        standing: Option<Standing>,
        audit: Option<Refusal>,
    },
    /// To the end, without a certificate.
    Done(Box<ClientFacts>),
}

impl SupposedClient {
    /// A client that asks for `name`, offers these protocols in this order, and `version` alone or
    /// both. It shows `certificates` as they stand, or has none.
    ///
    /// # Errors
    /// rustls knows no such client: `name` is none.
    pub fn new(
        name: Option<&str>,
        alpn: Vec<Vec<u8>>,
        version: Option<Version>,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Self, SupposeError> {
        let none = |_invalid| SupposeError(Error::General("this name cannot be sent".to_owned()));
        let name = match name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(none)?,
            // For an address no SNI is sent (RFC 6066 §3).
            None => ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into()),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[_] = match version {
            None => &[&TLS13, &TLS12],
            Some(Version::Tls12) => &[&TLS12],
            Some(Version::Tls13) => &[&TLS13],
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(SupposeError)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
            .with_client_cert_resolver(Arc::new(Shown::of(&certificates)));
        config.alpn_protocols = alpn;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { config: Arc::new(config), name, certificates })
    }

    /// Its first flight, for the peek.
    ///
    /// # Errors
    /// rustls does not even begin.
    pub fn hello(&self) -> Result<Vec<u8>, SupposeError> {
        let mut bytes = Vec::new();
        send(&mut self.connect()?, &mut bytes);
        Ok(bytes)
    }

    fn connect(&self) -> Result<ClientConnection, SupposeError> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(SupposeError)
    }
}

/// Plays the handshake.
pub(super) fn rehearse(
    terms: &Arc<DownstreamTerms>,
    client: &SupposedClient,
    hello: HelloFacts<'_>,
) -> Rehearsal {
    let mut connection = match client.connect() {
        Ok(connection) => connection,
        Err(SupposeError(error)) => {
            let end = End::Refused(Refusal::new(Reason::Internal, error.to_string()));
            return Rehearsal { agreed: None, end };
        }
    };
    let mut server = terms.start(hello);
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    for _ in 0..FLIGHTS_MAX {
        send(&mut connection, &mut to_server);
        let advance = server.advance(&mut to_server, &mut to_client);
        to_server.drain(..advance.consumed);
        let gave_up = receive(&mut connection, &to_client).err();
        to_client.clear();
        let end = match (advance.outcome, gave_up) {
            (Outcome::NeedMore, None) => continue,
            (Outcome::Done, _) => match server.finish() {
                Ok((_, facts)) => End::Done(Box::new(facts)),
                Err(refusal) => End::Refused(refusal),
            },
            (Outcome::Failed(refusal), _) => {
                let verified = server.context().and_then(|context| context.verified.clone());
                let audit = server.context().and_then(|context| context.audit.clone());
                // Past the verifier only the proof can fail for this reason.
                let is_proof = refusal.reason == Reason::CertificateSignature;
                if is_proof && (verified.is_some() || audit.is_some()) {
                    End::Unproved { standing: verified, audit }
                } else {
                    End::Refused(refusal)
                }
            }
            (Outcome::NeedMore, Some(error)) => {
                let detail = format!("the client would give up: {error}");
                End::Refused(Refusal::new(Reason::ClientAlert, detail))
            }
        };
        return Rehearsal { agreed: agreed(&connection), end };
    }
    let refusal = Refusal::new(Reason::Internal, "the handshake did not end");
    Rehearsal { agreed: agreed(&connection), end: End::Refused(refusal) }
}

/// Everything that the client has to send.
fn send(connection: &mut ClientConnection, out: &mut Vec<u8>) {
    while connection.wants_write() {
        // Into memory: it cannot fail.
        if connection.write_tls(out).is_err() {
            return;
        }
    }
}

fn receive(connection: &mut ClientConnection, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        match connection.read_tls(&mut bytes) {
            Ok(read) if read > 0 => connection.process_new_packets().map(drop)?,
            Ok(_) | Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn agreed(connection: &ClientConnection) -> Option<Agreed> {
    let version = match connection.protocol_version()? {
        ProtocolVersion::TLSv1_3 => Version::Tls13,
        _ => Version::Tls12,
    };
    let suite = suite_name(connection.negotiated_cipher_suite()?);
    Some(Agreed { version, suite, alpn: connection.alpn_protocol().map(<[u8]>::to_vec) })
}

/// Whom the client believes: anybody, as there is nobody but our own terms.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What the client shows whoever asks.
#[derive(Debug)]
struct Shown(Option<Arc<CertifiedKey>>);

impl Shown {
    fn of(certificates: &[CertificateDer<'static>]) -> Self {
        let key = || Arc::new(CertifiedKey::new(certificates.to_vec(), Arc::new(NoKey)));
        Self((!certificates.is_empty()).then(key))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// In the place of the key that is not there: signs with nothing.
#[derive(Debug)]
struct NoKey;

impl SigningKey for NoKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.first().map(|scheme| Box::new(NoSignature(*scheme)) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

#[derive(Debug)]
struct NoSignature(SignatureScheme);

impl Signer for NoSignature {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

/// TLS 1.2 takes two of the client's, a HelloRetryRequest one more; the rest is room.
const FLIGHTS_MAX: usize = 8;
