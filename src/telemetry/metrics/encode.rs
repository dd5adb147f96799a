//! Families and samples as `prometheus-client` encodes them, with labels that cannot break a line.
//!
//! Knows no metric; `super` does.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Writes one family after the other.
pub(super) struct Families<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

/// Counters with one name.
pub(super) struct Counters<'a>(MetricEncoder<'a>);

/// Gauges with one name.
pub(super) struct Gauges<'a>(MetricEncoder<'a>);

/// A configured name, escaped for a label (OpenMetrics 1.0, escaped-string): the encoder does not.
#[derive(Debug)]
pub(super) struct Name(String);

impl<'a, 'b> Families<'a, 'b> {
    pub(super) fn new(encoder: &'a mut DescriptorEncoder<'b>) -> Self {
        Self { encoder }
    }

    /// Samples of it end in `_total`.
    pub(super) fn counter(
        &mut self,
        name: &'a str,
        help: &str,
    ) -> Result<Counters<'_>, fmt::Error> {
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        Ok(Counters(encoder))
    }

    pub(super) fn gauge(&mut self, name: &'a str, help: &str) -> Result<Gauges<'_>, fmt::Error> {
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        Ok(Gauges(encoder))
    }

    /// One sample that is always 1; `name` ends in `_info` there.
    pub(super) fn info(&mut self, name: &'a str, help: &str, label: (&str, &str)) -> fmt::Result {
        let mut encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        encoder.encode_info(&[label])
    }
}

impl Counters<'_> {
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_family(&labels)?)
    }

    pub(super) fn sample_f64(&mut self, value: f64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_family(&NONE)?)
    }
}

impl Gauges<'_> {
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: u64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_family(&labels)?)
    }

    pub(super) fn sample_f64(&mut self, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_family(&NONE)?)
    }
}

impl Name {
    pub(super) fn new(name: &str) -> Self {
        Self(name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

const NONE: &[(&str, &str)] = &[];
