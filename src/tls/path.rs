//! Verifying one presented chain by one trust: webpki builds and checks the path, this file bounds the
//! work and asks what webpki does not: depth, key usage, policies, revocation, and the rules
//! about the leaf.
//!
//! Remembers nothing and words nothing: `chain_memo` and `diagnosis` do. `verifier` and `explain` ask.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::identity::validity;
use super::leaf::Leaf;
use super::policies;
use super::revocation::RevocationFault;
use super::standing::{CertificateKey, Verified};
use super::trust::TrustStore;
use crate::core::trust::Violation;

/// A chain as the peer sent it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain<'a> {
    pub leaf: &'a CertificateDer<'a>,
    pub intermediates: &'a [CertificateDer<'a>],
}

/// What the chain must be good for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    Client,
    Server(&'a ServerName<'a>),
}

/// Why a chain is not accepted.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// More certificates than anybody needs, or larger ones (threat 11).
    TooMany(usize),
    TooLong(usize),
    /// Several CAs of one name, which make a path branch (threat 13).
    TooManyNamesakes,
    /// One of those behind the leaf has no bytes.
    Empty,
    /// The leaf is no certificate.
    Unreadable,
    /// What webpki says.
    Path(webpki::Error),
    /// The anchor above it is no CA's.
    Unvouched,
    /// More CAs stand between it and the anchor than the anchor allows.
    TooLongForAnchor {
        max: u32,
    },
    /// The leaf may be used for other things than signing.
    MayNotSign {
        uses: Vec<&'static str>,
    },
    /// A CA above the leaf may not sign certificates.
    MayNotIssue {
        depth: usize,
    },
    /// No certificate policy holds where one must.
    Policies {
        depth: usize,
    },
    Revocation(RevocationFault),
    TooDeep {
        intermediates: usize,
    },
    Rule(Violation),
}

/// Verifies a chain. What it finds is good until `Verified::until` and while `trust` stays as it is.
///
/// # Errors
/// The first fault, in this order: size, key, path with what `judge` asks of it, name, rules.
pub(super) fn verify(
    trust: &TrustStore,
    algorithms: &WebPkiSupportedAlgorithms,
    chain: Chain<'_>,
    purpose: Purpose<'_>,
    now: UnixTime,
) -> Result<Arc<Verified>, Fault> {
    watched(trust, algorithms, chain, purpose, now, &|_| {})
}

/// `verify`, showing `watch` each path that holds as far as webpki asks, before the rest is asked of
/// it. Where the result is not `Fault::Path`, the last one shown is the one that it is about.
///
/// # Errors
/// As for `verify`.
pub(super) fn watched(
    trust: &TrustStore,
    algorithms: &WebPkiSupportedAlgorithms,
    chain: Chain<'_>,
    purpose: Purpose<'_>,
    now: UnixTime,
    watch: &dyn Fn(&VerifiedPath<'_>),
) -> Result<Arc<Verified>, Fault> {
    bound(chain)?;
    bound_branches(chain)?;
    let leaf = Leaf::parse(chain.leaf).ok_or(Fault::Unreadable)?;
    if let Purpose::Client = purpose {
        // Before a signature is looked at: a large key costs most there (threat 12).
        trust.leaf.check_key(leaf.key()).map_err(Fault::Rule)?;
    }
    let end_entity = EndEntityCert::try_from(chain.leaf).map_err(Fault::Path)?;
    let usage = match purpose {
        Purpose::Client => KeyUsage::client_auth(),
        Purpose::Server(_) => KeyUsage::server_auth(),
    };
    // webpki goes on to another path where one is turned down, and returns its own error in the end.
    let turned_down = RefCell::new(None);
    let judge = |path: &VerifiedPath<'_>| {
        watch(path);
        judge(trust, path, now.as_secs()).map_err(|fault| {
            turned_down.replace(Some(fault));
            STAND_IN
        })
    };
    let path = end_entity
        .verify_for_usage(
            algorithms.all,
            &trust.roots.roots,
            chain.intermediates,
            now,
            usage,
            None,
            Some(&judge),
        )
        .map_err(|error| match turned_down.take() {
            Some(fault) if error == STAND_IN => fault,
            _ => Fault::Path(error),
        })?;
    if let Some(uses) = leaf.uses_without_signing() {
        return Err(Fault::MayNotSign { uses });
    }
    if let Purpose::Server(name) = purpose {
        end_entity.verify_is_valid_for_subject_name(name).map_err(Fault::Path)?;
    }
    let facts = leaf.facts();
    trust.leaf.check_identity(&facts).map_err(Fault::Rule)?;
    verified(trust, facts.fingerprint, leaf.validity(), &path)
        .map(Arc::new)
        .ok_or(Fault::Unreadable)
}

