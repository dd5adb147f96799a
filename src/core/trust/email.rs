//! Rules about mail addresses in certificates (rfc822Name).
//!
//! The mailbox keeps its case, the host does not (RFC 5280 §7.5). Only plain mailboxes count, atoms
//! with dots between them; a quoted one could hide a second `@` and matches nothing. Next: `rule`.

use std::fmt;

use crate::core::server_name::{NameError, ServerName, normalise_into};

/// Longest mailbox name, in bytes (RFC 5321 §4.5.3.1.1).
const MAILBOX_BYTES_MAX: usize = 64;

/// One mailbox, or every mailbox of exactly one host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EmailPattern {
    /// `None` takes all.
    mailbox: Option<Box<str>>,
    host: ServerName,
}

/// Why a text is not a rule about mail addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    #[error("there is no '@'")]
    NoAt,
    #[error("'*' beside other characters: before the '@' it stands for every mailbox")]
    Wildcard,
    #[error("what stands before the '@' is not a plain mailbox")]
    Mailbox,
    #[error("after the '@': {0}")]
    Host(NameError),
}

impl EmailPattern {
    /// `"me@example.com"`, or `"@example.com"` or `"*@example.com"` for every mailbox.
    ///
    /// # Errors
    /// What is not a plain mailbox at a host.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let (mailbox, host) = text.rsplit_once('@').ok_or(EmailError::NoAt)?;
        let mailbox = match mailbox {
            "" | "*" => None,
            _ if mailbox.contains('*') => return Err(EmailError::Wildcard),
            _ if !is_mailbox(mailbox) => return Err(EmailError::Mailbox),
            _ => Some(Box::from(mailbox)),
        };
        let host = ServerName::parse(host.as_bytes()).map_err(EmailError::Host)?;
        Ok(Self { mailbox, host })
    }

    /// Whether this rule takes `address`, as it stands in a certificate.
    pub fn matches(&self, address: &str) -> bool {
        let Some((mailbox, host)) = address.rsplit_once('@') else { return false };
        is_mailbox(mailbox)
            && self.mailbox.as_deref().is_none_or(|ours| ours == mailbox)
            && normalise_into(host.as_bytes(), &mut [0; 255])
                .is_ok_and(|host| host == self.host.as_str())
    }
}

impl fmt::Display for EmailPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.mailbox.as_deref().unwrap_or_default(), self.host)
    }
}

/// RFC 5321 §4.1.2, Dot-string, without `*`, which is a wildcard to whoever reads it.
fn is_mailbox(text: &str) -> bool {
    let is_atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'+-/=?^_`{|}~".contains(c);
    let atoms =
        |text: &str| text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom));
    text.len() <= MAILBOX_BYTES_MAX && atoms(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> EmailPattern {
        EmailPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_mailbox_keeps_its_case_and_the_host_is_exact() {
        for (pattern, address, matches) in [
            ("me@example.com", "me@example.com", true),
            ("me@Example.com", "me@EXAMPLE.COM", true),
            ("me@example.com", "Me@example.com", false),
            ("me@example.com", "me@a.example.com", false),
            ("me@example.com", "you@example.com", false),
            ("me@example.com", "@example.com", false),
            ("me@example.com", "example.com", false),
            ("@example.com", "me@example.com", true),
            ("*@example.com", "a.b+c@example.COM", true),
            ("@example.com", "@example.com", false),
            ("@example.com", "*@example.com", false),
            ("@example.com", "me@example.com.", false),
            ("@example.com", "me@example.com\0", false),
            ("@example.com", "me@evil@example.com", false),
            ("@example.com", "\"me@evil\"@example.com", false),
            ("@example.com", "me@a.example.com", false),
            ("@example.com", "me@example.com@evil", false),
            ("@example.com", "me.@example.com", false),
            ("@example.com", "m\u{e4}@example.com", false),
            ("@example.com", "m e@example.com", false),
        ] {
            assert_eq!(rule(pattern).matches(address), matches, "{pattern} on {address:?}");
        }
        let longest = format!("{}@example.com", "a".repeat(64));
        assert!(rule("@example.com").matches(&longest));
        assert!(!rule("@example.com").matches(&format!("a{longest}")));
    }

    #[test]
    fn rules_that_are_no_addresses_are_refused_with_the_reason() {
        let error = |text: &str| EmailPattern::parse(text).expect_err(text);
        assert_eq!(error("example.com"), EmailError::NoAt);
        assert_eq!(error(""), EmailError::NoAt);
        assert_eq!(error("me*@example.com"), EmailError::Wildcard);
        assert_eq!(error("**@example.com"), EmailError::Wildcard);
        assert_eq!(error("a b@example.com"), EmailError::Mailbox);
        assert_eq!(error("\"a\"@example.com"), EmailError::Mailbox);
        assert_eq!(error("a@b@example.com"), EmailError::Mailbox);
        assert_eq!(error("me@"), EmailError::Host(NameError::Empty));
        assert!(matches!(error("me@*.example.com"), EmailError::Host(_)));
        assert!(matches!(error("me@[10.0.0.1]"), EmailError::Host(_)));
    }

    #[test]
    fn both_ways_to_say_every_mailbox_are_one_rule() {
        assert_eq!(rule("@Example.com"), rule("*@example.com"));
        assert_eq!(rule("*@example.com").to_string(), "@example.com");
    }

    proptest! {
        #[test]
        fn a_rule_takes_its_own_literal(text in "[a-zA-Z0-9+_-]{1,9}(\\.[a-z]{1,4})?@[a-z]{1,9}\\.[a-z]{1,4}") {
            prop_assert!(rule(&text).matches(&text));
            prop_assert_eq!(rule(&text).to_string(), text);
        }

        #[test]
        fn any_text_is_a_rule_or_refused_and_any_name_matches_or_not(text in "(?s).{0,40}", name in "(?s).{0,40}") {
            if let Ok(pattern) = EmailPattern::parse(&text) {
                pattern.matches(&name);
            }
            let doubled = format!("a@{name}@example.com");
            prop_assert!(!rule("@example.com").matches(&doubled));
        }
    }
}
