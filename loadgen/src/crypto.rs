//! Owns the command `crypto`: the same handshakes in memory, without sockets, so that the cost of
//! a run splits into cryptography, kernel and proxy. Both sides are rustls with aws-lc-rs. Read
//! `handshakes.rs` for the run to compare with.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use rcgen::{CertificateParams, KeyPair, RsaKeySize};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::identity::{Identity, Presented};
use crate::ticket_pool::{Holder, TicketPool};
use crate::tls_client::{TlsClients, TlsTerms, Version};
use crate::{clock, output};

/// Make handshakes in memory: what cryptography alone costs on this host
#[derive(Debug, Clone, Args)]
pub struct Crypto {
    /// Handshakes of each kind
    #[arg(long, default_value_t = 1000)]
    pub rounds: u32,
    /// Key-exchange group
    #[arg(long, default_value = "x25519")]
    pub groups: String,
    /// Key type of server and client certificates: ecdsa, p384, ed25519, rsa
    #[arg(long, default_value = "ecdsa")]
    pub key: String,
    /// The client skips verification and reuses key shares
    #[arg(long)]
    pub cheap_client: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// CPU time per handshake.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Of the client, microseconds.
    pub client_us: f64,
    /// Of the server, microseconds.
    pub server_us: f64,
}

/// Full and resumed.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Costs {
    /// Mutual TLS with one-certificate chains under a CA.
    pub full: Cost,
    /// From a ticket.
    pub resumed: Cost,
}

impl Crypto {
    /// Measures and prints.
    ///
    /// # Errors
    /// Unknown groups or key types.
    pub fn execute(&self) -> Result<Exit> {
        let costs = measure(self.rounds.max(1), &self.groups, &self.key, self.cheap_client)?;
        if self.json {
            output::line(serde_json::to_string(&costs)?);
            return Ok(Exit::Met);
        }
        output::line(format_args!(
            "{} handshakes of each kind in memory, {} keys, {}; CPU time, microseconds",
            self.rounds, self.key, self.groups
        ));
        output::line(format_args!("{:<10} {:>10} {:>10}", "", "client", "server"));
        for (name, cost) in [("full", costs.full), ("resumed", costs.resumed)] {
            output::line(format_args!(
                "{name:<10} {:>10.1} {:>10.1}",
                cost.client_us, cost.server_us
            ));
        }
        Ok(Exit::Met)
    }
}

/// Costs with x25519 and ECDSA keys, for an honest client.
///
/// # Errors
/// As [`measure`].
pub fn measure_default(rounds: u32) -> Result<Costs> {
    measure(rounds, "x25519", "ecdsa", false)
}

/// Makes `rounds` full and as many resumed handshakes, TLS 1.3 with client certificates.
///
/// # Errors
/// Unknown groups or key types.
pub fn measure(rounds: u32, groups: &str, key_type: &str, cheap: bool) -> Result<Costs> {
    let bench = Bench::new(groups, key_type, cheap)?;
    // Warms caches, and leaves a ticket for every resumed handshake to replace.
    bench.tickets.turn(Holder(0), false);
    for _ in 0..rounds.min(32) {
        bench.handshake(HandshakeKind::Full)?;
    }
    let full = bench.many(rounds, HandshakeKind::Full)?;
    bench.tickets.turn(Holder(0), true);
    let resumed = bench.many(rounds, HandshakeKind::Resumed)?;
    Ok(Costs { full, resumed })
}

struct Bench {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    tickets: Arc<TicketPool>,
}

