//! Plans made by hand, rustls clients and servers as peers, and the loops that join them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use portcullis::config::error::Location;
use portcullis::config::plan::*;
use portcullis::core::client_hello::{HelloBuffer, Newest, Peek, RecordLimit, peek};
use portcullis::core::refusal::Refusal;
use portcullis::core::route::{ChainId, Match};
use portcullis::core::trust::{LeafPolicy, Mode};
use portcullis::tls::OfferedGroups;
use portcullis::tls::downstream::{ClientFacts, DownstreamTerms, HelloFacts, ServerHandshake};
use portcullis::tls::handshake::Outcome;
use portcullis::tls::material::Material;
use portcullis::tls::stek::StekKeys;
use portcullis::tls::upstream::{ClientHandshake, UpstreamFacts};
use portcullis::tls::wire::Wire;
use portcullis_kit::{Authority, Identity, wall_now};
use rustls::client::Resumption as ClientResumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

pub(crate) const NAME: &str = "server.test";

/// A plan in the making: one listener, `edge`.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) stek: Arc<StekKeys>,
}

/// What came of a handshake that went through.
pub(crate) struct Established {
    pub(crate) wire: Wire,
    pub(crate) facts: ClientFacts,
    /// What the client sent behind its last handshake message.
    pub(crate) left: Vec<u8>,
    /// What the client was sent.
    pub(crate) sent: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Self {
        let seconds = Duration::from_secs;
        let listener = Listener {
            proxied_from: Vec::new(),
            name: "edge".into(),
            at: place("listener.edge"),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            timeouts: Timeouts {
                hello: seconds(5),
                handshake: seconds(10),
                idle: seconds(60),
                half_closed: seconds(60),
                unacknowledged: None,
            },
            connections_max: None,
            connections_per_source: None,
            handshakes_per_second_per_source: None,
            prelude: None,
            defer_accept: false,
            chains: Vec::new(),
        };
        let plan = Plan {
            digest: [0; 32],
            runtime: Runtime {
                io: Io::Epoll,
                io_at: None,
                watch: false,
                resolvers: Vec::new(),
                account: None,
                sandbox: Sandbox::Auto,
                workers: Workers::Auto,
                drain: Drain { grace: seconds(0), spread: seconds(0), deadline: seconds(1) },
                upgrade_deadline: seconds(1),
            },
            limits: Limits {
                connections: None,
                handshakes_in_flight: None,
                handshakes_per_second: None,
                memory: None,
            },
            admin: None,
            log: Log { level: LogLevel::Info, format: LogFormat::Text },
            access_log: AccessLog {
                at: None,
                sink: AccessLogSink::Off,
                format: LogFormat::Text,
                refusals_per_second: None,
            },
            session_tickets: SessionTickets {
                source: TicketSource::Auto,
                rotate: seconds(3600),
                lifetime: seconds(43_200),
            },
            listeners: vec![listener],
            downstream_tls: Vec::new(),
            upstream_tls: Vec::new(),
            trusts: Vec::new(),
            clusters: Vec::new(),
        };
        let stek = StekKeys::random(seconds(3600), seconds(43_200), unix_now()).unwrap();
        Self { plan, stek: Arc::new(stek) }
    }

    pub(crate) fn trust(&mut self, authority: &Authority) -> TrustId {
        self.plan.trusts.push(Trust {
            name: format!("trust{}", self.plan.trusts.len()).into(),
            at: place("trust"),
            anchors: vec![file(authority.ca_path())],
            crls: Vec::new(),
            revocation: Revocation {
                check: RevocationCheck::Off,
                unknown: Uncertain::Refuse,
                stale: Uncertain::Refuse,
            },
            depth_max: 6,
            leaf: LeafPolicy::default(),
            mode: Mode::Enforce,
            on_change: OnChange::Keep,
        });
        TrustId(self.plan.trusts.len() as u16 - 1)
    }

