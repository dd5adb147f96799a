//! What a chain would say to a client, rule by rule: the steps that `verifier`, `path` and `filters`
//! take with everybody, each with what came of it.
//!
//! Decides nothing. `rehearsal` plays the handshake and so gives the verdict, `path::watched` tells
//! how far the certificates came, `diagnosis` words what is wrong with them. `examination` has the
//! steps that are about certificates.

use std::sync::Arc;

use super::diagnosis;
use super::downstream::{DownstreamTerms, HelloFacts};
use super::examination::Examination;
use super::filters;
use super::rehearsal::{Agreed, End, Rehearsal, SupposedClient, rehearse};
use super::trust::TrustStore;
use crate::core::refusal::{Reason, Refusal};
use crate::core::trust::Mode;

/// The answer of one chain to one client.
#[derive(Debug, Default)]
pub struct Explanation {
    /// In the order in which they are asked.
    pub steps: Vec<Step>,
    /// `None`: refused before anything was agreed.
    pub agreed: Option<Agreed>,
    /// Subjects of the path that was found, leaf first, anchor last; empty without one.
    pub path: Vec<String>,
    /// Why the client is turned away, with the alert that it sees; `None`: it gets in.
    pub refusal: Option<Refusal>,
    /// What trusts and filters in audit mode have against it.
    pub audits: Vec<Refusal>,
}

/// One thing that is asked of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub name: &'static str,
    pub verdict: Verdict,
    /// The key of the configuration that asks.
    pub rule: Option<String>,
    /// What was found, or, where nothing is asked of this client, what would be.
    pub text: String,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    Refused,
    /// By a trust or a filter that only audits.
    WouldBeRefused,
    /// The client was turned away before, or there is nothing to ask.
    NotAsked,
}

impl Verdict {
    /// As answers write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::WouldBeRefused => "would_be_refused",
            Self::NotAsked => "not_asked",
        }
    }

    /// What a rule in this mode makes of a fault.
    pub(super) fn of_fault(mode: Mode) -> Self {
        match mode {
            Mode::Enforce => Self::Refused,
            Mode::Audit => Self::WouldBeRefused,
        }
    }
}

impl Step {
    pub fn new(name: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { name, verdict, rule: None, text: text.into() }
    }
}

impl DownstreamTerms {
    /// What these terms would say to `client`, whose hello the peek read as `hello`, at `now` in Unix
    /// seconds, which must be what the clock of the material says.
    pub fn explain(
        self: &Arc<Self>,
        client: &SupposedClient,
        hello: HelloFacts<'_>,
        now: u64,
    ) -> Explanation {
        let Rehearsal { agreed, end } = rehearse(self, client, hello);
        let mut explanation = Explanation { agreed, ..Explanation::default() };
        let refused = match &end {
            End::Refused(refusal) => Some(refusal),
            End::Unproved { .. } | End::Done(_) => None,
        };
        let certificates = match (&self.trust, client.certificates.split_first()) {
            (None, _) => Certificates::unasked(),
            (Some(trust), None) => self.without(trust, &end),
            (Some(trust), Some((leaf, intermediates))) => {
                let provider = self.config.crypto_provider();
                let algorithms = provider.signature_verification_algorithms;
                let examination = Examination::new(trust, algorithms, (leaf, intermediates), now);
                explanation.path = examination.path();
                Certificates::examined(&examination, refused)
            }
        };
        let at_hello = refused.filter(|_| !certificates.refuse);
        explanation.steps.push(tls_step(explanation.agreed.as_ref(), at_hello));
        explanation.steps.extend(certificates.steps);
        explanation.conclude(self, client, end);
        explanation
    }

