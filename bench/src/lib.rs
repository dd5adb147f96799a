//! Inputs that the benchmarks share: hellos, names, certificates. Never timed itself.
//!
//! The benchmarks are in `benches/`, one file a noun of the core.
