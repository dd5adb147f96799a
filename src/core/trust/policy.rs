//! What one `[trust.NAME]` asks of a leaf certificate whose path holds: its key, its pins, its names.

use std::fmt;

use super::key::{KeyKind, KeyRule};
use super::list;
use super::pin::Pin;
use super::rule::{MatchedName, NameRule, Names};

/// What a leaf must be; empty lists ask for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeafPolicy {
    /// Any one must take the key.
    pub keys: Vec<KeyRule>,
    /// Any one must be that of the certificate or of its key.
    pub pins: Vec<Pin>,
    /// Any one must match.
    pub san: Vec<NameRule>,
}

/// A leaf certificate as the policy sees it.
#[derive(Debug, Clone)]
pub struct LeafFacts<'a> {
    pub names: Names<'a>,
    pub key: KeyKind,
    /// SHA-256 of the whole certificate in DER.
    pub fingerprint: [u8; 32],
    /// SHA-256 of its SubjectPublicKeyInfo in DER.
    pub spki: [u8; 32],
    /// Big-endian, as DER holds it.
    pub serial: &'a [u8],
}

/// Which rule a leaf breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    Key(KeyKind),
    Pin,
    San,
}

impl LeafPolicy {
    /// Whether the key may be used at all: asked before any signature is verified.
    ///
    /// # Errors
    /// The key's kind is not in the list.
    pub fn check_key(&self, kind: KeyKind) -> Result<(), Violation> {
        if self.keys.is_empty() || self.key_rule(kind).is_some() {
            return Ok(());
        }
        Err(Violation::Key(kind))
    }

    /// The element of `keys` that takes this kind.
    pub fn key_rule(&self, kind: KeyKind) -> Option<&KeyRule> {
        self.keys.iter().find(|rule| rule.takes(kind))
    }

    /// The element of `pins` that is the leaf's.
    pub fn pin(&self, leaf: &LeafFacts<'_>) -> Option<&Pin> {
        self.pins.iter().find(|pin| pin.0 == leaf.fingerprint || pin.0 == leaf.spki)
    }

    /// The element of `san` that matches, and the name that it matches.
    pub fn name_rule<'a>(&self, names: &Names<'a>) -> Option<(&NameRule, MatchedName<'a>)> {
        self.san.iter().find_map(|rule| Some((rule, rule.matched(names)?)))
    }

    /// Everything that is asked of a leaf.
    ///
    /// # Errors
    /// The first rule that it breaks: key, then pins, then names.
    pub fn check(&self, leaf: &LeafFacts<'_>) -> Result<(), Violation> {
        self.check_key(leaf.key)?;
        self.check_identity(leaf)
    }

    /// `check`, but for the key.
    ///
    /// # Errors
    /// As for `check`.
    pub fn check_identity(&self, leaf: &LeafFacts<'_>) -> Result<(), Violation> {
        if !self.pins.is_empty() && self.pin(leaf).is_none() {
            return Err(Violation::Pin);
        }
        if !self.san.is_empty() && self.name_rule(&leaf.names).is_none() {
            return Err(Violation::San);
        }
        Ok(())
    }

    /// The whole policy in a text, for digests and logs: two that differ, if only in order, never
    /// give the same.
    pub fn describe(&self) -> String {
        let Self { keys, pins, san } = self;
        list("client_keys", keys) + &list("pins", pins) + &list("san", san)
    }
}

