//! Which files the patterns of `include` name: `conf.d/*.toml`.
//!
//! Lists directories and opens nothing. Next: `merge`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Location, Problems};
use super::load::Seen;
use super::node::At;

/// Files that all patterns together may name.
const FILES_MAX: usize = 10_000;

/// The files that `patterns` name, relative to the file at `main`: pattern by pattern, and those of
/// one pattern in name order. Each comes once, with the place of the pattern that named it first.
pub(super) fn files(
    patterns: &[At<String>],
    main: &Path,
    look: &mut dyn FnMut(Seen<'_>),
    problems: &mut Problems,
) -> Vec<(PathBuf, Location)> {
    let directory = main.parent().unwrap_or(Path::new(""));
    let mut seen = BTreeSet::from([main.to_owned()]);
    let mut files = Vec::new();
    for pattern in patterns {
        for file in expand(pattern, directory, look, problems) {
            if files.len() == FILES_MAX {
                let message = format!("more than {FILES_MAX} files");
                problems.add(pattern.at.clone(), message, "");
                return files;
            }
            if seen.insert(file.clone()) {
                files.push((file, pattern.at.clone()));
            }
        }
    }
    files
}

fn expand(
    pattern: &At<String>,
    directory: &Path,
    look: &mut dyn FnMut(Seen<'_>),
    problems: &mut Problems,
) -> Vec<PathBuf> {
    let text = pattern.value.as_str();
    let (parent, name) = text
        .rsplit_once('/')
        .map_or(("", text), |(parent, name)| (if parent.is_empty() { "/" } else { parent }, name));
    let at = || pattern.at.clone();
    if name.is_empty() || text.contains('\0') {
        problems.add(at(), format!("{text:?} does not name files"), "write \"conf.d/*.toml\"");
        return Vec::new();
    }
    if parent.contains('*') {
        let help = "write one pattern for each directory";
        problems.add(at(), "`*` may only stand in the last part of a path", help);
        return Vec::new();
    }
    if !name.contains('*') {
        return vec![directory.join(text)];
    }
    let parent = directory.join(parent);
    look(Seen::Directory(&parent));
    match matching(&parent, name) {
        Ok(names) => names.into_iter().map(|name| parent.join(name)).collect(),
        // A directory that is not there holds no files, as one that is empty.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            problems.add(at(), format!("{} cannot be listed: {error}", parent.display()), "");
            Vec::new()
        }
    }
}

/// Names in `directory` that match. Hidden ones do not, and so neither do the `..data` links of
/// mounted Kubernetes volumes.
fn matching(directory: &Path, pattern: &str) -> io::Result<BTreeSet<OsString>> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with('.') && matches(pattern, &text) {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Whether `name` is `pattern` with something, or nothing, for each `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        // The leftmost place is as good as any later one: it leaves the most for the rest.
        let Some(found) = left.find(part) else { return false };
        left = &left[found + part.len()..];
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything_within_a_name() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml~", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*", "anything", true),
            ("a", "a", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
