//! Counts the instructions of every case under valgrind, and holds them against `bench/budgets.toml`.
//!
//! It starts itself under valgrind; there it only does the work. `callgrind` reads what valgrind
//! counted, `budgets` judges it. bench/README.md says what is counted and why.

mod budgets;
mod callgrind;

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use portcullis_bench::{Case, cases};

use budgets::{Budgets, Verdict};
use callgrind::Count;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts the instructions of the gateway's core and holds them against their budgets
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Wanted,
}

#[derive(Debug, Subcommand)]
enum Wanted {
    /// Count, and fail where a case needs more than its budget
    Check,
    /// Count, and write what was counted as the budgets
    Record,
    /// Do the work that is counted: what `check` and `record` start under valgrind
    #[command(hide = true)]
    Work,
}

fn main() -> Result<ExitCode> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/budgets.toml"));
    match Cli::parse().command {
        Wanted::Work => work(),
        Wanted::Check => {
            let budgets = Budgets::read(&path)?;
            let verdict = budgets.judge(&count()?, &compiler()?);
            show(&verdict)
        }
        Wanted::Record => {
            let counted = count()?;
            Budgets::of(&counted, &compiler()?).write(&path)?;
            say(&format!("{} cases recorded in {}", counted.len(), path.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says the name of each case once it was done, in the order in which valgrind writes what it counted.
fn work() -> Result<ExitCode> {
    for mut case in cases().into_iter().filter(Case::is_counted) {
        for _ in 0..PARTS {
            case.prepare();
            measured(&mut case);
        }
        say(case.name())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// valgrind counts between the first instruction of this function and its last, and knows it by its
/// name.
#[inline(never)]
fn measured(case: &mut Case) {
    for _ in 0..turns(case) {
        case.turn();
    }
}

fn turns(case: &Case) -> u64 {
    if case.is_prepared() { 1 } else { TURNS }
}

fn count() -> Result<Vec<(String, Count)>> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "budgets are for x86-64, where valgrind shows every program the same processor"
    );
    let ours = std::env::current_exe().context("where this program is")?;
    let directory = tempfile::tempdir().context("a directory for what valgrind writes")?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(callgrind::arguments(&directory.path().join("counted"), "*::measured"))
        .arg(ours)
        .arg("work")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let done = valgrind.output().context("valgrind cannot be started: apt-get install valgrind")?;
    ensure!(done.status.success(), "the work under valgrind ended with {}", done.status);
    let names = String::from_utf8(done.stdout).context("names are text")?;
    let parts = callgrind::read(directory.path())?;
    let cases: Vec<_> = cases().into_iter().filter(Case::is_counted).collect();
    let (named, counted) = (names.lines().count(), parts.len());
    if named != cases.len() || counted != cases.len() * PARTS {
        bail!("{} cases, {named} done, {counted} parts counted", cases.len());
    }
    let last = parts.into_iter().skip(PARTS - 1).step_by(PARTS);
    let each = |(case, part): (Case, Count)| (case.name().to_owned(), part.a_turn(turns(&case)));
    Ok(cases.into_iter().zip(last).map(each).collect())
}

fn show(verdict: &Verdict) -> Result<ExitCode> {
    say(&verdict.to_string())?;
    if verdict.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    say("Where more is what is wanted: `bench/count record`, and say why in the commit.")?;
    Ok(ExitCode::FAILURE)
}

/// As `rustc 1.95.0`.
fn compiler() -> Result<String> {
    let said = Command::new("rustc").arg("--version").output().context("rustc --version")?;
    let said = String::from_utf8(said.stdout).context("a version is text")?;
    Ok(said.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

fn say(line: &str) -> Result<()> {
    writeln!(stdout().lock(), "{line}").context("standard output")
}

/// So many that what each turn does differently, as the keys of a table, evens out.
const TURNS: u64 = 64;

/// Of a case; the last one counts. The first detects the processor, grows buffers and the like; and
/// valgrind counts calls outside of a part too, which its first part takes with it.
const PARTS: usize = 2;
