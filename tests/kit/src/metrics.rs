//! A page of `/metrics`, read by family and label, and whether it agrees with the access log.
//!
//! `Gateway::metrics` fetches it.

use std::collections::BTreeMap;

use serde_json::Value;

/// Samples in the order of the page: the name with its labels, and the value, both as written.
#[derive(Debug, Clone)]
pub struct Metrics(Vec<(String, String)>);

impl Metrics {
    pub(crate) fn parse(page: &str) -> Self {
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| line.rsplit_once(' '));
        Self(samples.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The sum of the samples called `name` (`_total` included) that carry all of `labels`; 0
    /// where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let samples = self.family(name).filter(|(of, _)| {
            labels.iter().all(|(key, value)| of.contains(&format!("{key}=\"{value}\"")))
        });
        samples.map(|(_, value)| value.parse::<u64>().expect("a whole number")).sum()
    }

    /// The samples called `name`, one a line.
    pub fn each(&self, name: &str) -> Vec<u64> {
        let values = self.family(name).map(|(_, value)| value.parse::<u64>());
        values.map(|value| value.expect("a whole number")).collect()
    }

    /// What the samples called `name` have for the label `key`, one a line.
    pub fn labels(&self, name: &str, key: &str) -> Vec<&str> {
        let key = format!("{key}=\"");
        let names = self.family(name).map(|(of, _)| of);
        names.filter_map(|of| of.split_once(&key)?.1.split('"').next()).collect()
    }

    /// The one sample called `name`.
    ///
    /// # Panics
    /// When there is none.
    pub fn number(&self, name: &str) -> f64 {
        let (_, value) = self.family(name).next().unwrap_or_else(|| panic!("no {name}"));
        value.parse().expect("a number")
    }

    /// Connections turned away or ended badly for this reason.
    pub fn refusals(&self, reason: &str) -> u64 {
        self.sum("portcullis_refusals_total", &[("reason", reason)])
    }

    fn family(&self, name: &str) -> impl Iterator<Item = &(String, String)> {
        self.0.iter().filter(move |(of, _)| of.split('{').next() == Some(name))
    }

    /// What shows that connections are still open, or that counters and log disagree.
    pub(crate) fn unsettled(&self, log: &[Value]) -> Option<String> {
        for gauge in GAUGES {
            let value = self.sum(gauge, &[]);
            if value != 0 {
                return Some(format!("{gauge} is {value}"));
            }
        }
        let count = |is: &dyn Fn(&Value) -> bool| log.iter().filter(|line| is(line)).count() as u64;
        let bytes = |key: &str| log.iter().filter_map(|line| line[key].as_u64()).sum::<u64>();
        // Refusals that came too fast to be written one by one; they are counted all the same.
        let cause = [("cause", "refusal_rate")];
        let suppressed = self.sum("portcullis_access_log_dropped_total", &cause);
        let pairs = [
            ("portcullis_panics_total", None, 0),
            ("portcullis_connections_accepted_total", None, log.len() as u64 + suppressed),
            ("portcullis_sessions_total", None, count(&|line| line["outcome"] == "closed")),
            ("portcullis_bytes_total", Some(("direction", "received")), bytes("bytes_received")),
            ("portcullis_bytes_total", Some(("direction", "sent")), bytes("bytes_sent")),
            ("portcullis_handshakes_total", None, count(&|line| !line["tls"].is_null())),
        ];
        for (name, label, expected) in pairs {
            let value = self.sum(name, label.as_slice());
            if value != expected {
                return Some(format!("{name} {label:?} is {value}, the log makes it {expected}"));
            }
        }
        let mut reasons = BTreeMap::<&str, u64>::new();
        for reason in log.iter().filter_map(|line| line["reason"].as_str()) {
            *reasons.entry(reason).or_default() += 1;
        }
        reasons.into_iter().find_map(|(reason, expected)| {
            let counted = self.refusals(reason);
            (counted < expected || counted > expected + suppressed)
                .then(|| format!("{reason} is counted {counted}, logged {expected} times"))
        })
    }
}

/// Zero when no client is there.
const GAUGES: [&str; 4] = [
    "portcullis_connections_open",
    "portcullis_worker_connections_open",
    "portcullis_sessions_open",
    "portcullis_handshakes_in_flight",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_label() {
        let page =
            "# HELP a_total x\na_total{l=\"1\",m=\"x\"} 2\na_total{l=\"2\"} 3\nb 0.5\n# EOF\n";
        let metrics = Metrics::parse(page);
        assert_eq!(metrics.sum("a_total", &[]), 5);
        assert_eq!(metrics.sum("a_total", &[("l", "1"), ("m", "x")]), 2);
        assert_eq!(metrics.labels("a_total", "l"), ["1", "2"]);
        assert_eq!(metrics.sum("c_total", &[]), 0);
        assert_eq!(metrics.each("a_total"), [2, 3]);
        assert!((metrics.number("b") - 0.5).abs() < f64::EPSILON);
    }
}
