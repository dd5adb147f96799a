//! A gateway with a directory of many certificates: how long it takes to start, what it holds in memory,
//! and what a handshake costs whose certificate must be read first.
//!
//! A thousand real pairs, each under many names by hard links. `process` starts the programs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{Process, Programs, monotonic, run};

/// Prints the figures for `pairs` pairs, and beside them those for one.
pub(crate) fn measure(programs: &Programs, pairs: u32, seconds: u32) -> Result<String> {
    let folder = tempfile::Builder::new().prefix("portcullis-perf-").tempdir()?;
    let folder = folder.path();
    make_pairs(programs, folder, pairs)?;
    let mut upstream = Command::new(&programs.load);
    upstream.args(["upstream", "--mode", "echo"]).current_dir(folder);
    let (_upstream, upstream) = Process::start(&mut upstream, "ready ")?;
    let one = Run::of(programs, folder, "one", 1, &upstream, seconds)?;
    let all = Run::of(programs, folder, "all", pairs, &upstream, seconds)?;
    let row = |what: &str, one: String, all: String| format!("{what:<46}{one:>12}{all:>12}\n");
    let kib = |run: f64| format!("{run:.0}");
    let mut table = row("pairs", "1".to_owned(), pairs.to_string());
    let ms = |start: Duration| start.as_millis().to_string();
    table += &row("start until ready, ms", ms(one.start), ms(all.start));
    table += &row("resident then, KiB", kib(one.idle), kib(all.idle));
    table += &row("resident after handshakes, KiB", kib(one.busy), kib(all.busy));
    table += &row("pairs read", one.loads.to_string(), all.loads.to_string());
    let cpu = |run: &Run| format!("{:.0}", run.cpu);
    table += &row("full handshake, names at random, CPU-us", cpu(&one), cpu(&all));
    Ok(table)
}

/// The figures of one gateway.
struct Run {
    start: Duration,
    /// Resident memory in KiB.
    idle: f64,
    busy: f64,
    cpu: f64,
    loads: u64,
}

impl Run {
    fn of(
        programs: &Programs,
        folder: &Path,
        directory: &str,
        pairs: u32,
        upstream: &str,
        seconds: u32,
    ) -> Result<Self> {
        let config = folder.join(format!("{directory}.toml"));
        fs::write(&config, configuration(directory, upstream))?;
        let names = folder.join("names.csv");
        let lines: String = (0..pairs).map(|number| format!("{},1\n", name(number))).collect();
        fs::write(&names, lines)?;
        let began = monotonic();
        let mut gateway = Command::new(&programs.gateway);
        gateway.args(["run", "-c"]).arg(&config);
        let (gateway, line) = Process::start(&mut gateway, "ready ")?;
        let start = monotonic().saturating_duration_since(began);
        let word = |key: &str| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.strip_prefix(key)).context("an address")
        };
        let (address, admin) = (word("listener.edge=")?, word("admin=")?);
        let idle = resident(gateway.id())?;
        let out = folder.join("result.json");
        let mut load = Command::new(&programs.load);
        load.args(["handshakes", "--conns", "16", "--warmup", "1s", "--quiet", "--resume", "0"]);
        load.args(["--duration", &format!("{seconds}s"), "--target", address]);
        load.arg("--sni-file").arg(&names).arg("--ca").arg(folder.join("pki/ca.crt"));
        load.args(["--server-pid", &gateway.id().to_string()]).arg("--out").arg(&out);
        run(&mut load)?;
        let result: Value = serde_json::from_slice(&fs::read(&out)?)?;
        let cpu = result.pointer("/server/cpu_us_per_hs").and_then(Value::as_f64);
        let cpu = cpu.context("no CPU time in the result")?;
        Ok(Self { start, idle, busy: resident(gateway.id())?, cpu, loads: loads(admin)? })
    }
}

fn make_pairs(programs: &Programs, folder: &Path, pairs: u32) -> Result<()> {
    let pki = |line: &str| {
        let mut pki = Command::new(&programs.gateway);
        run(pki.arg("pki").args(line.split_whitespace()).current_dir(folder))
    };
    pki("init")?;
    for number in 0..pairs.min(REAL_PAIRS) {
        // For all names, so that none of them is a mistake.
        pki(&format!("server *.perf.test --out-name real{number}"))?;
    }
    for (directory, count) in [("one", 1), ("all", pairs)] {
        fs::create_dir(folder.join(directory))?;
        for number in 0..count {
            for end in ["crt", "key"] {
                let real = folder.join(format!("pki/real{}.{end}", number % REAL_PAIRS));
                fs::hard_link(real, folder.join(format!("{directory}/{}.{end}", name(number))))?;
            }
        }
    }
    Ok(())
}

fn name(number: u32) -> String {
    format!("tenant-{number}.perf.test")
}

fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn loads(admin: &str) -> Result<u64> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(admin)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let series = "portcullis_certificate_dir_loads_total{";
    let line = page.lines().find(|line| line.starts_with(series)).context("no such metric")?;
    let value = line.rsplit(' ').next().context("no value")?;
    ensure!(!value.is_empty(), "{line}");
    Ok(value.parse()?)
}

/// Hard links to one file share its place in the page cache, and its content: more would cost minutes.
const REAL_PAIRS: u32 = 1_000;

fn configuration(directory: &str, upstream: &str) -> String {
    format!(
        r#"[runtime]
workers = 1

[admin]
listen = "127.0.0.1:0"

[access_log]
path = "off"

[listener.edge]
address = "127.0.0.1:0"

[listener.edge.chain.default]
tls     = "many"
cluster = "app"

[tls.downstream.many]
certificate_dir = "{directory}/"
client_auth     = "none"

[cluster.app]
endpoints = ["{upstream}"]
"#
    )
}
