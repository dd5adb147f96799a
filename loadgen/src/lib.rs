//! A load generator for TLS servers: handshakes at a rate, full and resumed, with client
//! certificates, confirmed by the server, and judged by the generator itself. It depends on
//! nothing of the gateway. Start reading at `cli.rs`; the heart is `worker.rs` and `session.rs`.

pub mod arrivals;
pub mod attempt;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod deadlines;
pub mod environment;
pub mod exit;
pub mod flags;
pub mod handshakes;
pub mod histogram_code;
pub mod identity;
pub mod key_exchange;
pub mod manifest;
pub mod outcome;
pub mod output;
pub mod pattern;
pub mod pki;
pub mod plan;
pub mod process;
pub mod progress;
pub mod quantity;
pub mod result;
pub mod run;
pub mod scrape;
pub mod server_trust;
pub mod session;
pub mod slots;
pub mod source;
pub mod summary;
pub mod tally;
pub mod threshold;
pub mod tick;
pub mod ticket_pool;
pub mod tls_client;
pub mod upstream;
pub mod verdict;
pub mod weights;
pub mod worker;