/// What webpki leaves to its caller on a path that holds.
fn judge(trust: &TrustStore, path: &VerifiedPath<'_>, now: u64) -> Result<(), Fault> {
    let Some(anchor) = trust.anchor_of(path) else {
        let too_long = trust.path_len_of(path).map(|max| Fault::TooLongForAnchor { max });
        return Err(too_long.unwrap_or(Fault::Unvouched));
    };
    let intermediates = path.intermediate_certificates().count();
    if intermediates > usize::from(trust.depth_max) {
        return Err(Fault::TooDeep { intermediates });
    }
    for (above, issuer) in path.intermediate_certificates().enumerate() {
        if !may_issue(&issuer.der()) {
            return Err(Fault::MayNotIssue { depth: above + 1 });
        }
    }
    policies::check(path).map_err(|depth| Fault::Policies { depth })?;
    let Some(revocation) = &trust.revocation else { return Ok(()) };
    revocation.check(path, anchor.spki(), now).map_err(Fault::Revocation)
}

/// RFC 5280 §6.1.4 (n): where key usage is stated, it must say keyCertSign. webpki leaves it unread.
fn may_issue(der: &[u8]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else { return false };
    match parsed.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// With the digest of the leaf and the time in which it is valid. `None` where x509-parser cannot read
/// what webpki could.
fn verified(
    trust: &TrustStore,
    identity: [u8; 32],
    leaf: (u64, u64),
    path: &VerifiedPath<'_>,
) -> Option<Verified> {
    let (mut from, mut until) = leaf;
    for issuer in path.intermediate_certificates() {
        let (not_before, not_after) = validity(&issuer.der())?;
        (from, until) = (from.max(not_before), until.min(not_after));
    }
    let leaf = std::iter::once(&**path.end_entity());
    let certificates = leaf.chain(path.intermediate_certificates());
    Some(Verified {
        from,
        until,
        identity,
        anchor: trust.anchor_of(path)?.key,
        path: certificates.map(|one| CertificateKey::new(one.issuer(), one.serial())).collect(),
    })
}

/// What webpki is told where `judge` turns a path down: it never finds this by itself here, as it is
/// given no lists, and ranks it above what other paths fail for.
const STAND_IN: webpki::Error = webpki::Error::CertRevoked;

/// Threat 11: before anything is parsed.
pub(super) fn bound(chain: Chain<'_>) -> Result<(), Fault> {
    let count = 1 + chain.intermediates.len();
    let bytes = chain.leaf.len() + chain.intermediates.iter().map(|der| der.len()).sum::<usize>();
    if count > CHAIN_CERTIFICATES_MAX {
        return Err(Fault::TooMany(count));
    }
    if bytes > CHAIN_BYTES_MAX {
        return Err(Fault::TooLong(bytes));
    }
    // RFC 5246 §7.4.2, RFC 8446 §4.4.2: one byte at least. webpki passes over what it need not read.
    if chain.intermediates.iter().any(|der| der.is_empty()) {
        return Err(Fault::Empty);
    }
    Ok(())
}

/// Threat 13: webpki tries every order of certificates whose names fit, and its own budget ends that
/// only after 200,000 steps (150 ms and more for nine CAs of one name) or 100 signatures, which are
/// 35 ms on P-521 for who holds a CA. Two keys of one CA are usual, and CAs that sign each other.
fn bound_branches(chain: Chain<'_>) -> Result<(), Fault> {
    let different: HashSet<&[u8]> = chain.intermediates.iter().map(AsRef::as_ref).collect();
    let mut namesakes = HashMap::<Box<[u8]>, usize>::new();
    for der in different {
        // What webpki cannot read ends its search at once.
        let Ok(certificate) =
            EndEntityCert::try_from(&CertificateDer::from(der)).map(|one| one.subject().into())
        else {
            continue;
        };
        *namesakes.entry(certificate).or_default() += 1;
    }
    let paths: usize = namesakes.values().product();
    if namesakes.values().any(|count| *count > NAMESAKES_MAX) || paths > PATHS_MAX {
        return Err(Fault::TooManyNamesakes);
    }
    Ok(())
}

/// Root, eight levels below, leaf: more than any PKI that a person understands.
pub(super) const CHAIN_CERTIFICATES_MAX: usize = 10;
pub(super) const CHAIN_BYTES_MAX: usize = 32 * 1024;
/// A CA that changes its key, and is cross-signed while it does.
pub(super) const NAMESAKES_MAX: usize = 3;
/// Three CAs that have each signed the others, as in CVE-2024-0567. A search of so many ends within
/// 3 ms where the first signature of each is wrong, whatever key the anchor has.
pub(super) const PATHS_MAX: usize = 8;
