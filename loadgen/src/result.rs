//! Owns the result of a run: what is written as `load/1` JSON and read back by `report` and
//! `compare`. Never judges; see `verdict.rs`. Histograms are microseconds. Names are public: a
//! renamed one breaks other people's scripts.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::arrivals::{Rate, Spread};
use crate::environment::Environment;
use crate::histogram_code;
use crate::outcome::Failure;
use crate::plan::{Loop, RunPlan};
use crate::quantity::{self, float, ratio};
use crate::run::Outcome;
use crate::scrape::Reconciled;
use crate::session::Confirm;
use crate::tally::{Kind, Latencies, Measure, NameTally, Origin, Tally};
use crate::tick::Tick;

/// A run's result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunResult {
    /// Always `load/1`.
    pub schema: String,
    /// The host and the command.
    pub env: Environment,
    /// The server's address.
    pub target: String,
    /// `open 2000/s poisson` or `closed 64`.
    pub pace: String,
    /// What counted as proof: `echo`, `ticket`, `close` or `none`.
    pub confirm: String,
    /// Seed of all random choices.
    pub seed: u64,
    /// When second 0 of `ticks` began, in milliseconds since the Unix epoch; 0 if unknown.
    pub begun_unix_ms: u64,
    /// Length of the measured window in seconds.
    pub duration_s: f64,
    /// Attempts a second asked for; 0 in a closed loop.
    pub intended_rate: f64,
    /// Confirmed handshakes a second.
    pub achieved_rate: f64,
    /// Everything that was counted.
    pub counts: Counts,
    /// Failures by class.
    pub errors: BTreeMap<String, u64>,
    /// Expected refusals by class.
    pub refused: BTreeMap<String, u64>,
    /// Failures after confirmation by class.
    pub late_errors: BTreeMap<String, u64>,
    /// What the first failure of a class was about, where its name does not say it all.
    pub reasons: BTreeMap<String, String>,
    /// Share of resumed handshakes.
    pub resumed: Resumed,
    /// Start delay at the 99th percentile, microseconds; 0 in a closed loop.
    pub lag_p99_us: f64,
    /// Largest start delay, microseconds.
    pub lag_max_us: f64,
    /// What the generator itself used.
    pub generator: GeneratorUse,
    /// What the server used, if `--server-pid` was given.
    pub server: Option<ServerUse>,
    /// The server's own counters, if `--scrape` was given.
    pub scrape: Option<Reconciled>,
    /// Versions, suites and groups.
    pub negotiated: BTreeMap<String, u64>,
    /// Whether the run may be believed.
    pub valid: bool,
    /// Why not.
    pub why: Vec<String>,
    /// What a reader should know although the run is valid.
    pub warnings: Vec<String>,
    /// `--fail-if` and what came of them.
    pub thresholds: Vec<ThresholdResult>,
    /// Quantiles in microseconds of every histogram: for people and scripts.
    pub latency_us: BTreeMap<String, Quantiles>,
    /// By server name.
    pub names: Vec<NameResult>,
    /// Histograms: `confirmed.full` from the intended start, `confirmed.full.service` from the
    /// actual one, `name.a.test` by server name (confirmed, both kinds),
    /// `by_name.a.test.handshake.full` in detail for the first 32 names, `lag`.
    pub hist: BTreeMap<String, String>,
    /// The whole run, second by second.
    pub ticks: Vec<TickResult>,
}

/// Counts over the measured window. They balance: attempted = confirmed + errors + refused +
/// wrongly accepted + in flight.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Attempts, dropped ones included.
    pub attempted: u64,
    /// Proven accepted.
    pub confirmed: u64,
    /// Of these, full.
    pub full: u64,
    /// Of these, resumed.
    pub resumed: u64,
    /// Of the full ones, after a HelloRetryRequest.
    pub retried: u64,
    /// All classes together.
    pub errors: u64,
    /// Of the errors: never attempted because too many were in flight.
    pub dropped: u64,
    /// Refused as they should be.
    pub refused: u64,
    /// Let in although they should be refused.
    pub wrongly_accepted: u64,
    /// Without an end when the run was over.
    pub in_flight: u64,
    /// Closed by the server without close_notify, after everything was done.
    pub unclean_closes: u64,
    /// Attempts that are not accounted for.
    pub imbalance: i64,
}

