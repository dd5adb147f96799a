//! A rustls peer in memory, over the unbuffered API: what the record layer is compared with.
//!
//! No socket and no thread: bytes are moved by whoever owns two peers. [`RawSealer`] seals what
//! rustls itself would never send.

#![expect(clippy::expect_used, reason = "a peer that cannot be built fails its test")]

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, ProtocolVersion,
    RootCertStore, ServerConfig, SupportedCipherSuite, version,
};

pub type Client = Unbuffered<UnbufferedClientConnection>;
pub type Server = Unbuffered<UnbufferedServerConnection>;

/// Configurations for handshakes over one TLS 1.3 suite, with secret extraction on.
#[derive(Debug, Clone)]
pub struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// One peer and its buffers.
#[derive(Debug)]
pub struct Unbuffered<C> {
    pub connection: C,
    /// Bytes of the other peer, not yet processed.
    pub incoming: Vec<u8>,
    /// Bytes for the other peer, not yet taken.
    pub outgoing: Vec<u8>,
    /// Application data that arrived.
    pub received: Vec<u8>,
    /// Whether the other peer's close_notify arrived.
    pub peer_closed: bool,
}

/// What a peer is to do once it may.
#[derive(Debug, Clone, Copy)]
pub enum Action<'a> {
    Send(&'a [u8]),
    RefreshKeys,
    Close,
}

/// What both kinds of rustls' unbuffered connections can do.
pub trait Connection: Sized {
    type Data;
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error>;
}

/// Seals any inner plaintext with rustls' own AEAD.
pub struct RawSealer {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Configs {
    /// A fresh self-signed certificate for `localhost` that the client trusts.
    pub fn new(suite: SupportedCipherSuite) -> Self {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![suite],
            ..aws_lc_rs::default_provider()
        });
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .expect("rcgen issues a plain certificate");
        let key = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
        let certificate = issued.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("rcgen's certificate is well formed");
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .expect("the suite is of TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.enable_secret_extraction = true;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .expect("the suite is of TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key))
            .expect("the key fits its certificate");
        server.enable_secret_extraction = true;
        Self { client: Arc::new(client), server: Arc::new(server) }
    }

    /// Two peers behind their handshake. The server's tickets are in its `outgoing`.
    pub fn handshake(&self) -> (Client, Server) {
        let name = ServerName::try_from("localhost").expect("localhost is a name");
        let client = UnbufferedClientConnection::new(Arc::clone(&self.client), name);
        let server = UnbufferedServerConnection::new(Arc::clone(&self.server));
        let mut client = Unbuffered::new(client.expect("the configuration is sound"));
        let mut server = Unbuffered::new(server.expect("the configuration is sound"));
        // Two flights are enough; four bound the loop.
        for _ in 0..4 {
            client.run(None).expect("the client's handshake succeeds");
            server.incoming.append(&mut client.outgoing);
            server.run(None).expect("the server's handshake succeeds");
            if !client.connection.is_handshaking() {
                break;
            }
            client.incoming.append(&mut server.outgoing);
        }
        assert!(!server.connection.is_handshaking(), "the handshake ended");
        (client, server)
    }
}

impl<C: Connection> Unbuffered<C> {
    fn new(connection: C) -> Self {
        Self {
            connection,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            received: Vec::new(),
            peer_closed: false,
        }
    }

    /// Processes all that arrived, does `action` when rustls lets it, and writes what follows.
    ///
    /// # Errors
    /// What rustls finds wrong with the other peer.
    pub fn run(&mut self, mut action: Option<Action<'_>>) -> Result<(), Error> {
        loop {
            let status = self.connection.process(&mut self.incoming);
            let mut discard = status.discard;
            let mut idle = false;
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        self.received.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let mut record = vec![0; RECORD_ROOM];
                    let length = data.encode(&mut record).expect("the room is ample");
                    self.outgoing.extend_from_slice(&record[..length]);
                }
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::WriteTraffic(mut traffic) => match action.take() {
                    Some(Action::Send(data)) => {
                        let mut record = vec![0; data.len() + data.len() / 64 + RECORD_ROOM];
                        let length = traffic.encrypt(data, &mut record).expect("the room is ample");
                        self.outgoing.extend_from_slice(&record[..length]);
                    }
                    Some(Action::RefreshKeys) => traffic.refresh_traffic_keys()?,
                    Some(Action::Close) => {
                        let mut record = [0; 64];
                        let length =
                            traffic.queue_close_notify(&mut record).expect("the room is ample");
                        self.outgoing.extend_from_slice(&record[..length]);
                    }
                    None => idle = true,
                },
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => idle = true,
            }
            self.incoming.drain(..discard);
            if idle {
                return Ok(());
            }
        }
    }
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

impl RawSealer {
    /// # Panics
    /// When `suite` is not of TLS 1.3 or the secrets are of an unknown kind.
    pub fn new(
        suite: SupportedCipherSuite,
        secrets: ConnectionTrafficSecrets,
        sequence: u64,
    ) -> Self {
        let suite = suite.tls13().expect("the suite is of TLS 1.3");
        let encrypter = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                Some(suite.aead_alg.encrypter(key, iv))
            }
            _ => None,
        };
        let encrypter = encrypter.expect("the AEAD is one of three");
        let mut sealer = Self { encrypter, sequence: 0 };
        // AWS-LC's AES-GCM keys for TLS must see every sequence number from zero on.
        while sealer.sequence < sequence {
            sealer.seal(&[0]);
        }
        sealer
    }

    /// A record of `inner`: content, inner type and padding. rustls takes the last byte as the
    /// type, so that an empty `inner` is sealed as one zero byte.
    pub fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let (last, content) = inner.split_last().unwrap_or((&0, &[]));
        let message = OutboundPlainMessage {
            typ: ContentType::from(*last),
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(content),
        };
        let sealed = self.encrypter.encrypt(message, self.sequence).expect("rustls seals");
        self.sequence += 1;
        sealed.encode()
    }
}

impl fmt::Debug for RawSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSealer").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// Longer than any one record or handshake flight that rustls makes here.
const RECORD_ROOM: usize = 32 * 1024;
