//! Configuration: text in, a `Plan` out, or every problem at once with its line and column.
//!
//! `raw` is what the file says, `plan` what a gateway runs on, `error` what is wrong.

pub mod error;
pub mod plan;
