//! Owns the command `compare`: two results, metric by metric: better, worse, no difference shown,
//! or not comparable at all. Samples are the seconds of the measured window. Read `stats.rs` for
//! the tests.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::exit::Exit;
use crate::output;
use crate::quantity::float;
use crate::result::{RunResult, TickResult};
use crate::stats;

/// Compare two results: better, worse, no difference shown, or not comparable
#[derive(Debug, Clone, Args)]
pub struct Compare {
    /// The first result, the baseline
    pub a: PathBuf,
    /// The second
    pub b: PathBuf,
    /// Compare even what should not be compared
    #[arg(long)]
    pub force: bool,
    /// Differences smaller than this share of the baseline do not matter
    #[arg(long, default_value = "1%", value_parser = crate::quantity::share)]
    pub margin: f64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a comparison says about one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// B is better.
    Better,
    /// B is worse.
    Worse,
    /// The samples do not tell them apart.
    NoDifferenceShown,
}

/// One metric of both runs.
#[derive(Debug, Clone, Serialize)]
pub struct MetricComparison {
    /// Its name.
    pub metric: String,
    /// Mean of the first run's seconds.
    pub a: f64,
    /// Mean of the second's.
    pub b: f64,
    /// 95 % interval of B - A.
    pub interval: (f64, f64),
    /// Mann-Whitney p.
    pub p: f64,
    /// What follows.
    pub judgement: Judgement,
}

/// Both runs.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Why they should not be compared; empty if they may.
    pub obstacles: Vec<String>,
    /// Metric by metric.
    pub metrics: Vec<MetricComparison>,
}

impl Compare {
    /// Reads, compares, prints. Exit 2 if anything is worse, 3 if not comparable.
    ///
    /// # Errors
    /// Files that are no results.
    pub fn execute(&self) -> Result<Exit> {
        let (a, b) = (RunResult::read(&self.a)?, RunResult::read(&self.b)?);
        let comparison = compare(&a, &b, self.margin);
        if self.json {
            output::line(serde_json::to_string(&comparison)?);
        } else {
            output::text(&render(&comparison));
        }
        if !comparison.obstacles.is_empty() && !self.force {
            return Ok(Exit::Invalid);
        }
        let worse = comparison.metrics.iter().any(|metric| metric.judgement == Judgement::Worse);
        Ok(if worse { Exit::Missed } else { Exit::Met })
    }
}

/// Compares two results; `margin` is the share of A below which a difference does not matter.
#[must_use]
pub fn compare(a: &RunResult, b: &RunResult, margin: f64) -> Comparison {
    let metrics = METRICS
        .iter()
        .filter_map(|(name, higher_is_better, read)| {
            let (a, b) = (samples(a, *read), samples(b, *read));
            if a.iter().chain(&b).all(|sample| *sample == 0.0) {
                return None;
            }
            Some(compare_samples(name, *higher_is_better, &a, &b, margin))
        })
        .chain(server_cpu(a, b))
        .collect();
    Comparison { obstacles: obstacles(a, b), metrics }
}

/// Compares one metric's samples.
#[must_use]
pub fn compare_samples(
    name: &str,
    higher_is_better: bool,
    a: &[f64],
    b: &[f64],
    margin: f64,
) -> MetricComparison {
    let interval = stats::bootstrap_difference(a, b, BOOTSTRAP_ROUNDS, BOOTSTRAP_SEED);
    let p = stats::mann_whitney(a, b);
    let (mean_a, mean_b) = (stats::mean(a), stats::mean(b));
    let difference = mean_b - mean_a;
    let shown = p < 0.05 && (interval.0 > 0.0 || interval.1 < 0.0);
    let matters = difference.abs() > margin * mean_a.abs();
    let judgement = match (shown && matters, (difference > 0.0) == higher_is_better) {
        (false, _) => Judgement::NoDifferenceShown,
        (true, true) => Judgement::Better,
        (true, false) => Judgement::Worse,
    };
    MetricComparison { metric: name.to_owned(), a: mean_a, b: mean_b, interval, p, judgement }
}

/// One number a run: shown, never judged.
fn server_cpu(a: &RunResult, b: &RunResult) -> Option<MetricComparison> {
    let (a, b) = (a.server?.cpu_us_per_hs, b.server?.cpu_us_per_hs);
    Some(MetricComparison {
        metric: SERVER_CPU.to_owned(),
        a,
        b,
        interval: (f64::NEG_INFINITY, f64::INFINITY),
        p: 1.0,
        judgement: Judgement::NoDifferenceShown,
    })
}

fn samples(result: &RunResult, read: fn(&TickResult) -> f64) -> Vec<f64> {
    result.ticks.iter().filter(|tick| tick.phase == "measured").map(read).collect()
}

