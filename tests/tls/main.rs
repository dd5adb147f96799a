//! `portcullis::tls` against rustls' own buffered connections, in memory: no socket, no sleep.
//!
//! `support` builds plans and drives handshakes; each other file makes one kind of claim.

mod downstream;
mod support;
mod tickets;
mod wire;
