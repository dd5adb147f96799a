//! Tests that need what a machine may not have: they skip, loudly, unless it is meant to prove all.

use std::io::{self, Write};

use rustix::process::geteuid;

/// Says that a test cannot run without `what`, and how to get it, so that it may pass without having
/// proved anything.
///
/// # Panics
/// Where `CI=true`: a machine that is meant to prove everything cannot prove less in silence.
#[expect(clippy::disallowed_methods, reason = "CI is told apart by its environment alone")]
pub fn missing(what: &str, remedy: &str) {
    let line = format!("SKIPPED: {what} is missing: {remedy} (tests/README.md)");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}");
    // Not `eprintln!`, which libtest hides for a test that passes.
    writeln!(io::stderr(), "{line}").expect("standard error takes a line");
}

/// Whether the test is root; without, it has skipped. The gateway is not dumpable: nobody else sees its
/// descriptors, or becomes another user.
#[must_use]
pub fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        missing("root", "run this test as root");
    }
    is_root
}
