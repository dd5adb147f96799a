//! A fault of a certificate chain in words: whose certificate, which rule, what to do; and the alert
//! that RFC 8446 §6.2 has for it.
//!
//! Decides nothing: `path` found the fault. `verifier` passes the result on, `explain` prints it.

use std::sync::Arc;

use rustls::{
    CertificateError, DistinguishedName, Error, OtherError, PeerMisbehaved, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::breach;
use super::identity::{identify, name_text, span};
use super::leaf::{Leaf, key_kind};
use super::path::{
    CHAIN_BYTES_MAX, CHAIN_CERTIFICATES_MAX, Chain, Fault, NAMESAKES_MAX, PATHS_MAX,
};
use super::revocation::{RevocationFault, RevocationFaultKind};
use super::sent::Sent;
use super::shown::scheme_text;
use super::trust::TrustStore;
use crate::core::identity::Identity;
use crate::core::refusal::{Evidence, Reason, Refusal};
use crate::core::trust::{KeyKind, Violation};

/// A refusal, and the error from which rustls takes the alert for it.
#[derive(Debug)]
pub(super) struct Diagnosis {
    pub refusal: Refusal,
    pub error: Error,
}

/// What is found about a fault, before it is put together.
pub(super) struct Finding {
    reason: Reason,
    alert: CertificateError,
    depth: u8,
    /// What is wrong, behind the certificate's name.
    what: String,
    /// The key of the trust that decided.
    rule: Option<&'static str>,
    hint: Option<String>,
}

impl Finding {
    pub(super) fn new(reason: Reason, alert: CertificateError, what: impl Into<String>) -> Self {
        Self { reason, alert, depth: 0, what: what.into(), rule: None, hint: None }
    }

    pub(super) fn rule(self, rule: &'static str) -> Self {
        Self { rule: Some(rule), ..self }
    }

    pub(super) fn depth(self, depth: u8) -> Self {
        Self { depth, ..self }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// What `fault` means for the peer that sent `chain`, at `now` in Unix seconds.
pub(super) fn diagnose(fault: &Fault, chain: Chain<'_>, trust: &TrustStore, now: u64) -> Diagnosis {
    let sent = Sent::of(chain);
    let finding = match fault {
        Fault::TooMany(_)
        | Fault::TooLong(_)
        | Fault::TooManyNamesakes
        | Fault::Empty
        | Fault::Unreadable => unread(fault),
        Fault::Path(error) => path(error, &sent, trust, now),
        Fault::Unvouched => {
            let alert = CertificateError::UnknownIssuer;
            Finding::new(Reason::UnknownIssuer, alert, UNVOUCHED).rule("anchors").hint(
                "put the certificate of the CA that issued that anchor into anchors, and name the peer \
                 by san or pins",
            )
        }
        Fault::TooLongForAnchor { max } => {
            let what = format!(
                "more CAs stand between it and the anchor than that one allows, which is {max} \
                 (pathLenConstraint)"
            );
            broken_by(0, &what).rule("anchors")
        }
        Fault::MayNotSign { uses } => {
            let uses: Vec<_> = uses.iter().map(|one| (*one).to_owned()).collect();
            let what = format!(
                "its key may be used for {}, and not to sign: its key usage lacks digitalSignature",
                listed(&uses, "nothing")
            );
            let alert = CertificateError::InvalidPurpose;
            Finding::new(Reason::CertificatePurpose, alert, what)
                .hint("have it issued with digitalSignature; one for encryption is no credential")
        }
        Fault::MayNotIssue { depth } => broken_by(*depth, MAY_NOT_ISSUE),
        Fault::Policies { depth } => broken_by(*depth, NO_POLICY),
        Fault::Revocation(fault) => revocation(*fault, trust, now),
        Fault::TooDeep { intermediates } => {
            let stand =
                if *intermediates == 1 { "intermediate stands" } else { "intermediates stand" };
            let what = format!(
                "{intermediates} {stand} between it and the anchor, depth_max is {}",
                trust.depth_max
            );
            Finding::new(Reason::ChainTooDeep, unspecified("too deep"), what).rule("depth_max")
        }
        Fault::Rule(violation) => rule(violation, chain, trust),
    };
    let Finding { reason, alert, depth, what, rule, hint } = finding;
    let at_depth = sent.at(depth).filter(|_| depth > 0).cloned();
    let who = at_depth.as_ref().or(sent.leaf.as_ref());
    let detail = match who {
        Some(who) if !what.is_empty() => format!("{}: {what}", who.sentence()),
        Some(_) | None => what,
    };
    let rule = rule.map(|rule| format!("trust.{}.{rule}", trust.name));
    let evidence = Evidence { leaf: sent.leaf.clone(), depth, at_depth, rule, hint };
    let refusal = Refusal { evidence: Some(Box::new(evidence)), ..Refusal::new(reason, detail) };
    Diagnosis { refusal, error: alert.into() }
}

fn unread(fault: &Fault) -> Finding {
    let what = match fault {
        Fault::TooMany(count) => {
            format!("the peer sent {count} certificates, more than {CHAIN_CERTIFICATES_MAX}")
        }
        Fault::TooLong(bytes) => {
            format!("the peer sent {bytes} bytes of certificates, more than {CHAIN_BYTES_MAX}")
        }
        Fault::TooManyNamesakes => format!(
            "the peer sent more than {NAMESAKES_MAX} CA certificates of one name, or so many of several \
             that there are more than {PATHS_MAX} paths: send only those that lead to the anchor"
        ),
        Fault::Empty => "the peer sent a certificate without a byte behind its leaf".to_owned(),
        _ => "the leaf certificate cannot be parsed".to_owned(),
    };
    Finding::new(Reason::CertificateInvalid, CertificateError::BadEncoding, what)
}

/// What webpki says about a path.
fn path(error: &webpki::Error, sent: &Sent<'_>, trust: &TrustStore, now: u64) -> Finding {
    use webpki::Error as Webpki;
    let roots = &*trust.roots;
    match error {
        Webpki::CertExpired { not_after, .. } => {
            let since = now.saturating_sub(not_after.as_secs());
            let what = format!("expired {} ago", span(since));
            let alert = CertificateError::Expired;
            Finding::new(Reason::CertificateExpired, alert, what)
                .depth(sent.depth_of(|one| one.not_after == not_after.as_secs()))
        }
        Webpki::CertNotValidYet { not_before, .. } => {
            let ahead = not_before.as_secs().saturating_sub(now);
            let what = format!("is valid only in {}", span(ahead));
            let alert = CertificateError::NotValidYet;
            Finding::new(Reason::CertificateNotYetValid, alert, what)
                .depth(sent.depth_of(|one| one.not_before == not_before.as_secs()))
        }
        Webpki::UnknownIssuer => unknown_issuer(sent, roots),
        Webpki::InvalidSignatureForPublicKey => {
            unverified(sent, trust).unwrap_or_else(|| wrong_signature(sent, trust))
        }
        other => breach::finding(other, sent, roots),
    }
}

/// A CA of the chain, or the anchor above it, by whose key no signature is verified. To webpki all
/// its signatures are wrong.
fn unverified(sent: &Sent<'_>, trust: &TrustStore) -> Option<Finding> {
    let kind =
        |key: &SubjectPublicKeyInfo<'_>| Some(key_kind(key)).filter(|kind| !kind.is_verified());
    let in_chain = sent.path().enumerate().skip(1).find_map(|(depth, certificate)| {
        Some((u8::try_from(depth).ok()?, kind(certificate?.public_key())?))
    });
    if let Some((depth, kind)) = in_chain {
        let what = format!("its key is {kind}, and {RSA_LENGTHS}");
        return Some(broken_by(depth.into(), &what).hint(LONGER_KEY));
    }
    let top = sent.top_issuer()?;
    let namesakes = trust.anchors().iter().filter(|anchor| anchor.identity.subject == top);
    let kind = namesakes
        .filter_map(|anchor| SubjectPublicKeyInfo::from_der(anchor.spki()).ok())
        .find_map(|(_, key)| kind(&key))?;
    let what = format!("the key of the anchor {top} is {kind}, and {RSA_LENGTHS}");
    Some(broken_by(0, &what).rule("anchors").hint(LONGER_KEY))
}

/// A certificate at this depth breaks a rule of RFC 5280 that webpki does not look at.
fn broken_by(depth: usize, what: &str) -> Finding {
    Finding::new(Reason::CertificateInvalid, unspecified("path"), what)
        .depth(u8::try_from(depth).unwrap_or(u8::MAX))
}

/// Why no path leads to an anchor: self-signed, an intermediate left out, or simply foreign.
fn unknown_issuer(sent: &Sent<'_>, roots: &RootCertStore) -> Finding {
    let finding = |what: String| {
        Finding::new(Reason::UnknownIssuer, CertificateError::UnknownIssuer, what).rule("anchors")
    };
    let (Some(leaf), Some(last)) = (&sent.leaf, sent.top_issuer()) else {
        return finding("its issuer is unknown".to_owned());
    };
    if leaf.subject == leaf.issuer {
        return finding("it is self-signed, and no anchor of the trust".to_owned()).hint(
            "issue the certificate by a CA of the trust, or add this certificate to anchors",
        );
    }
    let anchors = anchor_names(roots);
    if let Some((depth, issuer)) = sent.misissued(&anchors) {
        let what =
            format!("{issuer} was sent with it, but with another key than the one that signed it");
        return finding(what).depth(depth).hint(format!(
            "there are certificates of {issuer} with different keys: put the one whose subject key \
             identifier is the authority key identifier here into the peer's chain file"
        ));
    }
    if anchors.iter().any(|anchor| anchor == last) {
        let what = format!("an anchor is called {last} too, but its key did not sign this chain");
        return finding(what).hint(format!(
            "anybody can call a CA {last}: find out whose key signed it; only if it is yours (of a CA that \
             was renewed, say), add its certificate to anchors, or issue the peer's certificate anew"
        ));
    }
    let known = match &anchors[..] {
        [] => "there are none".to_owned(),
        all if all.len() <= ANCHORS_NAMED_MAX => format!("the anchors are {}", all.join("; ")),
        all => format!("there are {} anchors", all.len()),
    };
    if sent.is_alone() {
        let issuer = &leaf.issuer;
        let what = format!(
            "{issuer} is no anchor ({known}), and the peer sent only its leaf: if {issuer} is an \
             intermediate, send leaf + intermediate"
        );
        return finding(what).hint(format!(
            "if {issuer} is an intermediate, append its certificate to the peer's chain file; if it \
             is a CA to be trusted, add it to anchors"
        ));
    }
    let what = format!("the chain that was sent ends at {last}, which is no anchor ({known})");
    finding(what).hint(format!(
        "if {last} is an intermediate, append its certificate to the peer's chain file; if it is a CA \
         to be trusted, add it to anchors"
    ))
}

/// Which signature is not by the key that it should be by. The uppermost is looked at first: whoever has
/// no CA's signature has no more than that one verified again for the sake of words.
fn wrong_signature(sent: &Sent<'_>, trust: &TrustStore) -> Finding {
    let wrong = |what: String| {
        Finding::new(Reason::CertificateSignature, CertificateError::BadEncoding, what)
    };
    let top = sent.top_issuer().unwrap_or_default();
    let mut namesakes = trust.anchors().iter().filter(|one| one.identity.subject == top).peekable();
    if namesakes.peek().is_some() {
        let is_misissued = sent.misissued(&anchor_names(&trust.roots)).is_some();
        let mut tried = namesakes.take(ANCHORS_TRIED_MAX);
        // As good as always another CA of the same name: a bad signature to webpki, an unknown CA to people.
        if is_misissued || !tried.any(|anchor| sent.is_top_signed_by(anchor.spki())) {
            return unknown_issuer(sent, &trust.roots);
        }
    }
    if let Some(name) = sent.name_of_several() {
        // A signature is wrong on one way, and what ended the others is not told.
        let what = format!("several certificates of {name} were sent, and no path over them holds");
        return broken_by(0, &what)
            .hint(
                "send only those that lead from the leaf to the anchor; a CA's certificate for its own new \
                 key counts as one more CA where path length or name constraints are limited",
            );
    }
    match sent.broken_link() {
        Some((depth, issuer)) => wrong(format!(
            "its signature is wrong: it is not by the key of {issuer}, whose certificate was sent with it"
        ))
        .depth(depth)
        .hint(
            "the certificate was altered, or was signed by another key than that of the issuer's \
             certificate in the peer's chain file: have it issued anew, or put the right one there",
        ),
        None => wrong("a signature in the chain is wrong".to_owned()),
    }
}

fn anchor_names(roots: &RootCertStore) -> Vec<String> {
    roots.roots.iter().filter_map(|root| text_of(&root.subject)).collect()
}

/// An anchor's name, as webpki has it, in the words of `Identity`.
pub(super) fn text_of(name: &[u8]) -> Option<String> {
    let name = DistinguishedName::in_sequence(name);
    Some(name_text(&X509Name::from_der(name.as_ref()).ok()?.1))
}

fn revocation(fault: RevocationFault, trust: &TrustStore, now: u64) -> Finding {
    let lists = trust.revocation.as_ref().map(|revocation| revocation.lists()).unwrap_or_default();
    let list = fault.list.and_then(|at| lists.get(at));
    let of = list.map_or_else(String::new, |list| format!(" of {}", list.issuer_text));
    let finding = match fault.kind {
        RevocationFaultKind::Revoked => {
            let what = format!("it is revoked by the list{of}");
            Finding::new(Reason::CertificateRevoked, CertificateError::Revoked, what).rule("crls")
        }
        RevocationFaultKind::Stale => {
            let begins = list.map_or(0, |list| list.this_update.saturating_sub(now));
            let since = list.map_or(0, |list| now.saturating_sub(list.next_update));
            let what = match begins {
                0 => format!("the revocation list{of} is out of date since {}", span(since)),
                begins => format!("the revocation list{of} begins only in {}", span(begins)),
            };
            let finding = Finding::new(Reason::RevocationStale, unspecified("stale list"), what)
                .rule("revocation.stale");
            if begins > 0 {
                finding.hint(
                    "check this machine's clock and the CA's; the list in force belongs into crls",
                )
            } else {
                finding
            }
        }
        RevocationFaultKind::Unknown
        | RevocationFaultKind::Foreign
        | RevocationFaultKind::MayNotSign => {
            let what = match fault.kind {
                RevocationFaultKind::Foreign => {
                    format!("the revocation list{of} is signed by another key than its issuer's")
                }
                RevocationFaultKind::MayNotSign => {
                    format!("the issuer of the list{of} may not sign lists: it lacks cRLSign")
                }
                _ => "no revocation list covers it".to_owned(),
            };
            Finding::new(Reason::RevocationUnknown, unspecified("no list"), what)
                .rule("revocation.unknown")
        }
    };
    finding.depth(fault.depth)
}

/// A rule about the leaf that it does not keep.
fn rule(violation: &Violation, chain: Chain<'_>, trust: &TrustStore) -> Finding {
    let leaf = Leaf::parse(chain.leaf);
    match violation {
        Violation::Key(kind) => {
            let rules: Vec<_> = trust.leaf.keys.iter().map(ToString::to_string).collect();
            let what = format!("its key is {kind}, and not {}", listed(&rules, "any"));
            // RFC 8446 §6.2: "a certificate was of an unsupported type".
            let alert = CertificateError::InvalidPurpose;
            let finding = Finding::new(Reason::KeyNotAllowed, alert, what).rule("client_keys");
            let is_known = *kind != KeyKind::Other && kind.is_verified();
            if is_known { finding } else { finding.hint(NO_SUCH_KEY) }
        }
        Violation::Pin => {
            let facts = leaf.as_ref().map(Leaf::facts);
            let hex = |digest: [u8; 32]| digest.map(|byte| format!("{byte:02x}")).concat();
            let what = facts.map_or_else(String::new, |facts| {
                let (certificate, key) = (hex(facts.fingerprint), hex(facts.spki));
                format!("no pin is that of the certificate ({certificate}) or of its key ({key})")
            });
            let alert = CertificateError::ApplicationVerificationFailure;
            Finding::new(Reason::NotPinned, alert, what).rule("pins")
        }
        Violation::San => {
            let names = identify(chain.leaf).map(|leaf| leaf.sans).unwrap_or_default();
            let rules: Vec<_> = trust.leaf.san.iter().map(ToString::to_string).collect();
            let what = format!(
                "its names are {}, and none matches {}",
                listed(&names, "none"),
                listed(&rules, "any rule")
            );
            let alert = CertificateError::ApplicationVerificationFailure;
            Finding::new(Reason::SanNotAllowed, alert, what).rule("san")
        }
    }
}

/// A few of many, for a sentence.
pub(super) fn listed(all: &[String], none: &str) -> String {
    match all {
        [] => none.to_owned(),
        all if all.len() <= LISTED_MAX => all.join(", "),
        all => {
            format!("{} and {} more", all[..LISTED_MAX].join(", "), all.len() - LISTED_MAX)
        }
    }
}

/// `certificate_unknown`: "some other (unspecified) issue arose" (RFC 8446 §6.2).
pub(super) fn unspecified(what: &'static str) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(Unspecified(what))))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unspecified(&'static str);

const UNVOUCHED: &str = "the anchor that signed the chain is no CA's certificate, and may stand for itself \
                         alone";
const MAY_NOT_ISSUE: &str =
    "it may not sign certificates: its key usage lacks keyCertSign, so it is no CA's";
const NO_POLICY: &str = "no certificate policy holds from the anchor down to it, and a certificate of \
                         the path demands one (requireExplicitPolicy)";
const NO_SUCH_KEY: &str = "no trust can take such a key: issue the certificate for another, as ecdsa-p256 or \
                           rsa-2048";
const RSA_LENGTHS: &str = "signatures are verified by RSA keys of 2048 to 8192 bits only";
const LONGER_KEY: &str =
    "have the CA renewed with a key of 2048 bits or more, and issue the certificate anew";
const ANCHORS_NAMED_MAX: usize = 3;
/// Of one name. A CA that changes its key has two.
const ANCHORS_TRIED_MAX: usize = 3;
const LISTED_MAX: usize = 6;

/// What is wrong with a signature by `scheme` that was to prove possession of the key.
pub(super) fn proof_failed(
    certificate: &CertificateDer<'_>,
    scheme: SignatureScheme,
    error: &Error,
) -> Refusal {
    let leaf = identify(certificate);
    let who = leaf.as_ref().map_or_else(|| "the certificate".to_owned(), Identity::sentence);
    let unverified =
        Leaf::parse(certificate).map(|leaf| leaf.key()).filter(|key| !key.is_verified());
    let scheme = scheme_text(scheme);
    let unasked = PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme;
    let (what, hint) = match (unverified, error) {
        // RFC 5246 §7.4.8, RFC 8446 §4.4.3.
        (_, Error::PeerMisbehaved(why)) if *why == unasked => {
            let what = format!("the peer proves its key by {scheme}, which it was not asked for");
            (what, Some(UNASKED.to_owned()))
        }
        (Some(kind), _) => (format!("its key is {kind}, and {RSA_LENGTHS}"), None),
        (
            None,
            Error::InvalidCertificate(
                CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            ),
        ) => {
            (format!("the peer proves its key by {scheme}, which is for another kind of key"), None)
        }
        (None, _) => ("the peer could not prove that it holds the private key".to_owned(), None),
    };
    let detail = format!("{who}: {what}");
    let evidence = Evidence { leaf, depth: 0, at_depth: None, rule: None, hint };
    Refusal {
        evidence: Some(Box::new(evidence)),
        ..Refusal::new(Reason::CertificateSignature, detail)
    }
}

const UNASKED: &str = "the peer's library signs by what the request does not list: update it, or have it keep to \
                       the request; whether key and certificate belong together was not looked at";

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a_proof_by_a_key_that_is_too_short_is_told_of_the_key() {
        let certificates = include_bytes!("../../tests/data/rsa-1024.pem");
        let mut certificates = CertificateDer::pem_slice_iter(certificates).map(Result::unwrap);
        let (short, alice) = (certificates.next().unwrap(), certificates.next().unwrap());
        let scheme = SignatureScheme::RSA_PSS_SHA256;
        let wrong = Error::InvalidCertificate(CertificateError::BadSignature);
        let refusal = proof_failed(&short, scheme, &wrong);
        assert!(refusal.detail.contains("its key is rsa-1024, and signatures"), "{refusal}");
        let refusal = proof_failed(&alice, scheme, &wrong);
        assert!(refusal.detail.contains("could not prove"), "{refusal}");
    }

    #[test]
    fn a_proof_by_what_was_not_asked_for_says_nothing_of_the_key() {
        let certificates = include_bytes!("../../tests/data/rsa-1024.pem");
        let mut certificates = CertificateDer::pem_slice_iter(certificates).map(Result::unwrap);
        let alice = certificates.nth(1).unwrap();
        let unasked = PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into();
        for (scheme, name) in [(0x0201, "rsa_pkcs1_sha1"), (0xfefe, "0xfefe")] {
            let refusal = proof_failed(&alice, scheme.into(), &unasked);
            let what = format!("by {name}, which it was not asked for");
            assert!(refusal.detail.contains(&what), "{refusal}");
            assert!(refusal.hint().contains("was not looked at"), "{}", refusal.hint());
        }
        let other = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: Vec::new(),
            public_key_algorithm_id: Vec::new(),
        };
        let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        let refusal = proof_failed(&alice, scheme, &Error::InvalidCertificate(other));
        assert!(refusal.detail.contains("for another kind of key"), "{refusal}");
    }
}
