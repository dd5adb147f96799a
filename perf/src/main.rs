//! Whole-system measurements: what the gateway's process uses for each unit of work, with
//! `portcullis-load` as the only load.
//!
//! `stage` starts the processes, `measure` runs the load, `table` prints; `certificates` measures a
//! directory of many. CPU time and resident
//! memory of the gateway alone are read; wall times are not, for they say more about the machine.

mod certificates;
mod measure;
mod stage;
mod table;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::measure::Effort;
use crate::stage::Programs;

/// Measures the gateway's CPU per handshake and per byte, and its memory per idle connection.
///
/// Build both programs first: cargo build --release -p portcullis -p portcullis-load
#[derive(Debug, Parser)]
#[command(name = "portcullis-perf", version)]
struct Cli {
    /// The folder with the programs `portcullis` and `portcullis-load`; by default that of this one
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
    /// Rounds; each figure is the median of them
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Seconds of handshakes of each kind in a round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Mebibytes that are echoed through each way in a round
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    mebibytes: u32,
    /// Idle connections that are held
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    connections: u32,
    /// Also print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Instead: a gateway with a directory of many certificates; its start, its memory, its handshakes
    Certificates {
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=400_000))]
        pairs: u32,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let programs = match cli.programs {
        Some(folder) => Programs::in_folder(&folder)?,
        None => {
            let own = std::env::current_exe().context("where this program is")?;
            Programs::in_folder(own.parent().context("this program has no folder")?)?
        }
    };
    let mut out = std::io::stdout().lock();
    if let Some(Command::Certificates { pairs }) = cli.command {
        write!(out, "{}", certificates::measure(&programs, pairs, cli.seconds)?)?;
        return Ok(());
    }
    let effort =
        Effort { seconds: cli.seconds, mebibytes: cli.mebibytes, connections: cli.connections };
    let mut rounds = Vec::new();
    for _ in 0..cli.rounds {
        rounds.push(measure::round(&programs, effort)?);
    }
    write!(out, "{}", table::render(&rounds))?;
    if cli.json {
        writeln!(out, "{}", table::json(&rounds))?;
    }
    Ok(())
}
