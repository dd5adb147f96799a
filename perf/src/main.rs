//! Whole-system measurements.
fn main() {}
