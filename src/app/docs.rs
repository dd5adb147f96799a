//! `portcullis docs`: the pages of `docs/` that are made from the code, so that they cannot lag it.
//!
//! `configuration` and `refusals` make one page each, as text. It never writes a file: the shell
//! does, and `tests/docs.rs` refuses a page that differs.

mod configuration;
mod examples;
mod refusals;

use std::io::{self, Write};
use std::process::ExitCode;

pub use self::configuration::configuration;
pub use self::refusals::refusals;

/// `portcullis docs`
#[derive(Debug, clap::Args)]
pub struct DocsCommand {
    /// Which page
    #[arg(value_enum)]
    page: Page,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Page {
    /// docs/configuration.md
    Configuration,
    /// docs/refusals.md
    Refusals,
}

/// Prints the page; 1 where standard output does not take it.
pub fn docs(command: &DocsCommand) -> ExitCode {
    let page = match command.page {
        Page::Configuration => configuration(),
        Page::Refusals => refusals(),
    };
    match io::stdout().lock().write_all(page.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Text that may stand in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}
