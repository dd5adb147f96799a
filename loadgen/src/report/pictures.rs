//! Owns the pictures of a report: latency by percentile, rate against latency with the knee,
//! the run over time, the heat map, the cost per handshake, and small ones per server name. Read
//! `chart.rs` for how they are drawn, `page.rs` for where they stand.

use std::fmt::Write;

use super::NamedRun;
use super::chart::{Axis, Chart, Scale};
use crate::crypto::Costs;
use crate::quantity::{float, show_micros};
use crate::result::TickResult;
use crate::tally::{Kind, Measure};

/// Latency by percentile with nines on the x axis; a line for each run and kind.
pub(super) fn percentiles(runs: &[NamedRun], objective: Option<f64>) -> Option<String> {
    let mut lines = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        for kind in Kind::ALL {
            let name = format!("{}.{}", Measure::Confirmed.name(), kind.name());
            let Some(histogram) = run.result.histogram(&name) else { continue };
            let points: Vec<(f64, f64)> = NINES
                .iter()
                .filter(|quantile| 1.0 - **quantile >= 0.5 / float(histogram.len().max(1)))
                .map(|quantile| (nines(*quantile), float(histogram.value_at_quantile(*quantile))))
                .collect();
            let legend = if runs.len() > 1 {
                format!("{} {}", run.name, kind.name())
            } else {
                kind.name().to_owned()
            };
            lines.push((colour(index, kind), legend, points));
        }
    }
    let values = || lines.iter().flat_map(|(_, _, points)| points.iter().map(|point| point.1));
    let top = values().chain(objective).fold(f64::NAN, f64::max);
    let low = values().fold(f64::NAN, f64::min);
    if top.is_nan() {
        return None;
    }
    let x = Axis {
        scale: Scale::Linear,
        from: 0.0,
        to: lines.iter().flat_map(|line| line.2.iter().map(|point| point.0)).fold(1.0, f64::max),
        marks: [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]
            .into_iter()
            .map(|quantile| (nines(quantile), format!("{}%", quantile * 100.0)))
            .collect(),
        title: "percentile".to_owned(),
    };
    let x =
        Axis { marks: x.marks.iter().filter(|mark| mark.0 <= x.to + 1e-9).cloned().collect(), ..x };
    let y = Axis::log(low.max(1.0), top, "to confirmation", show_micros);
    let mut chart = Chart::new("Latency by percentile, from the intended start", x, y);
    for (class, legend, points) in &lines {
        chart.line(class, legend, points);
    }
    if let Some(objective) = objective {
        chart.level(objective, "objective");
    }
    Some(chart.svg())
}

