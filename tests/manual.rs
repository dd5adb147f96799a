//! What packages ship is made from the command line: a manual page for each command, with every option
//! and every line of its notes, and completions that know every command.

#![expect(clippy::expect_used, reason = "a helper of a test fails like the test: by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory;
use portcullis::app::Cli;
use tempfile::TempDir;

#[test]
fn every_command_has_a_page_with_its_options_and_notes() {
    let folder = TempDir::new().expect("a folder");
    let made = docs("man", folder.path());
    assert!(made.status.success(), "{made:?}");
    let mut pages = BTreeSet::new();
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    holds(&program, folder.path(), &mut pages);
    let written: BTreeSet<_> = fs::read_dir(folder.path())
        .expect("is there")
        .map(|entry| entry.expect("can be listed").file_name().into_string().expect("is text"))
        .collect();
    assert_eq!(written, pages, "a page of no command, or of a hidden one");
    assert!(pages.len() > 10, "only {pages:?}");
}

#[test]
fn completions_know_every_command() {
    let folder = TempDir::new().expect("a folder");
    let made = docs("completions", folder.path());
    assert!(made.status.success(), "{made:?}");
    for file in ["portcullis.bash", "_portcullis", "portcullis.fish"] {
        let text = fs::read_to_string(folder.path().join(file)).expect("was written");
        for command in Cli::command().get_subcommands() {
            assert!(text.contains(command.get_name()), "{file}: {}", command.get_name());
        }
        assert!(text.contains("config"), "{file}: the option of check and run");
    }
    let syntax = Command::new("bash").arg("-n").arg(folder.path().join("portcullis.bash")).output();
    let syntax = syntax.expect("bash is there");
    assert!(syntax.status.success(), "{syntax:?}");
}

#[test]
fn a_directory_that_is_missing_is_named() {
    for page in ["man", "completions"] {
        let made = docs(page, Path::new("/nonexistent/pages"));
        assert_eq!(made.status.code(), Some(1));
        let said = String::from_utf8(made.stderr).expect("is text");
        assert!(said.contains("/nonexistent/pages: make the directory first"), "{said}");
    }
}

/// The page of `command` and those below it.
fn holds(command: &clap::Command, folder: &Path, pages: &mut BTreeSet<String>) {
    let name = format!("{}.1", command.get_display_name().unwrap_or_else(|| command.get_name()));
    let text = fs::read_to_string(folder.join(&name)).unwrap_or_default();
    assert!(!text.is_empty(), "{name} was not written");
    let text = text.replace("\\*(Aq", "'").replace('\\', "");
    for option in command.get_arguments().filter_map(clap::Arg::get_long) {
        assert!(text.contains(&format!("--{option}")), "{name} has not --{option}");
    }
    let usage = command.clone().render_usage().to_string();
    assert!(text.contains(usage.trim_start_matches("Usage: ")), "{name} has not {usage:?}");
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for line in notes.lines() {
        assert!(text.contains(line), "{name} has not the line {line:?}");
    }
    for subcommand in command.get_subcommands().filter(|each| !each.is_hide_set()) {
        holds(subcommand, folder, pages);
    }
    pages.insert(name);
}

fn docs(page: &str, folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["docs", page]).arg(folder).output().expect("it runs")
}