/// The key of the configuration that holds the rule.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "client_keys",
            Self::Pin => "pins",
            Self::San => "san",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::NameKind;
    use super::*;
    use proptest::prelude::*;

    fn rule(kind: NameKind, text: &str) -> NameRule {
        NameRule::parse(kind, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn leaf() -> LeafFacts<'static> {
        LeafFacts {
            names: Names { dns: vec!["a.example"], ..Names::default() },
            key: KeyKind::EcdsaP256,
            fingerprint: [1; 32],
            spki: [2; 32],
            serial: &[1],
        }
    }

    #[test]
    fn empty_lists_ask_for_nothing() {
        let policy = LeafPolicy::default();
        assert_eq!(policy.check(&leaf()), Ok(()));
        assert_eq!(policy.check_key(KeyKind::Other), Ok(()));
    }

    #[test]
    fn the_first_rule_that_is_broken_is_named() {
        let mut policy = LeafPolicy {
            keys: vec![KeyRule::Ed25519],
            pins: vec![Pin([9; 32])],
            san: vec![rule(NameKind::Dns, "b.example")],
        };
        assert_eq!(policy.check(&leaf()), Err(Violation::Key(KeyKind::EcdsaP256)));
        policy.keys.push(KeyRule::EcdsaP256);
        assert_eq!(policy.check(&leaf()), Err(Violation::Pin));
        policy.pins.push(Pin([2; 32]));
        assert_eq!(policy.check(&leaf()), Err(Violation::San));
        policy.san.push(rule(NameKind::Dns, "a.example"));
        assert_eq!(policy.check(&leaf()), Ok(()));
        policy.pins = vec![Pin([1; 32])];
        assert_eq!(policy.check(&leaf()), Ok(()), "the certificate's digest does as well");
    }

    #[test]
    fn a_leaf_without_names_breaks_every_rule_about_names() {
        let san = NameKind::ALL.into_iter().zip([
            "spiffe://example.org/**",
            "*.example",
            "@example.org",
            "0.0.0.0/0",
            "a*",
        ]);
        let san = san.map(|(kind, text)| rule(kind, text)).collect();
        let policy = LeafPolicy { san, ..LeafPolicy::default() };
        let nameless = LeafFacts { names: Names::default(), ..leaf() };
        assert_eq!(policy.check(&nameless), Err(Violation::San));
    }

    #[test]
    fn a_description_is_the_configuration_in_one_form() {
        let policy = LeafPolicy {
            keys: KeyRule::DEFAULT.to_vec(),
            pins: vec![Pin([0xab; 32])],
            san: vec![rule(NameKind::Uri, "spiffe://a/**"), rule(NameKind::Cn, "x\", cn = \"y")],
        };
        let expected = format!(
            "client_keys = [ecdsa-p256, ecdsa-p384, ed25519, rsa-2048-4096]\n\
             pins = [{}]\n\
             san = [uri = \"spiffe://a/**\", cn = \"x\\\", cn = \\\"y\"]\n",
            "ab".repeat(32)
        );
        assert_eq!(policy.describe(), expected);
        assert_eq!(LeafPolicy::default().describe(), "client_keys = []\npins = []\nsan = []\n");
    }

    fn policy() -> impl Strategy<Value = LeafPolicy> {
        let key = prop_oneof![
            Just(KeyRule::EcdsaP256),
            Just(KeyRule::EcdsaP384),
            Just(KeyRule::EcdsaP521),
            Just(KeyRule::Ed25519),
            (2048u32..2051, 4096u32..4099).prop_map(|(min, max)| KeyRule::Rsa { min, max }),
        ];
        let kind = prop::sample::select(NameKind::ALL.to_vec());
        let text = "(spiffe://a/)?[ab*\"\\\\, =@.]{1,4}|10\\.0\\.0\\.[0-3]";
        let name = (kind, text)
            .prop_filter_map("no rule", |(kind, text)| NameRule::parse(kind, &text).ok());
        (
            prop::collection::vec(key, 0..3),
            prop::collection::vec((0u8..3).prop_map(|byte| Pin([byte; 32])), 0..3),
            prop::collection::vec(name, 0..3),
        )
            .prop_map(|(keys, pins, san)| LeafPolicy { keys, pins, san })
    }

    proptest! {
        #[test]
        fn policies_that_differ_are_described_differently(a in policy(), b in policy()) {
            prop_assert_eq!(a == b, a.describe() == b.describe());
            prop_assert_eq!(a.clone().describe(), a.describe());
        }
    }
}
