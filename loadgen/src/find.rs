//! Owns the command `find`: the highest rate that meets an objective, as a bracket. Read
//! `search.rs` for the search, `trial.rs` for a trial.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::arrivals::Rate;
use crate::environment;
use crate::exit::Exit;
use crate::flags::LoadFlags;
use crate::interrupt::Interrupt;
use crate::output;
use crate::plan::{Loop, RunPlan};
use crate::quantity::float;
use crate::result::RunResult;
use crate::search::{Found, Search, Trial};
use crate::threshold::{self, Rule};
use crate::trial::{errors, found_nobody, is_turned_away, let_nobody_in, trial};

/// Search the highest rate that meets an objective, from --rate on
#[derive(Debug, Clone, Args)]
pub struct Find {
    /// The load; --rate is where the search starts.
    #[command(flatten)]
    pub load: LoadFlags,
    /// What must hold at a rate: `p99<20ms,errors<0.1%`
    #[arg(long, default_value = "p99<20ms,errors<0.1%")]
    pub slo: String,
    /// Never try more than this
    #[arg(long, default_value_t = 1e6)]
    pub rate_max: f64,
    /// Stop when the bracket is this narrow
    #[arg(long, default_value = "3%", value_parser = crate::quantity::share)]
    pub width: f64,
    /// Stop after so many trials
    #[arg(long, default_value_t = 30)]
    pub trials_max: u32,
    /// Write the bracket and every trial's result as JSON (find/1)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What `find` writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FindResult {
    /// `find/1`.
    pub schema: String,
    /// The objective.
    pub slo: String,
    /// Highest rate that met it.
    pub lower: Option<f64>,
    /// Lowest rate above that did not.
    pub upper: Option<f64>,
    /// Why the upper end failed.
    pub why: Option<String>,
    /// Whether the lower end met twice and the bracket is as narrow as asked.
    pub settled: bool,
    /// Every trial in order.
    pub trials: Vec<RunResult>,
}

impl Find {
    /// Searches and prints.
    ///
    /// # Errors
    /// Usage; nobody at the target.
    pub fn execute(&self, arguments: &[String]) -> Result<Exit> {
        let _ = environment::raise_descriptor_limit();
        output::check_files([self.out.as_deref()])?;
        let objectives = self.objectives()?;
        let start = self.load.rate.unwrap_or(Rate::Constant(RATE_START));
        let rate_min = ATTEMPTS_MIN / self.load.duration.as_secs_f64();
        let mut search =
            Search::new(start.peak(), rate_min..=self.rate_max, self.width, self.trials_max);
        let mut trials = Vec::new();
        let mut ceiling = None;
        let mut interrupt = Interrupt::listen();
        while let Some(rate) = search.next() {
            let plan = Arc::new(self.plan_at(rate)?);
            let result = trial(&plan, self.load.server_pid, arguments, &mut interrupt)?;
            if interrupt.is_wanted() {
                output::note("ended early by the user: this is what was known by then");
                break;
            }
            if found_nobody(&result) {
                bail!("nobody listens on {}", plan.target);
            }
            // No lower rate would help: this is no server that is too slow. Who was turned away was so
            // however late the generator is.
            let is_vain = let_nobody_in(&result) && (result.valid || is_turned_away(&result));
            if trials.is_empty() && is_vain {
                bail!("{} let nobody in at {rate:.1}/s: {}", plan.target, errors(&result));
            }
            let outcome = assess(&objectives, &result);
            output::line(show_trial(rate, &result, &outcome));
            ceiling = (!result.valid).then(|| result.why.join("; ")).or(ceiling);
            trials.push(result);
            search.record(rate, outcome);
        }
        let found = search.found();
        output::text(&render(&self.slo, &found));
        if let Some(path) = &self.out {
            self.write(path, &found, trials)?;
        }
        Ok(exit_code(&found, ceiling.as_deref()))
    }

    fn objectives(&self) -> Result<Vec<Rule>> {
        let objectives = threshold::rules(&self.slo)?;
        if objectives.is_empty() {
            bail!("--slo is empty: write p99<20ms,errors<0.1%");
        }
        Ok(objectives)
    }

    fn plan_at(&self, rate: f64) -> Result<RunPlan> {
        let mut load = self.load.clone();
        load.rate = Some(Rate::Constant(rate));
        let mut plan = load.plan()?;
        plan.pace = Loop::Open {
            rate: Rate::Constant(rate),
            spread: self.load.arrivals,
            in_flight_max: self.load.max_inflight.max(1),
        };
        Ok(plan)
    }

