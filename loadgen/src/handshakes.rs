//! Owns the command `handshakes` (alias `run`): one run, its files, its exit code. Read `run.rs`
//! for the run, `verdict.rs` for whether to believe it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::environment::{self, Environment};
use crate::exit::Exit;
use crate::flags::LoadFlags;
use crate::interrupt::Interrupt;
use crate::live::Live;
use crate::output;
use crate::plan::RunPlan;
use crate::progress::Progress;
use crate::quantity;
use crate::report::{self, NamedRun};
use crate::result::{RunResult, ThresholdResult};
use crate::run::{self, Outcome, Watch};
use crate::threshold::Rule;
use crate::trial::{errors, found_nobody, let_nobody_in};
use crate::{scrape, summary, verdict};

/// One steady run, open loop (--rate) or closed (--conns)
#[derive(Debug, Clone, Args)]
pub struct Handshakes {
    /// The load.
    #[command(flatten)]
    pub load: LoadFlags,
    /// Address of the server's Prometheus metrics, read before and after
    #[arg(long, value_name = "URL")]
    pub scrape: Option<String>,
    /// The counter that must agree with ours, `name` or `name{label="value"}`
    #[arg(long, value_name = "METRIC", requires = "scrape")]
    pub scrape_counter: Option<String>,
    /// Fail with exit code 2 if this holds, `p99>20ms`; repeatable
    #[arg(long, value_name = "RULE")]
    pub fail_if: Vec<Rule>,
    /// Where results go.
    #[command(flatten)]
    pub files: ResultFiles,
    /// Live picture on a terminal, or plain lines
    #[arg(long, value_enum, default_value_t = Tui::Auto)]
    pub tui: Tui,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

/// `--tui`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tui {
    /// A picture if standard output is a terminal
    Auto,
    /// Plain lines
    Off,
}

/// Files that a run leaves.
#[derive(Debug, Clone, Default, Args)]
pub struct ResultFiles {
    /// Write the result as JSON (load/1)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write one self-contained page with pictures
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the seconds of the run as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the percentiles of every histogram as .hgrm files here
    #[arg(long, value_name = "DIR")]
    pub hgrm: Option<PathBuf>,
}

impl ResultFiles {
    /// Whether they can be written.
    ///
    /// # Errors
    /// Names the first that cannot.
    pub fn check(&self) -> Result<()> {
        output::check_files([self.out.as_deref(), self.html.as_deref(), self.csv.as_deref()])?;
        match &self.hgrm {
            Some(directory) => std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display())),
            None => Ok(()),
        }
    }

    /// Writes those that were asked for.
    ///
    /// # Errors
    /// Those of the files.
    pub fn write(&self, result: &RunResult) -> Result<()> {
        if let Some(path) = &self.out {
            result.write(path)?;
        }
        if let Some(directory) = &self.hgrm {
            report::write_hgrm(directory, "run", result)?;
        }
        if self.html.is_some() || self.csv.is_some() {
            let runs =
                [NamedRun { name: "run".to_owned(), result: result.clone(), marks: Vec::new() }];
            if let Some(path) = &self.html {
                report::write(path, &report::html(&runs, None, None))?;
            }
            if let Some(path) = &self.csv {
                report::write(path, &report::csv(&runs))?;
            }
        }
        Ok(())
    }
}

impl Handshakes {
    /// Runs, prints, writes.
    ///
    /// # Errors
    /// Usage, or a target that nobody serves.
    pub fn execute(&self, arguments: Vec<String>) -> Result<Exit> {
        let _ = environment::raise_descriptor_limit();
        let plan = Arc::new(self.load.plan()?);
        self.files.check()?;
        let env = Environment::look(arguments);
        let before = self.scrape.as_deref().map(scrape::fetch).transpose()?;
        let mut watch = self.watch(&plan);
        let outcome = run::run(&plan, self.load.server_pid, &mut *watch)?;
        drop(watch);
        let mut result = RunResult::new(&plan, &outcome, env)?;
        let scraped = match (&self.scrape, &before) {
            (Some(url), Some(before)) => Some(self.reconcile(url, before, &outcome)),
            _ => None,
        };
        let (scrape, missed) = match scraped.transpose() {
            Ok(scrape) => (scrape, None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        result.scrape = scrape;
        verdict::judge(&plan, &outcome, &mut result);
        // What was measured stands without it.
        result.warnings.extend(missed.or_else(|| self.uncounted(result.scrape.as_ref())));
        result.thresholds = apply(&self.fail_if, &result);
        if !self.quiet {
            output::text(&summary::render(&result));
        }
        self.files.write(&result)?;
        Ok(exit_code(&plan, &result))
    }

    fn watch(&self, plan: &RunPlan) -> Box<dyn Watch> {
        let interrupt = Interrupt::listen();
        if self.tui == Tui::Auto && !self.quiet {
            let live = Live::new(plan, self.load.server_pid, interrupt.clone());
            if let Some(live) = live {
                return Box::new(live);
            }
        }
        Box::new(Progress::new(plan, interrupt, self.quiet))
    }

    fn reconcile(
        &self,
        url: &str,
        before: &scrape::Counters,
        outcome: &Outcome,
    ) -> Result<scrape::Reconciled> {
        let after = scrape::fetch(url).context("the second scrape failed")?;
        let ours: u64 =
            outcome.ticks.iter().map(|tick| tick.full + tick.resumed + tick.wrongly_accepted).sum();
        // The server may have finished what we gave up on, but nothing that never reached it.
        let failed: u64 = outcome.ticks.iter().map(crate::tick::Tick::failures_on_the_wire).sum();
        let tolerance = quantity::float(failed + outcome.tally.in_flight);
        let counter = self.scrape_counter.as_deref();
        Ok(scrape::reconcile(before, &after, counter, quantity::float(ours), tolerance))
    }

    /// What is to be known where a counter was named that could not be compared.
    fn uncounted(&self, scrape: Option<&scrape::Reconciled>) -> Option<String> {
        let counter = self.scrape_counter.as_deref()?;
        scrape.filter(|scrape| scrape.compared.is_none())?;
        Some(format!("--scrape-counter {counter}: there is none of that name, or it did not move"))
    }
}

/// Applies `--fail-if`. A rule about something that was not measured fails: silence is no proof.
#[must_use]
pub fn apply(rules: &[Rule], result: &RunResult) -> Vec<ThresholdResult> {
    rules
        .iter()
        .map(|rule| {
            let value = rule.value(result);
            ThresholdResult {
                rule: rule.to_string(),
                value: value.unwrap_or_default(),
                shown: value.map_or_else(|| "not measured".to_owned(), |value| rule.show(value)),
                failed: value.is_none_or(|value| rule.holds(value)),
            }
        })
        .collect()
}

fn exit_code(plan: &RunPlan, result: &RunResult) -> Exit {
    if found_nobody(result) {
        let why = result.reasons.get("refused").map_or("refused", String::as_str);
        output::note(format_args!("error: nobody listens on {}: {why}", plan.target));
        return Exit::NoConnection;
    }
    if !result.valid {
        return Exit::Invalid;
    }
    if result.thresholds.iter().any(|threshold| threshold.failed) {
        return Exit::Missed;
    }
    if let_nobody_in(result) {
        output::note(format_args!(
            "error: {} let nobody in, so that nothing was measured: {}",
            plan.target,
            errors(result)
        ));
        return Exit::NoConnection;
    }
    Exit::Met
}
