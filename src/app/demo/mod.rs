//! `portcullis demo`: the whole job in one command, with certificates, upstreams and clients of its
//! own, on loopback only.
//!
//! `stage` sets everything up, `peers` are the upstreams, `load` the clients, `table` the result.

mod load;
mod peers;
mod stage;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use self::load::{Bulk, Handshakes};
use self::stage::{Stage, Tenant};
use super::problems;
use crate::tls::peer::Tickets;

/// `portcullis demo`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct DemoCommand {
    /// Seconds of handshakes for each tenant and kind
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Mebibytes that each tenant streams up and gets back
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    mebibytes: u64,
    /// Keep serving and leave the folder: prints the command to try by hand; Ctrl-C ends it
    #[arg(long)]
    keep: bool,
}

const AFTER_HELP: &str = "\
Loopback only, on ports that the system chooses. Progress goes to standard error, the result to
standard output.

Exit codes:
  0  everything arrived and nobody was wrongly let in     1  not so, or it could not be shown
  2  wrong usage";

/// Why the demonstration could not be given. What it *finds* is in the table.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
    #[error("the certificates could not be made")]
    Pki(#[from] super::pki::PkiError),
    #[error("the demonstration's own configuration is wrong: {0}")]
    Configuration(String),
    #[error(transparent)]
    Start(#[from] super::gateway::StartError),
}

/// One tenant's figures.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) tenant: &'static Tenant,
    pub(crate) full: Handshakes,
    pub(crate) resumed: Handshakes,
    pub(crate) bulk: Bulk,
}

/// A client that has to be refused, and what became of it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) who: &'static str,
    /// What the client saw; `None`: it was served, which is the worst result there is.
    pub(crate) alert: Option<String>,
    /// What the gateway wrote down.
    pub(crate) reason: Option<String>,
}

/// 0: everything arrived and nobody was wrongly let in. 1: the table says what went wrong.
pub fn demo(command: &DemoCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            return problems::fail_with(&DemoError::Io {
                what: "no runtime for the clients",
                source,
            });
        }
    };
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, give(command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => problems::fail_with(&error),
    }
}

/// Plays everything; true if all was as promised.
async fn give(command: &DemoCommand) -> Result<bool, DemoError> {
    tell("making certificates, starting upstreams and the gateway");
    let stage = Stage::set_up().await?;
    let mut figures = Vec::new();
    for tenant in &stage::TENANTS {
        tell(&format!("{}: {}", tenant.server_name, tenant.description));
        let seconds = Duration::from_secs(command.seconds);
        let full = load::handshakes(&stage, tenant, Tickets::Refuse, seconds).await?;
        let resumed = load::handshakes(&stage, tenant, Tickets::Keep, seconds).await?;
        let bulk = load::bulk(&stage, tenant, command.mebibytes << 20).await?;
        figures.push(Figures { tenant, full, resumed, bulk });
    }
    tell("clients that must not get in");
    let refused = load::refusals(&stage).await?;
    let verdict = table::verdict(&figures, &refused);
    print(&table::render(&figures, &refused, &verdict));
    if command.keep {
        print(&stage.try_by_hand());
        // Without a signal handler Ctrl-C ends the process at once, which is as good.
        drop(tokio::signal::ctrl_c().await);
    }
    stage.strike(command.keep);
    Ok(verdict.is_empty())
}

/// Progress goes to standard error, so that the table can be piped.
fn tell(line: &str) {
    drop(writeln!(io::stderr().lock(), "demo: {line}"));
}

fn print(text: &str) {
    // The exit code says it too where nobody reads.
    drop(io::stdout().lock().write_all(text.as_bytes()));
}
