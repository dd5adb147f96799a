//! `portcullis docs`: what is made from the code, so that it cannot lag it.
//!
//! `configuration` and `refusals` make one page of `docs/` each, as text, and print it; `tests/docs.rs`
//! refuses a page that differs. `manual` makes files for packages: man pages and completions.

mod configuration;
mod examples;
mod manual;
mod refusals;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;

pub use self::configuration::configuration;
pub use self::refusals::refusals;
use super::{Cli, problems};

/// `portcullis docs`
#[derive(Debug, clap::Args)]
pub struct DocsCommand {
    #[command(subcommand)]
    page: Page,
}

#[derive(Debug, clap::Subcommand)]
enum Page {
    /// Print docs/configuration.md
    Configuration,
    /// Print docs/refusals.md
    Refusals,
    /// Write the manual pages, one a command
    Man {
        /// An existing directory
        directory: PathBuf,
    },
    /// Write the completions for bash, zsh and fish
    Completions {
        /// An existing directory
        directory: PathBuf,
    },
}

/// A file that was asked for could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write into {}: make the directory first", .directory.display())]
struct DocsError {
    directory: PathBuf,
    source: io::Error,
}

/// Prints the page or writes the files; 1 where they are not taken.
pub fn docs(command: &DocsCommand) -> ExitCode {
    let (made, directory) = match &command.page {
        Page::Configuration => return print(&configuration()),
        Page::Refusals => return print(&refusals()),
        Page::Man { directory } => (manual::pages(&Cli::command(), directory), directory),
        Page::Completions { directory } => {
            (manual::completions(Cli::command(), directory), directory)
        }
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(source) => problems::fail_with(&DocsError { directory: directory.clone(), source }),
    }
}

fn print(page: &str) -> ExitCode {
    match io::stdout().lock().write_all(page.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Text that may stand in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}
