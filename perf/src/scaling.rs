//! Owns the question what a second worker costs: one against two at the same offered load, and how
//! evenly long connections lie on them.
//!
//! Load, upstreams and gateway share two cores here. On each there is a half of the load and one of two
//! upstreams, so that half of whom a worker talks to is on its own core, be it the only one or one of two.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::disturbance::{TRIES_MAX, Watch, least_disturbed};
use crate::note;
use crate::process::{Process, Programs, on_cores, run};
use crate::stage::{EDGE, SUITES, Stage};
use crate::verdict::median;
use crate::way::{Leg, Mode, Way};

/// One worker against two at the same offered load, and 64 connections on two
#[derive(Debug, Args)]
pub(crate) struct Workers {
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of a window
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Handshakes a second
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Mebibytes a second of all eight streams
    #[arg(long, default_value_t = 1000)]
    stream_rate: u32,
    /// Only this work, and no long connections: full, resumed, bulk-up
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// What a second worker is asked for.
const WORKS: [&str; 3] = ["full", "resumed", "bulk-up"];

/// A gateway whose configuration is made here.
#[derive(Debug)]
pub(crate) struct Own {
    process: Process,
    pub(crate) address: String,
    admin: String,
}

impl Workers {
    pub(crate) fn execute(&self, programs: &Programs) -> Result<String> {
        let stages = stages(programs)?;
        let works = self.works()?;
        let mut ratios = vec![Vec::new(); works.len()];
        for number in 1..=self.rounds {
            for (work, ratios) in works.iter().zip(&mut ratios) {
                let figure = |workers| {
                    let place = format!("{work} with {workers}");
                    let window = || self.window(programs, &stages, work, workers);
                    least_disturbed(&place, TRIES_MAX, window)
                };
                let ((one, _), (two, _)) = (figure(1)?, figure(2)?);
                note(format_args!("round {number}: {work}: {one:.3} with 1, {two:.3} with 2"));
                ratios.push(two / one);
            }
        }
        let mut text = String::new();
        for (work, ratios) in works.iter().zip(ratios) {
            let ratio = median(ratios).context("no round")?;
            writeln!(text, "{work:<44}CPU with 2 workers / with 1   {ratio:.2}   bar 1.10")?;
        }
        if !self.only.is_empty() {
            return Ok(text);
        }
        let spread = most_over_mean(programs, &stages)?;
        writeln!(
            text,
            "{:<44}most / mean on 2 workers      {spread:.2}   bar 1.10",
            "64 connections"
        )?;
        Ok(text)
    }

    fn works(&self) -> Result<Vec<&'static str>> {
        for name in &self.only {
            ensure!(
                WORKS.contains(&name.as_str()),
                "no work is called {name}: {}",
                WORKS.join(", ")
            );
        }
        let is_wanted =
            |work: &&str| self.only.is_empty() || self.only.iter().any(|name| name == work);
        Ok(WORKS.into_iter().filter(is_wanted).collect())
    }

    /// CPU of the gateway's process for each operation of both halves of the load, and the share of the
    /// machine that others used.
    fn window(
        &self,
        programs: &Programs,
        stages: &[Stage; CORES],
        work: &str,
        workers: u32,
    ) -> Result<(f64, f64)> {
        let mode = if work == "bulk-up" { Mode::Sink } else { Mode::Echo };
        let gateway = Own::start(programs, stages, workers, mode)?;
        let watch = gateway.watch(stages)?;
        let half = |core: usize| {
            on_cores(&[core])?;
            let result = gateway.load(self.half_of(work, programs, &stages[0]), &stages[core])?;
            let figure = ["/server/cpu_us_per_hs", "/server_cpu_ns_per_byte"];
            let figure = figure.iter().find_map(|place| result.pointer(place)?.as_f64());
            figure.context("no figure in the result")
        };
        let figures = std::thread::scope(|scope| {
            let halves = [0, 1].map(|core| scope.spawn(move || half(core)));
            halves.map(|half| half.join().unwrap_or_else(|_| bail!("a half of the load panicked")))
        });
        // Each has the CPU for both by its own operations only.
        let by_cpu: f64 =
            figures.into_iter().map(|figure| Ok(1.0 / figure?)).sum::<Result<f64>>()?;
        Ok((1.0 / by_cpu, watch.others()?))
    }

    /// The load of one core.
    fn half_of(&self, work: &str, programs: &Programs, stage: &Stage) -> Command {
        let mut load = Command::new(&programs.load);
        if work == "bulk-up" {
            let rate = f64::from(self.stream_rate) / 8.0;
            load.args(["stream", "--direction", "up", "--streams", "4", "--sessions", "4"]);
            load.args(["--rate", &format!("{rate}m")]);
            load.args(["--bytes", &format!("{}m", rate * self.seconds)]);
            load.arg("--client-cert").arg(stage.file("clients/alice.crt"));
        } else {
            let resume = if work == "resumed" { "1" } else { "0" };
            let rate = format!("{}/s", f64::from(self.rate) / 2.0);
            load.args(["handshakes", "--quiet", "--cheap-client", "--warmup", "1s"]);
            load.args(["--rate", &rate, "--duration", &format!("{}s", self.seconds)]);
            load.args(["--resume", resume, "--groups", "x25519", "--lag-max", "10s"]);
            load.arg("--client-cert").arg(stage.file("clients"));
        }
        load
    }
}

