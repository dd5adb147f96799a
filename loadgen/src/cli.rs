//! Owns the command line: the commands and their dispatch. Each command's flags live with the
//! command. Read `handshakes.rs` first.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::ab::Ab;
use crate::attack::Attack;
use crate::compare::Compare;
use crate::crypto::Crypto;
use crate::docs::Docs;
use crate::doctor::Doctor;
use crate::exit::Exit;
use crate::find::Find;
use crate::handshakes::Handshakes;
use crate::hold::Hold;
use crate::output;
use crate::pki::Pki;
use crate::report::Report;
use crate::stream::Stream;
use crate::sweep::Sweep;
use crate::upstream::Upstream;

/// A load generator for TLS servers that measures handshake rates honestly.
///
/// Exit codes: 0 met, 1 usage, no connection or nobody let in, 2 threshold missed, 3 run invalid.
#[derive(Debug, Parser)]
#[command(name = "portcullis-load", version, propagate_version = true, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One steady run, open loop (--rate) or closed (--conns)
    #[command(visible_alias = "run")]
    Handshakes(Box<Handshakes>),
    Find(Box<Find>),
    Sweep(Box<Sweep>),
    Ab(Box<Ab>),
    Compare(Compare),
    Report(Report),
    Stream(Box<Stream>),
    Hold(Box<Hold>),
    Attack(Box<Attack>),
    Crypto(Crypto),
    Doctor(Doctor),
    Pki(Pki),
    Upstream(Box<Upstream>),
    #[command(hide = true)]
    Docs(Docs),
}

/// Parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap exits with 2 on wrong usage, which here means a missed threshold.
            let _ = error.print();
            return if error.use_stderr() { Exit::NoConnection.into() } else { Exit::Met.into() };
        }
    };
    match cli.execute(arguments) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::note(format_args!("error: {error:#}"));
            Exit::NoConnection.into()
        }
    }
}

impl Cli {
    fn execute(self, arguments: Vec<String>) -> Result<Exit> {
        match self.command {
            Command::Handshakes(command) => command.execute(arguments),
            Command::Find(command) => command.execute(&arguments),
            Command::Sweep(command) => command.execute(&arguments),
            Command::Ab(command) => command.execute(&arguments),
            Command::Compare(command) => command.execute(),
            Command::Report(command) => command.execute(),
            Command::Stream(command) => command.execute(),
            Command::Hold(command) => command.execute(),
            Command::Attack(command) => command.execute(),
            Command::Crypto(command) => command.execute(),
            Command::Doctor(command) => command.execute(),
            Command::Pki(command) => command.execute(),
            Command::Upstream(command) => command.execute(),
            Command::Docs(command) => command.execute(Self::command()),
        }
    }
}
