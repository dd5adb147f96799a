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

/// Why a process does not start, in one line: the first problems of many.
pub fn why(error: &RunError) -> String {
    let problems = match error {
        RunError::Start(StartError::Problems(found)) => found.as_slice(),
        RunError::Outlet(problem) => std::slice::from_ref(problem),
        _ => return chain(error),
    };
    let mut text =
        problems.iter().take(PROBLEMS_MAX).map(Problem::one_line).collect::<Vec<_>>().join("; ");
    if let Some(more) = problems.len().checked_sub(PROBLEMS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} more"));
    }
    text
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

/// Of many problems the first tell what is wrong; all of them stand on standard error.
const PROBLEMS_MAX: usize = 3;

fn print(text: &str) {
    // Standard error is all there is to say it on; where it is closed, the exit code remains.
    drop(writeln!(io::stderr().lock(), "{text}"));
}
