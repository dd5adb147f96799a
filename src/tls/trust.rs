//! One `[trust.NAME]` ready for use: anchors, revocation lists and rules in memory.
//!
//! Built off the workers and never changed after. `path` verifies chains by it, `ticketer` and live
//! sessions ask whether they still stand by it; `pem` reads its files.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::TrustAnchor;
use webpki::VerifiedPath;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::KeyUsage;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::breach;
use super::crl::RevocationList;
use super::hints::Hints;
use super::identity::{identify, sha256};
use super::leaf::{Leaf, key_kind};
use super::note::{CertificateNote, NoteKind, owner};
use super::pem::{self, AnchorFound, Findings};
use super::revocation::Revocation;
use super::standing::{AnchorKey, Standing, Verified, issuer_key};
use crate::config::plan::{FileRef, OnChange, RevocationCheck, Trust};
use crate::core::identity::Identity;
use crate::core::refusal::{Reason, Refusal};
use crate::core::trust::{LeafPolicy, Mode};

/// Anchors, lists and rules of one trust.
#[derive(Debug)]
pub struct TrustStore {
    pub name: Arc<str>,
    /// Its place among the trusts of the plan.
    index: usize,
    pub mode: Mode,
    pub on_change: OnChange,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) hints: Hints,
    /// In the order of `roots`.
    anchors: Vec<Anchor>,
    by_key: HashMap<AnchorKey, usize>,
    pub(super) revocation: Option<Revocation>,
    pub(super) depth_max: u8,
    pub(super) leaf: LeafPolicy,
    /// Of all rules: who was let in under others must be looked at anew.
    pub(super) rules_digest: [u8; 32],
    /// Of rules, anchors and lists: two stores with the same digest decide the same.
    pub(super) digest: [u8; 32],
    lists: Vec<CertificateNote>,
}

/// An anchor by its places: of its trust among the plan's, and of itself there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorPlace {
    pub trust: usize,
    pub anchor: usize,
}

/// A trust anchor.
#[derive(Debug)]
pub struct Anchor {
    pub identity: Identity,
    pub file: FileRef,
    /// Its place in the file, from 1.
    pub number: usize,
    pub(super) key: AnchorKey,
    /// Of its name, as lists and certificates of its have it for their issuer.
    name: u64,
    /// SubjectPublicKeyInfo in DER.
    spki: Box<[u8]>,
    /// What its own certificate lets it do.
    office: Office,
}

/// What a certificate says of itself as an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Office {
    /// Whether it is a CA's. What is not vouches for itself alone.
    is_authority: bool,
    /// Whether its basic constraints say so, whatever its key usage says.
    is_called_authority: bool,
    /// How many CAs may stand below it in a row; `None`: any number.
    path_len: Option<u32>,
    may_sign_lists: bool,
}

impl TrustStore {
    /// Reads the files of a trust; `None` after a problem.
    pub(super) fn load(
        (index, trust): (usize, &Trust),
        now: u64,
        findings: &mut Findings,
    ) -> Option<Arc<Self>> {
        let anchors = pem::anchors(&trust.anchors, now, findings);
        let lists = pem::revocation_lists(&trust.crls, now, findings);
        let (anchors, lists) = (anchors?, lists?);
        let mut roots = RootCertStore::empty();
        let mut known = Vec::with_capacity(anchors.len());
        for found in anchors {
            known.push(anchor(&mut roots, found, findings)?);
        }
        if !lists_are_of_anchors(&lists, &known, findings) {
            return None;
        }
        let lists = without_superseded(lists, &known, now, findings);
        let notes = list_notes(&lists);
        let lists: Vec<_> = lists.into_iter().map(|(_, list)| list).collect();
        let rules_digest = rules_digest(trust, &lists, &known);
        let mut parts: Vec<[u8; 32]> = known.iter().map(|one| sha256(&one.key.0)).collect();
        parts.extend(lists.iter().map(|list| list.digest));
        // The order of files says nothing about whom to believe.
        parts.sort_unstable();
        parts.dedup();
        parts.push(rules_digest);
        let is_checked = trust.revocation.check != RevocationCheck::Off;
        Some(Arc::new(Self {
            name: Arc::clone(&trust.name),
            index,
            mode: trust.mode,
            on_change: trust.on_change,
            hints: Hints::new(&roots),
            roots: Arc::new(roots),
            by_key: known.iter().enumerate().map(|(at, anchor)| (anchor.key, at)).collect(),
            anchors: known,
            revocation: is_checked.then(|| Revocation::new(lists, trust.revocation)),
            depth_max: trust.depth_max,
            leaf: trust.leaf.clone(),
            rules_digest,
            digest: sha256(parts.as_flattened()),
            lists: notes,
        }))
    }

