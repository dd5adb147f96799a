//! `portcullis explain`: which listener and chain take a client, and whether it gets in, rule by rule.
//!
//! Runs what the gateway runs: the peek, the routers and the TLS terms of a `Snapshot`, offline. Binds
//! and connects nothing. `answer` asks, `text` and `json` write the answer down, `moment` is the time
//! that it is for.

mod answer;
mod json;
mod moment;
mod text;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ArgGroup;
use rustls_pki_types::CertificateDer;

use self::answer::{Answer, Client, Says};
use super::gateway::StartError;
use super::pki::PkiError;
use super::pki::certificate;
use super::problems;
use super::run::RunError;
use crate::config;
use crate::config::plan::Plan;
use crate::core::route::Transport;
use crate::tls::{Material, StekKeys, SupposeError, Version};
use crate::worker::Snapshot;

/// `portcullis explain`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("hello").required(true).args(["sni", "no_sni", "raw"]))]
pub struct ExplainCommand {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Only this listener, not all of them
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The name that the client asks for, as it sends it
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    sni: Option<String>,
    /// The client speaks TLS and names no server
    #[arg(long)]
    no_sni: bool,
    /// The client sends plain text
    #[arg(long, conflicts_with_all = ["alpn", "cert", "tls"])]
    raw: bool,
    /// ALPN protocols that the client offers, most preferred first
    #[arg(long, value_name = "PROTOCOL", num_args = 1.., value_parser = protocol)]
    alpn: Vec<String>,
    /// The address that the client comes from; must be said where chains are chosen by it
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// The certificate that the client shows, and what it sends with it: PEM, leaf first
    #[arg(long, value_name = "CHAIN.pem")]
    cert: Option<PathBuf>,
    /// The only version of TLS that the client speaks; left out, it speaks both
    #[arg(long, value_name = "1.2|1.3", value_parser = version)]
    tls: Option<Version>,
    /// As if it were then: `2026-12-24T18:00:00Z`, or from now on `+30d`, `-12h`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<String>,
    /// One line of JSON for programs (docs/explain.md has its fields)
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Does what the gateway does with the hello and the certificate of this client, by the same code,
and connects nowhere. For each rule it says `ok`, `refused`, `would be refused` (by one that only
audits) or `not asked`, and what it found. The client makes a full handshake, and is taken to
have the key of its certificate. Whether the upstream answers is not asked, and limits are not.

Examples:
  portcullis explain -c gateway.toml --sni orders.example.com --cert pki/alice.crt
  portcullis explain -c gateway.toml --sni orders.example.com --cert pki/alice.crt --at +30d
  portcullis explain -c gateway.toml --sni orders.example.com --alpn h2 --source 10.1.2.3 --json

Exit codes:
  0  it would get in, at one listener at least     1  it would be refused
  2  wrong usage, or the configuration is not valid";

/// 0: the client gets in at one listener at least; 1: it is refused; 2: there is no answer, and why
/// was printed.
pub fn explain(command: &ExplainCommand) -> ExitCode {
    match answers(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(unanswered) => {
            unanswered.print();
            ExitCode::from(UNANSWERED)
        }
    }
}

const REFUSED: u8 = 1;
const UNANSWERED: u8 = 2;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Configuration(#[from] RunError),
    #[error("there is no listener `{name}`: the listeners are {all}")]
    NoListener { name: String, all: String },
    #[error(
        "listener {listener} chooses chain {chain} by the client's source: say it with --source IP"
    )]
    NoSource { listener: Arc<str>, chain: Arc<str> },
    #[error("a hello of this gateway offers at most {PROTOCOLS_MAX} protocols")]
    Protocols,
    #[error("--at")]
    Moment(#[from] moment::MomentError),
    #[error(transparent)]
    Certificate(#[from] PkiError),
    #[error(transparent)]
    Client(#[from] SupposeError),
    #[error("the answer cannot be printed")]
    Print(#[source] io::Error),
}

impl Unanswered {
    fn print(&self) {
        // The exit code of a bad configuration is another one here.
        match self {
            Self::Configuration(error) => drop(problems::fail_to_start(error)),
            other => drop(problems::fail_with(other)),
        }
    }
}

/// Prints the answer; whether the client gets in anywhere.
fn answers(command: &ExplainCommand) -> Result<bool, Unanswered> {
    let now = moment::set(command.at.as_deref())?;
    let plan =
        config::load(&command.config).map_err(|found| invalid(StartError::Problems(found)))?;
    let material = material(&plan, now)?;
    for warning in material.warnings() {
        let mut warning = warning.clone();
        if command.at.is_some() {
            warning.help = moment::given(&warning.help);
        }
        // It is no part of the answer, and where standard error is closed nobody reads it.
        drop(writeln!(io::stderr().lock(), "warning: {warning}"));
    }
    let snapshot =
        Snapshot::first(plan, material, 1).map_err(|found| invalid(StartError::Chains(found)))?;
    let listeners = listeners(command, &snapshot.plan)?;
    let client = client(command, now)?;
    let mut answers = Vec::new();
    for listener in listeners {
        let mut answer = Answer::of(&snapshot, listener, &client)?;
        if let (Some(refusal), false) = (&mut answer.explanation.refusal, client.is_now) {
            let hint = moment::given(refusal.hint());
            if let Some(evidence) = &mut refusal.evidence {
                evidence.hint = Some(hint);
            }
        }
        answers.push(answer);
    }
    let mut out = Vec::new();
    if command.json {
        json::write(&client, &answers, &mut out);
    } else {
        text::write(&client, &answers, &mut out);
    }
    io::stdout().lock().write_all(&out).map_err(Unanswered::Print)?;
    Ok(answers.iter().any(Answer::is_in))
}

/// What the plan names, but for ticket keys: this client has no ticket, and whoever asks need not be
/// allowed to read them.
fn material(plan: &Plan, now: u64) -> Result<Material, Unanswered> {
    let tickets = &plan.session_tickets;
    let stek = StekKeys::random(tickets.rotate, tickets.lifetime, now);
    let stek = Arc::new(stek.map_err(|error| invalid(StartError::Tickets(error)))?);
    Material::load(plan, &stek, 1, moment::moment, None)
        .map_err(|found| invalid(StartError::Problems(found)))
}

fn invalid(error: StartError) -> Unanswered {
    Unanswered::Configuration(RunError::Start(error))
}

/// Which listeners are asked, by their place in the plan.
fn listeners(command: &ExplainCommand, plan: &Plan) -> Result<Vec<usize>, Unanswered> {
    let is_meant = |name: &str| command.listener.as_deref().is_none_or(|meant| meant == name);
    let all = plan.listeners.iter().enumerate();
    let meant: Vec<_> =
        all.filter(|(_, one)| is_meant(&one.name)).map(|(place, _)| place).collect();
    if let (true, Some(name)) = (meant.is_empty(), &command.listener) {
        let names: Vec<_> = plan.listeners.iter().map(|listener| &*listener.name).collect();
        return Err(Unanswered::NoListener { name: name.clone(), all: names.join(", ") });
    }
    if command.source.is_none() {
        // An answer that rests on what was not said could be the wrong one.
        for listener in meant.iter().map(|place| &plan.listeners[*place]) {
            let is_raw = command.raw || listener.is_raw_only();
            let transport = if is_raw { Transport::Raw } else { Transport::Tls };
            let by_source = listener.chains.iter().find(|chain| {
                chain.matches.transport == transport && !chain.matches.sources.is_empty()
            });
            if let Some(chain) = by_source {
                let (listener, chain) = (Arc::clone(&listener.name), Arc::clone(&chain.name));
                return Err(Unanswered::NoSource { listener, chain });
            }
        }
    }
    Ok(meant)
}

fn client(command: &ExplainCommand, now: u64) -> Result<Client, Unanswered> {
    if command.alpn.len() > PROTOCOLS_MAX {
        return Err(Unanswered::Protocols);
    }
    let certificates: Vec<CertificateDer<'static>> = match &command.cert {
        None => Vec::new(),
        Some(path) => certificate::read(path)?,
    };
    let says = if command.raw { Says::PlainText } else { Says::Hello(command.sni.clone()) };
    Ok(Client {
        says,
        alpn: command.alpn.clone(),
        source: command.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_canonical(),
        is_source_said: command.source.is_some(),
        version: command.tls,
        certificates,
        now,
        is_now: command.at.is_none(),
    })
}

/// RFC 7301 §3.1.
fn protocol(text: &str) -> Result<String, String> {
    match text.len() {
        1..=255 => Ok(text.to_owned()),
        length => Err(format!("a protocol's name has 1 to 255 bytes, this has {length}")),
    }
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "1.2" => Ok(Version::Tls12),
        "1.3" => Ok(Version::Tls13),
        _ => Err("the versions are 1.2 and 1.3".to_owned()),
    }
}

/// As many as the gateway looks at for routing.
const PROTOCOLS_MAX: usize = 32;
