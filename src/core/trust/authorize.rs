//! The `authorize` filter: who of the verified clients of a chain may pass.

use std::fmt;

use super::Mode;
use super::policy::LeafFacts;
use super::rule::NameRule;

/// Lists of one filter. `deny` goes first; an empty `allow` lets everybody else pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorize {
    pub allow: Vec<Matcher>,
    pub deny: Vec<Matcher>,
    pub mode: Mode,
}

/// One element of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Matcher {
    Name(NameRule),
    /// Big-endian, without leading zeros.
    Serial(Box<[u8]>),
}

/// What a filter says of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    Allowed,
    /// By this element of `deny`.
    Denied(&'a Matcher),
    /// `allow` has elements, and none matches.
    NotAllowed,
}

impl Authorize {
    /// `None`: a client without a certificate, whom no element matches.
    pub fn decide(&self, client: Option<&LeafFacts<'_>>) -> Decision<'_> {
        let matches = |matcher: &&Matcher| client.is_some_and(|client| matcher.matches(client));
        if let Some(denied) = self.deny.iter().find(matches) {
            return Decision::Denied(denied);
        }
        if self.allow.is_empty() || self.allow.iter().any(|matcher| matches(&matcher)) {
            return Decision::Allowed;
        }
        Decision::NotAllowed
    }
}

impl Matcher {
    fn matches(&self, client: &LeafFacts<'_>) -> bool {
        match self {
            Self::Name(rule) => rule.matches(&client.names),
            Self::Serial(serial) => {
                let leading = client.serial.iter().take_while(|byte| **byte == 0).count();
                client.serial[leading..] == **serial
            }
        }
    }
}

/// As the configuration writes it.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(rule) => rule.fmt(f),
            Self::Serial(serial) => {
                f.write_str("serial = \"")?;
                serial.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("\"")
            }
        }
    }
}
