//! What the configuration already has a name for and portcullis cannot do yet.
//!
//! Such a key is refused with its place and never ignored: a limit that is written down and does
//! not hold is worse than none. Shrink `UNAVAILABLE` as things come; that is all it takes.

use toml::de::DeValue;

use super::error::Problems;
use super::node::Node;

/// A key (with `*` for names) that is refused, unless what it says changes nothing.
#[derive(Debug)]
pub(super) struct Unavailable {
    pub(super) key: &'static str,
    pub(super) refused: Refused,
}

/// Which values of a key are refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refused {
    Always,
    /// These texts; others are taken, or are mistakes that `convert` reports.
    Texts(&'static [&'static str]),
}

use Refused::{Always, Texts};

#[rustfmt::skip]
pub(super) const UNAVAILABLE: &[Unavailable] = &[
    Unavailable { key: "runtime.io", refused: Texts(&["io_uring"]) },
    Unavailable { key: "tls.upstream.*.certificate.ocsp", refused: Always },
];

/// What of the key that [`super::keys`] writes as `key` cannot be used yet, in a sentence; `None`
/// where all of it can. What stands in a table that is refused is refused with it.
pub(super) fn note(key: &str) -> Option<String> {
    UNAVAILABLE.iter().find_map(|entry| {
        let below = key.strip_prefix(entry.key)?;
        let is_told = below.is_empty() || (below.starts_with('.') && entry.refused.is_for_tables());
        is_told.then(|| entry.refused.note())
    })
}

/// Notes a problem if this key, with this value, asks for something that is not there yet.
pub(super) fn check(node: &Node<'_>, problems: &mut Problems) {
    let Some(entry) = UNAVAILABLE.iter().find(|entry| entry.key == node.pattern()) else { return };
    if entry.refused.refuses(node.value()) {
        problems.add(node.location(), "not available yet", entry.refused.help(node.value()));
    }
}

impl Refused {
    fn refuses(self, value: &DeValue<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::Texts(texts) => value.as_str().is_some_and(|text| texts.contains(&text)),
        }
    }

    /// Whether a table, as this key's value or in its list, is refused whatever is in it.
    fn is_for_tables(self) -> bool {
        match self {
            Self::Always => true,
            Self::Texts(_) => false,
        }
    }

    fn note(self) -> String {
        match self {
            Self::Always => "Not available yet.".to_owned(),
            Self::Texts([text]) => format!("`\"{text}\"` is not available yet."),
            Self::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| format!("`\"{text}\"`")).collect();
                format!("{} are not available yet.", texts.join(" and "))
            }
        }
    }

    fn help(self, value: &DeValue<'_>) -> String {
        match self {
            Self::Always => "leave this key out".to_owned(),
            Self::Texts(_) => {
                let text = value.as_str().unwrap_or_default();
                format!("use another value than {text:?}, or leave this key out")
            }
        }
    }
}
