//! A server that lies, one way at a time: accepts and falls silent, finishes TLS 1.3 and then
//! refuses the certificate, never issues tickets, echoes other bytes, resets, truncates. Each
//! connection gets a thread; the listener lives as long as the test process.

#![expect(clippy::unwrap_used, reason = "a fixture that breaks fails the test at once")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    ServerConnection, SignatureScheme,
};

/// The lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// None: an honest echo.
    Honest,
    /// TCP is accepted; nothing more.
    AcceptsOnly,
    /// TLS 1.3 is finished on the client's side, then its certificate is refused as revoked.
    RefusesLate,
    /// An echo that never sends a ticket.
    NoTickets,
    /// An echo of other bytes.
    WrongBytes,
    /// Silent after the handshake.
    Stalls,
    /// RST once the hello has come.
    Resets,
    /// close_notify and FIN after the handshake.
    Closes,
    /// FIN without close_notify after the handshake.
    Truncates,
    /// Plain text.
    NoTls,
}

/// Starts a server that tells one lie.
pub fn start(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(config(lie));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), config) = (stream, Arc::clone(&config)) else { continue };
            std::thread::spawn(move || serve(lie, stream, config));
        }
    });
    address
}

fn serve(lie: Lie, mut stream: TcpStream, config: Arc<ServerConfig>) {
    // No test waits longer than this.
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    match lie {
        Lie::AcceptsOnly => return hang(&mut stream),
        Lie::Resets => {
            let mut hello = [0; 16];
            let _ = stream.read(&mut hello);
            crate::reset(stream);
            return;
        }
        Lie::NoTls => {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            return hang(&mut stream);
        }
        Lie::Honest
        | Lie::RefusesLate
        | Lie::NoTickets
        | Lie::WrongBytes
        | Lie::Stalls
        | Lie::Closes
        | Lie::Truncates => {}
    }
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.is_handshaking() {
        if tls.complete_io(&mut stream).is_err() {
            return hang(&mut stream);
        }
    }
    let _ = tls.complete_io(&mut stream);
    match lie {
        Lie::Stalls => hang(&mut stream),
        Lie::Truncates => drop(stream.shutdown(std::net::Shutdown::Write)),
        Lie::Closes => {
            tls.send_close_notify();
            let _ = tls.complete_io(&mut stream);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            hang(&mut stream);
        }
        _ => echo(lie, tls, stream),
    }
}

fn echo(lie: Lie, mut tls: ServerConnection, mut stream: TcpStream) {
    let mut stream = rustls::Stream::new(&mut tls, &mut stream);
    let mut buffer = [0; 1024];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            stream.conn.send_close_notify();
            let _ = stream.flush();
            return;
        }
        if lie == Lie::WrongBytes {
            buffer[0] ^= 1;
        }
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn hang(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

fn config(lie: Lie) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = if lie == Lie::RefusesLate {
        builder.with_client_cert_verifier(Arc::new(RefusesAll))
    } else {
        builder.with_no_client_auth()
    };
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.send_tls13_tickets = usize::from(lie != Lie::NoTickets);
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    config
}

/// Asks for a certificate, lets the client finish, then says that it was revoked.
#[derive(Debug)]
struct RefusesAll;

impl ClientCertVerifier for RefusesAll {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Err(CertificateError::Revoked.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
