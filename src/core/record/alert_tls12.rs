//! The one record of TLS 1.2 that is sealed here: a fatal alert, after which nothing follows
//! (RFC 5246 §6.2.3.3, §7.2; RFC 5288 §3; RFC 7905 §2).
//!
//! Records of TLS 1.2 are rustls' work, and it sends no alert but those of its own errors. A client that
//! is refused for another reason is told so with this.

use super::error::SealError;
use super::keys::{Aead, TrafficKeys};
use super::{CONTENT_ALERT, HEADER, TAG};

/// Writes a fatal alert with the description `alert` at the start of `out`; returns its length.
/// `sequence` is the number of the next record of this direction, and no record may follow it: the
/// keys are used up.
///
/// # Errors
/// When `out` is shorter than [`TLS12_ALERT_BYTES_MAX`], or the cryptographic library fails.
pub fn seal_tls12_alert(
    mut keys: TrafficKeys,
    sequence: u64,
    alert: u8,
    out: &mut [u8],
) -> Result<usize, SealError> {
    if out.len() < TLS12_ALERT_BYTES_MAX {
        return Err(SealError::BufferTooShort { length: out.len(), needed: TLS12_ALERT_BYTES_MAX });
    }
    keys.unfold();
    let nonce = keys.nonce(sequence);
    let explicit = match keys.aead() {
        Aead::Aes128Gcm | Aead::Aes256Gcm => EXPLICIT_NONCE,
        Aead::Chacha20Poly1305 => 0,
    };
    let [high, low] = ALERT_BYTES.to_be_bytes();
    let mut aad = [0; AAD];
    aad[..8].copy_from_slice(&sequence.to_be_bytes());
    aad[8..].copy_from_slice(&[CONTENT_ALERT, 3, 3, high, low]);

    let length = explicit + usize::from(ALERT_BYTES) + TAG;
    let (header, body) = out.split_at_mut(HEADER);
    header.copy_from_slice(&[CONTENT_ALERT, 3, 3, 0, u8::try_from(length).unwrap_or(u8::MAX)]);
    let (before, sealed) = body.split_at_mut(explicit);
    before.copy_from_slice(&nonce[nonce.len() - explicit..]);
    let (plain, tag) = sealed.split_at_mut(usize::from(ALERT_BYTES));
    plain.copy_from_slice(&[FATAL, alert]);
    let key = keys.ready().ok_or(SealError::Refused)?;
    let made = key.seal_detached(nonce, &aad, plain).ok().ok_or(SealError::Refused)?;
    tag[..TAG].copy_from_slice(&made);
    Ok(HEADER + length)
}

/// Bytes of the longest sealed alert.
pub const TLS12_ALERT_BYTES_MAX: usize = HEADER + EXPLICIT_NONCE + ALERT_BYTES as usize + TAG;

/// Level and description.
const ALERT_BYTES: u16 = 2;
const FATAL: u8 = 2;
/// The part of AES-GCM's nonce that goes with each record.
const EXPLICIT_NONCE: usize = 8;
/// Sequence number, type, version and length.
const AAD: usize = 13;
