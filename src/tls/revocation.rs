//! Whether a certificate is revoked, by the lists of one trust: in full on a path that webpki has
//! verified, and by look-up alone for whoever was let in before.
//!
//! The rules are RFC 5280 §6.3.3's for complete lists of the certificates' own issuers. `crl` is one
//! list; `path` asks in full, `trust` by look-up.

use std::collections::HashMap;

use webpki::{Cert, VerifiedPath};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::crl::{self, RevocationList};
use super::standing::{CertificateKey, issuer_key};
use crate::config::plan::{self, RevocationCheck, Uncertain};

/// The lists of a trust, and how they are used.
#[derive(Debug)]
pub(super) struct Revocation {
    /// Newest first.
    lists: Vec<RevocationList>,
    /// Indexes of `lists`.
    by_issuer: HashMap<u64, Vec<usize>>,
    settings: plan::Revocation,
}

/// Why a path is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RevocationFault {
    pub kind: RevocationFaultKind,
    /// Of the certificate that it is about.
    pub depth: u8,
    /// The list that decided; an index for `list`.
    pub list: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RevocationFaultKind {
    Revoked,
    /// No list covers the certificate.
    Unknown,
    /// A list of the issuer's name is there, signed by another key.
    Foreign,
    /// The issuer's certificate does not say that it may sign lists.
    MayNotSign,
    /// Every list that covers it is past its next update, or begins in the future.
    Stale,
}

impl Revocation {
    pub(super) fn new(mut lists: Vec<RevocationList>, settings: plan::Revocation) -> Self {
        lists.sort_by_key(|list| std::cmp::Reverse(list.this_update));
        let mut by_issuer = HashMap::<u64, Vec<usize>>::new();
        for (at, list) in lists.iter().enumerate() {
            by_issuer.entry(issuer_key(&list.issuer)).or_default().push(at);
        }
        Self { lists, by_issuer, settings }
    }

    pub(super) fn settings(&self) -> plan::Revocation {
        self.settings
    }

    pub(super) fn lists(&self) -> &[RevocationList] {
        &self.lists
    }

    /// Checks a path that holds. `anchor_spki` is the anchor's SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// The certificate nearest to the anchor that is revoked, or not known not to be.
    pub(super) fn check(
        &self,
        path: &VerifiedPath<'_>,
        anchor_spki: &[u8],
        now: u64,
    ) -> Result<(), RevocationFault> {
        self.check_each(path, anchor_spki, now, |_, _| {})
    }

    /// `check`, telling `cleared` of each certificate that is looked at and found good: its depth, and
    /// the list that says so; `None` where it counts as good because no list covers it.
    ///
    /// # Errors
    /// As for `check`.
    pub(super) fn check_each(
        &self,
        path: &VerifiedPath<'_>,
        anchor_spki: &[u8],
        now: u64,
        mut cleared: impl FnMut(usize, Option<usize>),
    ) -> Result<(), RevocationFault> {
        let certificates: Vec<&Cert<'_>> =
            std::iter::once(&**path.end_entity()).chain(path.intermediate_certificates()).collect();
        let anchor_subject = &*path.anchor().subject;
        for depth in (0..self.checked(certificates.len())).rev() {
            let certificate = certificates[depth];
            let signed = |list: &RevocationList| {
                // Of one name, a CA that changes its key has several in a path (RFC 5280 §3.2);
                // the lists of its newer one speak for what its older one issued.
                let above = certificates[depth + 1..].iter();
                let namesakes = above.filter(|one| one.subject() == certificate.issuer());
                let mut signer = Signer::Foreign;
                for issuer in namesakes {
                    if list.is_signed_by(&issuer.subject_public_key_info()) {
                        match may_sign_lists(&issuer.der()) {
                            true => return Signer::Issuer,
                            false => signer = Signer::MayNotSign,
                        }
                    }
                }
                if anchor_subject == certificate.issuer() && list.is_signed_by(anchor_spki) {
                    return Signer::Issuer;
                }
                signer
            };
            match self.check_one(certificate, depth > 0, signed, now) {
                Ok(list) => cleared(depth, list),
                Err((kind, list)) => {
                    let depth = u8::try_from(depth).unwrap_or(u8::MAX);
                    return Err(RevocationFault { kind, depth, list });
                }
            }
        }
        Ok(())
    }

