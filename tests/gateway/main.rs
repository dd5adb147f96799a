//! The binary as its users meet it: started with a configuration, spoken to over loopback, judged by
//! what clients and upstreams see and by what its log and metrics say of it.
//!
//! `support` holds configurations and clients; each other file makes one kind of claim. A comment
//! `threat N` names the row of `docs/threats.md` that a test stands for.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: what breaks fails the test at once, where it broke"
)]

mod admin;
mod certificates;
mod cluster;
mod commands;
mod confinement;
mod deferred;
mod dns;
mod drivers;
mod ends;
mod explain;
mod health;
mod health_command;
mod hello;
mod life;
mod limits;
mod mixes;
mod on_change;
mod passthrough;
mod prelude;
mod proxy_protocol;
mod rates;
mod ready;
mod records;
mod refusals;
mod relay;
mod reload;
mod reload_files;
mod samples;
mod shortages;
mod soak;
mod stek;
mod supervised;
mod support;
mod termination;
mod upgrade;
mod upstream;
