//! What one `[trust.NAME]` asks of a leaf certificate whose path holds: its key, its pins, its names.

use std::fmt;

use super::key::{KeyKind, KeyRule};
use super::rule::{NameRule, Names};

/// SHA-256 of a whole certificate or of its SubjectPublicKeyInfo: either will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

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
        if self.keys.is_empty() || self.keys.iter().any(|rule| rule.takes(kind)) {
            return Ok(());
        }
        Err(Violation::Key(kind))
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
        let pinned = |pin: &Pin| pin.0 == leaf.fingerprint || pin.0 == leaf.spki;
        if !self.pins.is_empty() && !self.pins.iter().any(pinned) {
            return Err(Violation::Pin);
        }
        if !self.san.is_empty() && !self.san.iter().any(|rule| rule.matches(&leaf.names)) {
            return Err(Violation::San);
        }
        Ok(())
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
