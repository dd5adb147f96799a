//! What can be wrong with a configuration, and where: the shape of every problem that `check` prints.
//!
//! `config` makes problems from the text, `tls::material` from the files that the text names.
//! Next: `render`, which shows them to a person.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
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

impl Location {
    /// For what is wrong at no place of its own.
    pub fn whole(file: &Path) -> Self {
        Self { file: Arc::new(file.to_owned()), line: 1, column: 1, key: Arc::from("") }
    }
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

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    places: BTreeSet<Location>,
    excused: BTreeSet<String>,
}

impl Problems {
    /// Notes a problem, unless there is one at this place already: the first says more.
    pub(super) fn add(
        &mut self,
        at: Location,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.places.insert(at.clone()) {
            self.list.push(Problem { at, message: message.into(), help: help.into() });
        }
    }

    /// Marks a dotted key as written but unusable, so that it is not called missing as well.
    pub(super) fn excuse(&mut self, key: &str) {
        self.excused.insert(key.to_owned());
    }

    pub(super) fn is_excused(&self, key: &str) -> bool {
        self.excused.contains(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// By file, line and column; two at one place in the order in which they were found.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        let place = |problem: &Problem| {
            let Location { file, line, column, key: _ } = &problem.at;
            (Arc::clone(file), *line, *column)
        };
        self.list.sort_by_key(place);
        self.list
    }
}

impl Location {
    /// The same place, for a key inside the table that stands here.
    pub(super) fn child(&self, key: &str) -> Self {
        let key = if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) };
        Self { key: Arc::from(key), ..self.clone() }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

impl Problem {
    /// As `Display`, in one line.
    pub fn one_line(&self) -> String {
        self.to_string().replace("\n    help: ", "; help: ")
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
