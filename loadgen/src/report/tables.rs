//! Owns the reports without pictures: Markdown, CSV of the seconds, and the percentile text that
//! HdrHistogram's plotter reads. Read `mod.rs` next.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::NamedRun;
use crate::quantity::{float, show_micros};

/// A table a run, for issues and commit messages.
#[must_use]
pub fn markdown(runs: &[NamedRun]) -> String {
    let mut out = String::from(
        "| run | pace | rate | resumed | errors | p50 | p99 | p99.9 | server us/hs | verdict |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    for run in runs {
        let result = &run.result;
        let merged = result.merged(crate::tally::Measure::Confirmed);
        let at = |quantile| {
            merged
                .as_ref()
                .map_or("-".to_owned(), |all| show_micros(float(all.value_at_quantile(quantile))))
        };
        let server =
            result.server.map_or("-".to_owned(), |server| format!("{:.0}", server.cpu_us_per_hs));
        let verdict = if result.valid { "valid".to_owned() } else { result.why.join("; ") };
        let _ = writeln!(
            out,
            "| {} | {} | {:.1}/s | {:.1} % | {:.2} % | {} | {} | {} | {server} | {verdict} |",
            run.name,
            result.pace,
            result.achieved_rate,
            result.resumed.got * 100.0,
            result.error_share() * 100.0,
            at(0.5),
            at(0.99),
            at(0.999),
        );
    }
    out
}

/// A line a second of every run.
#[must_use]
pub fn csv(runs: &[NamedRun]) -> String {
    let mut out = String::from(
        "run,second,phase,offered,attempted,full,resumed,errors,in_flight,lag_max_us,p50_us,p90_us,p99_us,max_us\n",
    );
    for run in runs {
        let name = run.name.replace([',', '"', '\n'], "_");
        for tick in &run.result.ticks {
            let _ = writeln!(
                out,
                "{name},{},{},{},{},{},{},{},{},{},{},{},{},{}",
                tick.second,
                tick.phase,
                tick.offered,
                tick.attempted,
                tick.full,
                tick.resumed,
                tick.errors,
                tick.in_flight,
                tick.lag_max_us,
                tick.p50,
                tick.p90,
                tick.p99,
                tick.max
            );
        }
    }
    out
}

/// The percentile distribution in milliseconds, as `HistogramLogProcessor` writes it.
#[must_use]
pub(super) fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for step in histogram.iter_quantiles(5) {
        let quantile = step.quantile_iterated_to();
        let value = float(step.value_iterated_to()) / 1e3;
        let count = histogram.count_between(0, step.value_iterated_to());
        if quantile < 1.0 {
            let _ = writeln!(
                out,
                "{value:12.3} {quantile:2.12} {count:10} {:14.2}",
                1.0 / (1.0 - quantile)
            );
        } else {
            let _ = writeln!(out, "{value:12.3} {quantile:2.12} {count:10}");
        }
    }
    let _ = writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        histogram.mean() / 1e3,
        histogram.stdev() / 1e3
    );
    let _ = writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        float(histogram.max()) / 1e3,
        histogram.len()
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::histogram;

    #[test]
    fn percentile_text_ends_at_the_largest_value() {
        let mut one = histogram();
        for value in 1..=1000 {
            one.record(value * 1000).unwrap();
        }
        let text = hgrm(&one);
        assert!(text.contains("#[Max     ="), "{text}");
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        assert!(last.contains("1.000000000000") && last.trim_end().ends_with("1000"), "{last}");
    }
}
