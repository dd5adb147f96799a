//! Reads the configuration file and those it includes, and gathers all that is wrong with them.
//!
//! The only part of `config` that opens files, and it opens no others. Next: `node`, which reads one
//! parsed file; `merge`, which puts several together; `convert`, which makes the plan.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::convert;
use super::error::{Location, Problem, Problems};
use super::include;
use super::merge;
use super::node::{At, Node};
use super::plan::{AdminAddress, Plan};
use super::raw::RawFile;
use super::source::Source;

/// Longest configuration file: a hundred thousand names on one listener take 4 MiB.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Keys of one file that are shown to be written twice; each costs a search for the first of two.
const REPEATED_KEYS_MAX: usize = 100;
/// Other mistakes in the syntax of one file that are shown: more of them follow from these, or it is no TOML at all.
const SYNTAX_ERRORS_MAX: usize = 10;

/// What the files say, as one digest.
struct Content(Context);

/// What was looked at while a configuration was read, whether it could be read or not.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// A configuration file, with what it says where it could be read.
    File(&'a Path, Option<&'a [u8]>),
    /// A directory whose files an `include` names.
    Directory(&'a Path),
}

/// Reads the file at `path` and those it includes.
///
/// # Errors
/// All problems of all files, by file, line and column; never an empty list.
pub fn load(path: &Path) -> Result<Plan, Vec<Problem>> {
    load_seen(path, &mut |_| {})
}

/// As [`load`], and tells what it looks at.
///
/// # Errors
/// As [`load`].
pub fn load_seen(path: &Path, seen: &mut dyn FnMut(Seen<'_>)) -> Result<Plan, Vec<Problem>> {
    match read_seen(path, seen) {
        Ok(bytes) => load_bytes(bytes, path, seen),
        Err(error) => {
            let at = Source::new(path, String::new()).location(0, "");
            let message = format!("cannot be read: {error}");
            let help = match error.kind() {
                io::ErrorKind::NotFound => match std::path::absolute(path) {
                    Ok(full) if full != path => format!("looked for it at {}", full.display()),
                    Ok(_) | Err(_) => String::new(),
                },
                _ => help_to_read(&error).to_owned(),
            };
            Err(vec![Problem { at, message, help }])
        }
    }
}

/// Where the files say that the admin pages are, whatever else is wrong with them: a gateway may run on what
/// they said before. `None` where that cannot be told.
pub fn load_admin(path: &Path) -> Option<AdminAddress> {
    let mut problems = Problems::default();
    let source = Source::new(path, String::from_utf8(read(path).ok()?).ok()?);
    let (table, _) = DeTable::parse_recoverable(source.text());
    let mut raw = raw(&source, table, &mut problems)?;
    if raw.admin.is_none() {
        let mut content = Content::new();
        raw = with_included(raw, path, &mut |_| {}, &mut content, &mut problems)?;
    }
    Some(convert::admin(&raw, &mut problems)??.address)
}

/// As [`load`], for a `text` that would stand in the file at `path`, which is not read.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, path: &Path) -> Result<Plan, Vec<Problem>> {
    load_bytes(text.as_bytes().to_vec(), path, &mut |_| {})
}

fn load_bytes(
    bytes: Vec<u8>,
    path: &Path,
    seen: &mut dyn FnMut(Seen<'_>),
) -> Result<Plan, Vec<Problem>> {
    let mut problems = Problems::default();
    let whole = Source::new(path, String::new()).location(0, "");
    let mut content = Content::new();
    content.add(&bytes);
    let raw = decode(bytes, path, &mut problems)
        .and_then(|main| with_included(main, path, seen, &mut content, &mut problems));
    let digest = content.digest();
    let plan = raw.and_then(|raw| convert::plan(&raw, digest, &whole, &mut problems));
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        Some(_) | None => Err(problems.into_sorted()),
    }
}

