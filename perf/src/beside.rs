//! Owns the question which of two builds of the gateway needs less. Both do a row's work at the same time, on
//! one core, each under a load of its own: what the machine's other guests do to one they do to the other, so that
//! a hundredth is seen where windows one after the other differ by a fifth. They share the core's caches, as a
//! gateway does with what else runs on its machine. Who begins, and so has the core alone for a moment, takes turns.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::compare::{EffortFlags, chosen_rows};
use crate::disturbance::TRIES_MAX;
use crate::note;
use crate::process::{Programs, built, run};
use crate::row::Row;
use crate::verdict::median;

/// Two builds of the gateway at the same time, for differences of a hundredth
#[derive(Debug, Args)]
pub(crate) struct Beside {
    /// The folder with the other build's `portcullis` and `portcullis-load`
    #[arg(value_name = "DIRECTORY")]
    other: PathBuf,
    #[arg(long, value_delimiter = ',', default_value = "full,resumed")]
    rows: Vec<String>,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How much is done in a window.
    #[command(flatten)]
    effort: EffortFlags,
}

impl Beside {
    /// For each row what both use, and the other's by this one's: median, least, most.
    pub(crate) fn execute(&self, programs: &Programs) -> Result<String> {
        let own = programs.gateway.parent().context("the gateway's program has no folder")?;
        for program in ["portcullis", "portcullis-load"] {
            built(&self.other, program)?;
        }
        let mut text = String::new();
        for row in chosen_rows(&self.rows)? {
            let mut used = [Vec::new(), Vec::new()];
            let mut ratios = Vec::new();
            for number in 1..=self.rounds {
                let round = || self.round(programs, [own, &self.other], row, number);
                let [this, other] = at_last(row.key, round)?;
                note(format_args!("{} {number}: {this:.3} and {other:.3} {}", row.key, row.unit()));
                used[0].push(this);
                used[1].push(other);
                ratios.push(other / this);
            }
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            let [this, other] = used.map(|figures| median(figures).unwrap_or(f64::NAN));
            let ratio = median(ratios).context("no round")?;
            let (key, unit) = (row.key, row.unit());
            writeln!(
                text,
                "{key}: {this:.3} and {other:.3} {unit}, {ratio:.3} ({least:.3} to {most:.3})"
            )?;
        }
        Ok(text)
    }

    /// Who starts first takes turns.
    fn round(
        &self,
        programs: &Programs,
        folders: [&Path; 2],
        row: &Row,
        number: u32,
    ) -> Result<[f64; 2]> {
        let mut order = folders;
        let is_swapped = number.is_multiple_of(2);
        if is_swapped {
            order.reverse();
        }
        let drive = |folder| move || self.drive(programs, folder, row);
        let mut used = std::thread::scope(|both| {
            let started = order.map(|folder| both.spawn(drive(folder)));
            started.map(|one| one.join().unwrap_or_else(|_panic| bail!("a panic")))
        });
        if is_swapped {
            used.reverse();
        }
        let [this, other] = used;
        Ok([this?, other?])
    }

    /// A process of its own, for what is pinned to a core is a thread and what it starts.
    fn drive(&self, programs: &Programs, folder: &Path, row: &Row) -> Result<f64> {
        let EffortFlags { seconds, mebibytes, round_trips, connections } = self.effort;
        let mut command = Command::new(&programs.own);
        command.arg("--programs").arg(folder);
        command.args(programs.no_sandbox.then_some("--no-sandbox"));
        command.args(["drive", row.key]);
        command.args(["--seconds", &seconds.to_string(), "--mebibytes", &mebibytes.to_string()]);
        command.args(["--round-trips", &round_trips.to_string()]);
        command.args(["--connections", &connections.to_string()]);
        let said = run(&mut command)?;
        let first = said.split_whitespace().next().unwrap_or_default();
        first.parse().with_context(|| format!("no figure: {said}"))
    }
}

/// Both look for free ports at the same time, and now and then find the same one: then again.
fn at_last<T>(what: &str, work: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES_MAX {
        match work() {
            Ok(done) => return Ok(done),
            Err(error) => note(format_args!("{what}: {error:#}; again")),
        }
    }
    work()
}