/// Resumption asked and had.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resumed {
    /// The share asked for.
    pub asked: f64,
    /// The share of confirmed handshakes that was resumed.
    pub got: f64,
    /// Of the confirmed attempts that wanted to resume, the share that did.
    pub granted: f64,
    /// Share of full handshakes that took a HelloRetryRequest.
    pub retried: f64,
}

/// The generator's own use in the measured window.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GeneratorUse {
    /// Load threads.
    pub threads: u32,
    /// CPU share of the load threads, each: 1 is one whole core.
    pub cpu_share: f64,
    /// Share of the time in which they were ready to run and had no core.
    pub wait_share: f64,
    /// CPU time of the load threads per confirmed handshake, microseconds.
    pub cpu_us_per_hs: f64,
    /// Of this, in the kernel, microseconds; to 10 ms in all.
    pub kernel_us_per_hs: f64,
    /// `--cheap-client`: skips verification, reuses key shares.
    pub cheap_client: bool,
}

/// The server's use in the measured window.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerUse {
    /// CPU time per confirmed handshake, microseconds.
    pub cpu_us_per_hs: f64,
    /// Of this, in the kernel.
    pub kernel_us_per_hs: f64,
    /// CPU share: 1 is one whole core.
    pub cpu_share: f64,
    /// Resident bytes at the end of the window.
    pub rss: u64,
    /// By how much they grew during the window.
    pub rss_growth: i64,
    /// The most it ever had.
    pub rss_peak: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors at the end.
    pub descriptors: u64,
}

/// A threshold and its fate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ThresholdResult {
    /// As written.
    pub rule: String,
    /// What was measured, in microseconds, bytes, shares or plain numbers; 0 if nothing was.
    pub value: f64,
    /// The same for people.
    #[serde(default)]
    pub shown: String,
    /// Whether the run failed because of it.
    pub failed: bool,
}

/// Quantiles of a histogram.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    /// Samples.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

/// What became of one server name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NameResult {
    /// The name.
    pub name: String,
    /// Confirmed with a full handshake.
    pub full: u64,
    /// Confirmed with a resumed one.
    pub resumed: u64,
    /// Failed.
    pub failed: u64,
    /// Refused as expected.
    pub refused: u64,
    /// Let in although they should be refused.
    pub wrongly_accepted: u64,
}

/// One second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TickResult {
    /// Seconds since the start.
    pub second: u32,
    /// `before`, `measured`, `after`, or `partial`: partly in the measured window.
    pub phase: String,
    /// Attempts a second asked for.
    pub offered: f64,
    /// Attempts.
    pub attempted: u64,
    /// Confirmed, full.
    pub full: u64,
    /// Confirmed, resumed.
    pub resumed: u64,
    /// Failures, dropped ones included.
    pub errors: u64,
    /// In progress at its end.
    pub in_flight: u32,
    /// Largest start delay of its attempts, microseconds; 0 in a closed loop.
    pub lag_max_us: u64,
    /// Time to confirmation, microseconds: full and resumed together.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// Largest.
    pub max: u64,
    /// Counts by latency for the heat map: four steps an octave from 32 µs; trailing zeros left out.
    pub heat: Vec<u64>,
}

