//! Owns the command `sweep`: a grid of rates, resumption shares, key types, groups and numbers of
//! server names, a run in every cell; CSV and one page. Read `trial.rs` for a run.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use crate::arrivals::Rate;
use crate::environment;
use crate::exit::Exit;
use crate::flags::LoadFlags;
use crate::interrupt::Interrupt;
use crate::output;
use crate::plan::RunPlan;
use crate::quantity::{self, float};
use crate::report::{self, NamedRun};
use crate::result::RunResult;
use crate::tally::Measure;
use crate::trial::{found_nobody, trial};
use crate::weights::Weighted;

/// A run in every cell of a grid; CSV and one HTML page
#[derive(Debug, Clone, Args)]
pub struct Sweep {
    /// The load in all that the grid does not say.
    #[command(flatten)]
    pub load: LoadFlags,
    /// Open-loop rates, `500/s,1000/s`; without them --rate or --conns
    #[arg(long, value_delimiter = ',')]
    pub rates: Vec<Rate>,
    /// Shares of resumption, `0,0.8`
    #[arg(long, value_delimiter = ',', value_parser = quantity::share)]
    pub resumes: Vec<f64>,
    /// Key types of client certificates, `ecdsa,rsa`
    #[arg(long, value_delimiter = ',')]
    pub key_types: Vec<String>,
    /// Groups, one at a time, `x25519,x25519mlkem768`
    #[arg(long, value_delimiter = ',')]
    pub each_group: Vec<String>,
    /// How many of the server names, `1,10,100`
    #[arg(long, value_delimiter = ',')]
    pub name_counts: Vec<usize>,
    /// Never run more cells than this
    #[arg(long, default_value_t = 200)]
    pub cells_max: usize,
    /// Write a line a cell as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write one page with all cells
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write every cell's result as CELL.json here
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Cell {
    load: LoadFlags,
    names: Option<usize>,
    title: String,
}

impl Sweep {
    /// Runs the grid; exit 3 if a cell is invalid.
    ///
    /// # Errors
    /// Usage; nobody at the target.
    pub fn execute(&self, arguments: &[String]) -> Result<Exit> {
        let _ = environment::raise_descriptor_limit();
        output::check_files([self.csv.as_deref(), self.html.as_deref()])?;
        let cells = self.cells();
        if cells.len() > self.cells_max {
            bail!("the grid has {} cells, more than --cells-max {}", cells.len(), self.cells_max);
        }
        let mut runs = Vec::new();
        let mut interrupt = Interrupt::listen();
        // All before the first runs: a word that is wrong in the last must not cost a night.
        let plans = cells.iter().map(Cell::plan).collect::<Result<Vec<_>>>()?;
        for (index, (cell, plan)) in cells.iter().zip(plans).enumerate() {
            let plan = Arc::new(plan);
            let result = trial(&plan, self.load.server_pid, arguments, &mut interrupt)?;
            if interrupt.is_wanted() {
                output::note(format_args!("ended early by the user after {index} cells"));
                break;
            }
            if found_nobody(&result) {
                bail!("nobody listens on {}", plan.target);
            }
            output::line(format_args!(
                "{:>3}/{} {:<48} {:>9.1}/s  {}",
                index + 1,
                cells.len(),
                cell.title,
                result.achieved_rate,
                if result.valid { "valid" } else { "INVALID" }
            ));
            if let Some(directory) = &self.out {
                std::fs::create_dir_all(directory)?;
                result.write(
                    &directory.join(format!("{}.json", cell.title.replace([' ', '/'], "_"))),
                )?;
            }
            runs.push(NamedRun { name: cell.title.clone(), result, marks: Vec::new() });
        }
        if runs.is_empty() {
            return Ok(Exit::Invalid);
        }
        if let Some(path) = &self.csv {
            report::write(path, &csv(&runs))?;
        }
        if let Some(path) = &self.html {
            report::write(path, &report::html(&runs, None, None))?;
        }
        let valid = runs.iter().all(|run| run.result.valid);
        Ok(if valid { Exit::Met } else { Exit::Invalid })
    }

    fn cells(&self) -> Vec<Cell> {
        let mut cells = vec![Cell { load: self.load.clone(), names: None, title: String::new() }];
        cells = spread(cells, &self.each_group, |cell, group| {
            cell.load.groups.clone_from(group);
            group.clone()
        });
        cells = spread(cells, &self.key_types, |cell, key| {
            cell.load.cert_mix = Some(format!("{key}=1"));
            key.clone()
        });
        cells = spread(cells, &self.name_counts, |cell, count| {
            cell.names = Some(*count);
            format!("{count} names")
        });
        cells = spread(cells, &self.resumes, |cell, share| {
            cell.load.resume = *share;
            format!("resume {share}")
        });
        cells = spread(cells, &self.rates, |cell, rate| {
            cell.load.rate = Some(*rate);
            format!("{:.0}/s", rate.peak())
        });
        cells
    }
}

impl Cell {
    fn plan(&self) -> Result<RunPlan> {
        let mut plan = self.load.plan()?;
        if let Some(count) = self.names {
            let mut population = (*plan.population).clone();
            if count == 0 || count > population.names.len() {
                bail!("there are {} server names, not {count}", population.names.len());
            }
            population.names.truncate(count);
            population.choice = Weighted::new((0..count).map(|index| (index, 1.0)).collect())?;
            plan.population = Arc::new(population);
        }
        Ok(plan)
    }
}

/// Every cell with every value; the cells as they are if there is none.
fn spread<T>(cells: Vec<Cell>, values: &[T], set: impl Fn(&mut Cell, &T) -> String) -> Vec<Cell> {
    if values.is_empty() {
        return cells;
    }
    let mut more = Vec::with_capacity(cells.len() * values.len());
    for cell in cells {
        for value in values {
            let mut cell = cell.clone();
            let word = set(&mut cell, value);
            cell.title = format!("{} {word}", cell.title).trim().to_owned();
            more.push(cell);
        }
    }
    more
}

fn csv(runs: &[NamedRun]) -> String {
    let mut out = String::from(
        "cell,offered,achieved,resumed,errors,p50_us,p99_us,p999_us,server_cpu_us,generator_cpu_us,valid\n",
    );
    for run in runs {
        let _ = writeln!(out, "{},{}", run.name.replace(',', "_"), csv_cell(&run.result));
    }
    out
}

fn csv_cell(result: &RunResult) -> String {
    let merged = result.merged(Measure::Confirmed);
    let at = |quantile| merged.as_ref().map_or(0, |all| all.value_at_quantile(quantile));
    format!(
        "{},{:.1},{:.4},{:.6},{},{},{},{:.1},{:.1},{}",
        result.intended_rate,
        result.achieved_rate,
        result.resumed.got,
        result.error_share(),
        at(0.5),
        at(0.99),
        at(0.999),
        result.server.map_or(0.0, |server| server.cpu_us_per_hs),
        result.generator.cpu_us_per_hs,
        if result.valid { float(1) } else { float(0) },
    )
}