    /// The anchors, in the order of their files.
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// Of anchors, lists and rules: two nodes that show the same believe the same.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What is to be said of the revocation lists, in the order of their files.
    pub fn lists(&self) -> &[CertificateNote] {
        &self.lists
    }

    /// The anchor that vouched for whoever this was found of.
    pub(super) fn place_of(&self, verified: &Verified) -> Option<AnchorPlace> {
        let anchor = self.by_key.get(&verified.anchor).copied()?;
        Some(AnchorPlace { trust: self.index, anchor })
    }

    /// The anchor at the end of a path that was verified with `roots`; `None` where it does not vouch
    /// for this one: it is no CA's and the leaf is another certificate than its own, or the path is
    /// longer than it allows. webpki takes any anchor for a CA's, and asks none for a length.
    pub(super) fn anchor_of(&self, path: &VerifiedPath<'_>) -> Option<&Anchor> {
        self.anchors_like(path.anchor()).find(|anchor| anchor.vouches(path))
    }

    /// The longest path that an anchor allows that has this one's end, and has this one too long.
    pub(super) fn path_len_of(&self, path: &VerifiedPath<'_>) -> Option<u32> {
        let authorities = self.anchors_like(path.anchor()).filter(|one| one.office.is_authority);
        authorities.filter_map(|anchor| anchor.office.path_len).max()
    }

    fn anchors_like(&self, found: &TrustAnchor<'_>) -> impl Iterator<Item = &Anchor> {
        let is_it = |root: &TrustAnchor<'_>| {
            root.subject == found.subject
                && root.subject_public_key_info == found.subject_public_key_info
                && root.name_constraints == found.name_constraints
        };
        let all = self.roots.roots.iter().zip(&self.anchors);
        all.filter(move |(root, _)| is_it(root)).map(|(_, anchor)| anchor)
    }

    /// Whether who has this standing would be let in now: what each resumption asks.
    pub fn holds(&self, standing: &Standing, now: u64) -> bool {
        self.reaffirms(&standing.verified, now)
    }

    /// Whether a chain that was found good, perhaps by another generation with the same rules, is
    /// still good: by look-ups alone, 0.2 µs for a path of two.
    pub(super) fn reaffirms(&self, verified: &Verified, now: u64) -> bool {
        let is_known = || verified.is_anonymous() || self.by_key.contains_key(&verified.anchor);
        let is_listed_good = || match &self.revocation {
            None => true,
            Some(revocation) => revocation.reaffirms(&verified.path, now),
        };
        now <= verified.until && is_known() && is_listed_good()
    }

    /// What this trust has taken back of that on which somebody was let in, whatever time it is.
    fn withdrawn(&self, verified: &Verified) -> Option<&'static str> {
        if verified.is_anonymous() {
            return None;
        }
        if !self.by_key.contains_key(&verified.anchor) {
            return Some("the anchor that vouched for it is gone");
        }
        match self.revocation.as_ref()?.revoked(&verified.path)? {
            0 => Some("it is revoked"),
            _ => Some("a CA above it is revoked"),
        }
    }
}

