//! Owns the flags that describe load, the same for every command that makes handshakes, and their
//! translation into a `RunPlan`. Read `plan.rs` for the values, `cli.rs` for the commands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::arrivals::{Rate, Spread};
use crate::clients::{Expect, NO_CERTIFICATE, Name, Order, Population, Sharing, server_name};
use crate::environment;
use crate::identity::Identity;
use crate::manifest::{Manifest, Tenant};
use crate::plan::{Close, Loop, Phases, RunPlan};
use crate::quantity;
use crate::server_trust::{ServerTrustFlags, VerifyServer};
use crate::session::{After, Confirm, Script};
use crate::source::Source;
use crate::tls_client::{TlsTerms, Version};
use crate::weights::{self, Weighted};

/// What load looks like.
#[derive(Debug, Clone, Args)]
pub struct LoadFlags {
    /// Server to connect to, HOST:PORT
    #[arg(long, value_name = "ADDR")]
    pub target: String,
    /// Length of the measured window
    #[arg(long, default_value = "10s", value_parser = quantity::duration)]
    pub duration: Duration,
    /// Time at full rate before measuring
    #[arg(long, default_value = "2s", value_parser = quantity::duration)]
    pub warmup: Duration,
    /// Open loop: time over which the rate climbs to its full value, before the warm-up
    #[arg(long, default_value = "0s", value_parser = quantity::duration)]
    pub ramp: Duration,
    /// Open loop: arrivals a second, `2000/s` or `500..5000:+500/10s`
    #[arg(long, conflicts_with = "conns")]
    pub rate: Option<Rate>,
    /// Open loop: poisson, uniform or burst:N
    #[arg(long, default_value = "poisson")]
    pub arrivals: Spread,
    /// Open loop: beyond so many in flight an arrival is dropped and counted as an error
    #[arg(long, default_value_t = 20_000)]
    pub max_inflight: u32,
    /// Closed loop: so many connections at once [default: 64, unless --rate is given]
    #[arg(long)]
    pub conns: Option<u32>,
    /// Share of connections that resume
    #[arg(long, default_value = "0", value_parser = quantity::share)]
    pub resume: f64,
    /// Who shares tickets
    #[arg(long, value_enum, default_value_t = Tickets::SharedPool)]
    pub tickets: Tickets,
    /// With --tickets per-client: virtual clients per thread
    #[arg(long, default_value_t = 256)]
    pub clients: u32,
    /// Server names with weights, `a.test=70,b.test=20`; `none` sends no SNI, a `!` before a name
    /// says that the server must refuse it
    #[arg(long, default_value = "localhost")]
    pub sni: String,
    /// Server names from a file, one NAME or NAME,WEIGHT a line
    #[arg(long, value_name = "CSV", conflicts_with = "sni")]
    pub sni_file: Option<PathBuf>,
    /// Server names and client certificates from a pki.json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sni", "sni_file", "client_cert"])]
    pub tenants_from: Option<PathBuf>,
    /// Client certificates: DIR (NAME.crt beside NAME.key), FILE, or CHAIN,KEY; repeatable
    #[arg(long, value_name = "DIR|FILE[,KEY]")]
    pub client_cert: Vec<String>,
    /// Weights of key types among client certificates, `ecdsa=8,rsa=2`
    #[arg(long)]
    pub cert_mix: Option<String>,
    /// Client certificates one after the other: all come before one comes again
    #[arg(long, conflicts_with = "cert_mix")]
    pub certs_in_turn: bool,
    /// Share of connections without a client certificate; the server must refuse them
    #[arg(long, default_value = "0", value_parser = quantity::share)]
    pub no_client_cert: f64,
    /// Shares of connections with flawed certificates of --tenants-from, `expired=0.01,revoked=1%`
    #[arg(long)]
    pub bad_cert: Option<String>,
    /// TLS versions: 1.3, 1.2, mix, or weights `1.3=9,1.2=1`
    #[arg(long, default_value = "1.3")]
    pub tls: String,
    /// Key-exchange groups, the preferred one first
    #[arg(long, default_value = "x25519,secp256r1,secp384r1")]
    pub groups: String,
    /// Cipher suites to offer, by their IANA names; all of a TLS version of which none is named
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub cipher_suites: Vec<String>,
    /// Application protocols to offer
    #[arg(long, value_delimiter = ',')]
    pub alpn: Vec<String>,
    /// Whether the server is believed.
    #[command(flatten)]
    pub server: ServerTrustFlags,
    /// Spend less CPU than a real client: no server verification, reused key shares
    #[arg(long, conflicts_with = "ca")]
    pub cheap_client: bool,
    /// What proves that the server accepted the client
    #[arg(long, value_enum, default_value_t = ConfirmFlag::Echo)]
    pub confirm: ConfirmFlag,
    /// After the proof: none, echo:N, hold:5s or stream:64k
    #[arg(long, default_value = "none", value_parser = after)]
    pub after: After,
    /// How connections end
    #[arg(long, value_enum, default_value_t = CloseFlag::Orderly)]
    pub close: CloseFlag,
    /// An attempt without proof after this long has failed; after the proof, one that hears nothing
    /// for so long
    #[arg(long, default_value = "10s", value_parser = quantity::duration)]
    pub timeout: Duration,
    /// Local addresses: ADDRESS/BITS, off, or auto (127.9.0.0/16 for loopback targets)
    #[arg(long, default_value = "auto")]
    pub source: Source,
    /// Load threads
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// CPU of the first load thread; the others follow
    #[arg(long, value_name = "CPU")]
    pub pin: Option<usize>,
    /// Seed of all random choices
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Open loop: a larger start delay at the 99th percentile makes the run invalid
    #[arg(long, default_value = "10ms", value_parser = quantity::duration)]
    pub lag_max: Duration,
    /// Process id of the server: reports its CPU per handshake and its memory
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
}

