//! Reads the source tree and refuses what compilers and lints let pass: the rules of CONTRIBUTING.md
//! that a program can check. It never builds or runs anything.
//!
//! `source` takes comments and strings out of the way, `rules` holds the rules for one file,
//! `modules` those for the tree. Every rule is tested beside itself on a small bad input.
#![expect(clippy::expect_used, reason = "test code")]

use std::fmt;
use std::fs;
use std::path::Path;

use source::Source;

#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

/// A broken rule: where, which, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Offence {
    file: String,
    /// From 1.
    line: usize,
    rule: &'static str,
    message: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.message)
    }
}

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = read_sources(root);
    assert!(sources.len() > 10, "only {} files found below {}", sources.len(), root.display());
    let mut offences: Vec<_> = sources.iter().flat_map(rules::check).collect();
    offences.extend(modules::unused_files(&sources, &read_manifests(root)));
    offences.extend(modules::unnamed_configs(&read_configs(root), &read_guides(root)));
    offences.sort();
    let report: String = offences.iter().map(|offence| format!("{offence}\n")).collect();
    assert!(offences.is_empty(), "{} offences\n{report}", offences.len());
}

fn read_sources(root: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    for top in SOURCE_DIRECTORIES {
        walk(root, top, ".rs", &mut |path, text| sources.push(Source::new(path, text)));
    }
    sources
}

fn read_manifests(root: &Path) -> Vec<(String, String)> {
    let mut manifests = vec![("Cargo.toml".to_owned(), read(&root.join("Cargo.toml")))];
    for top in SOURCE_DIRECTORIES {
        walk(root, top, "Cargo.toml", &mut |path, text| manifests.push((path, text)));
    }
    manifests
}

fn read_configs(root: &Path) -> Vec<String> {
    let mut configs = Vec::new();
    walk(root, "config", ".toml", &mut |path, _| configs.push(path));
    configs
}

fn read_guides(root: &Path) -> Vec<String> {
    let paths = ["config/README.md", "README.md"].map(|path| root.join(path));
    paths.iter().filter(|path| path.exists()).map(|path| read(path)).collect()
}

/// Calls `visit` with the path below `root` and the text of every file below `directory` whose name
/// ends in `ending`, in name order. A directory that does not exist has none.
fn walk(root: &Path, directory: &str, ending: &str, visit: &mut dyn FnMut(String, String)) {
    let Ok(entries) = fs::read_dir(root.join(directory)) else { return };
    let mut entries: Vec<_> = entries.map(|entry| entry.expect("a directory entry")).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().expect("a file name in UTF-8");
        let path = format!("{directory}/{name}");
        let kind = entry.file_type().expect("a file type");
        if kind.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) {
                walk(root, &path, ending, visit);
            }
        } else if name.ends_with(ending) {
            let text = read(&entry.path());
            visit(path, text);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

const SOURCE_DIRECTORIES: [&str; 6] = ["src", "bench", "fuzz", "loadgen", "perf", "tests"];
/// What builds and fuzzers leave behind.
const NOT_OURS: [&str; 4] = ["target", "corpus", "artifacts", "coverage"];
