//! Owns the HTML page: the verdict first, then the numbers, then the pictures; one file, no
//! script, light and dark, from a telephone's width up. Read `pictures.rs` for the pictures.

use std::fmt::Write;

use super::NamedRun;
use super::chart::escape;
use super::pictures;
use crate::crypto::Costs;
use crate::quantity::{float, show_bytes, show_micros};
use crate::result::RunResult;
use crate::tally::{Kind, Measure};

/// The page for some runs; `objective` in microseconds is drawn where latency is, `crypto` splits
/// the server's cost.
#[must_use]
pub fn html(runs: &[NamedRun], objective: Option<f64>, crypto: Option<&Costs>) -> String {
    let title = match runs {
        [one] => format!("{} - {}", one.name, one.result.target),
        _ => format!("{} runs", runs.len()),
    };
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main><h1>{}</h1>",
        escape(&title),
        escape(&title)
    );
    if runs.len() > BLOCKS_MAX {
        write_table(&mut out, runs);
    } else {
        for run in runs {
            write_run(&mut out, run);
        }
    }
    out.push_str("<section class=\"pictures\">");
    let shared = [
        pictures::percentiles(&runs[..runs.len().min(OVERLAID_MAX)], objective),
        pictures::knee(runs, objective),
        pictures::cost(&runs[..runs.len().min(OVERLAID_MAX)], crypto),
    ];
    for picture in shared.into_iter().flatten() {
        out.push_str(&picture);
    }
    for run in runs.iter().take(DETAILED_MAX) {
        for picture in [pictures::over_time(run), pictures::heat(run)].into_iter().flatten() {
            out.push_str(&picture);
        }
    }
    out.push_str("</section>");
    for run in runs.iter().take(DETAILED_MAX) {
        if let Some(names) = pictures::names(run) {
            let _ = write!(out, "<h2>{}: by server name</h2>{names}", escape(&run.name));
        }
    }
    out.push_str("</main></body></html>\n");
    out
}

fn write_run(out: &mut String, run: &NamedRun) {
    let result = &run.result;
    let (class, verdict) = if result.valid {
        ("good", "VALID".to_owned())
    } else {
        ("bad", format!("INVALID: {}", result.why.join("; ")))
    };
    let _ = write!(
        out,
        "<section class=\"run\"><h2>{} <small class=\"{class}\">{}</small></h2><p class=\"what\">{}, {}, {:.0} s, confirmed by {}, seed {}</p>",
        escape(&run.name),
        escape(&verdict),
        escape(&result.target),
        escape(&result.pace),
        result.duration_s,
        escape(&result.confirm),
        result.seed
    );
    write_tiles(out, result);
    write_latency(out, result);
    write_counts(out, result);
    for warning in &result.warnings {
        let _ = write!(out, "<p class=\"note\">{}</p>", escape(warning));
    }
    write_environment(out, result);
    out.push_str("</section>");
}

/// A line a run, where a block each would be scrolled past.
fn write_table(out: &mut String, runs: &[NamedRun]) {
    out.push_str("<div class=\"wide\"><table><thead><tr><th>run</th><th>offered</th><th>achieved</th><th>p50</th><th>p99</th><th>p99.9</th><th>errors</th><th>resumed</th><th>lag p99</th><th>server cpu/hs</th><th>verdict</th></tr></thead><tbody>");
    for run in runs {
        let result = &run.result;
        let merged = result.merged(Measure::Confirmed);
        let at = |quantile| {
            let show = |all: &hdrhistogram::Histogram<u64>| {
                show_micros(float(all.value_at_quantile(quantile)))
            };
            merged.as_ref().map_or("-".to_owned(), show)
        };
        let server = result
            .server
            .map_or("-".to_owned(), |server| format!("{:.0} us", server.cpu_us_per_hs));
        let (class, verdict) = if result.valid { ("good", "VALID") } else { ("bad", "INVALID") };
        let _ = write!(
            out,
            "<tr><th>{}</th><td>{:.0}/s</td><td>{:.0}/s</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2} %</td><td>{:.1} %</td><td>{}</td><td>{server}</td><td title=\"{}\"><small class=\"{class}\">{verdict}</small></td></tr>",
            escape(&run.name),
            result.intended_rate,
            result.achieved_rate,
            at(0.5),
            at(0.99),
            at(0.999),
            result.error_share() * 100.0,
            result.resumed.got * 100.0,
            show_micros(result.lag_p99_us),
            escape(&result.why.join("; "))
        );
    }
    out.push_str("</tbody></table></div>");
    let Some(first) = runs.first() else { return };
    for warning in &first.result.warnings {
        let _ = write!(out, "<p class=\"note\">{}</p>", escape(warning));
    }
    write_environment(out, &first.result);
}

fn write_environment(out: &mut String, result: &RunResult) {
    let _ = write!(
        out,
        "<p class=\"env\">{}; {}; {} cores; load {:.2}; generator {}</p>",
        escape(&result.env.kernel),
        escape(&result.env.cpu),
        result.env.cores,
        result.env.loadavg,
        escape(&result.env.generator)
    );
}