impl Content {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn add(&mut self, bytes: &[u8]) {
        // Told apart by their lengths: what moves from one file to another changes the digest.
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn digest(self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

/// `None` if the text is not TOML: what is left of it would bring up problems that are none.
fn decode(bytes: Vec<u8>, path: &Path, problems: &mut Problems) -> Option<RawFile> {
    let source = source(bytes, path, problems)?;
    let (table, errors) = DeTable::parse_recoverable(source.text());
    let (twice, broken): (Vec<_>, Vec<_>) =
        errors.iter().partition(|error| error.message() == "duplicate key");
    let mut repeated = BTreeSet::new();
    for error in twice.into_iter().take(REPEATED_KEYS_MAX) {
        let span = error.span().unwrap_or_default();
        let at = source.location(span.start, "");
        // The keys of a table that is written again are no news.
        let table = source.table_line(span.start);
        if repeated.contains(&table) {
            continue;
        }
        if table == Some(at.line) {
            repeated.insert(table);
        }
        let message = match source.first_definition(&span) {
            Some(line) => format!("written twice, first on line {line}"),
            None => "written twice".to_owned(),
        };
        problems.add(at, message, "keep one of the two");
    }
    for (place, error) in broken.iter().enumerate().take(SYNTAX_ERRORS_MAX) {
        let at = source.location(error.span().unwrap_or_default().start, "");
        let help = if place == 0 { help_with_syntax(path) } else { "" };
        problems.add(at, error.message(), help);
    }
    if let Some(next) = broken.get(SYNTAX_ERRORS_MAX) {
        let at = source.location(next.span().unwrap_or_default().start, "");
        let message = format!("{} more mistakes in the syntax", broken.len() - SYNTAX_ERRORS_MAX);
        problems.add(at, message, "mend those above first: these may follow from them");
    }
    if !broken.is_empty() {
        return None;
    }
    raw(&source, table, problems)
}

fn raw(source: &Source, table: Spanned<DeTable<'_>>, problems: &mut Problems) -> Option<RawFile> {
    let document = Spanned::new(0..0, DeValue::Table(table.into_inner()));
    Some(Node::root(source, &document).read::<RawFile>(problems)?.value)
}

fn help_with_syntax(path: &Path) -> &'static str {
    match path.extension().and_then(OsStr::to_str) {
        Some("yaml" | "yml" | "json") => {
            "is this the right file? a configuration is written in TOML (in a ConfigMap, below `portcullis.toml: |`)"
        }
        _ => "",
    }
}

fn source(bytes: Vec<u8>, path: &Path, problems: &mut Problems) -> Option<Source> {
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source::new(path, text)),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            let source = Source::new(path, String::from_utf8_lossy(error.as_bytes()).into_owned());
            let help = "save the file as UTF-8";
            problems.add(source.location(offset, ""), "not UTF-8 from here on", help);
            None
        }
    }
}

/// `None` if an included file cannot be read as a whole.
fn with_included(
    mut main: RawFile,
    path: &Path,
    seen: &mut dyn FnMut(Seen<'_>),
    content: &mut Content,
    problems: &mut Problems,
) -> Option<RawFile> {
    let patterns = main.include.take().map(|include| include.value).unwrap_or_default();
    let mut usable = true;
    let mut all = Vec::new();
    for (file, at) in include::files(&patterns, path, seen, problems) {
        let included = match read_seen(&file, seen) {
            Ok(bytes) => {
                content.add(&bytes);
                decode(bytes, &file, problems)
            }
            Err(error) => {
                let message = format!("{} cannot be read: {error}", file.display());
                problems.add(at, message, help_to_read(&error));
                None
            }
        };
        match included {
            Some(mut included) => {
                refuse_nested(included.include.take().as_ref(), problems);
                all.push(included);
            }
            None => usable = false,
        }
    }
    if let Some(included) = merged(all, problems) {
        merge::merge(&mut main, included, problems);
    }
    usable.then_some(main)
}

/// Merges neighbours until one is left, so that ten thousand files of a tenant each cost
/// n log n and not n².
fn merged(mut files: Vec<RawFile>, problems: &mut Problems) -> Option<RawFile> {
    while files.len() > 1 {
        let mut pairs = files.into_iter();
        let mut round = Vec::new();
        while let Some(mut first) = pairs.next() {
            if let Some(second) = pairs.next() {
                merge::merge(&mut first, second, problems);
            }
            round.push(first);
        }
        files = round;
    }
    files.pop()
}

fn refuse_nested<T>(include: Option<&At<T>>, problems: &mut Problems) {
    if let Some(At { at, .. }) = include {
        let at: Location = at.clone();
        let help = "name these files in the include of the main file";
        problems.add(at, "an included file may not include others", help);
    }
}

fn help_to_read(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "relative paths start at the directory of the main file",
        io::ErrorKind::PermissionDenied => {
            "the user that portcullis runs as must be able to read it"
        }
        io::ErrorKind::IsADirectory => "write the path of a file in it",
        _ => "",
    }
}

fn read_seen(path: &Path, seen: &mut dyn FnMut(Seen<'_>)) -> io::Result<Vec<u8>> {
    let read = read(path);
    seen(Seen::File(path, read.as_deref().ok()));
    read
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("longer than {} MiB", FILE_BYTES_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}