    fn check_one(
        &self,
        certificate: &Cert<'_>,
        is_authority: bool,
        signed: impl Fn(&RevocationList) -> Signer,
        now: u64,
    ) -> Result<Option<usize>, (RevocationFaultKind, Option<usize>)> {
        let key = CertificateKey::new(certificate.issuer(), certificate.serial());
        let mut uncertain = (RevocationFaultKind::Unknown, None);
        let mut covering = Vec::new();
        for &at in self.by_issuer.get(&key.issuer).map(Vec::as_slice).unwrap_or_default() {
            let list = &self.lists[at];
            if *list.issuer != *certificate.issuer() {
                continue;
            }
            // Who is in a list is revoked, although the list may not speak for those who are not.
            let is_revoked = list.revokes(key);
            if !is_revoked && !covers(list, certificate, is_authority) {
                continue;
            }
            match signed(list) {
                Signer::Foreign => uncertain = (RevocationFaultKind::Foreign, Some(at)),
                Signer::MayNotSign => uncertain = (RevocationFaultKind::MayNotSign, Some(at)),
                Signer::Issuer if is_revoked => {
                    return Err((RevocationFaultKind::Revoked, Some(at)));
                }
                Signer::Issuer => covering.push(at),
            }
        }
        let Some(newest) = covering.first() else {
            return match self.settings.unknown {
                Uncertain::Refuse => Err(uncertain),
                Uncertain::Accept => Ok(None),
            };
        };
        let is_stale = !covering.iter().any(|at| self.lists[*at].is_current(now));
        if is_stale && self.settings.stale == Uncertain::Refuse {
            return Err((RevocationFaultKind::Stale, Some(*newest)));
        }
        Ok(Some(*newest))
    }

    /// Whether a path that was accepted before still stands, by look-up. What cannot be told here does
    /// not: a full authentication tells.
    pub(super) fn reaffirms(&self, path: &[CertificateKey], now: u64) -> bool {
        let plan::Revocation { unknown, stale, .. } = self.settings;
        self.revoked(path).is_none()
            && path[..self.checked(path.len())].iter().all(|key| {
                let lists = self.by_issuer.get(&key.issuer).map(Vec::as_slice).unwrap_or_default();
                let is_stale = || !lists.iter().all(|at| self.lists[*at].is_current(now));
                (unknown == Uncertain::Accept || !lists.is_empty())
                    && (stale == Uncertain::Accept || !is_stale())
            })
    }

    /// The depth of a certificate of an accepted path that a list names now, whatever else the lists
    /// say, or do not say any more.
    pub(super) fn revoked(&self, path: &[CertificateKey]) -> Option<usize> {
        path[..self.checked(path.len())].iter().position(|key| {
            let lists = self.by_issuer.get(&key.issuer).map(Vec::as_slice).unwrap_or_default();
            lists.iter().any(|at| self.lists[*at].revokes(*key))
        })
    }

    /// How many certificates of a path are looked at, from the leaf on.
    fn checked(&self, path: usize) -> usize {
        match self.settings.check {
            RevocationCheck::Off => 0,
            RevocationCheck::Leaf => path.min(1),
            RevocationCheck::Chain => path,
        }
    }
}

/// Whose signature a list of a certificate's issuer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    /// A CA of the issuer's name in the path.
    Issuer,
    /// Such a CA, whose certificate does not say that it may sign lists.
    MayNotSign,
    Foreign,
}

/// Whether a list speaks for this certificate of its issuer (RFC 5280 §6.3.3 (b)).
fn covers(list: &RevocationList, certificate: &Cert<'_>, is_authority: bool) -> bool {
    if list.scope.users_only && is_authority || list.scope.authorities_only && !is_authority {
        return false;
    }
    let Some(of_list) = &list.scope.points else { return true };
    let der = certificate.der();
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return false };
    let points =
        parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLDistributionPoints(points) => Some(points),
            _ => None,
        });
    // For a certificate that names no point, its issuer's name is the point (RFC 5280 §6.3.3, end). A
    // list of another point is a part, and says nothing about certificates of other parts.
    let Some(points) = points else { return of_list.contains(&crl::point_of(parsed.issuer())) };
    points.iter().any(|point| {
        // Another issuer's lists, and lists for some reasons only, are not used.
        let is_usual = point.crl_issuer.is_none() && point.reasons.is_none();
        let Some(DistributionPointName::FullName(names)) = &point.distribution_point else {
            return false;
        };
        is_usual && crl::point_names(names).iter().any(|name| of_list.contains(name))
    })
}

/// RFC 5280 §4.2.1.3: where key usage is stated, it must say cRLSign.
fn may_sign_lists(der: &[u8]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else { return false };
    match parsed.key_usage() {
        Ok(Some(usage)) => usage.value.crl_sign(),
        Ok(None) => true,
        Err(_) => false,
    }
}
