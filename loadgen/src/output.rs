//! Owns what goes to standard output and standard error. A closed pipe is not a failure of the
//! run, so write errors are dropped here and nowhere else. Read `summary.rs` next.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// One line on standard output.
pub fn line(text: impl fmt::Display) {
    // A reader that went away (`| head`) must not turn a good run into a failed one.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Text on standard output as it stands.
pub fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Whether files can be written that will be wanted at the end: a long run must not be lost to a
/// directory that is not there.
///
/// # Errors
/// Names the first that cannot.
pub fn check_files<'a>(paths: impl IntoIterator<Item = Option<&'a Path>>) -> Result<()> {
    for path in paths.into_iter().flatten() {
        let is_new = !path.exists();
        // Whoever reads from a pipe must not meet its end before the result.
        if !is_new && !path.is_file() && !path.is_dir() {
            continue;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        if is_new {
            fs::remove_file(path).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// One line on standard error: progress and complaints.
pub fn note(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
