//! The command line: one module a command, and what they share.
//!
//! `gateway` is what `run` and `demo` both start; begin there.

mod admin_client;
pub mod bind;
pub mod check;
pub mod confinement;
mod control;
pub mod demo;
pub mod docs;
mod driver;
pub mod expiry;
pub mod explain;
pub mod gateway;
pub mod health;
mod heartbeat;
pub mod inherited;
mod memory;
mod orders;
pub mod outlets;
pub mod pki;
pub mod problems;
pub mod reload;
pub mod run;
pub mod signals;
mod speaker;
pub mod stek;
mod supervisor;
pub mod upgrade;
mod upkeep;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A layer-4 gateway: reads the SNI, terminates mutual TLS with ticket resumption, and relays to
/// upstreams over ready mTLS connections
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: prints "ready" once every listener is bound
    Run(run::RunCommand),
    /// Put the program that stands in the place of a running one now in its place, without a gap
    Upgrade(upgrade::command::UpgradeCommand),
    /// Load everything a configuration names and print every error with its line
    Check(check::CheckCommand),
    /// Ask a gateway that runs whether it is ready: for health checks of containers
    Health(health::HealthCommand),
    /// Say which listener and chain take a client, and rule by rule whether it gets in
    Explain(Box<explain::ExplainCommand>),
    /// See it work: makes certificates, starts upstreams and a gateway, drives clients, prints figures
    Demo(demo::DemoCommand),
    /// Make certificates for development and tests: CAs, servers, clients, revocation lists
    Pki(Box<pki::PkiCommand>),
    /// Ticket keys of a fleet: make a root, see which keys a node holds, change or revoke them
    Stek(stek::StekCommand),
    /// Print a page of the documentation that is made from the code
    #[command(hide = true)]
    Docs(docs::DocsCommand),
}

const EXAMPLES: &str = "\
Examples:
  portcullis demo                              see it work: certificates, upstreams, load, figures
  portcullis pki init --dir config/pki         certificates to try a configuration with
  portcullis pki server edge --dns edge.example.com --dir config/pki
  portcullis pki client alice --dir config/pki
  portcullis check -c config/minimal.toml      what is wrong with it, if anything
  portcullis explain -c config/minimal.toml --sni edge.example.com --cert config/pki/alice.crt
  portcullis run -c config/minimal.toml        SIGTERM drains, twice ends at once
  portcullis upgrade -c FILE                   a new program takes over, no client notices; FILE has [admin]";

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(command) => run::run(&command),
        Command::Upgrade(command) => upgrade::command::upgrade(&command),
        Command::Check(command) => check::check(&command),
        Command::Health(command) => health::health(&command),
        Command::Explain(command) => explain::explain(&command),
        Command::Demo(command) => demo::demo(&command),
        Command::Docs(command) => docs::docs(&command),
        Command::Pki(command) => {
            let now = std::time::UNIX_EPOCH + crate::sys::clock::wall();
            match pki::run(&command, now, &mut io::stdout().lock()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => problems::fail_with(&error),
            }
        }
        Command::Stek(command) => {
            match stek::run(&command, crate::sys::clock::unix_now(), &mut io::stdout().lock()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(stek::StekCommandError::Configuration(found)) => problems::fail(&found),
                Err(error) => problems::fail_with(&error),
            }
        }
    }
}
