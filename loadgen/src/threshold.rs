//! Owns rules over a result, such as `p99<20ms` (an objective) or `errors>0.1%` (a reason to
//! fail). Pure. Read `find.rs` and `handshakes.rs` for who applies them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

use crate::quantity;
use crate::result::RunResult;
use crate::tally::{Kind, Measure};

/// A comparison of a metric with a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    text: String,
    metric: Metric,
    above: bool,
    limit: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum Metric {
    /// Microseconds at a quantile, or the mean or the largest.
    Latency {
        measure: Measure,
        kind: Option<Kind>,
        statistic: Statistic,
    },
    ErrorShare,
    DroppedShare,
    Rate,
    RateShare,
    Resumed,
    Lag,
    WronglyAccepted,
    ServerCpu,
    ServerRss,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistic {
    Quantile(f64),
    Mean,
    Max,
}

impl Rule {
    /// The metric's value in a result, or `None` where it was not measured: no such handshakes,
    /// no `--server-pid`.
    #[must_use]
    pub fn value(&self, result: &RunResult) -> Option<f64> {
        match &self.metric {
            Metric::Latency { measure, kind, statistic } => {
                let histogram = match kind {
                    None => result.merged(*measure)?,
                    Some(kind) => {
                        result.histogram(&format!("{}.{}", measure.name(), kind.name()))?
                    }
                };
                Some(match statistic {
                    Statistic::Quantile(quantile) => {
                        quantity::float(histogram.value_at_quantile(*quantile))
                    }
                    Statistic::Mean => histogram.mean(),
                    Statistic::Max => quantity::float(histogram.max()),
                })
            }
            Metric::ErrorShare => Some(result.error_share()),
            Metric::DroppedShare => {
                Some(quantity::ratio(result.counts.dropped, result.counts.attempted))
            }
            Metric::Rate => Some(result.achieved_rate),
            Metric::RateShare if result.intended_rate > 0.0 => {
                Some(result.achieved_rate / result.intended_rate)
            }
            Metric::RateShare => None,
            Metric::Resumed => Some(result.resumed.got),
            Metric::Lag => Some(result.lag_p99_us),
            Metric::WronglyAccepted => Some(quantity::float(result.counts.wrongly_accepted)),
            Metric::ServerCpu => result.server.map(|server| server.cpu_us_per_hs),
            Metric::ServerRss => result.server.map(|server| quantity::float(server.rss)),
        }
    }

    /// Whether the comparison is true of a value.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        if self.above { value > self.limit } else { value < self.limit }
    }

    /// The limit, in the metric's unit: microseconds, shares or plain numbers.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// The value for people.
    #[must_use]
    pub fn show(&self, value: f64) -> String {
        match self.metric {
            Metric::Latency { .. } | Metric::Lag => quantity::show_micros(value),
            Metric::ErrorShare | Metric::DroppedShare | Metric::RateShare | Metric::Resumed => {
                format!("{:.3}%", value * 100.0)
            }
            Metric::ServerRss => quantity::show_bytes(value),
            Metric::Rate | Metric::WronglyAccepted | Metric::ServerCpu => format!("{value:.1}"),
        }
    }

    /// Whether it speaks of latency, so that `find` may draw it.
    #[must_use]
    pub fn is_latency(&self) -> bool {
        matches!(self.metric, Metric::Latency { .. })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Rule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let at = text
            .find(['<', '>'])
            .with_context(|| format!("{text:?} compares nothing: write p99<20ms"))?;
        let (name, rest) = text.split_at(at);
        let above = rest.starts_with('>');
        let metric = metric(name.trim())?;
        // `<=` is read as `<`: the difference is below what a histogram resolves.
        // In one text: a flag's parser shows no more than the outermost.
        let limit = limit(&metric, rest[1..].trim_start_matches('=').trim())
            .map_err(|error| anyhow!("{error:#} in {text:?}"))?;
        Ok(Self { text: text.to_owned(), metric, above, limit })
    }
}

/// Several rules, separated by commas.
///
/// # Errors
/// The first one that cannot be read.
pub fn rules(text: &str) -> Result<Vec<Rule>> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect()
}

