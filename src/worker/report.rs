//! What is known of one connection at its end: the source of the access log.
//!
//! Built on the worker without formatting; `telemetry::access_log` writes it on a thread of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::core::refusal::Refusal;
use crate::core::relay::Outcome;
use crate::core::session::Marks;
use crate::tls::{ClientFacts, UpstreamFacts};

/// One connection, whole.
#[derive(Debug)]
pub struct Report {
    /// Unique in this process: the worker in the upper 16 bits, its own count in the rest.
    pub id: u64,
    /// Since 1970.
    pub accepted: Duration,
    pub duration: Duration,
    pub listener: Arc<str>,
    /// The client, as far as anybody knows it: whom a PROXY header names, else who connected.
    pub source: SocketAddr,
    /// Who connected, where a PROXY header was required and sent.
    pub proxy: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
    pub server_name: Option<Arc<str>>,
    pub chain: Option<Arc<str>>,
    pub client: Option<Arc<ClientFacts>>,
    pub marks: Marks,
    /// Where the chain's bytes go; known as soon as the chain is.
    pub cluster: Option<Arc<str>>,
    pub upstream: Option<UpstreamReport>,
    /// Payload from the client, and to it.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// What would have been refused, by trusts and filters in audit mode.
    pub audits: Vec<Refusal>,
    /// Refusals of the same reason that were left out since the last that was written.
    pub suppressed: u64,
    pub ending: Ending,
}

/// How it ended.
#[derive(Debug)]
pub enum Ending {
    /// Never served.
    Refused(Refusal),
    /// Served, and over as `Outcome` says.
    Closed {
        outcome: Outcome,
        /// That of a broken record, else empty.
        detail: String,
        /// The fatal alert that the client was sent for a broken record.
        alert: Option<u8>,
    },
}

/// The upstream connection that carried the session.
#[derive(Debug)]
pub struct UpstreamReport {
    pub address: SocketAddr,
    /// It was dialled and handshaken ahead of need.
    pub ready: bool,
    pub tls: Option<Box<UpstreamFacts>>,
}
