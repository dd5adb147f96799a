//! Rules about the common name of a subject, for clients that carry their name nowhere else.
//!
//! A common name is free text that no CA has to check, so it is looked at only where a rule says
//! `cn`. Next: `rule`.

use std::fmt;

use super::glob::Glob;

/// Longest common name in a rule, in bytes: 64 characters (RFC 5280 §A.1, ub-common-name).
const NAME_BYTES_MAX: usize = 256;

/// A common name, compared byte by byte; a `*` at its start or end takes one character or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommonNamePattern {
    text: Box<str>,
    glob: Glob,
}

/// Why a text is not a rule about common names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommonNameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name has {bytes} bytes, the limit is {NAME_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("nothing but '*' takes every name")]
    Everything,
    #[error("'*' at byte {at}: it may only stand at the start or at the end")]
    Wildcard { at: usize },
    #[error("a control character at byte {at}")]
    Control { at: usize },
}

impl CommonNamePattern {
    /// # Errors
    /// A `*` within, or a name that nobody can have.
    pub fn parse(text: &str) -> Result<Self, CommonNameError> {
        let inner = text.strip_prefix('*').unwrap_or(text);
        let inner = inner.strip_suffix('*').unwrap_or(inner);
        if text.is_empty() {
            return Err(CommonNameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(CommonNameError::TooLong { bytes: text.len() });
        }
        if inner.is_empty() {
            return Err(CommonNameError::Everything);
        }
        if let Some(at) = inner.find('*') {
            return Err(CommonNameError::Wildcard { at: at + usize::from(text.starts_with('*')) });
        }
        if let Some(at) = text.find(char::is_control) {
            return Err(CommonNameError::Control { at });
        }
        Ok(Self { text: Box::from(text), glob: Glob::new(text) })
    }

    /// Whether this rule takes `name`, as it stands in a certificate.
    pub fn matches(&self, name: &str) -> bool {
        !name.contains(char::is_control) && self.glob.matches(name)
    }
}

impl fmt::Display for CommonNamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> CommonNamePattern {
        CommonNamePattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn names_are_compared_exactly_but_for_a_star_at_an_end() {
        for (pattern, name, matches) in [
            ("Alice", "Alice", true),
            ("Alice", "alice", false),
            ("Alice", "Alice ", false),
            ("svc-*", "svc-orders", true),
            ("svc-*", "svc-", false),
            ("*-prod", "orders-prod", true),
            ("*-prod", "orders-prod2", false),
            ("*-prod", "orders\0-prod", false),
            ("svc-*", "svc-a\nb", false),
            ("*orders*", "my orders 1", true),
            ("*orders*", "orders", false),
        ] {
            assert_eq!(rule(pattern).matches(name), matches, "{pattern} on {name:?}");
        }
    }

    #[test]
    fn rules_that_are_no_names_are_refused_with_the_reason() {
        let error = |text: &str| CommonNamePattern::parse(text).expect_err(text);
        assert_eq!(error(""), CommonNameError::Empty);
        assert_eq!(error("*"), CommonNameError::Everything);
        assert_eq!(error("**"), CommonNameError::Everything);
        assert_eq!(error("a*b"), CommonNameError::Wildcard { at: 1 });
        assert_eq!(error("**b"), CommonNameError::Wildcard { at: 1 });
        assert_eq!(error("b**"), CommonNameError::Wildcard { at: 1 });
        assert_eq!(error("a\nb"), CommonNameError::Control { at: 1 });
        assert_eq!(error(&"a".repeat(257)), CommonNameError::TooLong { bytes: 257 });
    }

    proptest! {
        #[test]
        fn a_rule_takes_its_own_literal(text in "[^\\*\\p{Cc}]{1,40}") {
            prop_assert!(rule(&text).matches(&text));
        }

        #[test]
        fn any_text_is_a_rule_or_refused_and_any_name_matches_or_not(text in "(?s).{0,20}", name in "(?s).{0,20}") {
            if let Ok(pattern) = CommonNamePattern::parse(&text) {
                pattern.matches(&name);
            }
        }
    }
}
