//! Owns the command `ab`: two live targets measured in turn, A B B A, with the same seeds, so that
//! what drifts on the host hits both alike. Read `compare.rs` for the judgement.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use crate::compare::{self, Judgement};
use crate::environment;
use crate::exit::Exit;
use crate::flags::{LoadFlags, resolve};
use crate::interrupt::Interrupt;
use crate::join::join;
use crate::output;
use crate::plan::RunPlan;
use crate::result::RunResult;
use crate::trial::{found_nobody, trial};

/// Measure two live targets in turn (ABBA) and compare them
#[derive(Debug, Clone, Args)]
pub struct Ab {
    /// The load; --target and --server-pid are A's.
    #[command(flatten)]
    pub load: LoadFlags,
    /// B's address
    #[arg(long, value_name = "ADDR")]
    pub against: String,
    /// B's process id
    #[arg(long, value_name = "PID")]
    pub against_pid: Option<u32>,
    /// Rounds of A B B A
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Differences smaller than this share of A do not matter
    #[arg(long, default_value = "1%", value_parser = crate::quantity::share)]
    pub margin: f64,
    /// Write the joined results of A and B here, for `compare` and `report`
    #[arg(long, value_names = ["A.json", "B.json"], num_args = 2)]
    pub out: Vec<PathBuf>,
}

/// One of the two.
struct Side {
    name: &'static str,
    plan: Arc<RunPlan>,
    pid: Option<u32>,
}

impl Ab {
    /// Measures, compares, prints; exit 2 if B is worse in anything.
    ///
    /// # Errors
    /// Usage; nobody at a target.
    pub fn execute(&self, arguments: &[String]) -> Result<Exit> {
        let _ = environment::raise_descriptor_limit();
        output::check_files(self.out.iter().map(|path| Some(path.as_path())))?;
        let plan_a = self.load.plan()?;
        self.check_length(&plan_a)?;
        let mut plan_b = plan_a.clone();
        plan_b.target = resolve(&self.against)?;
        let sides = [
            Side { name: "A", plan: Arc::new(plan_a), pid: self.load.server_pid },
            Side { name: "B", plan: Arc::new(plan_b), pid: self.against_pid },
        ];
        let mut interrupt = Interrupt::listen();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds.max(1) {
            let Some([first, second, third, fourth]) =
                self.round(round, &sides, arguments, &mut interrupt)?
            else {
                if a.is_empty() {
                    bail!("ended by the user before one round was whole: nothing to compare");
                }
                output::note(format_args!("ended early by the user after {} rounds", round - 1));
                break;
            };
            a.extend([first, fourth]);
            b.extend([second, third]);
        }
        self.judge(&a, &b)
    }

    /// Fewer seconds than a comparison needs are known beforehand.
    fn check_length(&self, plan: &RunPlan) -> Result<()> {
        let each_run = plan.phases.measured.as_millis().div_ceil(1000);
        let each_side = u128::from(self.rounds.max(1)) * 2 * each_run;
        if each_side < compare::SAMPLES_MIN as u128 {
            bail!(
                "A and B would have {each_side} seconds each to compare; {} are needed: raise --duration \
                 or --rounds",
                compare::SAMPLES_MIN
            );
        }
        Ok(())
    }

    /// A B B A; `None` once the user wants to end.
    fn round(
        &self,
        round: u32,
        [a, b]: &[Side; 2],
        arguments: &[String],
        interrupt: &mut Interrupt,
    ) -> Result<Option<[RunResult; 4]>> {
        let mut results = Vec::new();
        for side in [a, b, b, a] {
            let result = trial(&side.plan, side.pid, arguments, interrupt)?;
            if interrupt.is_wanted() {
                return Ok(None);
            }
            if found_nobody(&result) {
                bail!("nobody listens on {}", side.plan.target);
            }
            output::note(format_args!(
                "round {round} {}  {:>9.1}/s  {}",
                side.name,
                result.achieved_rate,
                if result.valid { "valid" } else { "INVALID" }
            ));
            results.push(result);
        }
        Ok(results.try_into().ok())
    }

    fn judge(&self, a: &[RunResult], b: &[RunResult]) -> Result<Exit> {
        let (Some(joined_a), Some(mut joined_b)) = (join(a)?, join(b)?) else {
            bail!("there is nothing to compare");
        };
        if let [file_a, file_b] = &self.out[..] {
            joined_a.write(file_a)?;
            joined_b.write(file_b)?;
        }
        // The load average rises with the first runs; in turn as they were, both met the same.
        joined_b.env = joined_a.env.clone();
        let mut comparison = compare::compare(&joined_a, &joined_b, self.margin);
        let (cpu_a, cpu_b) = (server_cpu(a), server_cpu(b));
        if !cpu_a.is_empty() && !cpu_b.is_empty() {
            comparison.metrics.retain(|metric| metric.metric != compare::SERVER_CPU);
            comparison.metrics.push(compare::compare_samples(
                compare::SERVER_CPU,
                false,
                &cpu_a,
                &cpu_b,
                self.margin,
            ));
        }
        output::text(&compare::render(&comparison));
        if !comparison.obstacles.is_empty() {
            return Ok(Exit::Invalid);
        }
        let worse = comparison.metrics.iter().any(|metric| metric.judgement == Judgement::Worse);
        Ok(if worse { Exit::Missed } else { Exit::Met })
    }
}

fn server_cpu(results: &[RunResult]) -> Vec<f64> {
    results.iter().filter_map(|result| Some(result.server?.cpu_us_per_hs)).collect()
}
