//! A scrape over counters with known values.