impl RunResult {
    /// The result of a run. The verdict, the thresholds and the scrape are filled in later.
    ///
    /// # Errors
    /// Histograms that cannot be encoded.
    pub fn new(plan: &RunPlan, outcome: &Outcome, env: Environment) -> Result<Self> {
        let tally = &outcome.tally;
        let seconds = outcome.measured.as_secs_f64();
        let errors = tally.failures_total();
        let mut result = Self {
            schema: SCHEMA.to_owned(),
            env,
            target: plan.target.to_string(),
            pace: pace(plan),
            confirm: confirm_name(plan.script.confirm).to_owned(),
            seed: plan.seed,
            begun_unix_ms: outcome.begun_unix_ms,
            duration_s: seconds,
            intended_rate: intended_rate(plan),
            achieved_rate: float(tally.confirmed_in_window) / seconds.max(1e-9),
            counts: Counts {
                attempted: tally.attempted,
                confirmed: tally.confirmed,
                full: tally.full,
                resumed: tally.resumed,
                retried: tally.retried,
                errors,
                dropped: tally.failures.get(&Failure::Dropped).copied().unwrap_or_default(),
                refused: tally.refused_total(),
                wrongly_accepted: tally.wrongly_accepted,
                in_flight: tally.in_flight,
                unclean_closes: tally.unclean_closes,
                imbalance: tally.imbalance(),
            },
            errors: named(&tally.failures),
            refused: named(&tally.refused),
            late_errors: named(&tally.late),
            reasons: reasons(tally),
            resumed: Resumed {
                asked: plan.population.resume,
                got: ratio(tally.resumed, tally.full + tally.resumed),
                granted: ratio(tally.resumed, tally.wanted_resume),
                retried: ratio(tally.retried, tally.full),
            },
            lag_p99_us: tally.lag.as_ref().map_or(0.0, |lag| float(lag.value_at_quantile(0.99))),
            lag_max_us: tally.lag.as_ref().map_or(0.0, |lag| float(lag.max())),
            generator: GeneratorUse {
                threads: plan.threads,
                cpu_share: tally.cpu.as_secs_f64()
                    / seconds.max(1e-9)
                    / f64::from(plan.threads.max(1)),
                wait_share: tally.waited.as_secs_f64()
                    / seconds.max(1e-9)
                    / f64::from(plan.threads.max(1)),
                cpu_us_per_hs: per_handshake(tally.cpu.as_secs_f64(), tally.confirmed_in_window),
                kernel_us_per_hs: per_handshake(
                    outcome.process_kernel.as_secs_f64(),
                    tally.confirmed_in_window,
                ),
                cheap_client: plan.terms.cheap,
            },
            server: server_use(outcome),
            negotiated: tally.negotiated.clone(),
            names: name_results(plan, &tally.names),
            ticks: outcome.ticks.iter().map(|tick| tick_result(plan, tick)).collect(),
            ..Self::default()
        };
        result.add_histograms(plan, tally)?;
        Ok(result)
    }

