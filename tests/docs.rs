//! What `docs/` says of the code is true: pages that are made from it, and tests that are named.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use portcullis::app::docs;

#[test]
fn configuration_page_is_what_the_code_makes() {
    is_current("configuration", &docs::configuration());
}

#[test]
fn refusals_page_is_what_the_code_makes() {
    is_current("refusals", &docs::refusals());
}

#[test]
fn every_test_that_threats_names_exists() {
    let page = fs::read_to_string(root().join("docs/threats.md")).expect("is there");
    let mut sources = String::new();
    for folder in ["src", "tests", "loadgen/src"] {
        for file in files_below(&root().join(folder), "rs").expect("is there") {
            sources.push_str(&fs::read_to_string(file).expect("is text"));
        }
    }
    let mut named = 0;
    // Between backticks, words joined by more than two underscores.
    for name in page.split('`').skip(1).step_by(2) {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.chars().all(is_word) && name.matches('_').count() > 2 {
            assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}");
            named += 1;
        }
    }
    assert!(named > 50, "only {named} tests are named");
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "config/README.md"];
    let pages = files_below(&root().join("docs"), "md").expect("is there");
    for page in top.map(|page| root().join(page)).into_iter().chain(pages) {
        let text = fs::read_to_string(&page).expect("is there");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if link.contains("://") || file.is_empty() {
                continue;
            }
            let target = page.parent().expect("a file is in a folder").join(file);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
}

fn is_current(page: &str, made: &str) {
    let committed = fs::read_to_string(root().join(format!("docs/{page}.md"))).unwrap_or_default();
    assert!(
        committed == made,
        "docs/{page}.md is out of date: cargo run -- docs {page} > docs/{page}.md"
    );
}

/// Every file below `folder` whose name ends in `.` and `extension`.
fn files_below(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    Ok(files)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}
