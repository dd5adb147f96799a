//! What the configuration already has a name for and portcullis cannot do yet.
//!
//! Such a key is refused with its place and never ignored: a limit that is written down and does
//! not hold is worse than none. Shrink `UNAVAILABLE` as things come; that is all it takes.

use super::error::Problems;
use super::node::Node;

/// Keys (with `*` for names) that are refused whatever they say.
pub(super) const UNAVAILABLE: &[&str] = &["tls.upstream.*.certificate.ocsp"];

/// That the key that [`super::keys`] writes as `key` cannot be used yet, in a sentence; `None` where
/// it can. What stands in a table that is refused is refused with it.
pub(super) fn note(key: &str) -> Option<String> {
    let is_told = UNAVAILABLE.iter().any(|refused| {
        let below = key.strip_prefix(refused);
        below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
    });
    is_told.then(|| "Not available yet.".to_owned())
}

/// Notes a problem if this key asks for something that is not there yet.
pub(super) fn check(node: &Node<'_>, problems: &mut Problems) {
    if UNAVAILABLE.contains(&node.pattern()) {
        problems.add(node.location(), "not available yet", "leave this key out");
    }
}