    /// A chain with terms of its own: `server` as certificate, both versions, tickets on.
    pub(crate) fn chain(&mut self, name: &str, server: &Identity, auth: ClientAuth) -> ChainId {
        self.plan.downstream_tls.push(DownstreamTls {
            name: name.into(),
            at: place(&format!("tls.downstream.{name}")),
            certificates: vec![files(server)],
            certificate_dir: None,
            client_auth: auth,
            alpn: Vec::new(),
            crypto: crypto(),
            resumption: Resumption::Tickets,
            tickets_sent: 1,
        });
        let terms = DownstreamTlsId(self.plan.downstream_tls.len() as u16 - 1);
        let chains = &mut self.plan.listeners[0].chains;
        chains.push(Chain {
            name: name.into(),
            at: place(&format!("listener.edge.chain.{name}")),
            matches: Match::default_chain(),
            tls: Some(terms),
            clusters: vec![WeightedCluster { cluster: ClusterId(0), weight: 1 }],
            limits: ChainLimits::default(),
            filters: Vec::new(),
        });
        ChainId(chains.len() as u16 - 1)
    }

    pub(crate) fn upstream(
        &mut self,
        trust: TrustId,
        certificate: Option<&Identity>,
    ) -> UpstreamTlsId {
        self.plan.upstream_tls.push(UpstreamTls {
            name: "db".into(),
            at: place("tls.upstream.db"),
            server_name: UpstreamServerName::Fixed(NAME.into()),
            trust,
            certificate: certificate.map(files),
            alpn: Vec::new(),
            crypto: crypto(),
            resumption: Resumption::Tickets,
        });
        UpstreamTlsId(self.plan.upstream_tls.len() as u16 - 1)
    }

    pub(crate) fn load(&self) -> Material {
        Material::load(&self.plan, &self.stek, 1, unix_now, None).unwrap()
    }

    /// The terms of a chain as one worker has them; called twice, as two workers have them.
    pub(crate) fn terms(&self, chain: ChainId) -> Arc<DownstreamTerms> {
        Arc::clone(self.load().downstream(0, chain).unwrap())
    }
}

pub(crate) fn unix_now() -> u64 {
    wall_now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn place(key: &str) -> Location {
    Location { file: Arc::new(PathBuf::from("test.toml")), line: 1, column: 1, key: key.into() }
}

pub(crate) fn file(path: &Path) -> FileRef {
    FileRef { path: path.to_owned(), at: place(&path.display().to_string()) }
}

pub(crate) fn files(identity: &Identity) -> CertificateFiles {
    CertificateFiles {
        chain: file(&identity.chain_path),
        key: file(&identity.key_path),
        ocsp: None,
    }
}

pub(crate) fn crypto() -> CryptoPolicy {
    use CipherSuite::*;
    CryptoPolicy {
        versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
        cipher_suites: vec![
            Tls13Aes128GcmSha256,
            Tls13Aes256GcmSha384,
            Tls13Chacha20Poly1305Sha256,
            EcdheEcdsaAes128GcmSha256,
            EcdheEcdsaAes256GcmSha384,
            EcdheEcdsaChacha20Poly1305Sha256,
            EcdheRsaAes128GcmSha256,
            EcdheRsaAes256GcmSha384,
            EcdheRsaChacha20Poly1305Sha256,
        ],
        groups: vec![Group::X25519MlKem768, Group::X25519, Group::Secp256r1, Group::Secp384r1],
    }
}

pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// A client that believes `roots`, with a session store of its own.
pub(crate) fn client_config(
    roots: Arc<RootCertStore>,
    version: &'static SupportedProtocolVersion,
    identity: Option<&Identity>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain_der.clone(), identity.key_der.clone_key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.resumption = ClientResumption::in_memory_sessions(32);
    config
}

pub(crate) fn client(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), name.to_owned().try_into().unwrap()).unwrap()
}

pub(crate) fn hello(sni: &str) -> HelloFacts<'_> {
    HelloFacts {
        sni: Some(sni),
        prefers_chacha20: false,
        newest: Newest::Tls13,
        takes_raw_keys_only: false,
        record_limit: RecordLimit::Standard,
        groups: OfferedGroups::default(),
    }
}

/// All that the client has to send.
pub(crate) fn sent_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Whether the hello that this client would send next carries a ticket. Asking takes one of the
/// client's TLS 1.3 tickets, so these tests have two sent.
pub(crate) fn offers_a_ticket(config: &Arc<ClientConfig>, name: &str) -> bool {
    let hello = sent_by(&mut client(config, name));
    // Record and message header, version, random; then three lists to the extensions.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 1 + usize::from(hello[at]) + 2;
    while let Some(&[kind_high, kind, high, low]) = hello[at..].first_chunk() {
        let length = u16::from_be_bytes([high, low]);
        // session_ticket (RFC 5077 §3.2) and pre_shared_key (RFC 8446 §4.2.11).
        if kind_high == 0 && (kind == 35 || kind == 41) && length > 0 {
            return true;
        }
        at += 4 + usize::from(length);
    }
    false
}

