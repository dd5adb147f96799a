//! How far a certificate chain comes with a trust, step by step, for `explain`.
//!
//! `path::watched` decides and `diagnosis` words what is wrong; this file looks up what the passing
//! steps rested on: which rule, which list, which anchor, until when.

use std::cell::RefCell;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::VerifiedPath;

use super::crl::RevocationList;
use super::diagnosis::{Diagnosis, diagnose, listed};
use super::explain::{Step, Verdict};
use super::identity::{identify, span};
use super::leaf::Leaf;
use super::path::{self, CHAIN_BYTES_MAX, CHAIN_CERTIFICATES_MAX, Chain, Fault, Purpose};
use super::trust::TrustStore;
use crate::config::plan::{RevocationCheck, Uncertain};
use crate::core::identity::Identity;
use crate::core::timestamp::Timestamp;
use crate::core::trust::Violation;

/// A chain that was looked at.
#[derive(Debug)]
pub(super) struct Examination<'a> {
    trust: &'a TrustStore,
    chain: Chain<'a>,
    now: u64,
    /// The path that the result is about.
    walk: Option<Walk>,
    fault: Option<(Fault, Diagnosis)>,
}

/// A path that webpki found good.
#[derive(Debug)]
struct Walk {
    /// Leaf first, the anchor left out.
    certificates: Vec<Identity>,
    anchor: Option<Identity>,
    /// Unix seconds: when the first of them ends.
    until: u64,
    /// Of those that are not revoked: the depth, and the index of the list that says so.
    cleared: Vec<(usize, Option<usize>)>,
}

/// The order of `path::verify`. webpki decides the three from `Validity` to `Path` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Size,
    ClientKeys,
    Validity,
    Purpose,
    Path,
    Depth,
    Revocation,
    Pins,
    San,
}

impl<'a> Examination<'a> {
    pub(super) fn new(
        trust: &'a TrustStore,
        algorithms: WebPkiSupportedAlgorithms,
        (leaf, intermediates): (&'a CertificateDer<'a>, &'a [CertificateDer<'a>]),
        now: u64,
    ) -> Self {
        let chain = Chain { leaf, intermediates };
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        let seen = RefCell::new(None);
        let watch = |path: &VerifiedPath<'_>| {
            seen.replace(Some(Walk::of(trust, path, now)));
        };
        let result = path::watched(trust, &algorithms, chain, Purpose::Client, time, &watch);
        let mut walk = seen.take();
        if let (Some(walk), Ok(verified)) = (&mut walk, &result) {
            // What tickets and live sessions will stand by.
            let anchor = trust.place_of(verified).and_then(|at| trust.anchors().get(at.anchor));
            walk.anchor = anchor.map(|anchor| anchor.identity.clone());
            walk.until = verified.until;
        }
        let fault = result.err().map(|fault| {
            let diagnosis = diagnose(&fault, chain, trust, now);
            (fault, diagnosis)
        });
        let walk = walk.filter(|_| !matches!(fault, Some((Fault::Path(_), _))));
        Self { trust, chain, now, walk, fault }
    }

    /// What would be asked of a client that is not there yet.
    pub(super) fn demands(trust: &TrustStore) -> impl Iterator<Item = Step> {
        Stage::ALL.into_iter().map(|stage| unasked(stage, trust))
    }

    pub(super) fn demands_here(&self) -> Vec<Step> {
        Self::demands(self.trust).collect()
    }

    pub(super) fn diagnosis(&self) -> Option<&Diagnosis> {
        self.fault.as_ref().map(|(_, diagnosis)| diagnosis)
    }

    /// Subjects, leaf first, anchor last.
    pub(super) fn path(&self) -> Vec<String> {
        let Some(walk) = &self.walk else { return Vec::new() };
        let all = walk.certificates.iter().chain(&walk.anchor);
        all.map(|one| one.subject.clone()).collect()
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for stage in Stage::ALL {
            match self.fault.as_ref().map(|(fault, found)| (Stage::of(fault), found)) {
                Some((at, found)) if at == stage => {
                    if stage == Stage::Revocation {
                        steps.extend(self.cleared());
                    }
                    steps.push(self.faulty(stage, found));
                }
                Some((at, _)) if stage > at || (stage.is_of_path() && at.is_of_path()) => {
                    steps.push(unasked(stage, self.trust));
                }
                Some(_) | None => steps.extend(self.passed(stage)),
            }
        }
        steps
    }

    fn faulty(&self, stage: Stage, found: &Diagnosis) -> Step {
        let rule = found.refusal.evidence.as_ref().and_then(|evidence| evidence.rule.clone());
        let verdict = Verdict::of_fault(self.trust.mode);
        Step { rule, ..Step::new(stage.name(), verdict, found.refusal.detail.clone()) }
    }

    fn passed(&self, stage: Stage) -> Vec<Step> {
        let leaf = Leaf::parse(self.chain.leaf);
        let facts = leaf.as_ref().map(Leaf::facts);
        let text = match (stage, &facts) {
            (Stage::Size, _) => Some(size(self.chain)),
            (Stage::ClientKeys, Some(facts)) => {
                let rule = self.trust.leaf.key_rule(facts.key);
                rule.map(|rule| format!("its key is {}, client_keys has \"{rule}\"", facts.key))
            }
            (Stage::Validity, _) => self.walk.as_ref().and_then(|walk| walk.validity(self.now)),
            (Stage::Purpose, _) => Some("it may be used for clients".to_owned()),
            (Stage::Path, _) => self.walk.as_ref().map(Walk::sentence),
            (Stage::Depth, _) => self.walk.as_ref().map(|walk| {
                let between = walk.certificates.len().saturating_sub(1);
                format!("{} to the anchor, depth_max is {}", count(between), self.trust.depth_max)
            }),
            (Stage::Revocation, _) => {
                let cleared: Vec<_> = self.cleared().collect();
                if !cleared.is_empty() {
                    return cleared;
                }
                None
            }
            (Stage::Pins, Some(facts)) => self.trust.leaf.pin(facts).map(|pin| {
                let whose = if pin.0 == facts.spki { "its key" } else { "the certificate" };
                format!("pins has {pin}, which is that of {whose}")
            }),
            (Stage::San, Some(facts)) => self
                .trust
                .leaf
                .name_rule(&facts.names)
                .map(|(rule, name)| format!("its name {name} is one of san: {rule}")),
            (Stage::ClientKeys | Stage::Pins | Stage::San, None) => None,
        };
        // Without a text there was nothing to ask: an empty list, or revocation that is off.
        let step = unasked(stage, self.trust);
        vec![match text {
            Some(text) => Step { verdict: Verdict::Ok, text, ..step },
            None => step,
        }]
    }

    /// Certificates that lists say nothing against, from the anchor down, as they are looked at.
    fn cleared(&self) -> impl Iterator<Item = Step> {
        let lists = self.trust.revocation.as_ref().map(|found| found.lists()).unwrap_or_default();
        self.walk.iter().flat_map(|walk| &walk.cleared).filter_map(|(depth, list)| {
            let walk = self.walk.as_ref()?;
            let who = walk.certificates.get(*depth)?;
            let found = match list.and_then(|at| lists.get(at)) {
                Some(list) => of_list(list, self.now),
                None => "no list covers it, and revocation.unknown is \"accept\"".to_owned(),
            };
            let text = format!("{}, serial {}: {found}", who.subject, who.serial);
            Some(Step { verdict: Verdict::Ok, text, ..unasked(Stage::Revocation, self.trust) })
        })
    }
}