impl Anchor {
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn vouches(&self, path: &VerifiedPath<'_>) -> bool {
        if self.office.is_authority {
            return self.office.path_len.is_none_or(|max| length(path) <= u64::from(max));
        }
        let is_alone = || path.intermediate_certificates().next().is_none();
        let is_itself = || sha256(&path.end_entity().der()) == self.identity.fingerprint_sha256;
        is_alone() && is_itself()
    }

    fn is_called(&self, list: &RevocationList) -> bool {
        self.name == issuer_key(&list.issuer)
    }

    /// Whether this CA signed the list.
    fn issued(&self, list: &RevocationList) -> bool {
        self.is_called(list) && list.is_signed_by(&self.spki)
    }
}

/// How many CAs stand between leaf and anchor, as RFC 5280 §6.1.4 (l) counts: not those that a CA has
/// issued to itself.
pub(super) fn length(path: &VerifiedPath<'_>) -> u64 {
    let counted = |one: &&webpki::Cert<'_>| one.subject() != one.issuer();
    path.intermediate_certificates().filter(counted).count() as u64
}

/// One file may hold several.
fn list_notes(lists: &[(&FileRef, RevocationList)]) -> Vec<CertificateNote> {
    let mut notes = Vec::<CertificateNote>::with_capacity(lists.len());
    for (file, list) in lists {
        let before = notes.iter().filter(|note| note.path == file.path).count();
        notes.push(CertificateNote {
            kind: NoteKind::Crl,
            owner: owner(file),
            path: file.path.clone(),
            number: before + 1,
            subject: list.issuer_text.clone(),
            digest: list.digest,
            identity: None,
            not_before: list.this_update,
            not_after: list.next_update,
            entries: Some(list.len()),
        });
    }
    notes
}

fn anchor(
    roots: &mut RootCertStore,
    found: AnchorFound<'_>,
    findings: &mut Findings,
) -> Option<Anchor> {
    let AnchorFound { file, number, der, identity } = found;
    let parsed = X509Certificate::from_der(&der).ok().map(|(_, parsed)| {
        let spki = Box::<[u8]>::from(parsed.public_key().raw);
        (spki, Office::of(&parsed), doubts(&parsed))
    });
    let path = file.path.display();
    let error = match roots.add(der) {
        Ok(()) => None,
        Err(error) => Some(error.to_string()),
    };
    let (Some((spki, office, doubts)), None) = (parsed, &error) else {
        let why = error.unwrap_or_else(|| "it cannot be parsed".to_owned());
        findings.problem(
            &file.at,
            format!("certificate {number} of {path} cannot be an anchor: {why}"),
            "put X.509 version 3 CA certificates into this file",
        );
        return None;
    };
    for (what, help) in doubts {
        findings.warning(&file.at, format!("certificate {number} of {path} {what}"), help);
    }
    let root = roots.roots.last()?;
    let mut key = Vec::new();
    for part in [&*root.subject, &*root.subject_public_key_info] {
        key.extend_from_slice(&(part.len() as u64).to_be_bytes());
        key.extend_from_slice(part);
    }
    key.extend(root.name_constraints.iter().flat_map(|constraints| constraints.iter()));
    key.extend(office.path_len.iter().flat_map(|max| max.to_be_bytes()));
    if !office.is_authority {
        key.extend_from_slice(&identity.fingerprint_sha256);
    }
    let key = sha256(&key).first_chunk().copied().unwrap_or_default();
    let (file, key, name) = (file.clone(), AnchorKey(key), issuer_key(&root.subject));
    Some(Anchor { identity, file, number, key, name, spki, office })
}

