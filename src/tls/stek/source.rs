//! Ticket keys from the files that a configuration names, or every reason why there are none.
//!
//! What is in a file, `core::ticket_roots` and `core::ticket_key_file` know; this file knows which of
//! several keys seals. `secret_file` opens them.

use std::path::Path;
use std::sync::Arc;

use super::secret_file::{self, Exposure, SecretFileError};
use crate::config::error::{Location, Problem};
use crate::config::plan::FileRef;
use crate::core::ticket_key_file::{FileKey, KeyFile, KeyFileError, KeyFormat};
use crate::core::ticket_ring::TicketKey;
use crate::core::ticket_roots::{RootsError, TicketRoots};

/// A key of a file.
pub(super) struct Loaded {
    pub key: TicketKey,
    pub file: Arc<Path>,
    /// 0: the whole file is the key.
    pub line: usize,
}

/// The roots of a file.
pub(super) fn roots(file: &FileRef) -> Result<TicketRoots, Vec<Problem>> {
    let bytes = read(file).map_err(|problem| vec![problem])?;
    TicketRoots::parse(&bytes).map_err(|error| {
        let message = format!("{} {error}", file.path.display());
        vec![problem(&file.at, message, roots_help(error))]
    })
}

/// The keys of all `files`, the newest first.
pub(super) fn keys(files: &[FileRef]) -> Result<Vec<Loaded>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut loaded: Vec<Loaded> = Vec::new();
    for file in files {
        let parsed = read(file).and_then(|bytes| {
            KeyFile::parse(&bytes).map_err(|error| {
                let message = format!("{} {error}", file.path.display());
                problem(&file.at, message, key_help(error))
            })
        });
        let KeyFile { format, keys } = match parsed {
            Ok(parsed) => parsed,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if format == KeyFormat::Haproxy && files.len() > 1 {
            let message = format!("{} is a list of keys, and not alone", file.path.display());
            let help = "the order of its lines says which key seals: name this file only";
            problems.push(problem(&file.at, message, help));
            continue;
        }
        let path: Arc<Path> = Arc::from(&*file.path);
        // Lists of HAProxy grow at their end.
        for FileKey { line, key } in keys.into_iter().rev() {
            let next = Loaded { key, file: Arc::clone(&path), line };
            match loaded.iter().find(|other| other.key.id() == next.key.id()) {
                Some(other) => problems.push(duplicate(&file.at, &next, other)),
                None => loaded.push(next),
            }
        }
    }
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// Which of `count` keys, the newest first, seals: the second newest. The newest only opens, so that
/// it can reach every node before the first ticket is sealed with it.
pub(super) fn sealing(count: usize) -> usize {
    usize::from(count > 1)
}

impl Loaded {
    /// The file, and the line of a list.
    pub(super) fn place(&self) -> String {
        let file = self.file.display();
        if self.line == 0 { file.to_string() } else { format!("{file}:{}", self.line) }
    }
}

fn read(file: &FileRef) -> Result<zeroize::Zeroizing<Vec<u8>>, Problem> {
    secret_file::read(&file.path, Exposure::Refused).map_err(|error: SecretFileError| {
        let message = format!("{} {error}", file.path.display());
        problem(&file.at, message, error.help())
    })
}

/// The same key twice is a rotation that did not take place. Said of the older one's place.
fn duplicate(at: &Location, next: &Loaded, other: &Loaded) -> Problem {
    let message = format!("{} holds the same key as {}", next.place(), other.place());
    problem(at, message, "make a new key, or name each key once")
}

fn problem(at: &Location, message: String, help: &str) -> Problem {
    Problem { at: at.clone(), message, help: help.to_owned() }
}

fn roots_help(error: RootsError) -> &'static str {
    match error {
        RootsError::Empty | RootsError::NoMarker | RootsError::NoRoot => {
            "`portcullis stek init FILE` makes a root; keys of nginx and HAProxy are { keys = [FILE] }"
        }
        RootsError::OtherVersion => "use the portcullis that wrote it, or make a new root",
        RootsError::TooMany => "remove the oldest lines",
        RootsError::Line { .. } | RootsError::Duplicate { .. } | RootsError::Order { .. } => {
            "copy the file again from where it was made, or make a new one: \
             `portcullis stek rotate --revoke FILE`"
        }
        RootsError::Weak { .. } => "let it be random: `portcullis stek rotate --revoke FILE`",
    }
}

fn key_help(error: KeyFileError) -> &'static str {
    match error {
        KeyFileError::Empty | KeyFileError::Length(_) | KeyFileError::Weak(_) => {
            "openssl rand -out FILE 80 makes a key"
        }
        KeyFileError::Pem => {
            "certificates and their keys belong into [tls]; openssl rand -out FILE 80 makes a \
             ticket key"
        }
        KeyFileError::Roots => "write { root = FILE }",
        KeyFileError::NotBase64 { .. }
        | KeyFileError::LineLength { .. }
        | KeyFileError::WeakLine { .. } => "openssl rand 80 | openssl base64 -A makes a line",
        KeyFileError::TooMany => "remove the oldest lines, which stand at the top",
    }
}
