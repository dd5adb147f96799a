//! The pure core: facts in, wishes out. No socket, clock, randomness, lock, log or rustls.
//!
//! Start with `session`, the life of one connection.

pub mod balance;
pub mod client_hello;
pub mod drain;
pub mod expiry;
pub mod identity;
pub mod pool;
pub mod record;
pub mod refusal;
pub mod relay;
pub mod route;
pub mod server_name;
pub mod session;
pub mod ticket_ring;
pub mod timer_wheel;
pub mod trust;