impl Bench {
    fn new(groups: &str, key_type: &str, cheap: bool) -> Result<Self> {
        let authority = authority()?;
        let (server_chain, server_key) = issue(&authority, key_type)?;
        let (client_chain, client_key) = issue(&authority, key_type)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone())?;
        let roots = Arc::new(roots);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(server_chain, server_key)?;
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        server.send_tls13_tickets = 1;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&client_key)?;
        let identity = Identity {
            name: "bench".to_owned(),
            key_type: key_type.to_owned(),
            resolver: Arc::new(Presented::new(CertifiedKey::new(client_chain, key))),
        };
        let tickets = Arc::new(TicketPool::default());
        let terms = TlsTerms {
            groups: groups.to_owned(),
            cipher_suites: vec![SUITE.to_owned()],
            alpn: Vec::new(),
            roots: (!cheap).then_some(roots),
            cheap,
        };
        let clients = TlsClients::new(&terms, &[identity], &tickets)?;
        let client = clients.config(0, Version::Tls13).context("no configuration")?;
        Ok(Self { client, server: Arc::new(server), tickets })
    }

    fn many(&self, rounds: u32, kind: HandshakeKind) -> Result<Cost> {
        let (mut client, mut server) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..rounds {
            let (one, other) = self.handshake(kind)?;
            client += one;
            server += other;
        }
        let each = |span: Duration| span.as_secs_f64() * 1e6 / f64::from(rounds);
        Ok(Cost { client_us: each(client), server_us: each(server) })
    }

    /// One handshake with its ticket; the CPU time of client and server.
    fn handshake(&self, kind: HandshakeKind) -> Result<(Duration, Duration)> {
        let name = ServerName::try_from(NAME)?;
        let (mut client_time, mut server_time) = (Duration::ZERO, Duration::ZERO);
        let mut client = timed(&mut client_time, || {
            ClientConnection::new(Arc::clone(&self.client), name.clone())
        })?;
        let mut server =
            timed(&mut server_time, || ServerConnection::new(Arc::clone(&self.server)))?;
        let mut wire = Vec::new();
        for _ in 0..TURNS_MAX {
            wire.clear();
            timed(&mut client_time, || client.write_tls(&mut wire))?;
            timed(&mut server_time, || -> Result<()> {
                let mut rest = wire.as_slice();
                while !rest.is_empty() {
                    server.read_tls(&mut rest)?;
                    server.process_new_packets()?;
                }
                Ok(())
            })?;
            wire.clear();
            timed(&mut server_time, || -> Result<()> {
                while server.wants_write() {
                    server.write_tls(&mut wire)?;
                }
                Ok(())
            })?;
            timed(&mut client_time, || -> Result<()> {
                let mut rest = wire.as_slice();
                while !rest.is_empty() {
                    client.read_tls(&mut rest)?;
                    client.process_new_packets()?;
                }
                Ok(())
            })?;
            if !client.wants_write() && !server.wants_write() && !server.is_handshaking() {
                break;
            }
        }
        if client.handshake_kind() != Some(kind) {
            bail!("a handshake was {:?} instead of {kind:?}", client.handshake_kind());
        }
        Ok((client_time, server_time))
    }
}

fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let before = clock::thread_cpu();
    let value = work();
    *total += clock::thread_cpu() - before;
    value
}

type Issued = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);
type Authority = (rcgen::Certificate, rcgen::Issuer<'static, KeyPair>);

fn authority() -> Result<Authority> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key)?;
    Ok((certificate, rcgen::Issuer::new(params, key)))
}

fn issue(authority: &Authority, key_type: &str) -> Result<Issued> {
    let key = match key_type {
        "ecdsa" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        "p384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        "ed25519" => KeyPair::generate_for(&rcgen::PKCS_ED25519)?,
        "rsa" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        _ => bail!("unknown key type {key_type:?}: use ecdsa, p384, ed25519 or rsa"),
    };
    let certificate =
        CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &authority.1)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((vec![certificate.der().clone()], key))
}

/// What a server that may choose takes.
const SUITE: &str = "TLS_AES_128_GCM_SHA256";
const NAME: &str = "bench.test";
/// A handshake takes three; a HelloRetryRequest one more.
const TURNS_MAX: u32 = 8;
