//! `portcullis check`: loads everything that `run` would, and says all that is wrong with it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::gateway::{StartError, load_material};
use super::run::RunError;
use super::{confinement, driver, outlets, problems};
use crate::config;
use crate::config::plan::Plan;

/// `portcullis check`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct CheckCommand {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

const AFTER_HELP: &str = "\
Reads the file, what it includes, and the certificates and keys that it names, every pair of a
certificate_dir too; asks the kernel for io_uring where runtime.io wants it. Binds nothing: whether
the addresses are free, `run` finds out. Warnings change nothing about the answer.

What can be read depends on who asks. Root asks as the user of runtime.user, if the file names one;
where a unit says User=, ask as that one: runuser -u portcullis -- portcullis check -c FILE

Exit codes:
  0  valid     1  not valid, each mistake on standard error with its place     2  wrong usage";

/// 0: `run` would start with this file, if its addresses are free; 1: it would not, and every reason
/// was printed.
pub fn check(command: &CheckCommand) -> ExitCode {
    let plan = match config::load(&command.config) {
        Ok(plan) => plan,
        Err(found) => return problems::fail(&found),
    };
    let mut machine = Vec::from_iter(confinement::become_its_user(&command.config, &plan));
    machine.extend(outlets::problems(&plan));
    machine.extend(driver::problem(&plan));
    match load_material(&plan) {
        Ok(_) if !machine.is_empty() => problems::fail(&machine),
        Ok((material, _)) => {
            let mut text = String::new();
            for warning in material.warnings().iter().chain(&material.check_directories()) {
                text.push_str(&format!("warning: {warning}\n"));
            }
            text.push_str(&format!("{} is valid: {}\n", command.config.display(), summary(&plan)));
            // A closed standard output changes nothing about the answer, which is the exit code.
            drop(io::stdout().lock().write_all(text.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(StartError::Problems(mut found)) => {
            found.extend(machine);
            problems::fail(&found)
        }
        Err(error) => problems::fail_to_start(&RunError::Start(error)),
    }
}

fn summary(plan: &Plan) -> String {
    let chains: usize = plan.listeners.iter().map(|listener| listener.chains.len()).sum();
    format!(
        "{}, {}, {}",
        count(plan.listeners.len(), "listener"),
        count(chains, "filter chain"),
        count(plan.clusters.len(), "cluster"),
    )
}

fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
