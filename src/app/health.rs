//! `portcullis health`: asks a gateway that runs whether it is ready, at the admin address of its
//! configuration, for supervisors that can only run a program.
//!
//! It reads nothing but the configuration, and never starts or changes anything. `admin` answers.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::admin_client::{self, AskError, Bounds};
use super::problems;
use crate::config;
use crate::config::plan::AdminAddress;

/// `portcullis health`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct HealthCommand {
    /// The configuration file of the gateway that is asked
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Whether it lives (/livez), drained or not, instead of whether it takes clients (/readyz)
    #[arg(long)]
    live: bool,
}

const AFTER_HELP: &str = "\
For containers without a shell and for supervisors: asks at the address that [admin] listen names,
for at most 3 s, and prints the answer. Of a file with mistakes no more than that is read: what runs
may run on what it said before.

Exit codes:
  0  yes     1  no, or nobody answers     2  wrong usage";

/// Longer than a gateway that works ever takes, shorter than the patience of those who ask; and the
/// answers are one word.
const BOUNDS: Bounds = Bounds { patience: Duration::from_secs(3), bytes_max: 1024 };

/// Why there is no yes.
#[derive(Debug, thiserror::Error)]
enum HealthError {
    #[error(
        "{} has no [admin] table: write one, whose `listen` says where to ask, and restart the gateway",
        .0.display()
    )]
    NoAdmin(PathBuf),
    #[error("no gateway with this configuration runs, or none answers at {at}")]
    Connect { at: String, source: io::Error },
    #[error("no answer from {at} within {} s: the process is stopped, or far too busy", patience.as_secs())]
    Silent { at: String, patience: Duration },
    #[error("what answers at {at} is no gateway's admin endpoint: {why}")]
    Answer { at: String, why: String },
    #[error("{0}")]
    No(String),
    #[error("the question could not be asked")]
    Runtime(#[source] io::Error),
}

/// 0: it says yes; 1: it says no, or says nothing.
pub fn health(command: &HealthCommand) -> ExitCode {
    let address = match config::load(&command.config) {
        Ok(plan) => plan.admin.map(|admin| admin.address),
        // A gateway runs on what the file said before: a mistake in it must not have it restarted, which
        // it would not survive.
        Err(found) => match config::load_admin(&command.config) {
            None => return problems::fail(&found),
            Some(address) => {
                let file = command.config.display();
                drop(writeln!(
                    io::stderr().lock(),
                    "warning: {file} is not valid, and the next start would fail: `portcullis check -c {file}`"
                ));
                Some(address)
            }
        },
    };
    let Some(address) = address else {
        return problems::fail_with(&HealthError::NoAdmin(command.config.clone()));
    };
    let path = if command.live { "/livez" } else { "/readyz" };
    match ask(&address, path) {
        Ok(answer) => {
            // A closed standard output changes nothing about the answer, which is the exit code.
            drop(writeln!(io::stdout().lock(), "{answer}"));
            ExitCode::SUCCESS
        }
        Err(error) => problems::fail_with(&error),
    }
}

fn ask(address: &AdminAddress, path: &'static str) -> Result<String, HealthError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HealthError::Runtime)?;
    let (address, at) = match address {
        AdminAddress::Tcp(address) => {
            let address = reachable(*address);
            (AdminAddress::Tcp(address), address.to_string())
        }
        AdminAddress::Unix(path) => (address.clone(), format!("unix:{}", path.display())),
    };
    let answer = runtime
        .block_on(admin_client::get(&address, path, BOUNDS))
        .map_err(|error| HealthError::from_client(at, error))?;
    let said = String::from_utf8_lossy(&answer.body).trim().to_owned();
    if answer.status.is_success() { Ok(said) } else { Err(HealthError::No(said)) }
}

impl HealthError {
    fn from_client(at: String, error: AskError) -> Self {
        match error {
            AskError::Connect(source) => Self::Connect { at, source },
            AskError::Http(error) => Self::Answer { at, why: problems::chain(&error) },
            AskError::Body(error) => Self::Answer { at, why: problems::chain(&*error) },
            AskError::Late(patience) => Self::Silent { at, patience },
        }
    }
}

/// Where a listener on all addresses is reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
