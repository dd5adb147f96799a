//! What the gateway says about itself: its log, the access log, its metrics.
//!
//! Reads what workers count and report, never changes it, and never makes a worker wait: what a sink
//! does not take is dropped and counted. Start with `access_log`; `docs/metrics.md` lists the metrics.

pub mod access_log;
pub mod log;
pub mod metrics;