/// `--tickets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tickets {
    /// Connections with the same name and certificate share
    SharedPool,
    /// Each virtual client keeps its own
    PerClient,
}

/// `--confirm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConfirmFlag {
    /// A byte comes back through the upstream
    Echo,
    /// A session ticket arrives
    Ticket,
    /// The server answers close_notify
    Close,
    /// Nothing: counts refused clients as accepted
    None,
}

/// `--close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CloseFlag {
    /// close_notify and FIN
    #[value(name = "close_notify+fin", alias = "orderly")]
    Orderly,
    /// FIN alone
    Fin,
    /// RST
    Rst,
    /// Drop the descriptor
    Abort,
}

impl LoadFlags {
    /// The plan that these flags describe.
    ///
    /// # Errors
    /// Files that cannot be read, names that are none, contradictions.
    pub fn plan(&self) -> Result<RunPlan> {
        let pace = match (self.rate, self.conns) {
            (Some(rate), _) => {
                Loop::Open { rate, spread: self.arrivals, in_flight_max: self.max_inflight.max(1) }
            }
            (None, conns) => Loop::Closed { connections: conns.unwrap_or(64).max(1) },
        };
        let population = self.population()?;
        population.check_flaws()?;
        if self.threads == 0 || self.threads > 1024 {
            bail!("--threads is between 1 and 1024");
        }
        if self.cheap_client && self.server.verify_server == Some(VerifyServer::On) {
            bail!("--cheap-client verifies no server: leave out one of the two");
        }
        if self.duration.is_zero() || self.timeout.is_zero() {
            bail!("--duration and --timeout are above zero");
        }
        environment::check_pin(self.pin, self.threads)?;
        let target = resolve(&self.target)?;
        if target.is_ipv6() && matches!(self.source, Source::Network { .. }) {
            bail!("--source is an IPv4 network, and {target} an IPv6 address: leave it out");
        }
        Ok(RunPlan {
            target,
            pace,
            phases: Phases {
                ramp: if self.rate.is_some() { self.ramp } else { Duration::ZERO },
                warmup: self.warmup,
                measured: self.duration,
            },
            population: Arc::new(population),
            terms: TlsTerms {
                groups: self.groups.clone(),
                cipher_suites: self.cipher_suites.clone(),
                alpn: self.alpn.clone(),
                roots: self.server.roots(|| self.tenants_server_cas())?,
                cheap: self.cheap_client,
            },
            script: Script { confirm: self.confirm.into(), after: self.after },
            close: self.close.into(),
            timeout: self.timeout,
            source: self.source,
            threads: self.threads,
            pin: self.pin,
            seed: self.seed,
            lag_max: self.lag_max,
        })
    }

