//! An answer as one line of JSON. Its fields are public (`docs/explain.md`); those that the access log
//! has too are called and written as there.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::answer::{Answer, Client, Says};
use crate::core::identity::Identity;
use crate::core::refusal::Refusal;
use crate::core::timestamp::Timestamp;
use crate::telemetry::access_log::write_line;
use crate::tls::{Agreed, Step, Version, alert_name};

/// Appends the line, with its line feed.
pub(super) fn write(client: &Client, answers: &[Answer<'_>], out: &mut Vec<u8>) {
    let identity = client.identity();
    let question = Question {
        time: Timestamp::from_seconds(client.now),
        transport: match client.says {
            Says::Hello(_) => "tls",
            Says::PlainText => "raw",
        },
        sni: match &client.says {
            Says::Hello(name) => name.as_deref(),
            Says::PlainText => None,
        },
        alpn: &client.alpn,
        source: client.is_source_said.then_some(client.source),
        tls: client.version.map(Version::name),
        certificates: client.certificates.len(),
        client: identity.as_ref().map(Certificate::of),
        admitted: answers.iter().any(Answer::is_in),
        listeners: answers.iter().map(Listener::of).collect(),
    };
    write_line(&question, out);
}

#[derive(Debug, Serialize)]
struct Question<'a> {
    time: Timestamp,
    transport: &'static str,
    sni: Option<&'a str>,
    alpn: &'a [String],
    source: Option<IpAddr>,
    tls: Option<&'static str>,
    certificates: usize,
    client: Option<Certificate<'a>>,
    admitted: bool,
    listeners: Vec<Listener<'a>>,
}

#[derive(Debug, Serialize)]
struct Listener<'a> {
    listener: &'a str,
    chain: Option<&'a str>,
    handling: Option<&'static str>,
    cluster: Option<String>,
    admitted: bool,
    reason: Option<&'static str>,
    hint: Option<&'a str>,
    detail: Option<&'a str>,
    rule: Option<&'a str>,
    certificate: Option<AtDepth<'a>>,
    alert: Option<u8>,
    alert_name: Option<&'static str>,
    audit: Option<Vec<Audit<'a>>>,
    tls: Option<Tls<'a>>,
    path: Option<&'a [String]>,
    steps: Vec<Asked<'a>>,
}

#[derive(Debug, Serialize)]
struct Certificate<'a> {
    subject: &'a str,
    sans: &'a [String],
    serial: &'a str,
    issuer: &'a str,
    fingerprint: Fingerprint<'a>,
    not_before: Timestamp,
    not_after: Timestamp,
}

#[derive(Debug, Serialize)]
struct AtDepth<'a> {
    depth: u8,
    #[serde(flatten)]
    certificate: Certificate<'a>,
}

#[derive(Debug, Serialize)]
struct Audit<'a> {
    reason: &'static str,
    rule: Option<&'a str>,
    detail: &'a str,
}

#[derive(Debug, Serialize)]
struct Tls<'a> {
    version: &'static str,
    suite: &'static str,
    alpn: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Debug, Serialize)]
struct Asked<'a> {
    step: &'static str,
    verdict: &'static str,
    rule: Option<&'a str>,
    text: &'a str,
}

#[derive(Debug, Clone, Copy)]
struct Fingerprint<'a>(&'a [u8; 32]);

impl<'a> Listener<'a> {
    fn of(answer: &'a Answer<'_>) -> Self {
        let explanation = &answer.explanation;
        let refusal = explanation.refusal.as_ref();
        let alert = refusal.and_then(|refusal| refusal.alert);
        let detail = refusal.map(|refusal| &*refusal.detail);
        Self {
            listener: &answer.listener.name,
            chain: answer.taken.map(|taken| &*taken.chain.name),
            handling: answer.taken.map(|taken| taken.handling.as_str()),
            cluster: answer.taken.map(|taken| taken.cluster()),
            admitted: answer.is_in(),
            reason: refusal.map(|refusal| refusal.reason.code()),
            hint: refusal.map(Refusal::hint),
            detail: detail.filter(|detail| !detail.is_empty()),
            rule: refusal.and_then(rule),
            certificate: refusal.and_then(AtDepth::of),
            alert,
            alert_name: alert.map(alert_name),
            audit: (!explanation.audits.is_empty())
                .then(|| explanation.audits.iter().map(Audit::of).collect()),
            tls: explanation.agreed.as_ref().map(Tls::of),
            path: Some(&*explanation.path).filter(|path| !path.is_empty()),
            steps: explanation.steps.iter().map(Asked::of).collect(),
        }
    }
}

impl<'a> Certificate<'a> {
    fn of(identity: &'a Identity) -> Self {
        let Identity { subject, sans, issuer, serial, fingerprint_sha256, not_before, not_after } =
            identity;
        Self {
            subject,
            sans,
            serial,
            issuer,
            fingerprint: Fingerprint(fingerprint_sha256),
            not_before: Timestamp::from_seconds(*not_before),
            not_after: Timestamp::from_seconds(*not_after),
        }
    }
}

impl<'a> AtDepth<'a> {
    fn of(refusal: &'a Refusal) -> Option<Self> {
        let evidence = refusal.evidence.as_deref()?;
        let identity = evidence.at_depth.as_ref().or(evidence.leaf.as_ref())?;
        Some(Self { depth: evidence.depth, certificate: Certificate::of(identity) })
    }
}

impl<'a> Audit<'a> {
    fn of(refusal: &'a Refusal) -> Self {
        Self { reason: refusal.reason.code(), rule: rule(refusal), detail: &refusal.detail }
    }
}

impl<'a> Tls<'a> {
    fn of(agreed: &'a Agreed) -> Self {
        let alpn = agreed.alpn.as_deref().map(String::from_utf8_lossy);
        Self { version: agreed.version.name(), suite: agreed.suite, alpn }
    }
}

impl<'a> Asked<'a> {
    fn of(step: &'a Step) -> Self {
        let Step { name, verdict, rule, text } = step;
        Self { step: name, verdict: verdict.as_str(), rule: rule.as_deref(), text }
    }
}

impl Serialize for Fingerprint<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&hex)
    }
}

fn rule(refusal: &Refusal) -> Option<&str> {
    refusal.evidence.as_deref()?.rule.as_deref()
}
