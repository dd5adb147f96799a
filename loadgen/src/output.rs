//! Owns what goes to standard output and standard error. A closed pipe is not a failure of the
//! run, so write errors are dropped here and nowhere else. Read `summary.rs` next.

use std::fmt;
use std::io::Write;

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

/// One line on standard error: progress and complaints.
pub fn note(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
