//! `portcullis pki`: a certificate authority for development and tests, kept in one directory.
//!
//! It writes new files only, all of them or none; revocation lists alone are replaced. It never talks
//! to a network, and it is no CA for production: the CA's key lies beside its certificate. `ca`,
//! `leaf`, `crl` and `show` hold the commands, `issue` makes the certificates, `files` writes them.

use std::io::Write;
use std::time::SystemTime;

use clap::{Args, Subcommand};

pub use error::PkiError;

mod ca;
pub(super) mod certificate;
mod crl;
mod error;
mod files;
mod issue;
mod key;
mod leaf;
mod names;
mod pair;
mod revoked;
mod show;
mod validity;

/// The command and its arguments.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct PkiCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Make the CA: ca.crt, which those who trust it get, and ca.key, which nobody else gets
    Init(ca::Init),
    /// Make a CA below the CA: NAME.crt and NAME.key, for --issuer NAME
    Intermediate(ca::Intermediate),
    /// Make a server certificate: NAME.crt (certificate chain) and NAME.key (private key)
    Server(leaf::Server),
    /// Make a client certificate: NAME.crt (certificate chain) and NAME.key (private key)
    Client(leaf::Client),
    /// Make or renew the revocation list of a CA: ca.crl, or NAME.crl of an intermediate
    Crl(crl::Crl),
    /// Say what a certificate says, as the configuration wants it
    Show(show::Show),
}

/// Does what `command` says, with `now` for the certificates' validity, and prints to `out` what it
/// made and what to do with it.
///
/// # Errors
/// See `PkiError`. No file is left behind, unless only the printing failed; a revocation that was
/// written down stays so, and is in the next list.
pub fn run(command: &PkiCommand, now: SystemTime, out: &mut dyn Write) -> Result<(), PkiError> {
    let report = match &command.action {
        Action::Init(init) => init.run(now)?,
        Action::Intermediate(intermediate) => intermediate.run(now)?,
        Action::Server(server) => server.run(now)?,
        Action::Client(client) => client.run(now)?,
        Action::Crl(crl) => crl.run(now)?,
        Action::Show(show) => show.run(now)?,
    };
    out.write_all(report.as_bytes()).and_then(|()| out.flush()).map_err(PkiError::Print)
}

const EXAMPLES: &str = "\
Examples:
  portcullis pki init
  portcullis pki server edge.example.com
  portcullis pki client alice --spiffe spiffe://example.org/alice
  portcullis pki intermediate partners && portcullis pki client bob --issuer partners
  portcullis pki crl --revoke alice
  portcullis pki show pki/alice.crt";

#[cfg(test)]
mod tests;