    fn population(&self) -> Result<Population> {
        let mut identities = vec![Identity::none()];
        let names = match &self.tenants_from {
            Some(path) => {
                let manifest = Manifest::read(path)?;
                manifest
                    .tenants
                    .iter()
                    .map(|tenant| Ok((self.tenant(tenant, &mut identities)?, 1.0)))
                    .collect::<Result<Vec<_>>>()?
            }
            None => self.plain_names(&mut identities)?,
        };
        let (names, weights): (Vec<Name>, Vec<f64>) = names.into_iter().unzip();
        let mut flaws = match &self.bad_cert {
            Some(text) => text
                .split(',')
                .map(|part| {
                    let (flaw, share) =
                        part.split_once('=').context("--bad-cert takes FLAW=SHARE")?;
                    Ok((flaw.to_owned(), quantity::share(share)?))
                })
                .collect::<Result<Vec<_>>>()?,
            None => Vec::new(),
        };
        if self.no_client_cert > 0.0 {
            flaws.push(("none".to_owned(), self.no_client_cert));
        }
        Ok(Population {
            choice: Weighted::new(weights.into_iter().enumerate().collect())
                .context("there is no server name")?,
            names,
            identities,
            order: if self.certs_in_turn { Order::InTurn } else { Order::Random },
            versions: versions(&self.tls)?,
            resume: self.resume,
            sharing: match self.tickets {
                Tickets::SharedPool => Sharing::Pool,
                Tickets::PerClient => Sharing::PerClient(self.clients.max(1)),
            },
            flaws,
        })
    }

    /// The CAs of the tenants' servers.
    fn tenants_server_cas(&self) -> Result<Vec<PathBuf>> {
        let Some(path) = &self.tenants_from else { return Ok(Vec::new()) };
        let manifest = Manifest::read(path)?;
        let cas: BTreeSet<PathBuf> =
            manifest.tenants.into_iter().map(|tenant| tenant.server_ca).collect();
        Ok(cas.into_iter().collect())
    }

    fn tenant(&self, tenant: &Tenant, identities: &mut Vec<Identity>) -> Result<Name> {
        let mut indices = Vec::new();
        for pair in &tenant.clients {
            indices.push(identities.len());
            identities.push(pair.identity()?);
        }
        let mut flawed = BTreeMap::<String, Vec<usize>>::new();
        for bad in &tenant.bad {
            flawed.entry(bad.flaw.clone()).or_default().push(identities.len());
            identities.push(bad.pair.identity()?);
        }
        Ok(Name {
            text: tenant.server_name.clone(),
            server: server_name(&tenant.server_name)?,
            expect: Expect::Accept,
            identities: self.mixed(&indices, identities)?,
            flawed,
        })
    }

