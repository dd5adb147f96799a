//! `portcullis stek`: the keys of session tickets, for those who operate a fleet.
//!
//! Makes and changes the file with the root that nodes share, and shows which keys a node holds. It
//! talks to no process: a node reads its files when it starts. No secret is ever printed. `root_file`
//! writes the file, `table` shows the keys; `docs/tickets.md` is the whole story.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::config;
use crate::config::error::Problem;
use crate::config::plan::SessionTickets;
use crate::core::ticket_roots::{RootsError, TicketRoots, Waiting};
use crate::tls::stek::secret_file::{self, Exposure, SecretFileError};
use crate::tls::stek::{StekError, StekKeys, random_root};
use table::moment;

mod root_file;
mod table;

/// The command and its arguments.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub struct StekCommand {
    #[command(subcommand)]
    action: Action,
}

/// Why `stek` did nothing. Every message says what to do where that is not plain.
#[derive(Debug, thiserror::Error)]
pub enum StekCommandError {
    #[error("the configuration has {} problems", .0.len())]
    Configuration(Vec<Problem>),
    #[error(
        "{} exists already and is never overwritten: `portcullis stek rotate` puts a new root \
         into it",
        path.display()
    )]
    Exists { path: PathBuf },
    #[error("{} {error}{}", path.display(), advice(error))]
    File { path: PathBuf, error: SecretFileError },
    #[error(
        "{} {error}: it is no root file and is left as it is; `portcullis stek init` makes one",
        path.display()
    )]
    NotRoots { path: PathBuf, error: RootsError },
    #[error(
        "{} {error}: `portcullis stek rotate --revoke` replaces all that is in it",
        path.display()
    )]
    Unsound { path: PathBuf, error: RootsError },
    #[error(
        "a root in {} comes into force at {at} and the new one would before it: choose a longer --in, \
         or --revoke to replace them all",
        path.display()
    )]
    Waiting { path: PathBuf, at: String },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Keys(#[from] StekError),
    #[error("cannot print the result")]
    Print(#[source] io::Error),
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Make a root file, from which all nodes that have it derive the same keys
    Init(Init),
    /// Show which keys a node with this configuration holds now, without their secrets
    Status(Status),
    /// Put a new root into a root file: in time for a routine change, or at once after a theft
    Rotate(Rotate),
}

#[derive(Debug, Clone, Args)]
struct Init {
    /// The file to make, readable by you alone; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Clone, Args)]
struct Status {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = ROTATE_HELP)]
struct Rotate {
    /// The root file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How long the old root goes on, such as "30m" or "2h": time to copy the file to every node and
    /// to have each read it
    #[arg(long = "in", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    delay: Duration,
    /// Replace every root, now: no ticket that was sealed before opens any more
    #[arg(long, conflicts_with = "delay")]
    revoke: bool,
}

const AFTER_HELP: &str = "\
A ticket key lets its owner pass for any client: treat a root file like the key of a CA.

In the configuration:
  [session_tickets]
  source = { root = \"stek.root\" }

Examples:
  portcullis stek init stek.root                 once, then copied to every node
  portcullis stek status -c gateway.toml         the digest is the same on every node of a fleet
  portcullis stek rotate stek.root               a routine change; no client notices
  portcullis stek rotate --revoke stek.root      after a theft; every ticket becomes worthless";

const ROTATE_HELP: &str = "\
Routine change: `stek rotate FILE` adds a root that comes into force later. Copy the file to
every node and have each read it before then: nodes with the old and the new file stay one
fleet until that moment, and tickets of the old root open as long as they live. A root leaves
the file with the first change that comes 8 days after it went out of force.

Theft: `stek rotate --revoke FILE` makes all tickets and all stolen roots worthless on each
node that has read the new file, which it does when the file changes, or on SIGHUP. Copy it;
until then a node still believes the thief.";

/// Does what `command` says at `now` (Unix seconds), and prints to `out` what came of it.
///
/// # Errors
/// See `StekCommandError`. A file is changed whole or not at all.
pub fn run(command: &StekCommand, now: u64, out: &mut dyn Write) -> Result<(), StekCommandError> {
    let report = match &command.action {
        Action::Init(init) => init.run()?,
        Action::Status(status) => status.run(now)?,
        Action::Rotate(rotate) => rotate.run(now)?,
    };
    out.write_all(report.as_bytes()).and_then(|()| out.flush()).map_err(StekCommandError::Print)
}

impl Init {
    fn run(&self) -> Result<String, StekCommandError> {
        let path = &self.file;
        let roots = TicketRoots::new(&*random_root()?);
        root_file::create(path, &roots.render()).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => StekCommandError::Exists { path: path.clone() },
            _ => StekCommandError::Write { path: path.clone(), source },
        })?;
        Ok(format!(
            "made {path}   readable by you alone\n\
             Copy it to every node of the fleet, mode 0600, owned by the user that portcullis runs as \
             (or root's, with its group and mode 0640). In the configuration:\n\n    \
             [session_tickets]\n    \
             source = {{ root = {toml} }}\n\n\
             To see that all nodes hold the same keys, compare the digest:\n\n    \
             portcullis stek status -c gateway.toml\n",
            path = path.display(),
            toml = toml::Value::from(path.to_string_lossy().into_owned()),
        ))
    }
}

