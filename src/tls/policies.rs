//! Certificate policies on a path that webpki has verified: whether a CA that demands an explicit
//! policy (RFC 5280 §4.2.1.11) gets one.
//!
//! The algorithm is RFC 5280 §6.1's with any policy as initial policy set and with policy mapping
//! inhibited. Without mapping its tree has at most one node of a name in each row, so a row is a set.
//! webpki refuses paths on which such extensions are critical; `path` asks here about the others.

use webpki::VerifiedPath;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

/// What a certificate says of policies.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stated {
    /// `anyPolicy` left out. `None`: no policies at all.
    policies: Option<Vec<Policy>>,
    any: bool,
    /// Policies of this CA that others are said to be equal to.
    mapped: Vec<Policy>,
    /// Such a policy, on either side, is `anyPolicy`.
    maps_any: bool,
    /// How many more certificates may come before a policy must be explicit, `anyPolicy` must not
    /// count.
    require_explicit: Option<u32>,
    inhibit_any: Option<u32>,
    is_self_issued: bool,
}

/// An object identifier in DER.
type Policy = Box<[u8]>;

/// The policies that hold for the certificates so far.
#[derive(Debug)]
struct Row {
    policies: Vec<Policy>,
    any: bool,
}

/// Checks a path.
///
/// # Errors
/// The depth of the certificate that breaks it; 0 is the leaf.
pub(super) fn check(path: &VerifiedPath<'_>) -> Result<(), usize> {
    let leaf = std::iter::once(&**path.end_entity());
    let certificates: Vec<_> = leaf.chain(path.intermediate_certificates()).collect();
    let mut stated = Vec::with_capacity(certificates.len());
    for (depth, certificate) in certificates.iter().enumerate().rev() {
        let is_self_issued = certificate.subject() == certificate.issuer();
        stated.push(Stated::of(&certificate.der(), is_self_issued).ok_or(depth)?);
    }
    walk(&stated).map_err(|at| stated.len() - 1 - at)
}

impl Stated {
    /// `None` where a constraint cannot be read.
    fn of(der: &[u8], is_self_issued: bool) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut stated = Self { is_self_issued, ..Self::default() };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::CertificatePolicies(policies) => {
                    let all = policies.iter().map(|policy| policy.policy_id.as_bytes());
                    let named = stated.policies.get_or_insert_default();
                    named.extend(all.clone().filter(|id| *id != ANY_POLICY).map(Policy::from));
                    stated.any |= all.clone().any(|id| id == ANY_POLICY);
                }
                ParsedExtension::PolicyMappings(mappings) => {
                    for one in &mappings.mappings {
                        let ours = one.issuer_domain_policy.as_bytes();
                        let theirs = one.subject_domain_policy.as_bytes();
                        stated.maps_any |= [ours, theirs].contains(&ANY_POLICY);
                        stated.mapped.push(ours.into());
                    }
                }
                ParsedExtension::PolicyConstraints(constraints) => {
                    stated.require_explicit = constraints.require_explicit_policy;
                }
                ParsedExtension::InhibitAnyPolicy(inhibit) => {
                    stated.inhibit_any = Some(inhibit.skip_certs);
                }
                ParsedExtension::ParseError { .. } if is_constraint(extension.oid.as_bytes()) => {
                    return None;
                }
                _ => {}
            }
        }
        Some(stated)
    }
}

/// RFC 5280 §6.1.3 (d) to (f), §6.1.4 and §6.1.5, from the anchor's side to the leaf.
fn walk(path: &[Stated]) -> Result<(), usize> {
    let beyond = u32::try_from(path.len()).unwrap_or(u32::MAX).saturating_add(1);
    let (mut explicit, mut inhibit_any) = (beyond, beyond);
    let mut row = Row { policies: Vec::new(), any: true };
    for (at, stated) in path.iter().enumerate() {
        let is_last = at + 1 == path.len();
        let any_counts = stated.any && (inhibit_any > 0 || stated.is_self_issued && !is_last);
        row = row.under(stated, any_counts);
        if is_last {
            explicit = explicit.saturating_sub(1);
            if stated.require_explicit == Some(0) {
                explicit = 0;
            }
        }
        let is_without = row.policies.is_empty() && !row.any;
        if explicit == 0 && is_without || stated.maps_any && !is_last {
            return Err(at);
        }
        row.policies.retain(|policy| !stated.mapped.contains(policy));
        if !stated.is_self_issued {
            explicit = explicit.saturating_sub(1);
            inhibit_any = inhibit_any.saturating_sub(1);
        }
        explicit = explicit.min(stated.require_explicit.unwrap_or(explicit));
        inhibit_any = inhibit_any.min(stated.inhibit_any.unwrap_or(inhibit_any));
    }
    Ok(())
}

impl Row {
    fn under(self, stated: &Stated, any_counts: bool) -> Self {
        let named = stated.policies.iter().flatten();
        let named = named.filter(|policy| self.any || self.policies.contains(*policy));
        let mut policies: Vec<Policy> = named.cloned().collect();
        if any_counts {
            policies.extend(self.policies);
        }
        Self { policies, any: self.any && any_counts }
    }
}