/// Hands bytes to the client and lets it work.
pub(crate) fn give(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

/// A whole handshake under `terms`; the client's error comes with the server's refusal.
pub(crate) fn handshake(
    terms: &Arc<DownstreamTerms>,
    client: &mut ClientConnection,
    name: &str,
) -> Result<Established, (Refusal, Option<rustls::Error>)> {
    drive(begin(terms, hello(name)), client, usize::MAX)
}

/// A handshake that has its certificate, as a worker waits for it.
pub(crate) fn begin(terms: &Arc<DownstreamTerms>, hello: HelloFacts<'_>) -> ServerHandshake {
    let mut server = terms.start(hello);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(server.certificate());
    server
}

/// A handshake for the client that sends `bytes` first, for whatever it says there.
pub(crate) fn begin_for(terms: &Arc<DownstreamTerms>, bytes: &[u8]) -> ServerHandshake {
    let mut joined = HelloBuffer::new();
    let Peek::Hello(hello) = peek(bytes, &mut joined) else { panic!("no hello: {bytes:?}") };
    let facts = HelloFacts {
        sni: Some(NAME),
        prefers_chacha20: hello.prefers_chacha20(),
        newest: hello.newest(),
        takes_raw_keys_only: hello.takes_raw_keys_only(),
        record_limit: hello.record_limit(),
        groups: OfferedGroups::of(&hello),
    };
    begin(terms, facts)
}

/// As `handshake`, the client's bytes arriving in pieces of `piece` bytes.
pub(crate) fn drive(
    mut server: ServerHandshake,
    client: &mut ClientConnection,
    piece: usize,
) -> Result<Established, (Refusal, Option<rustls::Error>)> {
    let (mut held, mut flights) = (Vec::new(), Vec::new());
    let mut client_error = None;
    for _ in 0..TURNS_MAX {
        let sent = sent_by(client);
        for part in sent.chunks(piece) {
            held.extend_from_slice(part);
            let mut out = Vec::new();
            let advance = server.advance(&mut held, &mut out);
            held.drain(..advance.consumed);
            flights.extend_from_slice(&out);
            if let Err(error) = give(client, &out) {
                client_error.get_or_insert(error);
            }
            match advance.outcome {
                Outcome::NeedMore => {}
                Outcome::Failed(refusal) => return Err((refusal, client_error)),
                Outcome::Done => {
                    let at = part.as_ptr() as usize - sent.as_ptr() as usize + part.len();
                    held.extend_from_slice(&sent[at..]);
                    let (wire, facts) = server.finish().map_err(|refusal| (refusal, None))?;
                    return Ok(Established { wire, facts, left: held, sent: flights });
                }
            }
        }
        if sent.is_empty() && client_error.is_some() {
            break;
        }
    }
    panic!("the handshake neither ended nor failed; the client says {client_error:?}");
}

/// Our handshake with an upstream that is a rustls server.
pub(crate) fn dial(
    mut ours: ClientHandshake,
    upstream: &mut rustls::ServerConnection,
) -> Result<(Wire, UpstreamFacts, Vec<u8>), Refusal> {
    let mut held = Vec::new();
    for _ in 0..TURNS_MAX {
        let mut out = Vec::new();
        let advance = ours.advance(&mut held, &mut out);
        held.drain(..advance.consumed);
        let mut input = &out[..];
        while !input.is_empty() {
            upstream.read_tls(&mut input).unwrap();
            let _ = upstream.process_new_packets();
        }
        while upstream.wants_write() {
            upstream.write_tls(&mut held).unwrap();
        }
        match advance.outcome {
            Outcome::NeedMore => {}
            Outcome::Failed(refusal) => return Err(refusal),
            Outcome::Done => return ours.finish().map(|(wire, facts)| (wire, facts, held)),
        }
    }
    panic!("the handshake neither ended nor failed");
}

const TURNS_MAX: usize = 20;
