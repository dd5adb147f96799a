//! The pages of `docs/` that are made from the code say what the code says.

use std::fs;
use std::path::Path;

use portcullis::app::docs;

#[test]
fn configuration_page_is_what_the_code_makes() {
    is_current("configuration", &docs::configuration());
}

#[test]
fn refusals_page_is_what_the_code_makes() {
    is_current("refusals", &docs::refusals());
}

fn is_current(page: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{page}.md"));
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/{page}.md is out of date: cargo run -- docs {page} > docs/{page}.md"
    );
}
