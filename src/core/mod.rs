//! The pure core: facts in, wishes out. No socket, clock, randomness, lock, log or rustls.
//!
//! Start with `session`, the life of one connection.

pub mod addresses;
pub mod balance;
pub mod client_hello;
pub mod coalescing;
pub mod discovery;
pub mod drain;
pub mod ejection;
pub mod expiry;
pub mod handoff;
pub mod health;
pub mod identity;
pub mod maglev;
pub mod pool;
pub mod prelude;
pub mod pressure;
pub mod probe_script;
pub mod proxy_protocol;
pub mod rate;
pub mod record;
pub mod refusal;
pub mod relay;
pub mod reload;
pub mod report_limit;
pub mod route;
#[cfg(test)]
mod seeded;
pub mod seldom;
pub mod server_name;
pub mod session;
pub mod ticket_key_file;
pub mod ticket_ring;
pub mod ticket_roots;
pub mod ticket_secret;
pub mod timer_wheel;
pub mod timestamp;
pub mod trust;
