//! The gateway in front of clients and services that we did not write, on loopback: what their users
//! see when it works, and the words they read when it does not.
//!
//! `program` finds, runs and ends other people's programs, `front` puts a gateway before an upstream;
//! each other file is one client or one service. tests/README.md says what each of them needs.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: what breaks fails the test at once, where it broke"
)]

mod admin_page;
mod curl;
mod database;
mod front;
mod gnutls;
mod kafka;
mod ldap;
mod mosquitto;
mod nats;
mod node;
mod openssl;
mod postgres;
mod probes;
mod program;
mod prometheus;
mod proxy_protocol;
mod psql;
mod python;
mod redis;
mod sample;
mod wolfssl;
