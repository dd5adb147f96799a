//! The keys of one direction of one connection: an AEAD ready for use and the IV that makes nonces.
//!
//! Never derives a key (that is rustls' work) and never shows one. `opener.rs` and `sealer.rs` use it.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305};
use thiserror::Error;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::aead::{Expanded, Library};

/// The AEADs of the TLS 1.3 suites that we speak (RFC 8446 §B.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aead {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
}

/// A traffic key and its IV (RFC 8446 §7.3), for one direction and one key generation.
///
/// The key is expanded when it is first used, which takes 600 bytes: a direction that rests can be without
/// ([`TrafficKeys::fold`]). All of it is wiped when it goes. `Debug` shows the algorithm alone.
pub struct TrafficKeys {
    expanded: Option<Expanded>,
    /// As many bytes as the AEAD takes.
    key: Zeroizing<[u8; KEY_MAX]>,
    iv: Zeroizing<[u8; IV]>,
    aead: Aead,
    library: Library,
}

/// Why key bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("{aead:?} takes a key of {expected} bytes, not {found}")]
    Length { aead: Aead, expected: usize, found: usize },
}

impl Aead {
    /// Bytes of a key.
    #[must_use]
    pub fn key_length(self) -> usize {
        self.algorithm().key_len()
    }

    /// How many records one key may seal (RFC 8446 §5.5): 2^24.5 for AES-GCM; none that matters for
    /// ChaCha20-Poly1305, whose sequence number ends first.
    #[must_use]
    pub fn confidentiality_limit(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => AES_GCM_RECORDS_MAX,
            Self::Chacha20Poly1305 => u64::MAX,
        }
    }

    pub(super) fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::Chacha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

impl TrafficKeys {
    /// Keys that are not expanded yet. The caller wipes its own copy of `key`.
    ///
    /// # Errors
    /// When `key` has not the length that `aead` takes.
    pub fn new(aead: Aead, key: &[u8], iv: &[u8; IV]) -> Result<Self, KeyError> {
        let expected = aead.key_length();
        if key.len() != expected {
            return Err(KeyError::Length { aead, expected, found: key.len() });
        }
        let mut kept = Zeroizing::new([0; KEY_MAX]);
        kept[..expected].copy_from_slice(key);
        let library = Library::best_for(aead, key);
        Ok(Self { expanded: None, key: kept, iv: Zeroizing::new(*iv), aead, library })
    }

    /// Before a key is used: expands it if it is not.
    #[inline]
    pub(super) fn unfold(&mut self) {
        if self.expanded.is_none() {
            self.expand();
        }
    }

    /// The key, ready for use after `unfold`. `None`: the cryptographic library had no memory for it.
    #[inline]
    pub(super) fn ready(&self) -> Option<&Expanded> {
        self.expanded.as_ref()
    }

    #[cold]
    #[inline(never)]
    fn expand(&mut self) {
        let key = &self.key[..self.aead.key_length()];
        self.expanded = Expanded::new(self.library, self.aead, key);
    }

    /// Gives up the memory of the expanded key until the next use, which expands it anew.
    pub(super) fn fold(&mut self) {
        self.expanded = None;
    }

    /// Whether there is anything to fold.
    pub(super) fn is_expanded(&self) -> bool {
        self.expanded.is_some()
    }

    /// Whether these keys work where the text lies: what they open needs no second place
    /// ([`super::Opener::open_within`]), and what they seal is the cheaper without one.
    #[inline]
    pub(super) fn work_in_place(&self) -> bool {
        self.library == Library::Ring
    }

    /// These keys, expanded by `library` whatever the CPU.
    #[cfg(test)]
    pub(super) fn by(self, library: Library) -> Self {
        Self { library, ..self }
    }

    #[must_use]
    pub fn aead(&self) -> Aead {
        self.aead
    }

    /// The nonce of a record: the IV, its last eight bytes xored with the sequence number
    /// (RFC 8446 §5.3).
    #[inline]
    pub(super) fn nonce(&self, sequence: u64) -> [u8; IV] {
        let mut nonce = *self.iv;
        for (byte, counter) in nonce[IV - 8..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= counter;
        }
        nonce
    }
}

impl ZeroizeOnDrop for TrafficKeys {}

impl fmt::Debug for TrafficKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficKeys").field("aead", &self.aead).finish_non_exhaustive()
    }
}

/// Bytes of the longest key.
pub(super) const KEY_MAX: usize = 32;

/// Bytes of an IV of each of the three AEADs.
pub(super) const IV: usize = 12;

/// 2^24.5, rounded down (RFC 8446 §5.5).
const AES_GCM_RECORDS_MAX: u64 = 23_726_566;
