//! `portcullis upgrade`: has the process that serves put the program that stands in its place now in
//! its place, and says what came of it.
//!
//! The process is found by its admin page, which anybody close by may read, and asked by SIGUSR2, which
//! only its user may send.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::app::admin_client::{self, PageError};
use crate::app::problems;
use crate::config;
use crate::config::plan::{Admin, AdminAddress};
use crate::sys::{clock, status};

/// `portcullis upgrade`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct UpgradeCommand {
    /// The configuration file of the process, whose [admin] table says where it answers
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

const AFTER_HELP: &str = "\
Install the new program over the old one first (write it beside, then rename). To be run on the
machine of the gateway, as its user or as root. Under systemd it is the same command, or
`systemctl kill --kill-whom=main -s SIGUSR2 UNIT`.

Exit codes:
  0  the new process serves, the old one drains
  1  nothing has changed, and the reason was printed; or it could not be asked     2  wrong usage";

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
enum UpgradeCommandError {
    #[error(
        "the configuration has no [admin] table, by which the process is found: send SIGUSR2 to it, and \
         its log says what comes of it"
    )]
    NoAdmin,
    #[error("no process was found by admin.listen = {at}")]
    Ask {
        at: String,
        #[source]
        error: PageError,
    },
    #[error(
        "process {0} answers and is not of this machine, or of another container: run this there"
    )]
    Elsewhere(u64),
    #[error("process {process} cannot be asked: run this as its user or as root")]
    Signal {
        process: u64,
        #[source]
        error: io::Error,
    },
    #[error("not upgraded, process {process} serves on: {why}")]
    Failed { process: u64, why: String },
    #[error("process {0} says nothing of an upgrade: its log may")]
    Silent(u64),
    #[error("control could not be set up")]
    Control(#[source] io::Error),
}

/// Asks, and waits for the outcome.
pub fn upgrade(command: &UpgradeCommand) -> ExitCode {
    let plan = match config::load(&command.config) {
        Ok(plan) => plan,
        Err(found) => return problems::fail(&found),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let patience = plan.runtime.upgrade_deadline + MARGIN;
    let done = match (runtime, &plan.admin) {
        (Err(error), _) => Err(UpgradeCommandError::Control(error)),
        (Ok(_), None) => Err(UpgradeCommandError::NoAdmin),
        (Ok(runtime), Some(admin)) => runtime.block_on(ask(admin, patience)),
    };
    match done {
        Ok((before, after)) => {
            let line = format!("upgraded: process {after} serves, process {before} drains\n");
            // The exit code says it too.
            drop(io::stdout().lock().write_all(line.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(error) => problems::fail_with(&error),
    }
}

/// Returns the old process and the new one.
async fn ask(admin: &Admin, patience: Duration) -> Result<(u64, u64), UpgradeCommandError> {
    let failed = |error| UpgradeCommandError::Ask { at: shown(&admin.address), error };
    let before = Page::ask(admin).await.map_err(failed)?;
    let process = before.process;
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let is_here = u32::try_from(process).ok().and_then(status::started_ticks);
    let Some(pid) = pid.filter(|_| is_here.is_some() && is_here == before.started_ticks) else {
        return Err(UpgradeCommandError::Elsewhere(process));
    };
    kill_process(pid, Signal::USR2)
        .map_err(|error| UpgradeCommandError::Signal { process, error: error.into() })?;
    let until = clock::now() + patience;
    loop {
        // While the socket changes hands a question may be lost.
        if let Ok(now) = Page::ask(admin).await {
            if now.process != process {
                return Ok((process, now.process));
            }
            if now.attempts > before.attempts && !now.is_running {
                let why = now.error.unwrap_or_default();
                return Err(UpgradeCommandError::Failed { process, why });
            }
        }
        if clock::now() >= until {
            return Err(UpgradeCommandError::Silent(process));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What `/process` says.
struct Page {
    process: u64,
    started_ticks: Option<u64>,
    attempts: u64,
    is_running: bool,
    error: Option<String>,
}

impl Page {
    async fn ask(admin: &Admin) -> Result<Self, PageError> {
        let page = admin_client::json(&admin.address, "/process").await?;
        let upgrade = &page["upgrade"];
        Ok(Self {
            process: page["process"].as_u64().unwrap_or(0),
            started_ticks: page["started_ticks"].as_u64(),
            attempts: upgrade["attempts"].as_u64().unwrap_or(0),
            is_running: upgrade["is_running"] == Value::Bool(true),
            error: upgrade["error"].as_str().map(str::to_owned),
        })
    }
}

fn shown(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Tcp(address) => format!("\"{address}\""),
        AdminAddress::Unix(path) => format!("\"unix:{}\"", path.display()),
    }
}

/// Beyond the deadline of the process itself.
const MARGIN: Duration = Duration::from_secs(10);

const LOOK: Duration = Duration::from_millis(50);