impl Status {
    fn run(&self, now: u64) -> Result<String, StekCommandError> {
        let plan = config::load(&self.config).map_err(StekCommandError::Configuration)?;
        let tickets = &plan.session_tickets;
        let SessionTickets { source, rotate, lifetime } = tickets;
        let keys = StekKeys::load(source, *rotate, *lifetime, now)
            .map_err(StekCommandError::Configuration)?;
        Ok(if self.json { table::json(tickets, &keys) } else { table::text(tickets, &keys) })
    }
}

impl Rotate {
    fn run(&self, now: u64) -> Result<String, StekCommandError> {
        let exposure = if self.revoke { Exposure::Accepted } else { Exposure::Refused };
        let bytes = secret_file::read(&self.file, exposure)
            .map_err(|error| StekCommandError::File { path: self.file.clone(), error })?;
        let roots = match TicketRoots::parse(&bytes) {
            Ok(roots) => Some(roots),
            // Whatever it is, it is not ours: a wrong name must not cost somebody's private key.
            Err(error @ (RootsError::NoMarker | RootsError::Empty)) => {
                return Err(StekCommandError::NotRoots { path: self.file.clone(), error });
            }
            Err(_) if self.revoke => None,
            Err(error) => {
                return Err(StekCommandError::Unsound { path: self.file.clone(), error });
            }
        };
        match roots.filter(|_| !self.revoke) {
            Some(roots) => self.add(roots, now),
            None => self.replace(),
        }
    }

    fn add(&self, mut roots: TicketRoots, now: u64) -> Result<String, StekCommandError> {
        let from = now.saturating_add(self.delay.as_secs());
        roots.add(&*random_root()?, from, now).map_err(|Waiting { from }| {
            StekCommandError::Waiting { path: self.file.clone(), at: moment(from) }
        })?;
        self.write(&roots)?;
        Ok(format!(
            "a new root in {path} comes into force at {at}, with the first change of keys from then on\n\
             Before that: copy the file to every node, which reads it when it changes, or on SIGHUP. \
             Tickets of the old root open as long as they live.\n",
            path = self.file.display(),
            at = moment(from),
        ))
    }

    fn replace(&self) -> Result<String, StekCommandError> {
        self.write(&TicketRoots::new(&*random_root()?))?;
        Ok(format!(
            "all roots in {path} are replaced\n\
             Now: copy the file to every node, which reads it when it changes, or on SIGHUP: its log says \
             \"session ticket keys changed\". One that has not read it still takes the tickets of \
             before, and whatever a thief makes with the old roots.\n",
            path = self.file.display(),
        ))
    }

    fn write(&self, roots: &TicketRoots) -> Result<(), StekCommandError> {
        root_file::replace(&self.file, &roots.render())
            .map_err(|source| StekCommandError::Write { path: self.file.clone(), source })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| {
        "write a whole number and a unit: \"30s\", \"10m\", \"2h\" or \"1d\"".to_owned()
    })
}

/// `: what to do`, where there is something to do. Paths of the command line are its user's.
fn advice(error: &SecretFileError) -> String {
    match error {
        SecretFileError::Read(_) => String::new(),
        SecretFileError::NotAFile | SecretFileError::Exposed(_) | SecretFileError::TooLong => {
            format!(": {}", error.help())
        }
    }
}

#[cfg(test)]
mod tests;