fn write_tiles(out: &mut String, result: &RunResult) {
    let merged = result.merged(Measure::Confirmed);
    let at = |quantile| {
        merged
            .as_ref()
            .map_or("-".to_owned(), |all| show_micros(float(all.value_at_quantile(quantile))))
    };
    let mut tiles = vec![
        ("handshakes/s", format!("{:.0}", result.achieved_rate)),
        ("p50", at(0.5)),
        ("p99", at(0.99)),
        ("p99.9", at(0.999)),
        ("errors", format!("{:.2} %", result.error_share() * 100.0)),
        ("resumed", format!("{:.1} %", result.resumed.got * 100.0)),
    ];
    if result.intended_rate > 0.0 {
        tiles.push(("start lag p99", show_micros(result.lag_p99_us)));
    }
    if let Some(server) = &result.server {
        tiles.push(("server cpu/hs", format!("{:.0} us", server.cpu_us_per_hs)));
        tiles.push(("server rss", show_bytes(float(server.rss))));
    }
    out.push_str("<dl class=\"tiles\">");
    for (name, value) in tiles {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>");
}

fn write_latency(out: &mut String, result: &RunResult) {
    out.push_str("<div class=\"wide\"><table><thead><tr><th>from the intended start to</th><th>count</th><th>mean</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr></thead><tbody>");
    for kind in Kind::ALL {
        for measure in Measure::ALL {
            let name = format!("{}.{}", measure.name(), kind.name());
            let Some(q) = result.latency_us.get(&name) else { continue };
            let _ = write!(
                out,
                "<tr><th>{} ({})</th><td>{}</td>",
                measure.name(),
                kind.name(),
                q.count
            );
            let values =
                [q.mean, float(q.p50), float(q.p90), float(q.p99), float(q.p999), float(q.max)];
            for value in values {
                let _ = write!(out, "<td>{}</td>", show_micros(value));
            }
            out.push_str("</tr>");
        }
    }
    out.push_str("</tbody></table></div>");
}

fn write_counts(out: &mut String, result: &RunResult) {
    let counts = &result.counts;
    let _ = write!(
        out,
        "<p>{} attempted = {} confirmed + {} errors + {} refused as expected + {} wrongly accepted + {} in flight.",
        counts.attempted,
        counts.confirmed,
        counts.errors,
        counts.refused,
        counts.wrongly_accepted,
        counts.in_flight
    );
    for (class, count) in result.errors.iter().chain(&result.refused) {
        let _ = write!(out, " {}: {count}.", escape(class));
    }
    for (what, count) in &result.negotiated {
        let _ = write!(out, " {}: {count}.", escape(what));
    }
    out.push_str("</p>");
}

/// Colours are Okabe and Ito's, which the colour-blind can tell apart.
const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#5d6670;--line:#d9dee3;--card:#f5f7f9;\
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#aa4499;--c4:#8a6d00;--c5:#3a9bd9;--bad:#c0143c;--good:#0a7d4b}\
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e9ec;--soft:#9aa4ae;--line:#333a41;--card:#1d2226;\
--c0:#56b4e9;--c1:#f0883e;--c2:#2fc79a;--c3:#d98ac9;--c4:#e0c341;--c5:#8ecbff;--bad:#ff6b81;--good:#4fd597}}\
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}\
main{max-width:1200px;margin:0 auto;padding:16px}h1{font-size:1.4rem;margin:.3em 0;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:1.2em 0 .2em;overflow-wrap:anywhere}\
small.good{color:var(--good)}small.bad{color:var(--bad)}.what,.env{color:var(--soft);margin:.2em 0;overflow-wrap:anywhere}.env{font-size:.8rem}\
.note{border-left:3px solid var(--c1);padding-left:.6em;margin:.5em 0}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(105px,1fr));gap:8px;margin:.7em 0}\
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:6px 10px}.tiles dt{color:var(--soft);font-size:.8rem}\
.tiles dd{margin:0;font-size:1.15rem;font-variant-numeric:tabular-nums}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.85rem;width:100%}\
td,th{padding:3px 8px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}th:first-child{text-align:left;font-weight:500}\
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px;margin-top:1em;align-items:start}\
.small{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,280px),1fr));gap:12px}\
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:10px;min-width:0}\
figcaption{font-weight:600;margin-bottom:4px;overflow-wrap:anywhere}figure>svg{width:100%;height:auto;display:block}\
.grid{stroke:var(--line);stroke-width:1}.axis,.title,.mark{fill:var(--soft);font-size:11px}.mark{fill:var(--fg)}\
.l{fill:none;stroke-width:2}.dash{stroke-dasharray:6 4}.level{stroke:var(--fg);stroke-dasharray:2 3}\
.event line{stroke:var(--c3)}.event .grip{stroke:transparent;stroke-width:8}.event text{paint-order:stroke;stroke:var(--card);stroke-width:3px}\
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}\
.bad{--c:var(--bad)}.quiet{--c:var(--soft)}.l{stroke:var(--c)}.d{fill:var(--c)}.b{background:var(--c)}.heat{fill:var(--c0)}\
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;margin:4px 0 0;font-size:.8rem;color:var(--soft)}.legend svg{width:20px;height:8px;margin-right:5px}\
.bars{display:grid;grid-template-columns:minmax(80px,auto) 1fr;gap:5px 10px;font-size:.85rem;align-items:center}\
.bars span:first-child{overflow-wrap:anywhere}.bar{display:flex;align-items:center;gap:6px}.bar{gap:0!important}.bar i{display:block;height:14px;flex:0 0 auto;min-width:2px}.bar em{margin-left:6px}.key{display:inline-block;width:12px;height:12px;margin-right:5px}\
.bar em{font-style:normal;white-space:nowrap}\
.small .upward{display:none}.small .axis,.small .title,.small .mark{font-size:19px}@media(max-width:560px){.upward{display:none}.axis,.title,.mark{font-size:16px}}";
/// Runs that get a block of their own; more get a line in a table.
const BLOCKS_MAX: usize = 3;
/// Lines in one picture; more cannot be told apart.
const OVERLAID_MAX: usize = 6;
const DETAILED_MAX: usize = 4;
