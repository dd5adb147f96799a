//! The stage of the demonstration: a folder with certificates and a configuration, three upstreams,
//! and a gateway that serves.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use crossbeam::channel::Receiver;

use super::DemoError;
use super::peers::{self, Upstream};
use crate::app::gateway::Gateway;
use crate::app::pki::{self, PkiCommand};
use crate::config::{self, Style, render};
use crate::sys::clock;
use crate::tls::peer::Pair;
use crate::worker::Report;

/// A tenant of the demonstration: a name that clients ask for, and what the gateway does with them.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) server_name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) short: &'static str,
}

/// The order is that of the chains in the configuration below.
pub(crate) static TENANTS: [Tenant; 3] = [
    Tenant {
        server_name: "a.demo.test",
        description: "mTLS is terminated, the upstream is reached over ready mTLS connections",
        short: "mTLS to mTLS",
    },
    Tenant {
        server_name: "b.demo.test",
        description: "mTLS is terminated, the upstream speaks plain TCP",
        short: "mTLS to plain",
    },
    Tenant {
        server_name: "c.demo.test",
        description: "passed through unopened, the upstream terminates mTLS itself",
        short: "passthrough",
    },
];

/// Everything that runs while the demonstration is given.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    gateway: Gateway,
    reports: Receiver<Report>,
    _upstreams: Vec<Upstream>,
}

/// Reports that wait to be looked at; once there are as many, the workers drop those that follow.
const REPORTS_MAX: usize = 4096;

/// A worker reports within milliseconds, on a machine that does nothing else.
const REPORT_PATIENCE: Duration = Duration::from_secs(10);

impl Stage {
    pub(crate) async fn set_up() -> Result<Self, DemoError> {
        let folder = tempfile::Builder::new().prefix("portcullis-demo-").tempdir();
        let folder = folder.map_err(|source| DemoError::Io {
            what: "cannot make a folder for certificates and configuration; set TMPDIR to one that can be written",
            source,
        })?;
        let root = folder.path();
        certificates(root)?;
        let ca = root.join("pki/ca.crt");
        let upstream_pair = Paths::new(root, "upstream");
        let no_upstream = |source| DemoError::Io { what: "an upstream did not start", source };
        let upstreams = vec![
            peers::tls_echo(&ca, upstream_pair.pair()).await.map_err(no_upstream)?,
            peers::plain_echo().await.map_err(no_upstream)?,
            peers::tls_echo(&ca, Paths::new(root, "c").pair()).await.map_err(no_upstream)?,
        ];
        let addresses = [0, 1, 2].map(|at: usize| upstreams[at].address);
        let file = root.join("portcullis.toml");
        std::fs::write(&file, configuration(addresses)).map_err(|source| DemoError::Io {
            what: "the configuration was not written",
            source,
        })?;
        let plan = config::load(&file)
            .map_err(|found| DemoError::Configuration(render(&found, Style::Plain)))?;
        let (sender, reports) = crossbeam::channel::bounded(REPORTS_MAX);
        let gateway = Gateway::start(plan, Some(&sender))?;
        Ok(Self { folder, gateway, reports, _upstreams: upstreams })
    }