/// What is to be said of a certificate as an anchor, and what to do.
fn doubts(certificate: &X509Certificate<'_>) -> Vec<(String, &'static str)> {
    let office = Office::of(certificate);
    let mut doubts = Vec::new();
    if let Some(strange) = breach::critical(certificate) {
        let help = "what the extension demands is not asked: see that you can do without, or take another \
                    anchor";
        doubts.push((format!("vouches, although {strange}"), help));
    }
    let kind = key_kind(certificate.public_key());
    if !kind.is_verified() {
        let help = "take a CA with a key of 2048 to 8192 bits";
        doubts.push((
            format!("has a key by which nothing is verified, {kind}: it vouches for nobody"),
            help,
        ));
    }
    if let Some(why) = breach::in_vain(certificate) {
        let help = "take a CA with an RSA key, or an EC key on P-256, P-384 or P-521, and without such constraints";
        doubts.push((format!("{why}: it vouches for nobody"), help));
    }
    let why = match office.is_authority {
        true => None,
        false if office.is_called_authority => {
            Some("may not sign certificates, for its key usage lacks keyCertSign")
        }
        false => (certificate.subject() != certificate.issuer()).then_some("is not a CA's"),
    };
    if let Some(why) = why {
        let help = "an anchor is the certificate of the CA that issued the peers'";
        doubts.push((format!("{why}: it vouches for nobody"), help));
    }
    doubts
}

impl Office {
    /// As OpenSSL tells it of roots too. A CA's is whatever says so by its basic constraints, or where
    /// it has none by its key usage, or where it is of a version without extensions by being
    /// self-issued; and not, whatever else it says, if its key usage lacks keyCertSign.
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let (basic, usage) = (certificate.basic_constraints(), certificate.key_usage());
        let is_sound = basic.is_ok() && usage.is_ok();
        let basic = basic.ok().flatten().map(|basic| basic.value);
        let usage = usage.ok().flatten().map(|usage| usage.value);
        let is_called_authority = basic.is_some_and(|basic| basic.ca);
        let is_authority = match (basic, usage) {
            (Some(basic), usage) => basic.ca && usage.is_none_or(KeyUsage::key_cert_sign),
            (None, Some(usage)) => usage.key_cert_sign(),
            (None, None) => {
                certificate.version() == X509Version::V1
                    && certificate.subject() == certificate.issuer()
            }
        };
        Self {
            is_authority: is_sound && is_authority,
            is_called_authority,
            path_len: basic.and_then(|basic| basic.path_len_constraint),
            may_sign_lists: is_sound && usage.is_none_or(KeyUsage::crl_sign),
        }
    }
}

/// A list that has the name of an anchor and was not signed by one of that name would refuse every
/// client of it, or none: a mistake either way.
fn lists_are_of_anchors(
    lists: &[(&FileRef, RevocationList)],
    anchors: &[Anchor],
    findings: &mut Findings,
) -> bool {
    let mut sound = true;
    for (file, list) in lists {
        let mut namesakes = anchors.iter().filter(|anchor| anchor.is_called(list)).peekable();
        if namesakes.peek().is_none() {
            continue;
        }
        let (path, issuer) = (file.path.display(), &list.issuer_text);
        let issuers: Vec<_> = namesakes.filter(|anchor| anchor.issued(list)).collect();
        if issuers.is_empty() {
            findings.problem(
                &file.at,
                format!("the revocation list {path} is not signed by the anchor {issuer}"),
                "fetch it again, or take the list of the CA whose certificate is in `anchors`",
            );
            sound = false;
        } else if !issuers.iter().any(|anchor| anchor.office.may_sign_lists) {
            // RFC 5280 §6.3.3 (f).
            findings.problem(
                &file.at,
                format!("the anchor {issuer} may not sign the revocation list {path}: its key usage lacks cRLSign"),
                "have the CA's certificate issued anew with cRLSign, or take its list out of crls",
            );
            sound = false;
        }
    }
    sound
}

