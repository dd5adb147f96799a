//! Families and samples as `prometheus-client` encodes them, with labels that cannot break a line.
//!
//! Knows no metric; `super` does.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use crate::worker::Histogram;

/// Writes one family after the other.
pub(super) struct Families<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

/// Counters with one name.
pub(super) struct Counters<'a>(MetricEncoder<'a>);

/// Gauges with one name.
pub(super) struct Gauges<'a>(MetricEncoder<'a>);

/// Samples with one name that are always 1.
pub(super) struct Infos<'a>(MetricEncoder<'a>);

/// Histograms with one name.
pub(super) struct Histograms<'a>(MetricEncoder<'a>);

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

    pub(super) fn histogram(
        &mut self,
        name: &'a str,
        help: &str,
    ) -> Result<Histograms<'_>, fmt::Error> {
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        Ok(Histograms(encoder))
    }

    /// Samples of it end in `_info`.
    pub(super) fn info(&mut self, name: &'a str, help: &str) -> Result<Infos<'_>, fmt::Error> {
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        Ok(Infos(encoder))
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

impl Histograms<'_> {
    /// Adds up what all workers have counted.
    pub(super) fn sample<'a>(
        &mut self,
        labels: &[(&str, &str)],
        workers: impl Iterator<Item = &'a Histogram>,
    ) -> fmt::Result {
        let mut buckets = Vec::<(f64, u64)>::new();
        let mut sum = Duration::ZERO;
        for histogram in workers {
            let bounds = histogram.bounds().iter().map(Duration::as_secs_f64).chain([f64::MAX]);
            if buckets.is_empty() {
                buckets.extend(bounds.map(|bound| (bound, 0)));
            }
            for ((_, all), count) in buckets.iter_mut().zip(histogram.counts()) {
                *all += count;
            }
            sum = sum.saturating_add(histogram.sum());
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            sum.as_secs_f64(),
            count,
            &buckets,
            None,
        )
    }
}

impl Infos<'_> {
    pub(super) fn sample(&mut self, labels: &[(&str, &str)]) -> fmt::Result {
        self.0.encode_info(&labels)
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
