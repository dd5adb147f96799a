//! What a line of the access log says: the fields, in the order in which they are written.
//!
//! The names are public (`docs/access-log.md`); renaming one is a breaking change. Every text that
//! can come from a peer is a `Text`, which has a bound and cannot break out of its line.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::core::identity::Identity;
use crate::core::refusal::{Blame, Reason, Refusal};
use crate::core::relay::{ClosedBy, Closing};
use crate::core::timestamp::Timestamp;
use crate::tls::{ClientFacts, Negotiated, alert_name};
use crate::worker::{Ending, Report};

/// One connection.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    /// Of accept.
    pub time: Timestamp,
    pub id: Id,
    pub listener: &'a str,
    pub source: SocketAddr,
    pub proxy: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
    pub sni: Option<Text<'a>>,
    pub chain: Option<&'a str>,
    /// "refused": never served; "closed": served, then over.
    pub outcome: &'static str,
    pub reason: Option<&'static str>,
    pub hint: Option<Text<'a>>,
    pub detail: Option<Text<'a>>,
    /// The key of the configuration that decided.
    pub rule: Option<Text<'a>>,
    /// The certificate that it is about.
    pub certificate: Option<Certificate<'a>>,
    /// TLS alert that was sent to the client.
    pub alert: Option<u8>,
    pub alert_name: Option<&'static str>,
    /// "downstream" | "upstream" | "gateway"
    pub closed_by: Option<&'static str>,
    /// "clean" | "polite" | "reset"
    pub closing: Option<&'static str>,
    pub duration_ms: Milliseconds,
    /// When each phase ended, from accept on.
    pub hello_ms: Option<Milliseconds>,
    pub handshake_ms: Option<Milliseconds>,
    pub connected_ms: Option<Milliseconds>,
    pub client: Option<Client<'a>>,
    /// What a trust or filter in audit mode would have refused.
    pub audit: Option<Vec<Audit<'a>>>,
    pub tls: Option<Tls<'a>>,
    pub cluster: Option<&'a str>,
    pub upstream: Option<SocketAddr>,
    pub upstream_ready: Option<bool>,
    pub upstream_tls: Option<Tls<'a>>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// Lines like this one that were left out before it.
    pub suppressed: Option<u64>,
}

/// The certificates of a report in words. Made on the log's thread: a worker formats nothing.
#[derive(Debug)]
pub(super) struct Identities {
    pub client: Option<Identity>,
}

/// The certificate that a refusal is about.
#[derive(Debug, Serialize)]
pub(super) struct Certificate<'a> {
    /// "downstream" | "upstream"
    pub side: &'static str,
    /// In the chain that was sent: 0 is the leaf.
    pub depth: u8,
    #[serde(flatten)]
    pub description: Client<'a>,
}

/// One thing that would have been refused.
#[derive(Debug, Serialize)]
pub(super) struct Audit<'a> {
    pub reason: &'static str,
    pub rule: Option<Text<'a>>,
    pub detail: Text<'a>,
}

/// A certificate.
#[derive(Debug, Serialize)]
pub(super) struct Client<'a> {
    pub subject: Text<'a>,
    pub sans: Vec<Text<'a>>,
    pub serial: &'a str,
    pub issuer: Text<'a>,
    /// SHA-256.
    pub fingerprint: Fingerprint<'a>,
    pub not_after: Timestamp,
}

#[derive(Debug, Serialize)]
pub(super) struct Tls<'a> {
    pub version: &'static str,
    pub suite: &'static str,
    pub group: Option<&'static str>,
    pub alpn: Option<Text<'a>>,
    pub resumed: bool,
    pub hello_retry: bool,
}

/// 16 hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id(pub u64);

#[derive(Debug, Clone, Copy)]
pub(super) struct Fingerprint<'a>(pub &'a [u8; 32]);

/// With three digits after the point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Milliseconds(pub Duration);