    /// Steps for a client that has no certificate.
    fn without(&self, trust: &TrustStore, end: &End) -> Certificates {
        let name = &trust.name;
        let (verdict, text) = match end {
            End::Refused(refusal) if refusal.reason == Reason::NoCertificate => {
                (Verdict::Refused, format!("client_auth is \"require\": {}", refusal.detail))
            }
            End::Refused(_) => (Verdict::NotAsked, asked_for(self.requires_certificate, name)),
            End::Done(facts) if facts.audit.is_some() => {
                let text = format!("client_auth is \"require\", and trust {name} only audits");
                (Verdict::WouldBeRefused, text)
            }
            End::Done(_) | End::Unproved { .. } => {
                (Verdict::Ok, asked_for(self.requires_certificate, name))
            }
        };
        let mut steps = vec![Step::new("certificate", verdict, text)];
        steps.extend(Examination::demands(trust));
        Certificates { steps, refuse: verdict == Verdict::Refused }
    }
}

impl Explanation {
    /// The verdict, and the steps behind the handshake.
    fn conclude(&mut self, terms: &DownstreamTerms, client: &SupposedClient, end: End) {
        let (leaf, denials) = match end {
            End::Refused(refusal) => {
                self.refusal = Some(refusal);
                (None, Vec::new())
            }
            End::Unproved { standing, audit } => {
                self.audits.extend(audit);
                let leaf = client.certificates.first().filter(|_| standing.is_some());
                let leaf = leaf.map(AsRef::as_ref);
                (leaf, filters::denials(&terms.filters, leaf))
            }
            End::Done(facts) => {
                self.audits.extend(facts.audit);
                (None, facts.denials)
            }
        };
        let mut denials = denials.into_iter().peekable();
        for (at, filter) in terms.filters.iter().enumerate() {
            let (verdict, text) = match denials.next_if(|(denied, _)| *denied == at) {
                _ if self.refusal.is_some() || !filters::asks_who(filter) => {
                    (Verdict::NotAsked, filters::demand(filter))
                }
                None => (Verdict::Ok, filters::passage(filter, leaf)),
                Some((_, denial)) => {
                    let text = denial.detail.clone();
                    if filters::is_enforced(filter) {
                        self.refusal = Some(denial);
                        (Verdict::Refused, text)
                    } else {
                        self.audits.push(denial);
                        (Verdict::WouldBeRefused, text)
                    }
                }
            };
            let rule = Some(filter.at.key.to_string());
            self.steps.push(Step { rule, ..Step::new(filter.kind.name(), verdict, text) });
        }
    }
}

/// The steps that are about certificates, and whether the client was turned away in one of them.
struct Certificates {
    steps: Vec<Step>,
    refuse: bool,
}

impl Certificates {
    fn unasked() -> Self {
        let text = "client_auth is \"none\": no certificate is asked for, and none is looked at";
        Self { steps: vec![Step::new("certificate", Verdict::NotAsked, text)], refuse: false }
    }

    fn examined(examination: &Examination<'_>, refused: Option<&Refusal>) -> Self {
        let Some(refusal) = refused else {
            return Self { steps: examination.steps(), refuse: false };
        };
        let is_it = |found: &diagnosis::Diagnosis| found.refusal.reason == refusal.reason;
        match examination.diagnosis().is_some_and(is_it) {
            true => Self { steps: examination.steps(), refuse: true },
            // The handshake ended before.
            false => Self { steps: examination.demands_here(), refuse: false },
        }
    }
}

fn tls_step(agreed: Option<&Agreed>, refusal: Option<&Refusal>) -> Step {
    if let Some(refusal) = refusal {
        return Step::new("tls", Verdict::Refused, refusal.detail.clone());
    }
    let text = match agreed {
        None => "client and chain agree".to_owned(),
        Some(Agreed { version, suite, alpn }) => {
            let alpn = match alpn {
                None => "no ALPN".to_owned(),
                Some(name) => format!("ALPN {}", String::from_utf8_lossy(name)),
            };
            format!("{} with {suite}, {alpn}", version.name())
        }
    };
    Step::new("tls", Verdict::Ok, text)
}

fn asked_for(is_required: bool, trust: &str) -> String {
    match is_required {
        true => format!("client_auth is \"require\": one that trust {trust} accepts"),
        false => format!(
            "client_auth is \"optional\": a client without a certificate gets in, one that shows \
             one is measured by trust {trust}"
        ),
    }
}
