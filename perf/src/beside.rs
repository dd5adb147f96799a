//! Owns the question which of two builds of the gateway needs less. Both do a row's work at the same time, on
//! one core, each under a load of its own: what the machine's other guests do to one they do to the other, so that
//! a hundredth is seen where windows one after the other differ by a fifth. They share the core's caches, as a
//! gateway does with what else runs on its machine. Who begins, and so has the core alone for a moment, takes turns.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::compare::{EffortFlags, chosen_rows};
use crate::disturbance::TRIES_MAX;
use crate::note;
use crate::process::{Programs, built};
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
            for number in 0..self.rounds {
                let [this, other] =
                    self.round_at_last(programs, [own, &self.other], row, number)?;
                let (key, unit) = (row.key, row.unit());
                note(format_args!("{key} {}: {this:.3} and {other:.3} {unit}", number + 1));
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

    /// Both look for free ports at the same time, and now and then find the same one: then again.
    fn round_at_last(
        &self,
        programs: &Programs,
        folders: [&Path; 2],
        row: &Row,
        number: u32,
    ) -> Result<[f64; 2]> {
        for _ in 1..TRIES_MAX {
            match self.round(programs, folders, row, number) {
                Ok(used) => return Ok(used),
                Err(error) => note(format_args!("{}: {error:#}; again", row.key)),
            }
        }
        self.round(programs, folders, row, number)
    }

    /// Who starts first takes turns.
    fn round(
        &self,
        programs: &Programs,
        folders: [&Path; 2],
        row: &Row,
        number: u32,
    ) -> Result<[f64; 2]> {
        let is_swapped = number % 2 == 1;
        let [first, second] = if is_swapped { [folders[1], folders[0]] } else { folders };
        let first = self.start(programs, first, row)?;
        let second = self.start(programs, second, row);
        // The first is waited for, whatever became of the second.
        let [first, second] = [figure(first)?, figure(second?)?];
        Ok(if is_swapped { [second, first] } else { [first, second] })
    }

    fn start(&self, programs: &Programs, folder: &Path, row: &Row) -> Result<Child> {
        let EffortFlags { seconds, mebibytes, round_trips, connections } = self.effort;
        let mut command = Command::new(&programs.own);
        command.arg("--programs").arg(folder);
        command.args(programs.no_sandbox.then_some("--no-sandbox"));
        command.args(["drive", row.key]);
        command.args(["--seconds", &seconds.to_string(), "--mebibytes", &mebibytes.to_string()]);
        command.args(["--round-trips", &round_trips.to_string()]);
        command.args(["--connections", &connections.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().with_context(|| format!("{command:?}"))
    }
}

fn figure(child: Child) -> Result<f64> {
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "one of both ended without a figure, {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    let first = said.split_whitespace().next().unwrap_or_default();
    first.parse().with_context(|| format!("no figure: {said}"))
}