    /// Reads a file that an earlier run wrote.
    ///
    /// # Errors
    /// Not a `load/1` file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let result: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a result of this program", path.display()))?;
        if result.schema != SCHEMA {
            bail!("{} has schema {:?}, this program reads {SCHEMA}", path.display(), result.schema);
        }
        Ok(result)
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).context("cannot encode the result")?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A histogram by its name in `hist`.
    #[must_use]
    pub fn histogram(&self, name: &str) -> Option<Histogram<u64>> {
        histogram_code::decode(self.hist.get(name)?).ok()
    }

    /// Full and resumed together, from the intended start.
    #[must_use]
    pub fn merged(&self, measure: Measure) -> Option<Histogram<u64>> {
        let mut all: Option<Histogram<u64>> = None;
        for kind in Kind::ALL {
            let one = self.histogram(&format!("{}.{}", measure.name(), kind.name()));
            match (&mut all, one) {
                (Some(all), Some(one)) => all.add(one).ok()?,
                (None, one) => all = one,
                (Some(_), None) => {}
            }
        }
        all
    }

    /// The share of attempts that failed.
    #[must_use]
    pub fn error_share(&self) -> f64 {
        ratio(self.counts.errors + self.counts.wrongly_accepted, self.counts.attempted)
    }

    /// Seconds with load in them from beginning to end.
    pub fn whole_seconds(&self) -> impl Iterator<Item = &TickResult> {
        self.ticks.iter().filter(|tick| tick.phase == "before" || tick.phase == "measured")
    }

    fn add_histograms(&mut self, plan: &RunPlan, tally: &Tally) -> Result<()> {
        for origin in Origin::ALL {
            let end = match origin {
                Origin::Intended => "",
                Origin::Actual => ".service",
            };
            self.add_latencies("", end, &tally.latencies, origin)?;
        }
        for (name, tally) in plan.population.names.iter().zip(&tally.names) {
            if let Some(histogram) = &tally.confirmed {
                self.add_histogram(format!("name.{}", name.text), histogram)?;
            }
            let before = format!("by_name.{}.", name.text);
            self.add_latencies(&before, "", &tally.latencies, Origin::Intended)?;
        }
        if let Some(lag) = &tally.lag {
            self.add_histogram("lag".to_owned(), lag)?;
        }
        Ok(())
    }

    fn add_latencies(
        &mut self,
        before: &str,
        after: &str,
        latencies: &Latencies,
        origin: Origin,
    ) -> Result<()> {
        for measure in Measure::ALL {
            for kind in Kind::ALL {
                if let Some(histogram) = latencies.of(measure, kind, origin) {
                    let name = format!("{before}{}.{}{after}", measure.name(), kind.name());
                    self.add_histogram(name, histogram)?;
                }
            }
        }
        Ok(())
    }

    fn add_histogram(&mut self, name: String, histogram: &Histogram<u64>) -> Result<()> {
        if histogram.is_empty() {
            return Ok(());
        }
        self.hist.insert(name.clone(), histogram_code::encode(histogram)?);
        self.latency_us.insert(name, Quantiles::of(histogram));
        Ok(())
    }
}

impl Quantiles {
    /// Those of a histogram.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// The heat map's step of a latency in microseconds: four an octave from 32 µs.
#[must_use]
pub fn heat_step(us: u64) -> usize {
    let octaves = (float(us.max(1)) / 32.0).log2().max(0.0);
    usize::try_from(quantity::whole((octaves * 4.0).floor()))
        .unwrap_or(HEAT_STEPS - 1)
        .min(HEAT_STEPS - 1)
}

fn named(counts: &BTreeMap<Failure, u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|(failure, count)| (failure.to_string(), *count)).collect()
}

/// Of what was counted: the warm-up may have met other things.
fn reasons(tally: &Tally) -> BTreeMap<String, String> {
    let counted = |failure: &Failure| {
        [&tally.failures, &tally.refused, &tally.late].iter().any(|all| all.contains_key(failure))
    };
    let kept = tally.reasons.iter().filter(|(failure, _)| counted(failure));
    kept.map(|(failure, why)| (failure.to_string(), why.clone())).collect()
}

fn confirm_name(confirm: Confirm) -> &'static str {
    match confirm {
        Confirm::Echo => "echo",
        Confirm::Ticket => "ticket",
        Confirm::Close => "close",
        Confirm::None => "none",
    }
}

fn pace(plan: &RunPlan) -> String {
    match plan.pace {
        Loop::Closed { connections } => format!("closed {connections}"),
        Loop::Open { rate, spread, .. } => {
            let rate = match rate {
                Rate::Constant(rate) => format!("{:.0}/s", rate),
                Rate::Steps { from, to, step, every } => {
                    format!("{from}..{to}:+{step}/{}s", every.as_secs_f64())
                }
            };
            let spread = match spread {
                Spread::Uniform => "uniform".to_owned(),
                Spread::Poisson => "poisson".to_owned(),
                Spread::Burst(count) => format!("burst:{count}"),
            };
            format!("open {rate} {spread}")
        }
    }
}

