//! NIST's PKITS against the binary: 224 certificate paths as clients of one live listener, and the
//! result as `docs/pkits.md`, which any change of ours must change.
//!
//! `cases` is the suite as data, `vectors` its files, `front` drives, `page` writes. tests/README.md
//! says what is needed.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "test code: what breaks fails the test at once"
)]

mod cases;
mod front;
mod page;
mod vectors;

use std::fs;

use vectors::Vectors;

#[test]
fn every_path_of_pkits_is_accepted_or_refused_as_recorded() {
    let Some(vectors) = Vectors::find() else { return };
    let sections = cases::sections();
    let all: Vec<_> = sections.iter().flat_map(|section| &section.cases).collect();
    let outcomes = front::drive(&all, &vectors);
    let made = page::page(&sections, &outcomes, &cases::differences());
    if std::env::var_os("UPDATE_PKITS").is_some() {
        fs::write(PAGE, &made).expect("the page can be written");
    }
    let recorded = fs::read_to_string(PAGE).unwrap_or_default();
    let changed: Vec<_> = made.lines().filter(|line| !recorded.contains(line)).collect();
    assert!(
        made == recorded,
        "docs/pkits.md says otherwise; if that is meant: UPDATE_PKITS=1 cargo test --test pkits\n{}",
        changed.join("\n")
    );
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pkits.md");
