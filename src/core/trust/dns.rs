//! Rules about DNS names in certificates.
//!
//! A name counts only if it is one that could stand in an SNI (`core::server_name`, which also makes
//! it lower case); a trailing dot, a NUL or an address in letters matches nothing. Next: `rule`.

use std::fmt;

use crate::core::server_name::{NAME_BYTES_MAX, NameError, ServerName, normalise_into};

/// A name, or `*.` and a name: exactly one label more. A name in a certificate that itself begins
/// with `*.` is matched by the same rule only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DnsPattern {
    Exact(ServerName),
    /// The name without `*.`.
    OneBelow(ServerName),
}

/// Why a text is not a rule about DNS names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    #[error(
        "'*' at byte {at}: it may only stand for one whole label at the start, as in \
         \"*.example.com\""
    )]
    Wildcard { at: usize },
    /// Counted without `*.`.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl DnsPattern {
    /// # Errors
    /// A `*` elsewhere than as the first label, or what is no name.
    pub fn parse(text: &str) -> Result<Self, DnsError> {
        let (name, skipped) = text.strip_prefix("*.").map_or((text, 0), |name| (name, 2));
        if let Some(at) = name.find('*') {
            return Err(DnsError::Wildcard { at: at + skipped });
        }
        let name = ServerName::parse(name.as_bytes())?;
        if skipped == 0 {
            return Ok(Self::Exact(name));
        }
        // The shortest name below must itself fit.
        if name.as_str().len() + 2 > NAME_BYTES_MAX {
            return Err(NameError::TooLong { bytes: text.len() }.into());
        }
        Ok(Self::OneBelow(name))
    }

    /// Whether this rule takes `name`, as it stands in a certificate.
    pub fn matches(&self, name: &str) -> bool {
        let mut buffer = [0; 255];
        match (self, name.strip_prefix("*.")) {
            (Self::Exact(exact), None) => normalise_into(name.as_bytes(), &mut buffer)
                .is_ok_and(|name| name == exact.as_str()),
            (Self::Exact(_), Some(_)) => false,
            (Self::OneBelow(suffix), Some(name)) => normalise_into(name.as_bytes(), &mut buffer)
                .is_ok_and(|name| name == suffix.as_str()),
            (Self::OneBelow(suffix), None) => normalise_into(name.as_bytes(), &mut buffer)
                .ok()
                .and_then(|name| name.strip_suffix(suffix.as_str())?.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty() && !label.contains('.')),
        }
    }
}

impl fmt::Display for DnsPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::OneBelow(name) => write!(f, "*.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> DnsPattern {
        DnsPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_star_takes_exactly_one_whole_label() {
        for (pattern, name, matches) in [
            ("orders.internal", "orders.internal", true),
            ("Orders.Internal", "oRDERS.iNTERNAL", true),
            ("orders.internal", "a.orders.internal", false),
            ("orders.internal", "orders.internal.", false),
            ("orders.internal", "orders.internal\0", false),
            ("orders.internal", "orders.internal\0.evil", false),
            ("orders.internal", " orders.internal", false),
            ("*.internal", "a.internal", true),
            ("*.internal", "A.INTERNAL", true),
            ("*.internal", "a.b.internal", false),
            ("*.internal", "internal", false),
            ("*.internal", ".internal", false),
            ("*.internal", "ainternal", false),
            ("*.internal", "a.internal.evil", false),
            ("*.internal", "a.internal.", false),
            ("*.internal", "a\0.internal", false),
            ("*.internal", "ä.internal", false),
            ("*.internal", "a b.internal", false),
            ("*.internal", "-a.internal", false),
            ("*.internal", "a*.internal", false),
            ("*.internal", "*.internal", true),
            ("*.internal", "*.INTERNAL", true),
            ("*.internal", "*.a.internal", false),
            ("*.internal", "*.*.internal", false),
            ("a.internal", "*.internal", false),
            ("internal", "*.internal", false),
            ("_a.internal", "_a.internal", true),
        ] {
            assert_eq!(rule(pattern).matches(name), matches, "{pattern} on {name:?}");
        }
    }

    #[test]
    fn rules_that_are_no_names_are_refused_with_the_reason() {
        let error = |text: &str| DnsPattern::parse(text).expect_err(text);
        assert_eq!(error("*"), DnsError::Wildcard { at: 0 });
        assert_eq!(error("**.internal"), DnsError::Wildcard { at: 0 });
        assert_eq!(error("a*.internal"), DnsError::Wildcard { at: 1 });
        assert_eq!(error("*.*.internal"), DnsError::Wildcard { at: 2 });
        assert_eq!(error("a.*"), DnsError::Wildcard { at: 2 });
        assert_eq!(error(""), DnsError::Name(NameError::Empty));
        assert_eq!(error("*."), DnsError::Name(NameError::Empty));
        assert_eq!(error("a.b."), DnsError::Name(NameError::TrailingDot));
        assert_eq!(error("10.0.0.1"), DnsError::Name(NameError::IpAddress));
        let long = format!("*.{}cc", "ab.".repeat(83));
        assert!(DnsPattern::parse(&long).is_ok(), "{} bytes fit", long.len());
        let long = format!("*.{}c", "ab.".repeat(84));
        assert_eq!(error(&long), DnsError::Name(NameError::TooLong { bytes: 255 }));
    }

    proptest! {
        #[test]
        fn a_rule_takes_its_own_literal_in_any_case(text in "(\\*\\.)?[a-z0-9]{1,9}(\\.[a-z]{1,9}){0,3}") {
            prop_assume!(DnsPattern::parse(&text).is_ok());
            prop_assert!(rule(&text).matches(&text));
            prop_assert!(rule(&text).matches(&text.to_ascii_uppercase()));
            prop_assert_eq!(rule(&text).to_string(), text);
        }

        #[test]
        fn any_text_is_a_rule_or_refused_and_any_name_matches_or_not(text in "(?s).{0,40}", name in "(?s).{0,40}") {
            if let Ok(pattern) = DnsPattern::parse(&text) {
                pattern.matches(&name);
            }
            let below = format!("{name}.internal");
            if rule("*.internal").matches(&below) {
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
                prop_assert!(name == "*" || name.chars().all(allowed), "{:?}", below);
            }
        }
    }
}