/// Upstreams on either core; certificates are those of the first.
fn stages(programs: &Programs) -> Result<[Stage; CORES]> {
    on_cores(&[0])?;
    let first = Stage::set_up(programs)?;
    on_cores(&[1])?;
    let second = Stage::set_up(programs)?;
    on_cores(&[0, 1])?;
    Ok([first, second])
}

/// How many connections the busier worker has, by the mean.
fn most_over_mean(programs: &Programs, stages: &[Stage; CORES]) -> Result<f64> {
    let gateway = Own::start(programs, stages, 2, Mode::Echo)?;
    let stage = &stages[0];
    let mut hold = Command::new(&programs.load);
    hold.args(["hold", "--conns", "64", "--idle", "600s", "--target", &gateway.address]);
    hold.args(["--sni", EDGE]).arg("--client-cert").arg(stage.file("clients/alice.crt"));
    let _held = gateway.holding(&mut hold, 64, stage)?;
    let open = gateway.open_by_worker()?;
    let most = open.iter().copied().fold(0.0, f64::max);
    let all: f64 = open.iter().sum();
    ensure!(open.len() == 2 && all >= 64.0, "open connections by worker: {open:?}");
    Ok(most * 2.0 / all)
}

impl Own {
    fn start(
        programs: &Programs,
        stages: &[Stage; CORES],
        workers: u32,
        mode: Mode,
    ) -> Result<Self> {
        let [first, second] = stages;
        let way = Way { leg: Leg::Plain, mode };
        let (near, far) = (first.upstream(way)?, second.upstream(way)?);
        let file = first.file("own.toml");
        let text = format!(
            r#"[runtime]
workers = {workers}
[admin]
listen = "127.0.0.1:0"
[access_log]
path = "off"
[listener.edge]
address = "127.0.0.1:0"
[listener.edge.chain.default]
tls     = "edge"
cluster = "only"
[tls.downstream.edge]
certificates = [{{ chain = "pki/{EDGE}.crt", key = "pki/{EDGE}.key" }}]
trust        = "perf"
[trust.perf]
anchors = ["pki/ca.crt"]
[cluster.only]
endpoints = ["{near}", "{far}"]
"#
        );
        fs::write(&file, text)?;
        Self::with(programs, &file)
    }

    /// With a configuration that has one listener, `edge`, and admin pages, on any ports.
    pub(crate) fn with(programs: &Programs, configuration: &Path) -> Result<Self> {
        let mut command = Command::new(&programs.gateway);
        let (process, line) =
            Process::start(command.args(["run", "-c"]).arg(configuration), "ready ")?;
        let word = |key: &str| {
            let mut words = line.split_whitespace();
            Some(words.find_map(|word| word.strip_prefix(key))?.to_owned())
        };
        let address = word("listener.edge=").context("no address")?;
        let admin = word("admin=").context("no address of admin pages")?;
        Ok(Self { process, address, admin })
    }

    /// What others use from now on, beside this gateway, the stages' upstreams and the load.
    pub(crate) fn watch(&self, stages: &[Stage]) -> Result<Watch> {
        let mut pids: Vec<u32> = stages.iter().flat_map(Stage::pids).collect();
        pids.push(self.process.id());
        Watch::begin(pids)
    }

    /// The result of a command that is told the target, the suites and the gateway's process.
    pub(crate) fn load(&self, mut load: Command, stage: &Stage) -> Result<Value> {
        let out = stage.file("own.json");
        load.args(["--target", &self.address, "--cipher-suites", SUITES]);
        load.args(["--server-pid", &self.process.id().to_string()]).arg("--out").arg(&out);
        run(&mut load)?;
        Ok(serde_json::from_slice(&fs::read(&out)?)?)
    }

    /// Starts a `hold` and waits until the gateway has so many connections.
    pub(crate) fn holding(
        &self,
        hold: &mut Command,
        connections: u32,
        stage: &Stage,
    ) -> Result<Process> {
        let mut held = Process::spawn(hold, &stage.file("hold.log"))?;
        held.until("connections are not there", || {
            let open: f64 = self.open_by_worker()?.iter().sum();
            Ok(open >= f64::from(connections))
        })?;
        Ok(held)
    }

    pub(crate) fn open_by_worker(&self) -> Result<Vec<f64>> {
        let mut stream = TcpStream::connect(&self.admin)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let series = "portcullis_worker_connections_open{";
        let lines = page.lines().filter(|line| line.starts_with(series));
        lines.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)).collect()
    }
}

/// What the machine must have.
const CORES: usize = 2;