fn is_constraint(oid: &[u8]) -> bool {
    [POLICY_CONSTRAINTS, INHIBIT_ANY_POLICY].contains(&oid)
}

/// 2.5.29.32.0
const ANY_POLICY: &[u8] = &[0x55, 0x1d, 0x20, 0];
/// 2.5.29.36
const POLICY_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x24];
/// 2.5.29.54
const INHIBIT_ANY_POLICY: &[u8] = &[0x55, 0x1d, 0x36];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// In words: policies by one letter (`*` is any), then `explicit=0`, `any=0`, `map=a`, `self`.
    fn stated(words: &str) -> Stated {
        let mut stated = Stated::default();
        let number = |text: &str| text.parse().unwrap();
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("explicit", skip)) => stated.require_explicit = Some(number(skip)),
                Some(("any", skip)) => stated.inhibit_any = Some(number(skip)),
                Some(("map", "*")) => stated.maps_any = true,
                Some(("map", policy)) => stated.mapped.push(policy.as_bytes().into()),
                _ if word == "self" => stated.is_self_issued = true,
                _ if word == "*" => {
                    stated.any = true;
                    stated.policies.get_or_insert_default();
                }
                _ => stated.policies.get_or_insert_default().push(word.as_bytes().into()),
            }
        }
        stated
    }

    #[test]
    fn a_policy_that_must_be_explicit_holds_from_the_anchor_to_the_leaf() {
        for (path, expected) in [
            // Nobody demands one.
            (&["", ""][..], Ok(())),
            (&["a", "b"], Ok(())),
            (&["a", "b", "map=a"], Ok(())),
            // From here on, and for the certificate that says so.
            (&["a explicit=0", "a"], Ok(())),
            (&["a explicit=0", "b"], Err(1)),
            (&["a explicit=0", ""], Err(1)),
            (&["explicit=0", "a"], Err(1)),
            (&["a b explicit=0", "b c", "c"], Err(2)),
            (&["a b explicit=0", "b c", "b"], Ok(())),
            // After as many more, the self-issued not counted. The leaf counts itself.
            (&["a explicit=1", "b"], Err(1)),
            (&["a explicit=2", "b"], Ok(())),
            (&["explicit=3", "", ""], Ok(())),
            (&["explicit=2", "", ""], Err(2)),
            (&["explicit=2", "self", "", ""], Err(3)),
            (&["explicit=2", "self", ""], Ok(())),
            (&["explicit=5", "explicit=0", ""], Err(2)),
            (&["explicit=0", "explicit=5", ""], Err(1)),
            // The leaf's own demand.
            (&["a", "explicit=0"], Err(1)),
            (&["a", "b explicit=0"], Err(1)),
            (&["a", "a explicit=0"], Ok(())),
            (&["a", "b explicit=1"], Ok(())),
            // Any policy is each of them, while it counts.
            (&["* explicit=0", "a"], Ok(())),
            (&["a explicit=0", "*", "a"], Ok(())),
            (&["a explicit=0", "*", "b"], Err(2)),
            (&["* explicit=0 any=0", "*"], Err(1)),
            (&["* explicit=0 any=1", "*", "*"], Err(2)),
            (&["* explicit=0 any=1", "*", "a"], Ok(())),
            (&["* explicit=0 any=0", "* self", "a"], Ok(())),
            (&["* explicit=0 any=0", "* self"], Err(1)),
            // A mapped policy ends.
            (&["a explicit=0 map=a", "a"], Err(1)),
            (&["a b explicit=0 map=a", "b"], Ok(())),
            (&["", "map=*", ""], Err(1)),
            (&["", "map=*"], Ok(())),
        ] {
            let stated: Vec<_> = path.iter().map(|words| stated(words)).collect();
            assert_eq!(walk(&stated), expected, "{path:?}");
        }
    }

    fn any_stated() -> impl Strategy<Value = Stated> {
        let policy = prop::sample::select(vec![b"a", b"b", b"c"]);
        let policies = prop::collection::vec(policy.clone().prop_map(|one| one[..].into()), 0..3);
        let mapped = prop::collection::vec(policy.prop_map(|one| one[..].into()), 0..2);
        let skip = || prop::option::of(0_u32..4);
        (prop::option::of(policies), any::<bool>(), mapped, skip(), skip(), any::<bool>()).prop_map(
            |(policies, any, mapped, require_explicit, inhibit_any, is_self_issued)| Stated {
                any: any && policies.is_some(),
                policies,
                mapped,
                maps_any: false,
                require_explicit,
                inhibit_any,
                is_self_issued,
            },
        )
    }

    proptest! {
        #[test]
        fn a_demand_refuses_more_and_none_refuses_nobody(
            mut path in prop::collection::vec(any_stated(), 1..6),
            at in any::<prop::sample::Index>(),
        ) {
            let before = walk(&path);
            let at = at.index(path.len());
            path[at].require_explicit = Some(0);
            prop_assert!(before.is_ok() || walk(&path).is_err());
            path.iter_mut().for_each(|stated| stated.require_explicit = None);
            prop_assert_eq!(walk(&path), Ok(()));
        }
    }
}
