//! Owns the summary of a run for people: what stays in the terminal when it is over. Read
//! `result.rs` for the numbers.

use std::fmt::Write;

use crate::outcome::alert_name_of;
use crate::quantity::{float, show_bytes, show_micros};
use crate::result::{Quantiles, RunResult};
use crate::tally::{Kind, Measure};

/// The summary, several lines.
#[must_use]
pub fn render(result: &RunResult) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, result);
    out
}

fn write_all(out: &mut String, result: &RunResult) -> std::fmt::Result {
    let counts = &result.counts;
    writeln!(
        out,
        "\n {}  {}  {:.1} s  confirm {}  seed {}",
        result.target, result.pace, result.duration_s, result.confirm, result.seed
    )?;
    write!(out, " rate       {:.1}/s confirmed", result.achieved_rate)?;
    if result.intended_rate > 0.0 {
        write!(
            out,
            "  ({:.1}/s offered)  start lag p99 {}",
            result.intended_rate,
            show_micros(result.lag_p99_us)
        )?;
    }
    writeln!(out)?;
    writeln!(
        out,
        " resumed    {:.1} % asked, {:.1} % got ({} full, {} resumed); HelloRetryRequest {:.1} %",
        result.resumed.asked * 100.0,
        result.resumed.got * 100.0,
        counts.full,
        counts.resumed,
        result.resumed.retried * 100.0
    )?;
    writeln!(
        out,
        " balance    {} attempted = {} confirmed + {} errors + {} refused as expected + {} wrongly \
         accepted + {} in flight{}",
        counts.attempted,
        counts.confirmed,
        counts.errors,
        counts.refused,
        counts.wrongly_accepted,
        counts.in_flight,
        if counts.imbalance == 0 { "" } else { "  DOES NOT BALANCE" }
    )?;
    write_classes(out, " errors    ", &result.errors)?;
    write_classes(out, " refused   ", &result.refused)?;
    write_classes(out, " late      ", &result.late_errors)?;
    for (class, why) in &result.reasons {
        writeln!(out, " reason     {class}: {why}")?;
    }
    if counts.unclean_closes > 0 {
        writeln!(
            out,
            " unclean    {} closed without close_notify by the server",
            counts.unclean_closes
        )?;
    }
    write_latency(out, result)?;
    write_names(out, result)?;
    write_use(out, result)?;
    for threshold in &result.thresholds {
        let word = if threshold.failed { "FAILED" } else { "ok" };
        writeln!(out, " threshold  {}  {}  {word}", threshold.rule, threshold.shown)?;
    }
    for warning in &result.warnings {
        writeln!(out, " note       {warning}")?;
    }
    if result.valid {
        writeln!(out, " VALID")
    } else {
        writeln!(out, " INVALID    {}", result.why.join("; "))
    }
}

fn write_classes(
    out: &mut String,
    title: &str,
    classes: &std::collections::BTreeMap<String, u64>,
) -> std::fmt::Result {
    if classes.is_empty() {
        return Ok(());
    }
    write!(out, "{title}")?;
    for (class, count) in classes {
        let words = alert_name_of(class).map(|name| format!(" ({name})")).unwrap_or_default();
        write!(out, " {class}{words} {count}")?;
    }
    writeln!(out)
}

fn write_latency(out: &mut String, result: &RunResult) -> std::fmt::Result {
    writeln!(
        out,
        " latency               {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "mean", "p50", "p90", "p99", "p99.9", "max"
    )?;
    for kind in Kind::ALL {
        for measure in Measure::ALL {
            let name = format!("{}.{}", measure.name(), kind.name());
            let Some(quantiles) = result.latency_us.get(&name) else { continue };
            write_quantiles(out, &name, quantiles)?;
        }
    }
    Ok(())
}

fn write_quantiles(out: &mut String, name: &str, quantiles: &Quantiles) -> std::fmt::Result {
    writeln!(
        out,
        "   {name:<19} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        show_micros(quantiles.mean),
        show_micros(float(quantiles.p50)),
        show_micros(float(quantiles.p90)),
        show_micros(float(quantiles.p99)),
        show_micros(float(quantiles.p999)),
        show_micros(float(quantiles.max)),
    )
}

fn write_names(out: &mut String, result: &RunResult) -> std::fmt::Result {
    if result.names.len() < 2 {
        return Ok(());
    }
    for name in result.names.iter().take(NAMES_SHOWN_MAX) {
        let p99 = result
            .latency_us
            .get(&format!("name.{}", name.name))
            .map_or_else(String::new, |quantiles| {
                format!("  p99 {}", show_micros(float(quantiles.p99)))
            });
        let let_in = match name.wrongly_accepted {
            0 => String::new(),
            count => format!(", {count} wrongly accepted"),
        };
        writeln!(
            out,
            " name       {:<24} {} full, {} resumed, {} failed, {} refused{let_in}{p99}",
            name.name, name.full, name.resumed, name.failed, name.refused
        )?;
    }
    if result.names.len() > NAMES_SHOWN_MAX {
        writeln!(out, " name       … and {} more", result.names.len() - NAMES_SHOWN_MAX)?;
    }
    Ok(())
}

fn write_use(out: &mut String, result: &RunResult) -> std::fmt::Result {
    writeln!(
        out,
        " generator  cpu {:.0} % of {} thread(s), {:.0} % waiting for it, {:.0} us per handshake ({:.0} in the kernel)",
        result.generator.cpu_share * 100.0,
        result.generator.threads,
        result.generator.wait_share * 100.0,
        result.generator.cpu_us_per_hs,
        result.generator.kernel_us_per_hs
    )?;
    if let Some(server) = &result.server {
        writeln!(
            out,
            " server     cpu {:.0} %, {:.0} us per handshake ({:.0} in the kernel); rss {}, peak {}; {} threads, {} descriptors",
            server.cpu_share * 100.0,
            server.cpu_us_per_hs,
            server.kernel_us_per_hs,
            show_bytes(float(server.rss)),
            show_bytes(float(server.rss_peak)),
            server.threads,
            server.descriptors
        )?;
    }
    if let Some(scrape) = &result.scrape {
        match &scrape.compared {
            Some(counter) => writeln!(
                out,
                " scrape     {counter} moved by {}, ours is {}: {}",
                scrape.server,
                scrape.ours,
                if scrape.agrees { "agrees" } else { "DISAGREES" }
            )?,
            None => writeln!(
                out,
                " scrape     no counter of handshakes moved: name the server's with --scrape-counter"
            )?,
        }
    }
    Ok(())
}

const NAMES_SHOWN_MAX: usize = 12;
