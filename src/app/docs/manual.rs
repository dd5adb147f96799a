//! Manual pages and completions for shells, made from the definition of the command line.
//!
//! A page has what clap_mangen makes of a command, and what stands below its options in `--help` as it
//! stands there: examples and tables of exit codes lose their meaning when lines are filled.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes `NAME.1` for the command, and `NAME-SUBCOMMAND.1` for each one below it that is not hidden.
pub(super) fn pages(command: &Command, directory: &Path) -> io::Result<()> {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let source = format!("{} {}", command.get_name(), command.get_version().unwrap_or_default());
    below(&command, &source, directory)
}

/// Writes the completions under the names that clap_complete gives them.
pub(super) fn completions(mut command: Command, directory: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut command, &name, directory)?;
    }
    Ok(())
}

fn below(command: &Command, source: &str, directory: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|each| !each.is_hide_set()) {
        below(subcommand, source, directory)?;
    }
    let manual = Man::new(command.clone()).source(source);
    let mut file = File::create(directory.join(manual.get_filename()))?;
    page(&manual, command, &mut file)?;
    file.flush()
}

/// clap's own usage: clap_mangen's leaves out what an option wants.
fn synopsis(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let usage = command.clone().render_usage().to_string();
    let mut section = Roff::new();
    section.control("SH", ["SYNOPSIS"]).text([roman(usage.trim_start_matches("Usage: "))]);
    section.to_writer(out)
}

fn page(manual: &Man, command: &Command, out: &mut dyn Write) -> io::Result<()> {
    manual.render_title(out)?;
    manual.render_name_section(out)?;
    synopsis(command, out)?;
    manual.render_description_section(out)?;
    manual.render_options_section(out)?;
    if command.get_subcommands().any(|each| !each.is_hide_set()) {
        manual.render_subcommands_section(out)?;
    }
    if let Some(notes) = command.get_after_help() {
        let mut section = Roff::new();
        section.control("SH", ["NOTES"]).control("nf", []);
        for line in notes.to_string().lines() {
            section.text([roman(line)]);
        }
        section.control("fi", []);
        section.to_writer(out)?;
    }
    Ok(())
}