    fn write(&self, path: &std::path::Path, found: &Found, trials: Vec<RunResult>) -> Result<()> {
        let result = FindResult {
            schema: "find/1".to_owned(),
            slo: self.slo.clone(),
            lower: found.lower,
            upper: found.upper.as_ref().map(|(rate, _)| *rate),
            why: found.upper.as_ref().map(|(_, why)| why.clone()),
            settled: found.settled,
            trials,
        };
        std::fs::write(path, serde_json::to_string(&result)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A trial that the generator spoiled has not met anything.
fn assess(objectives: &[Rule], result: &RunResult) -> Trial {
    if !result.valid {
        return Trial::Missed(format!("the run is invalid: {}", result.why.join("; ")));
    }
    for rule in objectives {
        match rule.value(result) {
            None => return Trial::Missed(format!("{rule}: nothing was measured")),
            Some(value) if !rule.holds(value) => {
                return Trial::Missed(format!("{rule}: it was {}", rule.show(value)));
            }
            Some(_) => {}
        }
    }
    // What is offered must also be done: a server that queues for ever meets any latency early on.
    // Against what did arrive: of 50 chance arrivals one trial in four brings less than 45. One may
    // be on its way when the window ends.
    let attempted = float(result.counts.attempted);
    let done = result.achieved_rate * result.duration_s;
    if done + 1.0 < attempted * ACHIEVED_SHARE_MIN {
        let share = done / attempted * 100.0;
        return Trial::Missed(format!("only {share:.1} % of the offered rate was achieved"));
    }
    Trial::Met
}

fn show_trial(rate: f64, result: &RunResult, outcome: &Trial) -> String {
    let verdict = match outcome {
        Trial::Met => "met",
        Trial::Missed(why) => why,
    };
    format!("{rate:>10.1}/s  achieved {:>10.1}/s  {verdict}", result.achieved_rate)
}

fn render(slo: &str, found: &Found) -> String {
    let mut out = format!("\n objective    {slo}\n");
    match found.lower {
        Some(lower) => {
            let _ = writeln!(out, " lower bound  {lower:.1}/s meets it");
        }
        None => out.push_str(" lower bound  none: no rate met it\n"),
    }
    match (&found.upper, found.lower) {
        (Some((upper, why)), lower) => {
            let _ = writeln!(out, " upper bound  {upper:.1}/s does not: {why}");
            if let Some(lower) = lower {
                let width = (upper - lower) / lower * 100.0;
                let _ = writeln!(out, " width        {:.1}/s ({width:.1} %)", upper - lower);
            }
        }
        (None, _) => out.push_str(" upper bound  none: no rate that was tried failed\n"),
    }
    let settled = if found.settled { "confirmed" } else { "NOT confirmed" };
    let _ = writeln!(out, " trials       {}, {settled}", found.trials);
    out
}

fn exit_code(found: &Found, ceiling: Option<&str>) -> Exit {
    let limited_by_us = match (&found.upper, ceiling) {
        (Some((_, why)), Some(ceiling)) => why.contains(ceiling),
        _ => false,
    };
    match found.lower {
        _ if limited_by_us => Exit::Invalid,
        None => Exit::Missed,
        Some(_) if found.settled => Exit::Met,
        Some(_) => Exit::Missed,
    }
}

const RATE_START: f64 = 100.0;
/// In a trial, on the average. Where it is fewer, one trial in fifty has none at all.
const ATTEMPTS_MIN: f64 = 4.0;
/// What is in flight at both ends of the window should not decide.
const ACHIEVED_SHARE_MIN: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Counts;

    fn trial(attempted: u64, done: f64) -> Trial {
        let mut result = RunResult { valid: true, duration_s: 10.0, ..RunResult::default() };
        result.intended_rate = 5.0;
        result.achieved_rate = done / 10.0;
        result.counts = Counts { attempted, confirmed: attempted, ..Counts::default() };
        assess(&threshold::rules("errors<1%").unwrap(), &result)
    }

    #[test]
    fn few_arrivals_by_chance_are_no_fault_of_the_server() {
        // 50 were to be expected.
        assert_eq!(trial(41, 41.0), Trial::Met);
        assert_eq!(trial(4, 3.0), Trial::Met, "one is on its way");
        let Trial::Missed(why) = trial(60, 50.0) else { panic!("a sixth was left undone") };
        assert!(why.contains("83.3 %"), "{why}");
    }

    #[test]
    fn a_search_that_the_generator_spoiled_is_invalid() {
        let upper = Some((100.0, "the run is invalid: behind schedule".to_owned()));
        let mut found = Found { lower: None, upper, trials: 9, settled: false };
        assert_eq!(exit_code(&found, Some("behind schedule")), Exit::Invalid);
        found.lower = Some(50.0);
        assert_eq!(exit_code(&found, Some("behind schedule")), Exit::Invalid);
        assert_eq!(exit_code(&found, None), Exit::Missed);
    }
}