/// Offered rate against p50, p99 and p99.9 over several runs; the knee is the highest valid rate
/// before latency or errors leave the objective.
pub(super) fn knee(runs: &[NamedRun], objective: Option<f64>) -> Option<String> {
    let mut points: Vec<(f64, [f64; 3], bool)> = runs
        .iter()
        .filter(|run| run.result.intended_rate > 0.0)
        .filter_map(|run| {
            let histogram = run.result.merged(Measure::Confirmed)?;
            let at = |quantile| float(histogram.value_at_quantile(quantile));
            let good = run.result.valid && run.result.error_share() < 0.001;
            Some((run.result.intended_rate, [at(0.5), at(0.99), at(0.999)], good))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    if points.len() < 2 {
        return None;
    }
    let values = points.iter().flat_map(|point| point.1);
    let (low, top) = values
        .chain(objective)
        .fold((f64::MAX, 0.0), |(low, top), value| (value.min(low), value.max(top)));
    let fastest = points.last().map_or(1.0, |point| point.0);
    let x = Axis::linear(fastest, "offered handshakes/s", |value| format!("{value:.0}"));
    let mut chart = Chart::new(
        "Rate against latency",
        x,
        Axis::log(low.max(1.0), top, "to confirmation", show_micros),
    );
    for (index, (class, word)) in [("c0", "p50"), ("c1", "p99"), ("c2", "p99.9")].iter().enumerate()
    {
        let line: Vec<(f64, f64)> = points.iter().map(|point| (point.0, point.1[index])).collect();
        chart.line(class, word, &line);
        let dots: Vec<(f64, f64, String)> = line
            .iter()
            .map(|(rate, us)| (*rate, *us, format!("{word} at {rate:.0}/s: {}", show_micros(*us))))
            .collect();
        chart.dots(class, &dots);
    }
    if let Some(objective) = objective {
        chart.level(objective, &format!("p99 objective {}", show_micros(objective)));
        let within = points.iter().take_while(|point| point.2 && point.1[1] < objective);
        if let Some(knee) = within.last() {
            chart.upright(knee.0, &format!("knee {:.0}/s", knee.0));
        }
    }
    Some(chart.svg())
}

/// Offered, achieved and failed, second by second.
pub(super) fn over_time(run: &NamedRun) -> Option<String> {
    let ticks = whole_seconds(run);
    let top = ticks
        .iter()
        .map(|tick| tick.offered.max(float(tick.full + tick.resumed + tick.errors)))
        .fold(0.0, f64::max);
    if ticks.len() < 2 || top == 0.0 {
        return None;
    }
    let x = Axis::linear(float(ticks.len() as u64), "seconds", |value| format!("{value}"));
    let y = Axis::linear(top, "a second", |value| format!("{value:.0}"));
    let mut chart = Chart::new(&format!("{}: offered, achieved, failed", run.name), x, y);
    let series = |read: fn(&TickResult) -> f64| -> Vec<(f64, f64)> {
        ticks.iter().map(|tick| (f64::from(tick.second) + 0.5, read(tick))).collect()
    };
    if run.result.intended_rate > 0.0 {
        chart.line("quiet", "offered", &series(|tick| tick.offered));
    }
    chart.line("c0", "full", &series(|tick| float(tick.full)));
    if run.result.counts.resumed > 0 {
        chart.line("c1", "resumed", &series(|tick| float(tick.resumed)));
    }
    chart.line("bad", "errors", &series(|tick| float(tick.errors)));
    if let Some(begin) =
        ticks.iter().find(|tick| tick.phase == "measured").filter(|tick| tick.second > 0)
    {
        chart.upright(f64::from(begin.second), "");
    }
    chart.events(events(run));
    Some(chart.svg())
}

/// How often each latency occurred, second by second: reloads and rotations show as stripes.
pub(super) fn heat(run: &NamedRun) -> Option<String> {
    let ticks = whole_seconds(run);
    let steps = ticks.iter().map(|tick| tick.heat.len()).max().unwrap_or_default();
    let first = (0..steps).find(|step| ticks.iter().any(|tick| at(&tick.heat, *step) > 0))?;
    let most = ticks.iter().flat_map(|tick| tick.heat.iter()).max().copied().unwrap_or(1).max(1);
    let x = Axis::linear(float(ticks.len() as u64), "seconds", |value| format!("{value}"));
    let y = Axis::log(step_start(first), step_start(steps), "to confirmation", show_micros);
    let mut chart = Chart::new(&format!("{}: latency over time", run.name), x, y);
    for tick in &ticks {
        for (step, count) in tick.heat.iter().enumerate().filter(|(_, count)| **count > 0) {
            let second = f64::from(tick.second);
            // By logarithm, or single slow handshakes would be invisible.
            let strength = 0.12 + 0.88 * (float(*count)).ln_1p() / float(most).ln_1p();
            let hint =
                format!("second {second}: {count} up to {}", show_micros(step_start(step + 1)));
            chart.cell(
                (second, step_start(step)),
                (second + 1.0, step_start(step + 1)),
                strength,
                &hint,
            );
        }
    }
    chart.events(events(run));
    Some(chart.svg())
}

/// CPU per handshake, stacked: cryptography (from `crypto`), kernel, and the rest of the server;
/// the generator beside it.
pub(super) fn cost(runs: &[NamedRun], crypto: Option<&Costs>) -> Option<String> {
    let bars: Vec<(String, Vec<Part>)> =
        runs.iter().flat_map(|run| cost_bars(run, crypto)).collect();
    let most =
        bars.iter().map(|(_, parts)| parts.iter().map(|part| part.us).sum()).fold(0.0, f64::max);
    if most == 0.0 {
        return None;
    }
    let mut out = String::from(
        "<figure><figcaption>CPU per confirmed handshake</figcaption><div class=\"bars\">",
    );
    for (name, parts) in &bars {
        let _ = write!(out, "<span>{}</span><span class=\"bar\">", super::chart::escape(name));
        for part in parts {
            let share = part.us / most * 75.0;
            let _ = write!(
                out,
                "<i class=\"b {}\" style=\"width:{share:.1}%\" title=\"{} {:.0} us\"></i>",
                part.class, part.word, part.us
            );
        }
        let total: f64 = parts.iter().map(|part| part.us).sum();
        let _ = write!(out, "<em>{total:.0} us</em></span>");
    }
    out.push_str("</div><p class=\"legend\">");
    let mut words: Vec<(&str, &str)> = Vec::new();
    for part in bars.iter().flat_map(|(_, parts)| parts) {
        if !words.contains(&(part.class, part.word)) {
            words.push((part.class, part.word));
        }
    }
    for (class, word) in words {
        let _ = write!(out, "<span><i class=\"key b {class}\"></i>{word}</span>");
    }
    out.push_str("</p></figure>");
    Some(out)
}

struct Part {
    class: &'static str,
    word: &'static str,
    us: f64,
}

fn cost_bars(run: &NamedRun, crypto: Option<&Costs>) -> Vec<(String, Vec<Part>)> {
    let mut bars = Vec::new();
    if let Some(server) = run.result.server {
        let kernel = server.kernel_us_per_hs.min(server.cpu_us_per_hs);
        let user = server.cpu_us_per_hs - kernel;
        let got = run.result.resumed.got;
        let known = crypto.map_or(0.0, |costs| {
            (1.0 - got) * costs.full.server_us + got * costs.resumed.server_us
        });
        let sealed = known.min(user);
        let mut parts = vec![
            Part { class: "c2", word: "cryptography", us: sealed },
            Part {
                class: "c0",
                word: if crypto.is_some() { "proxy" } else { "user" },
                us: user - sealed,
            },
            Part { class: "c4", word: "kernel", us: kernel },
        ];
        parts.retain(|part| part.us > 0.0);
        bars.push((format!("{} server", run.name), parts));
    }
    let generator = run.result.generator.cpu_us_per_hs;
    bars.push((
        format!("{} generator", run.name),
        vec![Part { class: "quiet", word: "generator", us: generator }],
    ));
    bars
}

/// A small picture for each server name, all to the same scale: the noisy neighbour stands out.
pub(super) fn names(run: &NamedRun) -> Option<String> {
    let histograms: Vec<(String, Vec<(f64, f64)>)> = run
        .result
        .hist
        .keys()
        .filter_map(|key| Some((key.strip_prefix("name.")?, run.result.histogram(key)?)))
        .map(|(name, histogram)| {
            let points = NINES
                .iter()
                .filter(|quantile| 1.0 - **quantile >= 0.5 / float(histogram.len().max(1)))
                .map(|quantile| (nines(*quantile), float(histogram.value_at_quantile(*quantile))))
                .collect();
            (name.to_owned(), points)
        })
        .collect();
    if histograms.len() < 2 {
        return None;
    }
    let values = || histograms.iter().flat_map(|one| one.1.iter().map(|point| point.1));
    let (low, top) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
    let mut out = String::from("<div class=\"small\">");
    for (name, points) in histograms.iter().take(NAMES_MAX) {
        let marks = [0.5, 0.9, 0.99, 0.999]
            .map(|quantile| (nines(quantile), format!("{}%", quantile * 100.0)));
        let x = Axis {
            scale: Scale::Linear,
            from: 0.0,
            to: 4.0,
            marks: marks.to_vec(),
            title: "percentile".to_owned(),
        };
        let y = Axis::log(low.max(1.0), top, "to confirmation", show_micros);
        let mut chart = Chart::new(name, x, y);
        chart.line("c0", "full and resumed", points);
        out.push_str(&chart.svg());
    }
    out.push_str("</div>");
    Some(out)
}

/// Seconds with load in them from beginning to end.
fn whole_seconds(run: &NamedRun) -> Vec<&TickResult> {
    run.result.whole_seconds().collect()
}

fn events(run: &NamedRun) -> impl Iterator<Item = (f64, &str)> {
    run.marks.iter().map(|mark| (mark.second, mark.text.as_str()))
}

fn colour(run: usize, kind: Kind) -> String {
    let class = format!("c{}", run % COLOURS);
    match kind {
        Kind::Full => class,
        Kind::Resumed => format!("{class} dash"),
    }
}

/// 0 for 0, 1 for 90 %, 2 for 99 %.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// Where a step of the heat map begins, in microseconds: four an octave from 32 µs.
fn step_start(step: usize) -> f64 {
    32.0 * (float(step as u64) / 4.0).exp2()
}

fn at(heat: &[u64], step: usize) -> u64 {
    heat.get(step).copied().unwrap_or_default()
}

const NINES: [f64; 22] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.995,
    0.998, 0.999, 0.9995, 0.9999, 0.99999,
];
const COLOURS: usize = 6;
const NAMES_MAX: usize = 24;
