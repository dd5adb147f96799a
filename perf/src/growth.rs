//! Owns the question what grows: a handshake and a byte with one connection open and with thousands,
//! a handshake with one server name and with 100,000, of 1,000 tenants with one trust store and with one each.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::disturbance::{TRIES_MAX, least_disturbed};
use crate::note;
use crate::process::{Process, Programs, on_cores, run};
use crate::scaling::Own;
use crate::stage::{EDGE, Stage};
use crate::verdict::median;
use crate::way::{Leg, Mode, Way};

/// What a handshake and a byte cost as connections, names and trust stores become many
#[derive(Debug, Args)]
pub(crate) struct Growth {
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of handshakes in a window
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Mebibytes that stream
    #[arg(long, default_value_t = 2048)]
    mebibytes: u32,
    #[arg(long, default_value_t = 9_000)]
    connections: u32,
    #[arg(long, default_value_t = 100_000)]
    names: u32,
    #[arg(long, default_value_t = 1_000)]
    stores: u32,
}

/// A gateway with few of something, and one with many.
struct Pair<'a> {
    what: &'static str,
    few: Subject<'a>,
    many: Subject<'a>,
}

struct Subject<'a> {
    gateway: &'a Own,
    /// Server names and client certificates for the load.
    clients: Vec<String>,
    is_bulk: bool,
}

impl Growth {
    pub(crate) fn execute(&self, programs: &Programs) -> Result<String> {
        on_cores(&[1])?;
        let stage = Stage::set_up(programs)?;
        let tenants = Tenants::make(programs, &stage, self.stores)?;
        let file = |text: String, name: &str| -> Result<PathBuf> {
            fs::write(stage.file(name), text)?;
            Ok(stage.file(name))
        };
        let configurations = [
            file(named(&stage, 1)?, "few.toml")?,
            file(named(&stage, self.names)?, "names.toml")?,
            file(tenants.configuration(&stage, Stores::One)?, "store.toml")?,
            file(tenants.configuration(&stage, Stores::Each)?, "stores.toml")?,
        ];
        on_cores(&[0])?;
        let start = |file: &PathBuf| Own::with(programs, file);
        let own: Vec<Own> = configurations.iter().map(start).collect::<Result<_>>()?;
        let crowded = start(&configurations[0])?;
        on_cores(&[1])?;
        let [few, names, store, many_stores] = &own[..] else {
            bail!("not as many gateways as configurations");
        };
        let subject = |gateway, clients: &[String], is_bulk| Subject {
            gateway,
            clients: clients.to_vec(),
            is_bulk,
        };
        let (one, all) = (clients(&stage, 1)?, clients(&stage, self.names)?);
        let pairs = [
            Pair {
                what: "full handshake, open connections",
                few: subject(few, &one, false),
                many: subject(&crowded, &one, false),
            },
            Pair {
                what: "byte up, open connections",
                few: subject(few, &one, true),
                many: subject(&crowded, &one, true),
            },
            Pair {
                what: "full handshake, server names",
                few: subject(few, &one, false),
                many: subject(names, &all, false),
            },
            Pair {
                what: "full handshake, trust stores",
                few: subject(store, &tenants.clients(), false),
                many: subject(many_stores, &tenants.clients(), false),
            },
        ];
        let _held = self.hold(programs, &stage, &crowded)?;
        self.compare(programs, &stage, &pairs)
    }