fn intended_rate(plan: &RunPlan) -> f64 {
    match plan.pace {
        Loop::Closed { .. } => 0.0,
        Loop::Open { rate, .. } => match rate {
            Rate::Constant(rate) => rate,
            Rate::Steps { .. } => {
                let seconds = plan.phases.measured.as_secs().max(1);
                let sum: f64 = (0..seconds)
                    .map(|second| {
                        rate.at(plan.phases.warmup + std::time::Duration::from_secs(second))
                    })
                    .sum();
                sum / float(seconds)
            }
        },
    }
}

fn per_handshake(seconds: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { seconds * 1e6 / float(count) }
}

fn server_use(outcome: &Outcome) -> Option<ServerUse> {
    let (before, after) = outcome.server?;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    let kernel = after.kernel.saturating_sub(before.kernel).as_secs_f64();
    Some(ServerUse {
        kernel_us_per_hs: per_handshake(kernel, outcome.tally.confirmed_in_window),
        cpu_us_per_hs: per_handshake(cpu, outcome.tally.confirmed_in_window),
        cpu_share: cpu / outcome.sampled.as_secs_f64().max(1e-9),
        rss: after.rss,
        rss_growth: after.rss.cast_signed() - before.rss.cast_signed(),
        rss_peak: after.rss_peak,
        threads: after.threads,
        descriptors: after.descriptors,
    })
}

fn name_results(plan: &RunPlan, tallies: &[NameTally]) -> Vec<NameResult> {
    let names = plan.population.names.iter().zip(tallies).map(|(name, tally)| NameResult {
        name: name.text.clone(),
        full: tally.full,
        resumed: tally.resumed,
        failed: tally.failed,
        refused: tally.refused,
        wrongly_accepted: tally.wrongly_accepted,
    });
    // Of 100,000 names only those that were met.
    let met = |name: &NameResult| {
        name.full + name.resumed + name.failed + name.refused + name.wrongly_accepted > 0
    };
    names.filter(met).collect()
}

fn tick_result(plan: &RunPlan, tick: &Tick) -> TickResult {
    let at = std::time::Duration::from_secs(u64::from(tick.second));
    let end = at + std::time::Duration::from_secs(1);
    let phase = if end <= plan.phases.before() {
        "before"
    } else if at >= plan.phases.until_end() {
        "after"
    } else if at >= plan.phases.before() && end <= plan.phases.until_end() {
        "measured"
    } else {
        "partial"
    };
    let mut both = tick.confirmed[0].clone();
    // Cannot fail: both have the same bounds.
    let _ = both.add(&tick.confirmed[1]);
    let offered = match plan.pace {
        // In the middle of the second: the mean of a rate that climbs.
        Loop::Open { rate, .. } => {
            rate.offered(at + std::time::Duration::from_millis(500), plan.phases.ramp)
        }
        Loop::Closed { .. } => 0.0,
    };
    let mut heat = vec![0; HEAT_STEPS];
    for bucket in both.iter_recorded() {
        heat[heat_step(bucket.value_iterated_to())] += bucket.count_since_last_iteration();
    }
    heat.truncate(heat.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
    TickResult {
        second: tick.second,
        phase: phase.to_owned(),
        offered: if phase == "after" { 0.0 } else { offered },
        attempted: tick.attempted,
        full: tick.full,
        resumed: tick.resumed,
        errors: tick.failures_total() + tick.wrongly_accepted,
        in_flight: tick.in_flight,
        lag_max_us: tick.lag_max,
        p50: both.value_at_quantile(0.5),
        p90: both.value_at_quantile(0.9),
        p99: both.value_at_quantile(0.99),
        max: both.max(),
        heat,
    }
}

/// The name of this format.
pub const SCHEMA: &str = "load/1";
/// 21 octaves from 32 µs reach a minute.
const HEAT_STEPS: usize = 84;
