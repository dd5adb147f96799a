//! Whom to believe beyond the path: rules about the names, keys and digests of a leaf certificate,
//! and which certificates are revoked.
//!
//! Decides over values that others have parsed, on a chain that others have verified; knows neither
//! X.509 nor webpki. `tls::verifier` asks after the path held, `explain` asks the same. Next: `rule`,
//! one rule about a name; `policy`, what one `[trust.NAME]` asks of a leaf.

pub mod authorize;
pub mod key;
pub mod policy;
pub mod rule;

pub use authorize::{Authorize, Matcher};
pub use key::{KeyKind, KeyRule};
pub use policy::{LeafFacts, LeafPolicy, Pin, Violation};
pub use rule::{NameRule, Names};

/// Whether a decision is carried out or only counted and logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Enforce,
    Audit,
}