    /// Where the gateway listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let mut addresses = self.gateway.addresses().into_iter().map(|(_, address)| address);
        addresses.next().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("pki/ca.crt")
    }

    /// A client certificate by its name.
    pub(crate) fn client(&self, name: &str) -> Paths {
        Paths::new(self.folder.path(), name)
    }

    /// Makes room for the reports to come: after a burst of load the workers drop them.
    pub(crate) fn forget_reports(&self) {
        self.reports.try_iter().take(REPORTS_MAX).for_each(drop);
    }

    /// The next report of a connection from `source`, within `REPORT_PATIENCE`.
    pub(crate) async fn report_of(&self, source: SocketAddr) -> Option<Report> {
        let until = clock::now() + REPORT_PATIENCE;
        while clock::now() < until {
            match self.reports.try_recv() {
                Ok(report) if report.source == source => return Some(report),
                Ok(_) => {}
                Err(_empty) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        None
    }

    /// Commands for whoever wants to look closer.
    pub(crate) fn try_by_hand(&self) -> String {
        let root = self.folder.path().display();
        let address = self.address();
        format!(
            "\nStill serving. Try it by hand:\n\n  \
             openssl s_client -connect {address} -servername a.demo.test \\\n    \
             -CAfile {root}/pki/ca.crt -cert {root}/pki/alice.crt -key {root}/pki/alice.key\n\n\
             What you type comes back. Leave out -cert and -key to be refused.\n\
             The configuration is {root}/portcullis.toml; Ctrl-C ends the demonstration.\n"
        )
    }

    /// Ends everything; the folder stays if it is to be kept.
    pub(crate) fn strike(mut self, keep: bool) {
        // A worker that was lost has said so in the log.
        drop(self.gateway.stop());
        if keep {
            // From here on it is the user's folder.
            let _kept: PathBuf = self.folder.keep();
        }
    }
}

/// The files of one certificate.
#[derive(Debug)]
pub(crate) struct Paths {
    chain: PathBuf,
    key: PathBuf,
}

impl Paths {
    fn new(root: &Path, name: &str) -> Self {
        let folder = root.join(if name == "mallory" { "rogue" } else { "pki" });
        Self { chain: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) }
    }

    pub(crate) fn pair(&self) -> Pair<'_> {
        Pair { chain: &self.chain, key: &self.key }
    }
}

/// Runs `portcullis pki`, as a user would.
fn certificates(root: &Path) -> Result<(), DemoError> {
    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        command: PkiCommand,
    }
    let now = std::time::UNIX_EPOCH + clock::wall();
    for line in PKI {
        let folder = root.join(if line.contains(" mallory") || line.contains("rogue") {
            "rogue"
        } else {
            "pki"
        });
        let words = ["pki"].into_iter().chain(line.split_whitespace());
        let words = words.map(Into::into).chain(["--dir".into(), folder.into_os_string()]);
        let line = Line::try_parse_from(words)
            .map_err(|error| DemoError::Configuration(error.to_string()))?;
        pki::run(&line.command, now, &mut io::sink())?;
    }
    Ok(())
}

const PKI: [&str; 8] = [
    "init",
    "server a.demo.test --dns b.demo.test --out-name edge",
    "server c.demo.test --out-name c",
    "server upstream.demo.test --out-name upstream",
    "client gateway",
    "client alice --uri spiffe://demo.test/alice",
    "init --name rogue",
    "client mallory",
];

fn configuration([a, b, c]: [SocketAddr; 3]) -> String {
    format!(
        r#"# Made by `portcullis demo`.
[listener.edge]
address = "127.0.0.1:0"

[listener.edge.chain.a]
match   = {{ server_names = ["a.demo.test"] }}
tls     = "edge"
cluster = "a"

[listener.edge.chain.b]
match   = {{ server_names = ["b.demo.test"] }}
tls     = "edge"
cluster = "b"

[listener.edge.chain.c]             # no `tls`: passed through unopened
match   = {{ server_names = ["c.demo.test"] }}
cluster = "c"

[tls.downstream.edge]
certificates = [{{ chain = "pki/edge.crt", key = "pki/edge.key" }}]
client_auth  = "require"
trust        = "demo"

[tls.upstream.a]
server_name = "upstream.demo.test"
trust       = "demo"
certificate = {{ chain = "pki/gateway.crt", key = "pki/gateway.key" }}

[trust.demo]
anchors = ["pki/ca.crt"]

[cluster.a]
endpoints = ["{a}"]
tls       = "a"
pool      = {{ ready_min = 4, ready_max = 64 }}

[cluster.b]
endpoints = ["{b}"]

[cluster.c]
endpoints = ["{c}"]
"#
    )
}