/// Bytes that may come from a peer: read as UTF-8 as far as they are, and no more characters of them
/// than the number says. // threat 48
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a>(&'a [u8], usize);

/// Longer texts are cut: no name that a person deals with is longer, and a hello carries 16 KiB.
pub(super) const TEXT_CHARS_MAX: usize = 256;

/// A detail is a sentence of ours that names several things of the peer, and ends with the advice.
pub(super) const DETAIL_CHARS_MAX: usize = 1024;

impl Identities {
    pub(super) fn of(report: &Report) -> Self {
        Self { client: report.client.as_deref().and_then(ClientFacts::identity) }
    }
}

impl<'a> Record<'a> {
    pub(super) fn of(report: &'a Report, identities: &'a Identities) -> Self {
        let (reason, detail, alert, closed, refusal) = match &report.ending {
            Ending::Refused(refusal) => {
                (Some(refusal.reason), &refusal.detail, refusal.alert, None, Some(refusal))
            }
            Ending::Closed { outcome, detail, alert } => {
                (outcome.reason, detail, *alert, Some(outcome), None)
            }
        };
        let client = report.client.as_deref();
        let evidence = refusal.and_then(|refusal| refusal.evidence.as_deref());
        let hint = refusal.map(Refusal::hint).or(reason.map(Reason::hint));
        let upstream = report.upstream.as_ref();
        Self {
            time: Timestamp::new(report.accepted),
            id: Id(report.id),
            listener: &report.listener,
            source: report.source,
            proxy: report.proxy,
            local: report.local,
            sni: report.server_name.as_deref().map(Text::from),
            chain: report.chain.as_deref(),
            outcome: if closed.is_some() { "closed" } else { "refused" },
            reason: reason.map(Reason::code),
            hint: hint.map(Text::detail),
            detail: Some(&**detail).filter(|detail| !detail.is_empty()).map(Text::detail),
            rule: evidence.and_then(|evidence| evidence.rule.as_deref()).map(Text::from),
            certificate: refusal.and_then(Certificate::of),
            alert,
            alert_name: alert.map(alert_name),
            closed_by: closed.map(|outcome| closed_by(outcome.closed_by)),
            closing: closed.map(|outcome| closing(outcome.how)),
            duration_ms: Milliseconds(report.duration),
            hello_ms: report.marks.hello.map(Milliseconds),
            handshake_ms: report.marks.handshake.map(Milliseconds),
            connected_ms: report.marks.connected.map(Milliseconds),
            client: refused_client(refusal).or(identities.client.as_ref()).map(Client::of),
            audit: (!report.audits.is_empty())
                .then(|| report.audits.iter().map(Audit::of).collect()),
            tls: client.map(|facts| Tls::of(&facts.negotiated)),
            cluster: report.cluster.as_deref(),
            upstream: upstream.map(|upstream| upstream.address),
            upstream_ready: upstream.map(|upstream| upstream.ready),
            upstream_tls: upstream
                .and_then(|upstream| upstream.tls.as_deref())
                .map(|facts| Tls::of(&facts.negotiated)),
            bytes_received: report.bytes_received,
            bytes_sent: report.bytes_sent,
            suppressed: Some(report.suppressed).filter(|count| *count > 0),
        }
    }
}

/// The certificate of a client that was refused for it.
fn refused_client(refusal: Option<&Refusal>) -> Option<&Identity> {
    refusal.filter(|refusal| !is_of_upstream(refusal))?.evidence.as_deref()?.leaf.as_ref()
}

fn is_of_upstream(refusal: &Refusal) -> bool {
    refusal.reason.blame() == Blame::Upstream
}

impl<'a> Certificate<'a> {
    fn of(refusal: &'a Refusal) -> Option<Self> {
        let evidence = refusal.evidence.as_deref()?;
        let side = if is_of_upstream(refusal) { "upstream" } else { "downstream" };
        let identity = evidence.at_depth.as_ref().or(evidence.leaf.as_ref())?;
        Some(Self { side, depth: evidence.depth, description: Client::of(identity) })
    }
}

impl<'a> Audit<'a> {
    fn of(refusal: &'a Refusal) -> Self {
        let rule = refusal.evidence.as_deref().and_then(|evidence| evidence.rule.as_deref());
        Self {
            reason: refusal.reason.code(),
            rule: rule.map(Text::from),
            detail: Text::detail(&refusal.detail),
        }
    }
}

impl<'a> Client<'a> {
    fn of(identity: &'a Identity) -> Self {
        let Identity { subject, sans, issuer, serial, fingerprint_sha256, not_after, .. } =
            identity;
        Self {
            subject: Text::from(&**subject),
            sans: sans.iter().map(|san| Text::from(&**san)).collect(),
            serial,
            issuer: Text::from(&**issuer),
            fingerprint: Fingerprint(fingerprint_sha256),
            not_after: Timestamp::from_seconds(*not_after),
        }
    }
}

impl<'a> Tls<'a> {
    fn of(negotiated: &'a Negotiated) -> Self {
        Self {
            version: negotiated.version.name(),
            suite: negotiated.suite,
            group: negotiated.group,
            alpn: negotiated.alpn.as_deref().map(Text::bytes),
            resumed: negotiated.resumed,
            hello_retry: negotiated.hello_retry,
        }
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes(), TEXT_CHARS_MAX)
    }
}

impl<'a> Text<'a> {
    pub(super) fn bytes(bytes: &'a [u8]) -> Self {
        Self(bytes, TEXT_CHARS_MAX)
    }

    fn detail(text: &'a str) -> Self {
        Self(text.as_bytes(), DETAIL_CHARS_MAX)
    }

    /// The characters that are kept.
    pub(super) fn chars(&self) -> impl Iterator<Item = char> {
        let chunks = self.0.utf8_chunks();
        let chars = chunks.flat_map(|chunk| {
            let broken = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            chunk.valid().chars().chain(broken)
        });
        chars.take(self.1)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chars().try_for_each(|char| fmt::Write::write_char(f, char))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Fingerprint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_millis(), self.0.subsec_micros() % 1_000)
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Fingerprint<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Milliseconds {
    /// A number; a double is exact to the microsecond for 285 years.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let seconds = Duration::new(self.0.as_secs(), self.0.subsec_micros() * 1_000).as_secs_f64();
        serializer.serialize_f64((seconds * 1e6).round() / 1e3)
    }
}

fn closed_by(who: ClosedBy) -> &'static str {
    match who {
        ClosedBy::Downstream => "downstream",
        ClosedBy::Upstream => "upstream",
        ClosedBy::Gateway => "gateway",
    }
}

fn closing(how: Closing) -> &'static str {
    match how {
        Closing::Done => "clean",
        Closing::Polite => "polite",
        Closing::Reset => "reset",
    }
}
