//! The pure core: facts in, wishes out. No socket, clock, randomness, lock, log or rustls.
//!
//! Start with `session`, the life of one connection.

pub mod client_hello;
pub mod refusal;
pub mod server_name;
