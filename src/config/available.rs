//! What the configuration already has a name for and portcullis cannot do yet.
//!
//! Such a key is refused with its place and never ignored: a limit that is written down and does
//! not hold is worse than none. Shrink `UNAVAILABLE` as things come; that is all it takes.

use super::error::Problems;
use super::node::Node;

/// A key (with `*` for names) that is refused, unless what it says changes nothing.
#[derive(Debug)]
pub(super) struct Unavailable {
    pub(super) key: &'static str,
    /// These texts; others are taken, or are mistakes that `convert` reports.
    texts: &'static [&'static str],
}

pub(super) const UNAVAILABLE: &[Unavailable] =
    &[Unavailable { key: "runtime.io", texts: &["io_uring"] }];

/// What of the key that [`super::keys`] writes as `key` cannot be used yet, in a sentence; `None`
/// where all of it can.
pub(super) fn note(key: &str) -> Option<String> {
    UNAVAILABLE.iter().find(|entry| entry.key == key).map(Unavailable::note)
}

/// Notes a problem if this key, with this value, asks for something that is not there yet.
pub(super) fn check(node: &Node<'_>, problems: &mut Problems) {
    let Some(entry) = UNAVAILABLE.iter().find(|entry| entry.key == node.pattern()) else { return };
    if let Some(text) = node.value().as_str().filter(|text| entry.texts.contains(text)) {
        let help = format!("use another value than {text:?}, or leave this key out");
        problems.add(node.location(), "not available yet", help);
    }
}

impl Unavailable {
    fn note(&self) -> String {
        match self.texts {
            [text] => format!("`\"{text}\"` is not available yet."),
            texts => {
                let texts: Vec<_> = texts.iter().map(|text| format!("`\"{text}\"`")).collect();
                format!("{} are not available yet.", texts.join(" and "))
            }
        }
    }
}