impl Walk {
    fn of(trust: &TrustStore, path: &VerifiedPath<'_>, now: u64) -> Self {
        let leaf = std::iter::once(&**path.end_entity());
        let all = leaf.chain(path.intermediate_certificates());
        let anchor = trust.anchor_of(path);
        let mut cleared = Vec::new();
        if let (Some(revocation), Some(anchor)) = (&trust.revocation, anchor) {
            let note = |depth, list| cleared.push((depth, list));
            // What it has against the path is the fault that `path` found too.
            let _ = revocation.check_each(path, anchor.spki(), now, note);
        }
        let certificates: Vec<_> = all.filter_map(|one| identify(&one.der())).collect();
        Self {
            until: certificates.iter().map(|one| one.not_after).min().unwrap_or_default(),
            certificates,
            anchor: anchor.map(|anchor| anchor.identity.clone()),
            cleared,
        }
    }

    fn validity(&self, now: u64) -> Option<String> {
        let first = self.certificates.iter().min_by_key(|one| one.not_after)?;
        let left = self.until.saturating_sub(now);
        let until = Timestamp::from_seconds(self.until);
        let who = if self.certificates.len() > 1 {
            format!(", when {} ends", first.subject)
        } else {
            String::new()
        };
        Some(format!("for another {}, until {until}{who}", span(left)))
    }

    fn sentence(&self) -> String {
        let subjects: Vec<_> = self.certificates.iter().map(|one| &*one.subject).collect();
        let anchor = self.anchor.as_ref().map_or("(unknown)", |anchor| &*anchor.subject);
        format!("{}, issued by the anchor {anchor}", subjects.join(", issued by "))
    }
}

impl Stage {
    const ALL: [Self; 9] = [
        Self::Size,
        Self::ClientKeys,
        Self::Validity,
        Self::Purpose,
        Self::Path,
        Self::Depth,
        Self::Revocation,
        Self::Pins,
        Self::San,
    ];

    fn of(fault: &Fault) -> Self {
        use webpki::Error as Webpki;
        match fault {
            Fault::TooMany(_)
            | Fault::TooLong(_)
            | Fault::TooManyNamesakes
            | Fault::Empty
            | Fault::Unreadable => Self::Size,
            Fault::Path(Webpki::CertExpired { .. } | Webpki::CertNotValidYet { .. }) => {
                Self::Validity
            }
            Fault::Path(Webpki::RequiredEkuNotFoundContext(_) | Webpki::EmptyEkuExtension)
            | Fault::MayNotSign { .. } => Self::Purpose,
            Fault::Path(_)
            | Fault::Unvouched
            | Fault::TooLongForAnchor { .. }
            | Fault::MayNotIssue { .. }
            | Fault::Policies { .. } => Self::Path,
            Fault::TooDeep { .. } => Self::Depth,
            Fault::Revocation(_) => Self::Revocation,
            Fault::Rule(violation) => match violation {
                Violation::Key(_) => Self::ClientKeys,
                Violation::Pin => Self::Pins,
                Violation::San => Self::San,
            },
        }
    }

