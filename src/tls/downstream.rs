//! The client's side: the terms of one (listener, chain) and the handshakes under them.
//!
//! `material` builds the terms; `handshake` drives; what comes out is a `wire`.

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::sync::oneshot;

use super::alert::{self, Peer};
use super::certificate_dir::{Answer, CertificateDir, Found};
use super::filters;
use super::handshake::{Advance, Handshake, Negotiated, Outcome, Version};
use super::handshake_context::{ExpectedName, HandshakeContext, Memo};
use super::identity::{self, identify};
use super::key_exchange::OfferedGroups;
use super::leaves;
use super::offered;
use super::shown::Shown;
use super::standing::Standing;
use super::trust::{self, AnchorPlace, TrustStore};
use super::wire::Wire;
use crate::config::plan::{Filter, Group, TlsVersion};
use crate::core::client_hello::{Newest, RecordLimit};
use crate::core::identity::Identity;
use crate::core::record::HEADER;
use crate::core::refusal::{Reason, Refusal};
use crate::core::trust::Mode;

/// Everything that a handshake on one (listener, chain) needs; shared by all workers.
#[derive(Debug)]
pub struct DownstreamTerms {
    /// In the order of the policy.
    pub(super) config: Arc<ServerConfig>,
    /// The same with ChaCha20 first.
    pub(super) config_chacha: Arc<ServerConfig>,
    /// Whom clients are verified by; `None`: nobody is asked.
    pub(super) trust: Option<Arc<TrustStore>>,
    pub(super) requires_certificate: bool,
    pub(super) filters: Vec<Filter>,
    pub(super) offers: Offers,
    /// The most preferred first.
    pub(super) groups: Box<[Group]>,
    /// Where the certificate for a client's name comes from; `None`: `config` has them all.
    pub(super) directory: Option<Arc<CertificateDir>>,
}

/// What a client must share with a chain, in words.
#[derive(Debug)]
pub(super) struct Offers {
    pub versions: String,
    pub has_tls13: bool,
    pub suites: String,
    pub groups: String,
    pub alpn: String,
}

/// What the peek read in the ClientHello.
#[derive(Debug, Clone, Copy)]
pub struct HelloFacts<'a> {
    /// Lower-cased, as the peek normalised it: rustls must see the same name (threat 6).
    pub sni: Option<&'a str>,
    /// The client lists a ChaCha20 suite before any AES suite: it has no AES hardware.
    pub prefers_chacha20: bool,
    /// What rustls refuses it for may be told better by this.
    pub newest: Newest,
    /// The client wants keys without certificates, of which there are none here.
    pub takes_raw_keys_only: bool,
    /// What is sent to the client keeps to it.
    pub record_limit: RecordLimit,
    /// Of these the client gets the one that the chain likes best.
    pub groups: OfferedGroups,
}

/// A handshake with a client, not yet done.
#[derive(Debug)]
pub struct ServerHandshake {
    terms: Arc<DownstreamTerms>,
    record_limit: RecordLimit,
    /// An error where there is none to begin.
    inner: Result<Handshake<UnbufferedServerConnection>, Refusal>,
    /// The certificate that is being read for it.
    loading: Option<oneshot::Receiver<Answer>>,
}

/// Who the client is and what was agreed.
#[derive(Debug, Clone)]
pub struct ClientFacts {
    pub negotiated: Negotiated,
    /// `None`: the client presented no certificate (only where it need not). Verified only where
    /// there is a `standing`: a trust that audits lets others in.
    pub leaf: Option<Arc<[u8]>>,
    /// The certificate of ours that the client got, or would have got.
    pub shown: Option<Shown>,
    /// What the client's being let in rests on; `None` without a verified certificate.
    pub standing: Option<Standing>,
    /// The anchor that vouched for the client.
    pub anchor: Option<AnchorPlace>,
    /// What a trust in audit mode would have refused.
    pub audit: Option<Refusal>,
    /// Whether the chain was verified from memory; `None` where none was, as on resumption.
    pub memo: Option<Memo>,
    /// What each authorize filter that does not let this client pass has against it, by its place
    /// among the chain's filters.
    pub denials: Vec<(usize, Refusal)>,
}

impl ClientFacts {
    /// The client's certificate in words.
    pub fn identity(&self) -> Option<Identity> {
        self.leaf.as_deref().and_then(identify)
    }

    /// What the client is called by its verified certificate, for people, who get no more than they can read: the
    /// first SAN, or the subject where there is none.
    pub fn name(&self) -> Option<String> {
        let identity = identify(self.verified_leaf()?)?;
        Some(identity.sans.into_iter().next().unwrap_or(identity.subject))
    }

    /// A digest of the same name, whole: who it is, also by a certificate that renews this one.
    pub fn lasting_name(&self) -> Option<[u8; 32]> {
        identity::lasting_name(self.verified_leaf()?)
    }

    /// The client's certificate, if it was verified.
    pub(super) fn verified_leaf(&self) -> Option<&[u8]> {
        self.leaf.as_deref().filter(|_| self.standing.is_some())
    }

