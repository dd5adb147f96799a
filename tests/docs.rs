//! What `docs/` says of the code is true: pages that are made from it, and tests that are named.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use portcullis::app::docs;
use portcullis::core::refusal::Reason;
use serde_json::Value;

#[test]
fn configuration_page_is_what_the_code_makes() {
    is_current("configuration", &docs::configuration());
}

#[test]
fn refusals_page_is_what_the_code_makes() {
    is_current("refusals", &docs::refusals());
}

#[test]
fn every_threat_names_its_tests_and_they_exist() {
    let page = fs::read_to_string(root().join("docs/threats.md")).expect("is there");
    let mut sources = String::new();
    for folder in ["src", "tests", "loadgen/src", "loadgen/tests"] {
        for file in files_below(&root().join(folder), "rs").expect("is there") {
            sources.push_str(&fs::read_to_string(file).expect("is text"));
        }
    }
    let is_tested = |row: &&str| row.rsplit(" | ").next().is_some_and(|tests| tests.contains('`'));
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let untested: Vec<_> =
        rows.filter(|row| !row.ends_with(" | test |") && !is_tested(row)).collect();
    assert!(untested.is_empty(), "rows without a test: {untested:?}");
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

/// By name, with what Prometheus makes of a histogram.
fn metrics_of_the_page() -> HashSet<String> {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap_or_default();
    let mut metrics = HashSet::new();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `portcullis_"));
    for (name, rest) in rows.filter_map(|row| row.split_once("` |")) {
        let parts: &[&str] = match rest.split('|').next().map(str::trim) {
            Some("histogram") => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        metrics.extend(parts.iter().map(|part| format!("portcullis_{name}{part}")));
    }
    metrics
}

#[test]
fn every_metric_that_dashboards_and_alerts_name_exists() {
    let metrics = metrics_of_the_page();
    let folder = root().join("config");
    let mut files = files_below(&folder.join("grafana"), "json").expect("is there");
    files.extend(files_below(&folder.join("prometheus"), "yml").expect("is there"));
    let mut named = HashSet::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("is text");
        for (at, _) in text.match_indices("portcullis_") {
            let is_name = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_';
            let name: String = text[at..].chars().take_while(is_name).collect();
            assert!(metrics.contains(&name), "{}: there is no metric {name}", file.display());
            named.insert(name);
        }
    }
    assert!(files.len() >= 4 && named.len() > 30, "{files:?} name {named:?}");
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

/// An alert or a command of a runbook that names a metric finds it: `docs/metrics.md` is held by a scrape.
#[test]
fn every_metric_that_a_page_names_is_a_metric() {
    let known = fs::read_to_string(root().join("docs/metrics.md")).expect("is there");
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    let pages = files_below(&root().join("docs"), "md").expect("is there");
    let mut compared = 0;
    for page in pages.into_iter().chain([root().join("README.md")]) {
        let text = fs::read_to_string(&page).expect("is there");
        for name in text.split(|c| !is_word(c)).filter(|word| word.starts_with("portcullis_")) {
            // `portcullis_(a|b)` of a pattern and `portcullis_0.1.0` of a package end here.
            if name.ends_with('_') {
                continue;
            }
            let is_known = known.contains(&format!("`{name}`"));
            assert!(is_known, "{}: there is no metric {name}", page.display());
            compared += 1;
        }
    }
    assert!(compared > 80, "only {compared} names are compared");
}

/// Whoever has a refused client finds its reason, and in the section what the gateway really writes:
/// `tests/data/refusal-records.jsonl` is held by the gateway's own tests.
#[test]
fn troubleshooting_has_a_section_for_every_reason_with_its_true_line() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).expect("is there");
    let mut sections = HashMap::new();
    for section in page.split("\n### `").skip(1) {
        let (code, text) = section.split_once("`\n").expect("a heading is a code and no more");
        let text = text.split("\n## ").next().unwrap_or_default();
        assert!(sections.insert(code, text).is_none(), "{code} is there twice");
    }
    for reason in Reason::ALL {
        let code = reason.code();
        let text = sections.get(code).copied().unwrap_or_default();
        let (symptom, line) = text.split_once("```").unwrap_or_default();
        assert!(!symptom.trim().is_empty(), "docs/troubleshooting.md: what clients see of {code}");
        let line_is_there = line.starts_with(&format!("\n\"reason\":\"{code}\","));
        assert!(line_is_there, "docs/troubleshooting.md: the line in the log of {code}");
    }
    assert_eq!(sections.len(), Reason::ALL.len(), "a section of no reason");

    let records = fs::read_to_string(root().join("tests/data/refusal-records.jsonl"));
    let mut shown = HashMap::new();
    for line in records.expect("is there").lines() {
        let (_, record) = line.split_once(": ").expect("a name and a record");
        let record: Value = serde_json::from_str(record).expect("is JSON");
        let code = record["reason"].as_str().expect("is there").to_owned();
        let has = |name: &str| {
            let value = &record[name];
            value.is_null() || sections[&*code].contains(&format!("\"{name}\":{value}"))
        };
        let is_shown = ["alert", "alert_name", "rule", "detail"].into_iter().all(has);
        *shown.entry(code).or_insert(false) |= is_shown;
    }
    let stale: Vec<_> = shown.iter().filter(|(_, is_shown)| !**is_shown).collect();
    assert!(stale.is_empty(), "docs/troubleshooting.md has not the line of the records: {stale:?}");
    assert!(shown.len() > 15, "only {shown:?} are compared");
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
