//! Owns the joining of several runs of the same load into one result: counts add up, histograms
//! merge, rates are over the whole time. Read `ab.rs` for who joins, `result.rs` for the parts.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::histogram_code;
use crate::quantity::{float, ratio};
use crate::result::{Counts, NameResult, Quantiles, RunResult, ServerUse};

/// One result whose counts, histograms and seconds are those of all; valid if all are. `None` of
/// none.
///
/// # Errors
/// Histograms that cannot be encoded.
pub fn join(results: &[RunResult]) -> Result<Option<RunResult>> {
    let Some((first, rest)) = results.split_first() else { return Ok(None) };
    let mut joined = first.clone();
    for result in rest {
        add(&mut joined, result)?;
    }
    joined.resumed.got = ratio(joined.counts.resumed, joined.counts.full + joined.counts.resumed);
    joined.resumed.retried = ratio(joined.counts.retried, joined.counts.full);
    joined.lag_p99_us = joined.latency_us.get("lag").map_or(0.0, |lag| float(lag.p99));
    Ok(Some(joined))
}

fn add(joined: &mut RunResult, result: &RunResult) -> Result<()> {
    // What is known by the second is weighted by seconds, by the handshake by handshakes.
    let seconds = [joined.duration_s, result.duration_s];
    let done = [&*joined, result].map(|run| run.achieved_rate * run.duration_s);
    joined.achieved_rate = mean([joined.achieved_rate, result.achieved_rate], seconds);
    joined.duration_s += result.duration_s;
    let (mine, theirs) = (&mut joined.generator, &result.generator);
    mine.cpu_share = mean([mine.cpu_share, theirs.cpu_share], seconds);
    mine.wait_share = mean([mine.wait_share, theirs.wait_share], seconds);
    mine.cpu_us_per_hs = mean([mine.cpu_us_per_hs, theirs.cpu_us_per_hs], done);
    mine.kernel_us_per_hs = mean([mine.kernel_us_per_hs, theirs.kernel_us_per_hs], done);
    joined.resumed.granted = mean([joined.resumed.granted, result.resumed.granted], done);
    joined.server = joined.server.zip(result.server).map(|both| server(both, seconds, done));
    joined.lag_max_us = joined.lag_max_us.max(result.lag_max_us);
    joined.counts = counts(joined.counts, result.counts);
    for (mine, theirs) in [
        (&mut joined.errors, &result.errors),
        (&mut joined.refused, &result.refused),
        (&mut joined.late_errors, &result.late_errors),
        (&mut joined.negotiated, &result.negotiated),
    ] {
        add_counts(mine, theirs);
    }
    for (class, why) in &result.reasons {
        joined.reasons.entry(class.clone()).or_insert_with(|| why.clone());
    }
    names(&mut joined.names, &result.names);
    histograms(joined, result)?;
    joined.ticks.extend(result.ticks.iter().cloned());
    joined.valid &= result.valid;
    joined.why.extend(result.why.iter().cloned());
    for warning in &result.warnings {
        if !joined.warnings.contains(warning) {
            joined.warnings.push(warning.clone());
        }
    }
    Ok(())
}

fn counts(a: Counts, b: Counts) -> Counts {
    Counts {
        attempted: a.attempted + b.attempted,
        confirmed: a.confirmed + b.confirmed,
        full: a.full + b.full,
        resumed: a.resumed + b.resumed,
        retried: a.retried + b.retried,
        errors: a.errors + b.errors,
        dropped: a.dropped + b.dropped,
        refused: a.refused + b.refused,
        wrongly_accepted: a.wrongly_accepted + b.wrongly_accepted,
        in_flight: a.in_flight + b.in_flight,
        unclean_closes: a.unclean_closes + b.unclean_closes,
        imbalance: a.imbalance + b.imbalance,
    }
}

/// The later one's memory, for both are of the same process, and the CPU of both.
fn server((a, b): (ServerUse, ServerUse), seconds: [f64; 2], done: [f64; 2]) -> ServerUse {
    ServerUse {
        cpu_us_per_hs: mean([a.cpu_us_per_hs, b.cpu_us_per_hs], done),
        kernel_us_per_hs: mean([a.kernel_us_per_hs, b.kernel_us_per_hs], done),
        cpu_share: mean([a.cpu_share, b.cpu_share], seconds),
        rss_growth: a.rss_growth + b.rss_growth,
        rss_peak: a.rss_peak.max(b.rss_peak),
        ..b
    }
}

fn names(mine: &mut Vec<NameResult>, theirs: &[NameResult]) {
    for name in theirs {
        match mine.iter_mut().find(|found| found.name == name.name) {
            Some(found) => {
                found.full += name.full;
                found.resumed += name.resumed;
                found.failed += name.failed;
                found.refused += name.refused;
                found.wrongly_accepted += name.wrongly_accepted;
            }
            None => mine.push(name.clone()),
        }
    }
}

fn histograms(joined: &mut RunResult, result: &RunResult) -> Result<()> {
    for name in result.hist.keys() {
        let Some(mut sum) = result.histogram(name) else { continue };
        if let Some(mine) = joined.histogram(name) {
            sum.add(mine)?;
        }
        joined.hist.insert(name.clone(), histogram_code::encode(&sum)?);
        joined.latency_us.insert(name.clone(), Quantiles::of(&sum));
    }
    Ok(())
}

fn add_counts(mine: &mut BTreeMap<String, u64>, theirs: &BTreeMap<String, u64>) {
    for (what, count) in theirs {
        *mine.entry(what.clone()).or_default() += count;
    }
}

/// The mean of two numbers by their weights.
fn mean(of: [f64; 2], weights: [f64; 2]) -> f64 {
    let total = weights[0] + weights[1];
    if total > 0.0 { (of[0] * weights[0] + of[1] * weights[1]) / total } else { of[0] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::TickResult;
    use crate::tally::histogram;

    fn run(seconds: f64, handshakes: u64, us: u64) -> RunResult {
        let mut times = histogram();
        times.record_n(us, handshakes).unwrap();
        let mut result = RunResult {
            duration_s: seconds,
            achieved_rate: float(handshakes) / seconds,
            valid: true,
            ..RunResult::default()
        };
        result.counts.attempted = handshakes + 1;
        result.counts.confirmed = handshakes;
        result.counts.full = handshakes;
        result.counts.errors = 1;
        result.errors.insert("reset".to_owned(), 1);
        result.hist.insert("confirmed.full".to_owned(), histogram_code::encode(&times).unwrap());
        result.server = Some(ServerUse { cpu_us_per_hs: float(us), ..ServerUse::default() });
        result.ticks = vec![TickResult { full: handshakes, ..TickResult::default() }];
        result
    }

    #[test]
    fn what_is_joined_adds_up() {
        let joined = join(&[run(1.0, 300, 100), run(3.0, 100, 500)]).unwrap().unwrap();
        assert_eq!((joined.counts.attempted, joined.counts.confirmed), (402, 400));
        assert_eq!((joined.errors["reset"], joined.counts.errors), (2, 2));
        assert_eq!(joined.achieved_rate, 100.0, "400 in 4 s");
        assert_eq!(joined.server.unwrap().cpu_us_per_hs, 200.0, "300 of 100 us, 100 of 500 us");
        let times = joined.histogram("confirmed.full").unwrap();
        assert_eq!((times.len(), times.max()), (400, 500));
        assert_eq!(joined.latency_us["confirmed.full"].p50, 100);
        assert_eq!(joined.ticks.iter().map(|tick| tick.full).sum::<u64>(), 400);
        assert!(join(&[]).unwrap().is_none());
    }
}
