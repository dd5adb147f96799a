//! Owns the command `report`: results of earlier runs as one HTML page with its pictures inside,
//! as Markdown, as CSV ticks, or as `.hgrm` files. Read `page.rs` for the page, `chart.rs` for
//! the pictures.

mod chart;
mod marks;
mod page;
mod pictures;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::crypto::Costs;
use crate::exit::Exit;
use crate::find::FindResult;
use crate::output;
use crate::result::RunResult;
use crate::threshold::{self, Rule};

pub use marks::Mark;
pub use page::html;
pub use tables::{csv, markdown};

/// Turn results into HTML, Markdown, CSV or .hgrm
#[derive(Debug, Clone, Args)]
pub struct Report {
    /// Results of `handshakes --out`, or one of `find --out`; several are overlaid
    #[arg(required = true, value_name = "FILE.json")]
    pub files: Vec<PathBuf>,
    /// Write one self-contained page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the seconds of all runs as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write every histogram's percentiles as NAME.hgrm here
    #[arg(long, value_name = "DIR")]
    pub hgrm: Option<PathBuf>,
    /// Mark this latency as the objective in pictures, `20ms` [default: the objective of a `find`]
    #[arg(long, value_parser = crate::quantity::duration)]
    pub objective: Option<std::time::Duration>,
    /// Output of `crypto --json`: splits the server's CPU per handshake
    #[arg(long, value_name = "FILE")]
    pub crypto: Option<PathBuf>,
    /// The proxy's log: its reloads, drains, rotations and restarts are marked in pictures over
    /// time; can be given several times
    #[arg(long, value_name = "FILE", requires = "html")]
    pub proxy_log: Vec<PathBuf>,
}

/// A run with the name it has in a report.
#[derive(Debug, Clone)]
pub struct NamedRun {
    /// The file's stem.
    pub name: String,
    /// The run.
    pub result: RunResult,
    /// What the proxy did meanwhile, in order of time.
    pub marks: Vec<Mark>,
}

impl Report {
    /// Reads, writes what was asked for; Markdown on standard output if nothing was.
    ///
    /// # Errors
    /// Files that are no results, or cannot be written.
    pub fn execute(&self) -> Result<Exit> {
        let mut runs = Vec::new();
        let mut objective = self.objective.map(|span| span.as_secs_f64() * 1e6);
        for file in &self.files {
            let (more, searched) = read(file)?;
            runs.extend(more);
            objective = objective.or(searched);
        }
        for log in &self.proxy_log {
            marks::add(log, &mut runs)?;
        }
        let crypto: Option<Costs> =
            match &self.crypto {
                Some(path) => {
                    let text = std::fs::read_to_string(path)
                        .with_context(|| format!("cannot read {}", path.display()))?;
                    let costs = serde_json::from_str(&text);
                    Some(costs.with_context(|| {
                        format!("{} is not from `crypto --json`", path.display())
                    })?)
                }
                None => None,
            };
        if let Some(path) = &self.html {
            write(path, &html(&runs, objective, crypto.as_ref()))?;
        }
        if let Some(path) = &self.csv {
            write(path, &csv(&runs))?;
        }
        if let Some(directory) = &self.hgrm {
            for run in &runs {
                write_hgrm(directory, &run.name, &run.result)?;
            }
        }
        if self.html.is_none() && self.csv.is_none() && self.hgrm.is_none() {
            output::text(&markdown(&runs));
        }
        Ok(Exit::Met)
    }
}

/// Writes every histogram of a result as `RUN.NAME.hgrm`, the percentile format of HdrHistogram's
/// plotter.
///
/// # Errors
/// Those of the files.
pub fn write_hgrm(directory: &Path, run: &str, result: &RunResult) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    for name in result.hist.keys() {
        let Some(histogram) = result.histogram(name) else { continue };
        let file: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' })
            .collect();
        write(&directory.join(format!("{run}.{file}.hgrm")), &tables::hgrm(&histogram))?;
    }
    Ok(())
}

/// Writes a text file.
///
/// # Errors
/// Those of the file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The runs of a file and, if it is a search's, its latency objective in microseconds.
fn read(path: &Path) -> Result<(Vec<NamedRun>, Option<f64>)> {
    let name =
        path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if let Ok(found) = serde_json::from_str::<FindResult>(&text) {
        let objective = threshold::rules(&found.slo)
            .ok()
            .and_then(|rules| rules.iter().find(|rule| rule.is_latency()).map(Rule::limit));
        let runs = found.trials.into_iter().enumerate().map(|(index, result)| NamedRun {
            name: format!("{}: {:.0}/s", index + 1, result.intended_rate),
            result,
            marks: Vec::new(),
        });
        return Ok((runs.collect(), objective));
    }
    let result = RunResult::read(path)?;
    if result.hist.is_empty() && result.ticks.is_empty() {
        bail!("{} holds no measurement", path.display());
    }
    Ok((vec![NamedRun { name, result, marks: Vec::new() }], None))
}