    fn is_of_path(self) -> bool {
        matches!(self, Self::Validity | Self::Purpose | Self::Path)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::ClientKeys => "client_keys",
            Self::Validity => "validity",
            Self::Purpose => "purpose",
            Self::Path => "path",
            Self::Depth => "depth",
            Self::Revocation => "revocation",
            Self::Pins => "pins",
            Self::San => "san",
        }
    }

    /// The key of the trust that asks; `None`: the protocol does.
    fn key(self) -> Option<&'static str> {
        match self {
            Self::Size | Self::Validity | Self::Purpose => None,
            Self::ClientKeys => Some("client_keys"),
            Self::Path => Some("anchors"),
            Self::Depth => Some("depth_max"),
            Self::Revocation => Some("crls"),
            Self::Pins => Some("pins"),
            Self::San => Some("san"),
        }
    }
}

/// What a stage asks of whoever comes to it.
fn unasked(stage: Stage, trust: &TrustStore) -> Step {
    let any = |all: Vec<String>, key: &str, what: &str| match all.is_empty() {
        true => format!("{key} is empty: any {what} will do"),
        false => format!("one of {}", listed(&all, "")),
    };
    let (keys, pins, san) =
        (shown(&trust.leaf.keys), shown(&trust.leaf.pins), shown(&trust.leaf.san));
    let text = match stage {
        Stage::Size => format!(
            "at most {CHAIN_CERTIFICATES_MAX} certificates of {CHAIN_BYTES_MAX} bytes together"
        ),
        Stage::ClientKeys => any(keys, "client_keys", "kind of key"),
        Stage::Validity => "every certificate of the path is valid".to_owned(),
        Stage::Purpose => "its extended key usage, if it has one, names clientAuth".to_owned(),
        Stage::Path => {
            let anchors = trust.anchors().iter().map(|anchor| anchor.identity.subject.clone());
            format!("a path to an anchor: {}", listed(&anchors.collect::<Vec<_>>(), "none"))
        }
        Stage::Depth => format!("{} to the anchor at most", count(trust.depth_max.into())),
        Stage::Revocation => revocation_demand(trust),
        Stage::Pins => any(pins, "pins", "certificate"),
        Stage::San => any(san, "san", "name"),
    };
    let rule = stage.key().map(|key| format!("trust.{}.{key}", trust.name));
    Step { rule, ..Step::new(stage.name(), Verdict::NotAsked, text) }
}

fn shown<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn revocation_demand(trust: &TrustStore) -> String {
    let Some(revocation) = &trust.revocation else {
        return "revocation.check is \"off\": no list is looked at".to_owned();
    };
    let settings = revocation.settings();
    let who = match settings.check {
        RevocationCheck::Chain => "no certificate below the anchor is revoked",
        RevocationCheck::Leaf => "the client's own certificate is not revoked",
        RevocationCheck::Off => "nothing",
    };
    let lists: Vec<_> = revocation.lists().iter().map(|list| list.issuer_text.clone()).collect();
    let word = |answer| match answer {
        Uncertain::Refuse => "refuse",
        Uncertain::Accept => "accept",
    };
    let (unknown, stale) = (word(settings.unknown), word(settings.stale));
    let lists = listed(&lists, "nobody");
    format!("{who}, by the lists of {lists}; unknown is \"{unknown}\", stale is \"{stale}\"")
}

/// What a list that does not have a certificate is worth.
fn of_list(list: &RevocationList, now: u64) -> String {
    let whose = &list.issuer_text;
    let due = match list.next_update.checked_sub(now) {
        Some(left) => format!("the next is due in {}", span(left)),
        None => format!(
            "it is out of date since {}, and revocation.stale is \"accept\"",
            span(now - list.next_update)
        ),
    };
    let age = match now.checked_sub(list.this_update) {
        Some(age) => format!("is {} old", span(age)),
        None => format!("begins only in {}", span(list.this_update - now)),
    };
    let revokes = list.len();
    format!("not among the {revokes} that the list of {whose} revokes, which {age}; {due}")
}

fn size(chain: Chain<'_>) -> String {
    let certificates = 1 + chain.intermediates.len();
    let bytes = chain.leaf.len() + chain.intermediates.iter().map(|der| der.len()).sum::<usize>();
    let what = if certificates == 1 { "certificate" } else { "certificates" };
    format!(
        "{certificates} {what} of {bytes} bytes; at most {CHAIN_CERTIFICATES_MAX} of \
         {CHAIN_BYTES_MAX}"
    )
}

fn count(intermediates: usize) -> String {
    match intermediates {
        1 => "1 intermediate".to_owned(),
        more => format!("{more} intermediates"),
    }
}
