//! `portcullis pki`: a certificate authority for development and tests, kept in one directory.
//!
//! It writes new files only: nothing is overwritten, and nothing is written unless all of it can
//! be. It never talks to a network, and it is no CA for production: there is no revocation and the
//! CA's key lies beside its certificate. `issue` makes the certificates, `files` writes them.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};

use files::NewFile;
use issue::{Issued, Issuing, Subject};
use names::{AlternativeName, dns_name, email, file_stem, server_name, uri};

mod files;
mod issue;
mod names;

/// The command and its arguments.
#[derive(Debug, Clone, Args)]
pub struct PkiCommand {
    #[command(subcommand)]
    action: Action,
}

/// Why `pki` made nothing. Every message says what to do where that is not plain.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error(
        "{} exists already and is never overwritten: move it away, or choose another {option}",
        path.display()
    )]
    Exists { path: PathBuf, option: &'static str },
    #[error("no CA in {0}: make one with `portcullis pki init --dir {0}`", directory.display())]
    NoAuthority { directory: PathBuf },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no CA certificate: {reason}", path.display())]
    NotAnAuthority { path: PathBuf, reason: &'static str },
    #[error("{} is no private key that this program reads", path.display())]
    NotAKey { path: PathBuf, source: rcgen::Error },
    #[error("{} is not the private key of {}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("the CA in {} expired on {date}: make a new one in another --dir", path.display())]
    Expired { path: PathBuf, date: String },
    #[error("`{name}` gives no file name: choose one with --out-name")]
    NoFileName { name: String },
    #[error("the clock stands before 1970")]
    Clock,
    #[error("cannot make a serial number: the system gives no randomness")]
    NoRandomness,
    #[error("cannot issue the certificate")]
    Issue(#[from] rcgen::Error),
    #[error("cannot print the result")]
    Print(#[source] io::Error),
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Make the CA: ca.crt, which those who trust it get, and ca.key, which nobody else gets
    Init(Init),
    /// Make a server certificate: NAME.crt (certificate chain) and NAME.key (private key)
    Server(Server),
    /// Make a client certificate: NAME.crt (certificate chain) and NAME.key (private key)
    Client(Client),
}

#[derive(Debug, Clone, Args)]
struct Init {
    #[command(flatten)]
    place: Place,
    /// The CA's common name, which people see where its certificates are shown
    #[arg(long, default_value = "Portcullis development CA")]
    name: String,
    /// Kind of the private key: ECDSA P-256, or RSA with 3072 bits
    #[arg(long, value_enum, default_value_t = KeyKind::Ecdsa)]
    key: KeyKind,
    /// Days until the CA expires; what it signed is worth nothing after that
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

#[derive(Debug, Clone, Args)]
struct Server {
    /// DNS names, wildcards or IP addresses that clients use for this server; the first one also
    /// names the files
    #[arg(value_name = "NAME", required = true, value_parser = server_name)]
    names: Vec<AlternativeName>,
    /// One more DNS name, such as `*.example.com`; may be given several times
    #[arg(long, value_name = "NAME", value_parser = dns_name)]
    dns: Vec<AlternativeName>,
    /// One more IP address; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    #[command(flatten)]
    leaf: Leaf,
}

#[derive(Debug, Clone, Args)]
struct Client {
    /// The client's common name; it also names the files
    #[arg(value_name = "NAME")]
    name: String,
    /// A URI to be known by, such as `spiffe://example.org/ns/orders/sa/web`; may be given several
    /// times
    #[arg(long, value_name = "URI", value_parser = uri)]
    uri: Vec<AlternativeName>,
    /// A DNS name to be known by; may be given several times
    #[arg(long, value_name = "NAME", value_parser = dns_name)]
    dns: Vec<AlternativeName>,
    /// An e-mail address to be known by; may be given several times
    #[arg(long, value_name = "ADDRESS", value_parser = email)]
    email: Vec<AlternativeName>,
    #[command(flatten)]
    leaf: Leaf,
}

#[derive(Debug, Clone, Args)]
struct Leaf {
    #[command(flatten)]
    place: Place,
    /// Name of the files, without .crt and .key
    #[arg(long, value_name = "NAME")]
    out_name: Option<String>,
    /// Kind of the private key: ECDSA P-256, or RSA with 2048 bits
    #[arg(long, value_enum, default_value_t = KeyKind::Ecdsa)]
    key: KeyKind,
    /// Days until the certificate expires, but never later than the CA
    #[arg(long, default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

#[derive(Debug, Clone, Args)]
struct Place {
    /// The directory of the CA and of all that it signed
    #[arg(long, value_name = "DIRECTORY", default_value = "pki")]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyKind {
    Ecdsa,
    Rsa,
}

/// Does what `command` says, with `now` for the certificates' validity, and prints to `out` what it
/// made and what to do with it.
///
/// # Errors
/// See `PkiError`. No file is left behind, unless only the printing failed.
pub fn run(command: &PkiCommand, now: SystemTime, out: &mut dyn Write) -> Result<(), PkiError> {
    let report = match &command.action {
        Action::Init(init) => init.run(now)?,
        Action::Server(server) => server.run(now)?,
        Action::Client(client) => client.run(now)?,
    };
    out.write_all(report.as_bytes()).and_then(|()| out.flush()).map_err(PkiError::Print)
}

impl Init {
    fn run(&self, now: SystemTime) -> Result<String, PkiError> {
        let pair = Pair::new(&self.place.dir, "ca");
        pair.refuse_existing("--dir")?;
        let issued = issue::authority(&self.name, self.key, self.days, now)?;
        pair.write(&issued, "--dir")?;
        let dir = self.place.dir.display();
        Ok(format!(
            "{made}\n\
             Give {ca} to those who are to trust it, and the key to nobody. In the configuration:\n\n\
             {trust}\n\
             Next, a server and a client:\n\n    \
             portcullis pki server localhost 127.0.0.1 --dir {dir}\n    \
             portcullis pki client alice --dir {dir}\n",
            made = pair.made(&issued),
            ca = pair.certificate.display(),
            trust = toml_lines(&["[trust.development]", &anchors(&pair.certificate)]),
        ))
    }
}

impl Server {
    fn run(&self, now: SystemTime) -> Result<String, PkiError> {
        let mut names = self.names.clone();
        names.extend(self.dns.iter().cloned());
        names.extend(self.ip.iter().copied().map(AlternativeName::Ip));
        // The parser saw to it that there is a first name.
        let first = names.first().map(ToString::to_string).unwrap_or_default();
        let (pair, issued) = self.leaf.issue(&Subject::server(&first, names), now)?;
        let ca = self.leaf.place.dir.join("ca.crt");
        let host = first.strip_prefix("*.").map_or(first.clone(), |rest| format!("any.{rest}"));
        Ok(format!(
            "{made}\n\
             In the configuration:\n\n\
             {toml}\n\
             To see what a client sees, with the gateway on port 8443:\n\n    \
             openssl s_client -connect localhost:8443 -servername {host} -CAfile {ca} \
             -verify_return_error </dev/null\n",
            made = pair.made(&issued),
            toml = toml_lines(&[
                "[tls.downstream.NAME]",
                &format!("certificates = [{}]", pair.inline_table()),
            ]),
            ca = ca.display(),
        ))
    }
}

impl Client {
    fn run(&self, now: SystemTime) -> Result<String, PkiError> {
        let names = [&self.uri[..], &self.dns[..], &self.email[..]].concat();
        let (pair, issued) = self.leaf.issue(&Subject::client(&self.name, names), now)?;
        let ca = self.leaf.place.dir.join("ca.crt");
        Ok(format!(
            "{made}\n\
             To connect as this client, with the gateway on port 8443 and SERVER as its name:\n\n    \
             openssl s_client -connect localhost:8443 -servername SERVER -CAfile {ca} \
             -cert {cert} -cert_chain {cert} -key {key}\n\n\
             Who lets it in, in the configuration:\n\n\
             {toml}",
            made = pair.made(&issued),
            ca = ca.display(),
            cert = pair.certificate.display(),
            key = pair.key.display(),
            toml = toml_lines(&[
                "[tls.downstream.NAME]",
                r#"client_auth = "require""#,
                r#"trust = "development""#,
                "",
                "[trust.development]",
                &anchors(&ca),
            ]),
        ))
    }
}

impl Leaf {
    fn issue(&self, subject: &Subject, now: SystemTime) -> Result<(Pair, Issued), PkiError> {
        let stem = match &self.out_name {
            Some(name) => file_stem(name),
            None => file_stem(&subject.common_name),
        };
        let stem =
            stem.ok_or_else(|| PkiError::NoFileName { name: subject.common_name.clone() })?;
        let pair = Pair::new(&self.place.dir, &stem);
        pair.refuse_existing("--out-name")?;
        let authority = Pair::new(&self.place.dir, "ca");
        let issuing = Issuing::load(&authority, now)?;
        let issued = issuing.leaf(subject, self.key, self.days, now)?;
        pair.write(&issued, "--out-name")?;
        Ok((pair, issued))
    }
}

/// The two files of a certificate.
#[derive(Debug)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn new(directory: &Path, stem: &str) -> Self {
        // Not `with_extension`: the stem of `www.example.com` is all of it.
        let file = |extension| directory.join(format!("{stem}.{extension}"));
        Self { certificate: file("crt"), key: file("key") }
    }

    fn refuse_existing(&self, option: &'static str) -> Result<(), PkiError> {
        files::refuse_existing([&self.certificate, &self.key], option)
    }

    fn write(&self, issued: &Issued, option: &'static str) -> Result<(), PkiError> {
        let files = [
            NewFile { path: &self.key, text: &issued.key, mode: 0o600 },
            NewFile { path: &self.certificate, text: &issued.chain, mode: 0o644 },
        ];
        files::write_all(&files, option)
    }

    fn made(&self, issued: &Issued) -> String {
        format!(
            "made {certificate}   {summary}\nmade {key}   its private key, readable by you alone\n",
            certificate = self.certificate.display(),
            key = self.key.display(),
            summary = issued.summary,
        )
    }

    fn inline_table(&self) -> String {
        format!("{{ chain = {}, key = {} }}", toml_path(&self.certificate), toml_path(&self.key))
    }
}

fn anchors(certificate: &Path) -> String {
    format!("anchors = [{}]", toml_path(certificate))
}

fn toml_path(path: &Path) -> String {
    toml::Value::from(path.to_string_lossy().into_owned()).to_string()
}

fn toml_lines(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests;