/// Leaves out lists that a newer one of the same CA and scope replaces: an old one beside it would keep
/// every resumption from being told by look-up.
fn without_superseded<'a>(
    lists: Vec<(&'a FileRef, RevocationList)>,
    anchors: &[Anchor],
    now: u64,
    findings: &mut Findings,
) -> Vec<(&'a FileRef, RevocationList)> {
    let signer = |list: &RevocationList| anchors.iter().position(|one| one.issued(list));
    let mut kept: Vec<(Option<usize>, (&FileRef, RevocationList))> = Vec::new();
    let mut newest_first = lists;
    newest_first.sort_by_key(|(_, list)| std::cmp::Reverse(list.this_update));
    for (file, list) in newest_first {
        let signer = signer(&list);
        let replaces = |(by, (_, newer)): &(Option<usize>, (&FileRef, RevocationList))| {
            // One that begins in the future says nothing yet of whom the current one revokes.
            let is_in_force = newer.this_update <= now;
            by.is_some() && *by == signer && newer.scope == list.scope && is_in_force
        };
        if kept.iter().any(replaces) {
            let (path, issuer) = (file.path.display(), &list.issuer_text);
            findings.warning(
                &file.at,
                format!(
                    "the revocation list {path} of {issuer} is no newer than another: not used"
                ),
                "take it out of crls",
            );
            continue;
        }
        kept.push((signer, (file, list)));
    }
    kept.into_iter().map(|(_, list)| list).collect()
}

fn rules_digest(trust: &Trust, lists: &[RevocationList], anchors: &[Anchor]) -> [u8; 32] {
    // Whom the lists speak for: a list that takes the place of one with the same scope, by the same
    // key, is none of it. Two CAs may have one name. RFC 5280 §5.2.1 has each list say whose it is;
    // one that does not is another with every issue.
    let speak = |list: &RevocationList| {
        let signer = anchors.iter().find(|anchor| anchor.issued(list)).map(|anchor| anchor.key);
        let key = list.authority_key.as_deref();
        let digest = (signer.is_none() && key.is_none()).then_some(list.digest);
        format!("{:?} {:?} {signer:?} {key:?} {digest:?}", list.issuer, list.scope)
    };
    let mut issuers: Vec<_> = lists.iter().map(speak).collect();
    issuers.sort_unstable();
    issuers.dedup();
    let Trust { revocation, depth_max, leaf, mode, .. } = trust;
    // `Debug` of enums and numbers of ours is their content.
    let others = format!("{revocation:?} {depth_max} {mode:?} {issuers:?}\n");
    sha256((others + &leaf.describe()).as_bytes())
}

/// Whether a client whom some other trust, perhaps this one before a change, let in would be let in by
/// `trust`: look-ups, and the rules about its leaf. A path to an anchor that is new is not searched:
/// the client's next handshake does that. That time passes is no change: what has expired meanwhile
/// ends no session, nor does it hide what has changed.
///
/// # Errors
/// Why not, with reason `TrustChanged`.
pub(super) fn reconsider(
    trust: &TrustStore,
    leaf: Option<&[u8]>,
    standing: Option<&Standing>,
) -> Result<(), Refusal> {
    let (Some(leaf), Some(standing)) = (leaf, standing) else {
        return Err(changed(
            "the client has no verified certificate, and the trust now asks for one",
        ));
    };
    let what = trust.withdrawn(&standing.verified).map(str::to_owned);
    let rules = || {
        let facts = Leaf::parse(leaf);
        let broken = facts.as_ref().map(|leaf| trust.leaf.check(&leaf.facts()));
        match broken {
            Some(Ok(())) => None,
            Some(Err(rule)) => Some(format!("it does not keep trust.{}.{rule}", trust.name)),
            None => Some("it cannot be parsed".to_owned()),
        }
    };
    match what.or_else(rules) {
        None => Ok(()),
        Some(what) => {
            let who = identify(leaf).map_or_else(String::new, |leaf| leaf.sentence());
            Err(changed(format!("{who}: {what}")))
        }
    }
}

fn changed(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::TrustChanged, detail)
}
