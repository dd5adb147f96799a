//! Whole-system measurements: what a gateway's process uses for each unit of work, with
//! `portcullis-load` as the only load. CPU time and resident memory are read; wall times are not, for
//! they say more about the machine.
//!
//! `row` says what is compared, `compare` how; `gateway` starts the gateways, `stage` what is around
//! them, `measure` is one window, `verdict`, `table`, `picture` and `history` are what comes of them.
//! `floor` and `forwarder` are what nothing can be below. `scaling`, `growth` and `certificates` are
//! questions about portcullis alone, `beside` one about two builds of it; `drive` holds it under load
//! while a profiler looks.

mod beside;
mod certificates;
mod compare;
mod crowd;
mod disturbance;
mod drive;
mod floor;
mod forwarder;
mod gateway;
mod growth;
mod history;
mod measure;
mod picture;
mod process;
mod rounds;
mod row;
mod scaling;
mod stage;
mod table;
mod verdict;
mod way;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::beside::Beside;
use crate::compare::Compare;
use crate::drive::Drive;
use crate::forwarder::Forwarder;
use crate::growth::Growth;
use crate::process::Programs;
use crate::row::ROWS;
use crate::scaling::Workers;

/// Measures the gateway's CPU per handshake and per byte, and its memory per idle connection, beside
/// that of others.
///
/// perf/run fetches the others, builds everything and starts this.
#[derive(Debug, Parser)]
#[command(name = "portcullis-perf", version)]
struct Cli {
    /// The folder with the programs `portcullis` and `portcullis-load`; by default that of this one
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
    #[arg(long, value_name = "FILE", default_value = "envoy")]
    envoy: PathBuf,
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/haproxy")]
    haproxy: PathBuf,
    /// Start portcullis without its sandbox: one that was built to count its branches writes them to a
    /// file at its end
    #[arg(long)]
    no_sandbox: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Compare(Compare),
    /// The rows of `compare`, with their bars
    List,
    /// Tables, picture and history from rounds that were kept
    Report {
        #[arg(long, value_name = "FILE")]
        keep: PathBuf,
        #[arg(long, value_name = "DIRECTORY")]
        out: PathBuf,
        /// Documents whose tables are replaced, between `<!-- comparison -->` and its end
        #[arg(long, value_name = "FILE")]
        into: Vec<PathBuf>,
    },
    Workers(Workers),
    Growth(Growth),
    Beside(Beside),
    Drive(Drive),
    /// A gateway with a directory of many certificates; its start, its memory, its handshakes
    Certificates {
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=400_000))]
        pairs: u32,
        /// Seconds of handshakes
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
    #[command(hide = true)]
    Forwarder(Forwarder),
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    process::raise_descriptor_limit()?;
    let programs = cli.programs()?;
    let text = match cli.command {
        Command::Compare(compare) => compare.execute(&programs)?,
        Command::List => list(),
        Command::Report { keep, out, into } => {
            let rounds = rounds::read(&keep)?;
            compare::write(&out, &rounds)?;
            for file in into {
                let document = std::fs::read_to_string(&file)?;
                std::fs::write(&file, table::into_document(&document, &rounds)?)?;
            }
            table::text(&rounds)?
        }
        Command::Workers(workers) => workers.execute(&programs)?,
        Command::Growth(growth) => growth.execute(&programs)?,
        Command::Beside(beside) => beside.execute(&programs)?,
        Command::Drive(drive) => drive.execute(&programs)?,
        Command::Certificates { pairs, seconds } => {
            certificates::measure(&programs, pairs, seconds)?
        }
        Command::Forwarder(forwarder) => {
            forwarder.execute()?;
            String::new()
        }
    };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

impl Cli {
    fn programs(&self) -> Result<Programs> {
        let own = std::env::current_exe().context("where this program is")?;
        let beside = own.parent().context("this program has no folder")?;
        let folder = self.programs.as_deref().unwrap_or(beside);
        Ok(Programs {
            gateway: process::built(folder, "portcullis")?,
            load: process::built(folder, "portcullis-load")?,
            own,
            envoy: self.envoy.clone(),
            nginx: self.nginx.clone(),
            haproxy: self.haproxy.clone(),
            no_sandbox: self.no_sandbox,
        })
    }
}

fn list() -> String {
    let line = |row: &row::Row| {
        format!("{:<16} {:<55} {:<12} {:?}\n", row.key, row.title, row.unit(), row.bar)
    };
    ROWS.iter().map(line).collect()
}

/// Progress, and what was odd on the way.
pub(crate) fn note(words: fmt::Arguments<'_>) {
    // There is nobody to tell that nobody listens.
    let _ = writeln!(std::io::stderr().lock(), "{words}");
}
