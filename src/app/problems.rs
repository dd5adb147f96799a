//! How errors reach the person at the terminal: all of them, with their places, on standard error.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use super::gateway::StartError;
use super::run::RunError;
use crate::config::error::Problem;
use crate::config::{Style, render};

/// Prints every problem and how many there are; the exit code of a bad configuration.
pub fn fail(found: &[Problem]) -> ExitCode {
    let style = if io::stderr().is_terminal() { Style::Colour } else { Style::Plain };
    let count = match found.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    print(&format!("{}\n{count} found", render(found, style).trim_end()));
    ExitCode::FAILURE
}

/// Prints why the process does not serve.
pub fn fail_to_start(error: &RunError) -> ExitCode {
    if let RunError::Start(StartError::Problems(found)) = error {
        return fail(found);
    }
    if let RunError::Outlet(problem) = error {
        return fail(std::slice::from_ref(problem));
    }
    fail_with(error)
}

/// Prints an error with its causes.
pub fn fail_with(error: &(dyn Error + 'static)) -> ExitCode {
    print(&format!("portcullis: {}", chain(error)));
    ExitCode::FAILURE
}

/// An error and its causes in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn print(text: &str) {
    // Standard error is all there is to say it on; where it is closed, the exit code remains.
    drop(writeln!(io::stderr().lock(), "{text}"));
}
