//! A certificate in words: who it is for, who issued it, until when. For logs and refusals.
//!
//! Holds texts that others read out of a certificate, capped; parses and decides nothing.

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub subject: String,
    /// As `dns:host`, `uri:spiffe://…`, `email:…`, `ip:…`.
    pub sans: Vec<String>,
    pub issuer: String,
    /// Hexadecimal, two digits a byte.
    pub serial: String,
    /// SHA-256 of the whole certificate in DER.
    pub fingerprint_sha256: [u8; 32],
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds.
    pub not_after: u64,
}

impl Identity {
    /// `certificate CN=…, serial …, issued by CN=…`.
    pub fn sentence(&self) -> String {
        let Self { subject, serial, issuer, .. } = self;
        format!("certificate {subject}, serial {serial}, issued by {issuer}")
    }
}