    /// What the authorize filter at this place among the chain's has against the client.
    pub fn take_denial(&mut self, filter: usize) -> Option<Refusal> {
        let at = self.denials.iter().position(|(at, _)| *at == filter)?;
        Some(self.denials.swap_remove(at).1)
    }

    /// Unix seconds of the last full handshake: earlier than now on resumption. `None` without a
    /// verified certificate.
    pub fn authenticated_at(&self) -> Option<u64> {
        self.standing.as_ref().map(|standing| standing.at)
    }
}

impl DownstreamTerms {
    /// Begins a handshake; nothing is sent before `ServerHandshake::advance`, which needs
    /// `ServerHandshake::certificate` first.
    pub fn start(self: &Arc<Self>, hello: HelloFacts<'_>) -> ServerHandshake {
        let config = if hello.prefers_chacha20 { &self.config_chacha } else { &self.config };
        let expected = hello.sni.map_or(ExpectedName::None, |name| ExpectedName::Name(name.into()));
        let (certificate, loading) = match &self.directory {
            None => (None, None),
            Some(directory) => match directory.find(hello.sni) {
                Found::Ready(answer) => (Some(answer), None),
                Found::Loading(receiver) => (None, Some(receiver)),
            },
        };
        let context = HandshakeContext {
            expected_name: Some(expected),
            certificate,
            newest: Some(hello.newest),
            group: hello.groups.choose(&self.groups, self.version(hello.newest)),
            ..HandshakeContext::default()
        };
        let record_limit = hello.record_limit;
        let config = keeping_to(record_limit, config);
        let inner = match config.map(UnbufferedServerConnection::new) {
            _ if hello.newest == Newest::FellBack && self.offers.has_tls13 => Err(fell_back()),
            _ if hello.takes_raw_keys_only => Err(no_raw_keys()),
            Ok(Ok(engine)) => Ok(Handshake::new(engine, context)),
            Ok(Err(error)) => Err(alert::refusal(&error, Peer::Client)),
            Err(refusal) => Err(refusal),
        };
        ServerHandshake { terms: Arc::clone(self), record_limit, inner, loading }
    }

    /// Whether these terms would let in a client that others let in, and that has been served since.
    ///
    /// # Errors
    /// Why not.
    pub fn reconsider(&self, client: &ClientFacts) -> Result<(), Refusal> {
        let Some(trust) = &self.trust else { return Ok(()) };
        let may_be_nobody = client.leaf.is_none() && !self.requires_certificate;
        if trust.mode == Mode::Enforce && !may_be_nobody {
            trust::reconsider(trust, client.leaf.as_deref(), client.standing.as_ref())?;
        }
        let denials = filters::denials(&self.filters, client.verified_leaf());
        let enforced = |(at, _): &(usize, Refusal)| filters::is_enforced(&self.filters[*at]);
        match denials.into_iter().find(enforced) {
            Some((_, refusal)) => Err(refusal),
            None => Ok(()),
        }
    }

    /// That of a handshake with a client, if there is one to be had.
    fn version(&self, newest: Newest) -> TlsVersion {
        match newest {
            Newest::Tls13 | Newest::Tls13WithoutGroups | Newest::Tls13WithKeyAlone
                if self.offers.has_tls13 =>
            {
                TlsVersion::Tls13
            }
            Newest::Tls13
            | Newest::Tls13WithoutGroups
            | Newest::Tls13WithKeyAlone
            | Newest::Older(_)
            | Newest::Tls12
            | Newest::FellBack => TlsVersion::Tls12,
        }
    }

    /// The trust that clients are verified by.
    pub fn trust(&self) -> Option<&Arc<TrustStore>> {
        self.trust.as_ref()
    }
}

/// RFC 7507 §3. An honest client has met a broken middlebox; else somebody broke its first attempt.
fn fell_back() -> Refusal {
    let detail = "the client says that it fell back to TLS 1.2, and this chain takes 1.3";
    let hint =
        "something between client and gateway breaks TLS 1.3: look for a middlebox or an attack";
    Refusal::new(Reason::VersionMismatch, detail).with_alert(INAPPROPRIATE_FALLBACK).with_hint(hint)
}

/// The configuration by which records of a handshake, and all of TLS 1.2, hold no more than `limit`.
fn keeping_to(
    limit: RecordLimit,
    config: &Arc<ServerConfig>,
) -> Result<Arc<ServerConfig>, Refusal> {
    match limit {
        RecordLimit::Standard => Ok(Arc::clone(config)),
        RecordLimit::Content(bytes) => {
            let mut narrow = ServerConfig::clone(config);
            narrow.max_fragment_size = Some(HEADER + usize::from(bytes));
            Ok(Arc::new(narrow))
        }
        RecordLimit::Illegal { extension, value } => Err(no_such_length(extension, value)),
    }
}

/// RFC 6066 §4, RFC 8449 §4.
fn no_such_length(extension: &str, value: u16) -> Refusal {
    let detail =
        format!("the client asks for records of a length that there is not: {extension} {value}");
    let hint = "have the client's library ask for 512, 1024, 2048 or 4096 bytes (max_fragment_length), for 64 or more (record_size_limit), or for none";
    Refusal::new(Reason::HelloMalformed, detail).with_alert(ILLEGAL_PARAMETER).with_hint(hint)
}