    fn plain_names(&self, identities: &mut Vec<Identity>) -> Result<Vec<(Name, f64)>> {
        let pairs = match &self.sni_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                text.lines()
                    .map(|line| weights::parse(&line.replacen(',', "=", 1)))
                    .collect::<Result<Vec<_>>>()?
                    .concat()
            }
            None => weights::parse(&self.sni)?,
        };
        let first = identities.len();
        for spec in &self.client_cert {
            identities.extend(Identity::load(spec)?);
        }
        let indices: Vec<usize> = (first..identities.len()).collect();
        let mix = self.mixed(&indices, identities)?;
        pairs
            .into_iter()
            .map(|(text, weight)| {
                let (text, expect) = match text.strip_prefix('!') {
                    Some(rest) => (rest.to_owned(), Expect::Refuse),
                    None => (text, Expect::Accept),
                };
                let server = server_name(&text)?;
                let flawed = BTreeMap::new();
                Ok((Name { text, server, expect, identities: mix.clone(), flawed }, weight))
            })
            .collect()
    }

    /// The certificates at `indices`, weighted by `--cert-mix`; no certificate if there are none.
    fn mixed(&self, indices: &[usize], identities: &[Identity]) -> Result<Weighted<usize>> {
        if indices.is_empty() {
            return Weighted::new(vec![(NO_CERTIFICATE, 1.0)]);
        }
        let Some(mix) = &self.cert_mix else {
            return Weighted::new(indices.iter().map(|index| (*index, 1.0)).collect());
        };
        let mut pairs = Vec::new();
        for (key_type, weight) in weights::parse(mix)? {
            let of_type: Vec<usize> = indices
                .iter()
                .copied()
                .filter(|index| identities[*index].key_type == key_type)
                .collect();
            if of_type.is_empty() {
                bail!("--cert-mix: there is no client certificate with an {key_type} key");
            }
            // A type's weight is shared by its certificates.
            let each = weight / quantity::float(of_type.len() as u64);
            pairs.extend(of_type.into_iter().map(|index| (index, each)));
        }
        Weighted::new(pairs)
    }
}

/// The first address of a host.
///
/// # Errors
/// Unknown hosts.
pub fn resolve(target: &str) -> Result<SocketAddr> {
    target
        .to_socket_addrs()
        .with_context(|| format!("{target:?} is not HOST:PORT or does not resolve"))?
        .next()
        .with_context(|| format!("{target:?} has no address"))
}

fn versions(text: &str) -> Result<Weighted<Version>> {
    let text = if text == "mix" { "1.3,1.2" } else { text };
    let pairs = weights::parse(text)?
        .into_iter()
        .map(|(name, weight)| match name.as_str() {
            "1.3" => Ok((Version::Tls13, weight)),
            "1.2" => Ok((Version::Tls12, weight)),
            _ => bail!("--tls: {name:?} is neither 1.2 nor 1.3"),
        })
        .collect::<Result<Vec<_>>>()?;
    Weighted::new(pairs)
}

fn after(text: &str) -> Result<After> {
    if text == "none" {
        return Ok(After::None);
    }
    let (verb, amount) =
        text.split_once(':').context("use none, echo:N, hold:TIME or stream:SIZE")?;
    Ok(match verb {
        "echo" => After::Echo(amount.parse().context("echo:N needs a number")?),
        "hold" => After::Hold(quantity::duration(amount)?),
        "stream" => After::Stream(quantity::size(amount)?),
        _ => bail!("use none, echo:N, hold:TIME or stream:SIZE"),
    })
}

impl From<ConfirmFlag> for Confirm {
    fn from(flag: ConfirmFlag) -> Self {
        match flag {
            ConfirmFlag::Echo => Self::Echo,
            ConfirmFlag::Ticket => Self::Ticket,
            ConfirmFlag::Close => Self::Close,
            ConfirmFlag::None => Self::None,
        }
    }
}

impl From<CloseFlag> for Close {
    fn from(flag: CloseFlag) -> Self {
        match flag {
            CloseFlag::Orderly => Self::Orderly,
            CloseFlag::Fin => Self::Fin,
            CloseFlag::Rst => Self::Reset,
            CloseFlag::Abort => Self::Abort,
        }
    }
}
