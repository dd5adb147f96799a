//! The gateway as a library: the layers that `main.rs` puts together.
//!
//! Arrows point down only: `app → {admin, telemetry} → worker → {tls, sys} → config → core`;
//! `tests/tidy.rs` reads the `use crate::` lines and refuses others. Start with `core::session`.

pub mod admin;
pub mod app;
pub mod config;
pub mod core;
pub mod sys;
pub mod telemetry;
pub mod tls;
pub mod worker;