/// RFC 7250 §4.2. rustls would say so as well, by handshake_failure.
fn no_raw_keys() -> Refusal {
    let detail = "the client takes raw public keys only (RFC 7250), and certificates are shown and asked for here";
    let hint =
        "have the client's library offer X.509 certificates too, for itself and for the server";
    Refusal::new(Reason::CipherMismatch, detail).with_alert(UNSUPPORTED_CERTIFICATE).with_hint(hint)
}

impl Offers {
    /// What the client would have had to offer, where it offers nothing that fits.
    fn explain(&self, refusal: &mut Refusal, input: &[u8]) {
        let (what, ours) = match refusal.reason {
            Reason::VersionMismatch => ("TLS versions", &self.versions),
            Reason::GroupMismatch => ("key-exchange groups", &self.groups),
            Reason::CipherMismatch => ("cipher suites", &self.suites),
            Reason::AlpnMismatch => ("ALPN protocols", &self.alpn),
            _ => return,
        };
        offered::tell(refusal, input, self);
        refusal.detail = format!("{}; the {what} of this chain are {ours}", refusal.detail);
    }
}

impl ServerHandshake {
    /// Waits for the certificate of a `certificate_dir` where it has to be read first; at once in all
    /// other cases. The thread that asks goes on with other work in the meantime.
    pub async fn certificate(&mut self) {
        let Some(loading) = self.loading.take() else { return };
        let answer = loading.await.unwrap_or_else(|_gone| {
            let detail = "the thread that reads certificates has ended";
            Err(Refusal::new(Reason::CertificateUnavailable, detail))
        });
        if let Ok(handshake) = &mut self.inner {
            handshake.context.certificate = Some(answer);
        }
    }

    /// Takes all bytes received and not yet consumed (the ClientHello that the peek kept comes
    /// first), appends what is to be sent to `out`. See `Advance` for what to do then.
    pub fn advance(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Advance {
        match &mut self.inner {
            Ok(handshake) => {
                let mut advance = handshake.advance(input, out);
                if let Outcome::Failed(refusal) = &mut advance.outcome {
                    self.terms.offers.explain(refusal, input);
                }
                advance
            }
            Err(refusal) => {
                out.extend(refusal.alert.map(alert::unsealed_alert).iter().flatten());
                Advance { consumed: 0, outcome: Outcome::Failed(refusal.clone()) }
            }
        }
    }

    /// Whether all that a handshake has to say when it is done is a ticket (RFC 8446 §4.6.1). In TLS 1.2 it
    /// may be its Finished.
    pub fn ends_with_tickets(&self) -> bool {
        let inner = self.inner.as_ref();
        inner.is_ok_and(|one| one.engine.protocol_version() == Some(ProtocolVersion::TLSv1_3))
    }

    /// What the callbacks of the handshake found so far.
    pub(super) fn context(&self) -> Option<&HandshakeContext> {
        self.inner.as_ref().ok().map(|handshake| &handshake.context)
    }

    /// The established connection.
    ///
    /// # Errors
    /// Before `Outcome::Done`, or when rustls keeps the secrets to itself.
    pub fn finish(self) -> Result<(Wire, ClientFacts), Refusal> {
        let Self { terms, record_limit, inner, loading: _ } = self;
        let handshake = inner?;
        let negotiated = handshake.negotiated()?;
        let common: &rustls::CommonState = &handshake.engine;
        let chain = common.peer_certificates();
        let leaf = chain.and_then(<[_]>::first).map(|leaf| leaves::shared(leaf));
        let Handshake { engine, context, .. } = handshake;
        let standing = context.verified.or(context.ticket).filter(|_| leaf.is_some());
        let audit = match (&context.audit, &leaf, terms.requires_certificate) {
            (None, None, true) => Some(Refusal::new(Reason::NoCertificate, NO_CERTIFICATE)),
            _ => context.audit,
        };
        if let (Some(_), None, None) = (&leaf, &standing, &audit) {
            return Err(Refusal::new(Reason::Internal, "a certificate that nobody verified"));
        }
        let anchor = terms.trust.as_ref().zip(standing.as_ref());
        let anchor = anchor.and_then(|(trust, standing)| trust.place_of(&standing.verified));
        let mut facts = ClientFacts {
            negotiated,
            leaf,
            shown: context.shown,
            anchor,
            standing,
            audit,
            memo: context.memo,
            denials: Vec::new(),
        };
        facts.denials = filters::denials(&terms.filters, facts.verified_leaf());
        let wire = match facts.negotiated.version {
            Version::Tls13 => Wire::tls13_server(engine, record_limit)?,
            Version::Tls12 => Wire::tls12_server(engine, record_limit),
        };
        Ok((wire, facts))
    }
}

const ILLEGAL_PARAMETER: u8 = 47;
const UNSUPPORTED_CERTIFICATE: u8 = 43;

/// RFC 7507.
const INAPPROPRIATE_FALLBACK: u8 = 86;

const NO_CERTIFICATE: &str = "the client sent no certificate";
