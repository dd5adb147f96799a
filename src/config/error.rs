//! What can be wrong with a configuration, and where: the shape of every problem that `check` prints.
//!
//! `config` makes problems from the text, `tls::material` from the files that the text names.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A place in a configuration file. Lines and columns count from 1; columns are characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub file: Arc<PathBuf>,
    pub line: u32,
    pub column: u32,
    /// The dotted key, as `tls.downstream.orders.certificates[0].chain`; empty for the whole file.
    pub key: Arc<str>,
}

/// One thing that is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub at: Location,
    /// Lower case, no full stop: what is wrong, naming the thing and the limit.
    pub message: String,
    /// What to write or do instead; empty when the message already says it.
    pub help: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        if !self.at.key.is_empty() {
            write!(f, "{}: ", self.at.key)?;
        }
        write!(f, "{}", self.message)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "\n    help: {}", self.help) }
    }
}
