//! Families and samples as `prometheus-client` encodes them, with labels that cannot break a line.
//!
//! Knows no metric; `super` does.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

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
    pub(super) fn sample(
        &mut self,
        labels: &[(&str, &str)],
        value: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        if labels.is_empty() {
            // As a family it would be shown with empty braces.
            return self.0.encode_counter::<NoLabelSet, _, u64>(&value, None);
        }
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }
}

impl Gauges<'_> {
    pub(super) fn sample(
        &mut self,
        labels: &[(&str, &str)],
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        if labels.is_empty() {
            return self.0.encode_gauge(&value);
        }
        self.0.encode_family(&labels)?.encode_gauge(&value)
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