    fn compare(&self, programs: &Programs, stage: &Stage, pairs: &[Pair<'_>]) -> Result<String> {
        let mut ratios = vec![Vec::new(); pairs.len()];
        for number in 1..=self.rounds {
            for (pair, ratios) in pairs.iter().zip(&mut ratios) {
                let figure = |subject| {
                    let window = || self.window(programs, stage, subject);
                    least_disturbed(pair.what, TRIES_MAX, window)
                };
                let ((few, _), (many, _)) = (figure(&pair.few)?, figure(&pair.many)?);
                note(format_args!("round {number}: {}: {few:.3}, {many:.3}", pair.what));
                ratios.push(many / few);
            }
        }
        let (connections, names, stores) = (self.connections, self.names, self.stores);
        let mut text =
            format!("from 1 to {connections} connections, {names} names, {stores} trust stores\n");
        for (pair, ratios) in pairs.iter().zip(ratios) {
            let ratio = median(ratios).context("no round")?;
            writeln!(text, "{:<44}CPU with many / with one   {ratio:.2}   bar 1.10", pair.what)?;
        }
        Ok(text)
    }

    fn hold(&self, programs: &Programs, stage: &Stage, gateway: &Own) -> Result<Process> {
        let mut hold = Command::new(&programs.load);
        hold.args(["hold", "--idle", "3600s", "--conns", &self.connections.to_string()]);
        hold.args(["--target", &gateway.address, "--sni", EDGE]);
        hold.arg("--client-cert").arg(stage.file("clients/alice.crt"));
        gateway.holding(&mut hold, self.connections, stage)
    }

    /// The gateway's CPU for each operation, and the share of the machine that others used.
    fn window(
        &self,
        programs: &Programs,
        stage: &Stage,
        subject: &Subject<'_>,
    ) -> Result<(f64, f64)> {
        let watch = subject.gateway.watch(std::slice::from_ref(stage))?;
        let mut load = Command::new(&programs.load);
        if subject.is_bulk {
            let bytes = format!("{}m", self.mebibytes);
            load.args(["stream", "--direction", "up", "--bytes", &bytes, "--sni", SINK]);
            load.arg("--client-cert").arg(stage.file("clients/alice.crt"));
        } else {
            let seconds = format!("{}s", self.seconds);
            load.args(["handshakes", "--quiet", "--cheap-client", "--conns", "16"]);
            load.args(["--warmup", "1s", "--duration", &seconds, "--groups", "x25519"]);
            load.args(&subject.clients);
        }
        let result = subject.gateway.load(load, stage)?;
        let figure = ["/server/cpu_us_per_hs", "/server_cpu_ns_per_byte"];
        let figure = figure.iter().find_map(|place| result.pointer(place)?.as_f64());
        Ok((figure.context("no figure in the result")?, watch.others()?))
    }
}

/// `EDGE` and more names, so many in all, on a thousand chains at most; and one with a sink behind it.
fn named(stage: &Stage, names: u32) -> Result<String> {
    let upstream = |mode| stage.upstream(Way { leg: Leg::Plain, mode });
    let (echo, sink) = (upstream(Mode::Echo)?, upstream(Mode::Sink)?);
    let mut text = head();
    let mut chain = |name: &str, names: &[String], cluster: &str| {
        write!(
            text,
            "[listener.edge.chain.{name}]\nmatch = {{ server_names = {names:?} }}\n\
             tls = \"edge\"\ncluster = \"{cluster}\"\n"
        )
    };
    let all: Vec<String> = (0..names).map(name).collect();
    for (number, names) in all.chunks(all.len().div_ceil(CHAINS_MAX).max(1)).enumerate() {
        chain(&format!("c{number}"), names, "echo")?;
    }
    chain("sink", &[SINK.to_owned()], "sink")?;
    write!(
        text,
        r#"[tls.downstream.edge]
certificates = [{{ chain = "pki/{EDGE}.crt", key = "pki/{EDGE}.key" }}]
trust        = "perf"
[trust.perf]
anchors = ["pki/ca.crt"]
[cluster.echo]
endpoints = ["{echo}"]
[cluster.sink]
endpoints = ["{sink}"]
"#
    )?;
    Ok(text)
}

fn name(number: u32) -> String {
    if number == 0 { EDGE.to_owned() } else { format!("tenant-{number}.{EDGE}") }
}

fn clients(stage: &Stage, names: u32) -> Result<Vec<String>> {
    let file = stage.file(&format!("names-{names}.csv"));
    fs::write(&file, (0..names).map(|number| name(number) + "\n").collect::<String>())?;
    let path = |path: &Path| path.display().to_string();
    let certificates = path(&stage.file("clients"));
    Ok(vec!["--sni-file".to_owned(), path(&file), "--client-cert".to_owned(), certificates])
}

/// Whom a tenant's clients are verified by.
#[derive(Clone, Copy)]
enum Stores {
    /// All CAs in one store.
    One,
    /// Its own CA, in a store of its own.
    Each,
}

/// A PKI of the load generator, each tenant with a CA of its own.
struct Tenants {
    folder: PathBuf,
    count: u32,
}

impl Tenants {
    fn make(programs: &Programs, stage: &Stage, count: u32) -> Result<Self> {
        let folder = stage.file(&format!("tenants-{count}"));
        let mut pki = Command::new(&programs.load);
        pki.args(["pki", "--tenants", &count.to_string(), "--clients", "1", "--out"]);
        run(pki.arg(&folder))?;
        Ok(Self { folder, count })
    }

    fn clients(&self) -> Vec<String> {
        let manifest = self.folder.join("pki.json").display().to_string();
        vec!["--tenants-from".to_owned(), manifest]
    }

    fn configuration(&self, stage: &Stage, stores: Stores) -> Result<String> {
        let upstream = stage.upstream(Way { leg: Leg::Plain, mode: Mode::Echo })?;
        let folder = self.folder.display();
        let mut text = head() + &format!("[cluster.only]\nendpoints = [\"{upstream}\"]\n");
        if let Stores::One = stores {
            write!(text, "[trust.all]\nanchors = [\"{folder}/client-cas.crt\"]\n")?;
        }
        for number in 0..self.count {
            let name = format!("t{number}");
            let trust = match stores {
                Stores::One => "all",
                Stores::Each => &name,
            };
            write!(
                text,
                r#"[listener.edge.chain.{name}]
match   = {{ server_names = ["{name}.test"] }}
tls     = "{name}"
cluster = "only"
[tls.downstream.{name}]
certificates = [{{ chain = "{folder}/{name}.test/server.crt", key = "{folder}/{name}.test/server.key" }}]
trust        = "{trust}"
"#
            )?;
            if let Stores::Each = stores {
                write!(
                    text,
                    "[trust.{name}]\nanchors = [\"{folder}/{name}.test/client-ca.crt\"]\n"
                )?;
            }
        }
        Ok(text)
    }
}

fn head() -> String {
    r#"[runtime]
workers = 1
[admin]
listen = "127.0.0.1:0"
[access_log]
path = "off"
[listener.edge]
address = "127.0.0.1:0"
"#
    .to_owned()
}

const SINK: &str = "sink.edge.test";
const CHAINS_MAX: usize = 1_000;
