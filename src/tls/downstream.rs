//! The client's side: the terms of one (listener, chain) and the handshakes under them.

use super::handshake::{Advance, Negotiated, Outcome};
use super::wire::Wire;
use crate::core::refusal::{Reason, Refusal};

/// Everything that a handshake on one (listener, chain) needs; shared by all workers.
#[derive(Debug)]
pub struct DownstreamTerms {}

/// What the peek read in the ClientHello.
#[derive(Debug, Clone, Copy)]
pub struct HelloFacts<'a> {
    /// Lower-cased, as the peek normalised it: rustls must see the same name (threat 6).
    pub sni: Option<&'a str>,
    /// The client lists a ChaCha20 suite before any AES suite: it has no AES hardware.
    pub prefers_chacha20: bool,
}

/// A handshake with a client, not yet done.
#[derive(Debug)]
pub struct ServerHandshake {}

/// Who the client is and what was agreed.
#[derive(Debug, Clone)]
pub struct ClientFacts {
    pub negotiated: Negotiated,
    /// `None`: the client presented no certificate (only where it need not).
    pub identity: Option<Identity>,
}

/// The verified leaf certificate of a peer.
#[derive(Debug, Clone)]
pub struct Identity {
    pub subject: String,
    /// As `dns:host`, `uri:spiffe://…`, `email:…`, `ip:…`.
    pub sans: Vec<String>,
    pub issuer: String,
    /// Hexadecimal, two digits a byte.
    pub serial: String,
    /// Of the whole certificate in DER.
    pub fingerprint_sha256: [u8; 32],
    /// Unix seconds.
    pub not_after: u64,
}

impl DownstreamTerms {
    pub fn start(&self, _hello: HelloFacts<'_>) -> ServerHandshake {
        ServerHandshake {}
    }
}

impl ServerHandshake {
    /// Takes all bytes received and not yet consumed (the ClientHello that the peek kept comes
    /// first), appends what is to be sent to `out`.
    pub fn advance(&mut self, _input: &mut [u8], _out: &mut Vec<u8>) -> Advance {
        Advance { consumed: 0, outcome: Outcome::NeedMore }
    }

    /// After `Outcome::Done` only.
    pub fn finish(self) -> Result<(Wire, ClientFacts), Refusal> {
        Err(Refusal::new(Reason::Internal, "handshake is not done"))
    }
}