/// What stands between two runs.
fn obstacles(a: &RunResult, b: &RunResult) -> Vec<String> {
    let mut found = Vec::new();
    for (name, result) in [("A", a), ("B", b)] {
        if !result.valid {
            found.push(format!("{name} is invalid: {}", result.why.join("; ")));
        }
        let count = samples(result, |tick| float(tick.full)).len();
        if count < SAMPLES_MIN {
            found.push(format!("{name} has {count} measured seconds; {SAMPLES_MIN} are needed"));
        }
    }
    let same = [
        ("pace", a.pace == b.pace),
        ("confirmation", a.confirm == b.confirm),
        ("resumption asked", a.resumed.asked == b.resumed.asked),
        ("cheap client", a.generator.cheap_client == b.generator.cheap_client),
        ("generator threads", a.generator.threads == b.generator.threads),
        ("negotiated TLS", a.negotiated.keys().eq(b.negotiated.keys())),
        ("processor", a.env.cpu == b.env.cpu && a.env.cores == b.env.cores),
        ("kernel", a.env.kernel == b.env.kernel),
        ("generator version", a.env.generator == b.env.generator),
    ];
    found
        .extend(same.iter().filter(|(_, same)| !same).map(|(what, _)| format!("different {what}")));
    // Half a core's worth of other work is more than most differences that people look for.
    if (a.env.loadavg - b.env.loadavg).abs() > 0.5 * float(a.env.cores as u64) {
        found.push(format!("different load: {:.2} and {:.2}", a.env.loadavg, b.env.loadavg));
    }
    found
}

/// The comparison for people.
#[must_use]
pub fn render(comparison: &Comparison) -> String {
    let mut out = String::new();
    for obstacle in &comparison.obstacles {
        let _ = writeln!(out, "not comparable: {obstacle}");
    }
    let _ = writeln!(
        out,
        "{:<18} {:>12} {:>12} {:>9}  {:>25}  {:>7}  verdict",
        "metric", "A", "B", "delta", "95 % interval of B-A", "p"
    );
    for metric in &comparison.metrics {
        let delta = if metric.a == 0.0 { 0.0 } else { (metric.b - metric.a) / metric.a * 100.0 };
        let interval = if metric.interval.0.is_finite() {
            format!("{:.1} .. {:.1}", metric.interval.0, metric.interval.1)
        } else {
            "-".to_owned()
        };
        let verdict = match metric.judgement {
            Judgement::Better => "better",
            Judgement::Worse => "worse",
            Judgement::NoDifferenceShown if metric.interval.0.is_finite() => "no difference shown",
            Judgement::NoDifferenceShown => "one sample",
        };
        let _ = writeln!(
            out,
            "{:<18} {:>12.1} {:>12.1} {delta:>8.1}%  {interval:>25}  {:>7.4}  {verdict}",
            metric.metric, metric.a, metric.b, metric.p
        );
    }
    out
}

/// The metric that `--server-pid` brings.
pub const SERVER_CPU: &str = "server cpu us/hs";
type Read = fn(&TickResult) -> f64;
/// Name, whether more is better, and where it stands in a second.
const METRICS: [(&str, bool, Read); 6] = [
    ("handshakes/s", true, |tick| float(tick.full + tick.resumed)),
    ("errors/s", false, |tick| float(tick.errors)),
    ("p50 us", false, |tick| float(tick.p50)),
    ("p90 us", false, |tick| float(tick.p90)),
    ("p99 us", false, |tick| float(tick.p99)),
    ("max us", false, |tick| float(tick.max)),
];
const BOOTSTRAP_ROUNDS: usize = 2000;
const BOOTSTRAP_SEED: u64 = 1;
/// Below this the Mann-Whitney approximation is poor, and p cannot get small.
pub const SAMPLES_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, p99: f64) -> RunResult {
        let mut random = fastrand::Rng::with_seed(seed);
        let ticks = (0..20)
            .map(|second| TickResult {
                second,
                phase: "measured".to_owned(),
                full: 1000 + random.u64(0..20),
                p99: crate::quantity::whole(p99 * (0.95 + random.f64() / 10.0)),
                ..TickResult::default()
            })
            .collect();
        RunResult { valid: true, pace: "closed 8".to_owned(), ticks, ..RunResult::default() }
    }

    fn verdict(comparison: &Comparison, metric: &str) -> Judgement {
        comparison.metrics.iter().find(|found| found.metric == metric).unwrap().judgement
    }

    #[test]
    fn a_slower_run_is_worse_and_a_faster_one_better() {
        let worse = compare(&run(1, 5000.0), &run(2, 6000.0), 0.01);
        assert_eq!(verdict(&worse, "p99 us"), Judgement::Worse);
        assert_eq!(verdict(&worse, "handshakes/s"), Judgement::NoDifferenceShown);
        let better = compare(&run(1, 6000.0), &run(2, 5000.0), 0.01);
        assert_eq!(verdict(&better, "p99 us"), Judgement::Better);
        assert!(better.obstacles.is_empty(), "{:?}", better.obstacles);
    }

    #[test]
    fn runs_that_differ_in_more_than_the_server_are_not_comparable() {
        let mut other = run(2, 5000.0);
        other.pace = "closed 64".to_owned();
        other.env.loadavg = 9.0;
        other.valid = false;
        let found = obstacles(&run(1, 5000.0), &other).join("\n");
        for word in ["pace", "load", "invalid"] {
            assert!(found.contains(word), "{found}");
        }
    }
}
