//! Whom to believe beyond the path: rules about the names, keys and digests of a leaf certificate,
//! and which certificates are revoked.
//!
//! Decides over values that others have parsed, on a chain that others have verified; knows neither
//! X.509 nor webpki. `tls::verifier` asks after the path held, `explain` asks the same. Next: `rule`,
//! one rule about a name; `policy`, what one `[trust.NAME]` asks of a leaf.

pub mod authorize;
mod common_name;
mod dns;
mod email;
mod glob;
mod hex;
pub mod key;
mod pin;
pub mod policy;
pub mod rule;
mod uri;

use std::fmt;

pub use authorize::{Authorize, Decision, Matcher, SerialError};
pub use common_name::{CommonNameError, CommonNamePattern};
pub use dns::{DnsError, DnsPattern};
pub use email::{EmailError, EmailPattern};
pub use hex::HexError;
pub use key::{KeyKind, KeyRule, KeyRuleError};
pub use pin::{Pin, PinError};
pub use policy::{LeafFacts, LeafPolicy, Violation};
pub use rule::{MatchedName, NameKind, NameRule, Names, RuleError};
pub use uri::{URI_BYTES_MAX, UriError, UriPattern};

/// Whether a decision is carried out or only counted and logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Enforce,
    Audit,
}

/// As the configuration writes it.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        })
    }
}

/// One line of a policy's description. Elements quote what could hold a comma or a bracket, so that
/// different lists give different lines.
fn list<T: fmt::Display>(key: &str, elements: &[T]) -> String {
    let shown: Vec<String> = elements.iter().map(ToString::to_string).collect();
    format!("{key} = [{}]\n", shown.join(", "))
}
