//! What the command line runs. The only layer that may use every other one.
//!
//! `pki` makes development certificates.

pub mod pki;
