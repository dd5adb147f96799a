//! Owns the reading of a server's Prometheus metrics before and after a run, and the comparison
//! of its counters with ours. Read `handshakes.rs` next.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::http;

/// Counters by name and labels.
pub type Counters = BTreeMap<String, f64>;

/// The server's account of a run beside ours.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reconciled {
    /// Every counter that moved, and by how much.
    pub moved: BTreeMap<String, f64>,
    /// The counter that was compared, if one was found.
    pub compared: Option<String>,
    /// By how much it moved.
    pub server: f64,
    /// Our count over the whole run, warm-up included.
    pub ours: f64,
    /// Whether they agree within what was in flight.
    pub agrees: bool,
}

/// Fetches and parses `http://host:port/path`.
///
/// # Errors
/// As [`http::get`].
pub fn fetch(url: &str) -> Result<Counters> {
    Ok(parse(&http::get(url)?))
}

/// Reads the text format: one sample a line, comments left out.
#[must_use]
pub fn parse(text: &str) -> Counters {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            // Labels may hold spaces; the value is the first word after them.
            let end = line.rfind('}').map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
            let value = line[end..].split_whitespace().next()?.parse().ok()?;
            Some((line[..end].trim().to_owned(), value))
        })
        .collect()
}

/// Compares two scrapes with our count. `counter` names a metric, whose series are added up;
/// without it the names that gateways are known to use are tried.
#[must_use]
pub fn reconcile(
    before: &Counters,
    after: &Counters,
    counter: Option<&str>,
    ours: f64,
    tolerance: f64,
) -> Reconciled {
    let moved: BTreeMap<String, f64> = after
        .iter()
        .map(|(name, value)| (name.clone(), value - before.get(name).copied().unwrap_or_default()))
        .filter(|(_, delta)| *delta != 0.0)
        .collect();
    let wanted = match counter {
        Some(name) => vec![name],
        None => KNOWN_COUNTERS.to_vec(),
    };
    let sum = |wanted: &str| -> Option<f64> {
        let series: Vec<f64> = moved
            .iter()
            .filter(|(name, _)| is_series(name, wanted))
            .map(|(_, delta)| *delta)
            .collect();
        (!series.is_empty()).then(|| series.iter().sum())
    };
    let found = wanted.iter().find_map(|name| Some((*name, sum(name)?)));
    let server = found.map_or(0.0, |(_, sum)| sum);
    Reconciled {
        moved,
        compared: found.map(|(name, _)| name.to_owned()),
        server,
        ours,
        agrees: found.is_some() && (server - ours).abs() <= tolerance,
    }
}

/// Whether a series belongs to a metric; `name{a="b"}` asks for a label as well.
fn is_series(series: &str, wanted: &str) -> bool {
    let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
    let (wanted_name, wanted_labels) = wanted.split_once('{').unwrap_or((wanted, ""));
    series_name == wanted_name
        && wanted_labels
            .trim_end_matches('}')
            .split(',')
            .all(|label| series_labels.contains(label.trim()))
}

/// Counters of completed handshakes: ours, Envoy's.
const KNOWN_COUNTERS: [&str; 2] = ["portcullis_handshakes_total", "envoy_listener_ssl_handshake"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_is_read() {
        let counters = parse(
            "# TYPE a_total counter\na_total{name=\"x y\",k=\"1\"} 5\na_total{k=\"2\"} 7 1700000\nb 1.5\n\n",
        );
        assert_eq!(counters["a_total{name=\"x y\",k=\"1\"}"], 5.0);
        assert_eq!(counters["a_total{k=\"2\"}"], 7.0);
        assert_eq!(counters["b"], 1.5);
    }

    #[test]
    fn series_of_the_named_metric_are_added_up() {
        let before =
            parse("hs{r=\"ok\",w=\"0\"} 1\nhs{r=\"ok\",w=\"1\"} 1\nhs{r=\"bad\",w=\"1\"} 0\n");
        let after =
            parse("hs{r=\"ok\",w=\"0\"} 11\nhs{r=\"ok\",w=\"1\"} 6\nhs{r=\"bad\",w=\"1\"} 3\n");
        let told = reconcile(&before, &after, Some("hs{r=\"ok\"}"), 15.0, 0.0);
        assert!(told.agrees, "{told:?}");
        let told = reconcile(&before, &after, Some("hs"), 15.0, 2.0);
        assert!(!told.agrees && told.server == 18.0, "{told:?}");
        assert!(!reconcile(&before, &after, Some("nothing"), 0.0, 9.0).agrees);
    }
}
