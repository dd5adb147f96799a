//! One handshake as bytes in, bytes out: what `downstream` and `upstream` have in common.

use crate::core::refusal::Refusal;

/// What one call of `advance` did.
#[derive(Debug)]
pub struct Advance {
    /// Bytes at the front of the input that are done with. The caller drops exactly these, keeps the
    /// rest **as `advance` left it** (records are opened in place) and passes it again, followed by
    /// what it received since.
    pub consumed: usize,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    /// Send `out`, receive more.
    NeedMore,
    /// Send `out`, then call `finish`. What is left of the input is for `wire::transfer`.
    Done,
    /// Send `out` (it ends with the alert that `Refusal::alert` names, if any), then close.
    Failed(Refusal),
}

/// What was negotiated, for logs and for whoever asks how a session is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub version: Version,
    /// IANA's name, as `TLS_AES_128_GCM_SHA256`.
    pub suite: &'static str,
    /// `None` on TLS 1.2 resumption, which exchanges no keys.
    pub group: Option<&'static str>,
    pub alpn: Option<Vec<u8>>,
    pub resumed: bool,
    /// The handshake took a HelloRetryRequest: one more round trip.
    pub hello_retry: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    /// As logs and metrics write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}
