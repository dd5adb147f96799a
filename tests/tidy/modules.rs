//! The rules for the tree: no Rust file that no `mod` reaches, no sample configuration that no guide
//! names. `rules` holds those for one file.

use std::collections::{BTreeMap, BTreeSet};

use super::Offence;
use super::source::Source;

/// Files that belong to no crate: not a root that cargo knows, and not reached by `mod` from one.
pub(crate) fn unused_files(sources: &[Source], manifests: &[(String, String)]) -> Vec<Offence> {
    let by_path: BTreeMap<_, _> = sources.iter().map(|one| (one.path.as_str(), one)).collect();
    let mut reached = BTreeSet::new();
    let mut left: Vec<String> =
        by_path.keys().filter(|path| is_root(path, manifests)).map(ToString::to_string).collect();
    while let Some(path) = left.pop() {
        let Some(source) = by_path.get(path.as_str()) else { continue };
        if reached.insert(path.clone()) {
            left.extend(children(source, is_root(&path, manifests)));
        }
    }
    let unused = by_path.keys().filter(|path| !reached.contains(**path));
    unused.map(|path| offence(path, "unused-file", "no `mod` leads to this file")).collect()
}

/// `config/*.toml` that neither README names, if there is one.
pub(crate) fn unnamed_configs(configs: &[String], guides: &[String]) -> Vec<Offence> {
    let is_named = |path: &str| {
        let name = path.strip_prefix("config/").unwrap_or(path);
        guides.is_empty() || guides.iter().any(|guide| guide.contains(name))
    };
    let unnamed = configs.iter().filter(|path| !is_named(path));
    unnamed.map(|path| offence(path, "unnamed-config", "no README says what it shows")).collect()
}

/// Whether cargo compiles this file by itself: by convention, or because a manifest says so.
fn is_root(path: &str, manifests: &[(String, String)]) -> bool {
    manifests.iter().any(|(manifest, text)| {
        let package = manifest.strip_suffix("Cargo.toml").unwrap_or_default();
        let Some(below) = path.strip_prefix(package) else { return false };
        let parts: Vec<_> = below.split('/').collect();
        let is_conventional = matches!(
            parts[..],
            ["build.rs"]
                | ["src", "lib.rs" | "main.rs"]
                | ["src", "bin", _]
                | ["src", "bin", _, "main.rs"]
                | ["tests" | "benches" | "examples", _]
                | ["tests" | "benches" | "examples", _, "main.rs"]
        );
        is_conventional || text.contains(&format!("path = \"{below}\""))
    })
}

/// The files that the `mod NAME;` lines of a file may mean.
fn children(source: &Source, is_root: bool) -> Vec<String> {
    let (directory, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let home = match file.strip_suffix(".rs") {
        Some(stem) if !is_root && stem != "mod" => format!("{directory}/{stem}"),
        _ => directory.to_owned(),
    };
    let mut found = Vec::new();
    for at in source.words("mod") {
        let rest = source.code[at + "mod".len()..].trim_start();
        let Some((name, _)) = rest.split_once(';') else { continue };
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        match path_attribute(&source.text[..at]) {
            Some(path) => found.push(format!("{directory}/{path}")),
            None => {
                let home = inline_modules(source, at)
                    .fold(home.clone(), |home, inline| home + "/" + inline);
                found.extend([format!("{home}/{name}.rs"), format!("{home}/{name}/mod.rs")]);
            }
        }
    }
    found
}

/// The names of the `mod NAME { … }` that `at` stands in, the outermost first.
fn inline_modules(source: &Source, at: usize) -> impl Iterator<Item = &str> {
    let opened = source.words("mod").take_while(move |mod_at| *mod_at < at);
    opened.filter_map(move |mod_at| {
        let (name, body) = source.code[mod_at + "mod".len()..at].split_once('{')?;
        let name = name.trim();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        // Still open when as many braces open as close, or more, all the way from its own.
        let mut depth = 1usize;
        let mut braces = body.chars().filter(|c| matches!(c, '{' | '}'));
        let is_open = braces.all(|c| {
            depth = if c == '{' { depth + 1 } else { depth - 1 };
            depth > 0
        });
        (is_name && is_open).then_some(name)
    })
}

/// The value of a `#[path = "…"]` on the line before the one that `before` ends in.
fn path_attribute(before: &str) -> Option<&str> {
    let above = &before[..before.rfind('\n')?];
    let line = above.lines().next_back()?;
    line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]")
}

fn offence(path: &str, rule: &'static str, message: &str) -> Offence {
    Offence { file: path.to_owned(), line: 1, rule, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unused(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
        let manifest = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let manifests = [
            manifest("Cargo.toml", ""),
            manifest("tests/kit/Cargo.toml", ""),
            manifest("fuzz/Cargo.toml", "path = \"fuzz_targets/hello.rs\""),
        ];
        unused_files(&sources, &manifests).into_iter().map(|offence| offence.file).collect()
    }

    #[test]
    fn a_file_that_no_mod_reaches_is_unused() {
        let files = [
            ("src/lib.rs", "pub mod a; mod b;\n// mod e;"),
            ("src/a/mod.rs", "mod c;"),
            ("src/a/c.rs", "#[cfg(test)]\nmod tests;\nmod inline { }"),
            ("src/a/c/tests.rs", ""),
            ("src/a/lost.rs", "mod c;"),
            ("src/b.rs", "mod d; mod inner { fn f() {} mod g; }"),
            ("src/b/inner/g.rs", ""),
            ("src/b/g.rs", ""),
            ("src/b/d.rs", ""),
            ("src/e.rs", ""),
        ];
        assert_eq!(unused(&files), ["src/a/lost.rs", "src/b/g.rs", "src/e.rs"]);
    }

    #[test]
    fn roots_are_what_cargo_builds() {
        let files = [
            ("src/main.rs", ""),
            ("tests/tidy.rs", "#[path = \"tidy/rules.rs\"]\nmod rules;"),
            ("tests/tidy/rules.rs", ""),
            ("tests/tidy/lost.rs", ""),
            ("tests/kit/src/lib.rs", "mod echo;"),
            ("tests/kit/src/echo.rs", ""),
            ("fuzz/fuzz_targets/hello.rs", ""),
            ("fuzz/fuzz_targets/lost.rs", ""),
        ];
        assert_eq!(unused(&files), ["fuzz/fuzz_targets/lost.rs", "tests/tidy/lost.rs"]);
    }

    #[test]
    fn a_sample_that_no_readme_names_is_an_offence() {
        let configs = ["config/minimal.toml".to_owned(), "config/mesh.toml".to_owned()];
        let found = unnamed_configs(&configs, &["see `minimal.toml`".to_owned()]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file, "config/mesh.toml");
        assert_eq!(unnamed_configs(&configs, &[]), []);
    }
}