fn metric(name: &str) -> Result<Metric> {
    Ok(match name {
        "errors" => Metric::ErrorShare,
        "dropped" => Metric::DroppedShare,
        "rate" => Metric::Rate,
        "achieved" => Metric::RateShare,
        "resumed" => Metric::Resumed,
        "lag" | "lag.p99" => Metric::Lag,
        "wrongly_accepted" => Metric::WronglyAccepted,
        "server.cpu_us_per_hs" => Metric::ServerCpu,
        "server.rss" => Metric::ServerRss,
        _ => latency(name)?,
    })
}

/// `p99`, `full.p99.9`, `handshake.resumed.max`.
fn latency(name: &str) -> Result<Metric> {
    let (mut measure, mut kind) = (Measure::Confirmed, None);
    let mut rest = name;
    while let Some((head, tail)) = rest.split_once('.') {
        if let Some(found) = Measure::ALL.into_iter().find(|measure| measure.name() == head) {
            measure = found;
        } else if let Some(found) = Kind::ALL.into_iter().find(|kind| kind.name() == head) {
            kind = Some(found);
        } else {
            break;
        }
        rest = tail;
    }
    let statistic = match rest {
        "mean" => Statistic::Mean,
        "max" => Statistic::Max,
        _ => {
            let percent: Option<f64> =
                rest.strip_prefix('p').and_then(|digits| digits.parse().ok());
            let Some(percent) = percent.filter(|percent| *percent > 0.0 && *percent < 100.0) else {
                bail!(
                    "unknown metric {name:?}: use p50, p99, full.p99, handshake.resumed.p99.9, max, \
                     mean, errors, dropped, rate, achieved, resumed, lag, wrongly_accepted, \
                     server.cpu_us_per_hs or server.rss"
                );
            };
            Statistic::Quantile(percent / 100.0)
        }
    };
    Ok(Metric::Latency { measure, kind, statistic })
}

fn limit(metric: &Metric, text: &str) -> Result<f64> {
    Ok(match metric {
        Metric::Latency { .. } | Metric::Lag => quantity::duration(text)?.as_secs_f64() * 1e6,
        Metric::ErrorShare | Metric::DroppedShare | Metric::RateShare | Metric::Resumed => {
            quantity::share(text)?
        }
        Metric::ServerRss => quantity::float(quantity::size(text)?),
        Metric::Rate => quantity::split(text)?.0,
        Metric::WronglyAccepted | Metric::ServerCpu => quantity::split(text)?.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram_code;
    use crate::tally::histogram;

    fn result() -> RunResult {
        let mut full = histogram();
        for value in 1..=1000 {
            full.record(value * 10).unwrap();
        }
        let mut result =
            RunResult { achieved_rate: 990.0, intended_rate: 1000.0, ..RunResult::default() };
        result.hist.insert("confirmed.full".to_owned(), histogram_code::encode(&full).unwrap());
        result.counts.attempted = 1000;
        result.counts.errors = 2;
        result
    }

    #[test]
    fn rules_read_the_metric_they_name() {
        for (text, value) in [
            ("p50<6ms", 5000.0),
            ("full.p99>20ms", 9900.0),
            ("confirmed.full.max<1s", 10_000.0),
            ("errors>0.1%", 0.002),
            ("rate<1000", 990.0),
            ("achieved<99.5%", 0.99),
        ] {
            let rule: Rule = text.parse().unwrap();
            let got = rule.value(&result()).unwrap();
            assert!((got - value).abs() / value < 0.01, "{text}: {got} instead of {value}");
        }
        let rule: Rule = "errors>0.1%".parse().unwrap();
        assert!(rule.holds(0.002) && !rule.holds(0.0005));
    }

    #[test]
    fn what_was_not_measured_has_no_value() {
        assert_eq!("resumed.p99<1ms".parse::<Rule>().unwrap().value(&result()), None);
        assert_eq!("server.rss<1m".parse::<Rule>().unwrap().value(&result()), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["p99", "p0<1ms", "speed>3", "p99<fast", "errors<200%"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
        assert_eq!(rules("p99<20ms, errors<0.1%").unwrap().len(), 2);
    }
}
