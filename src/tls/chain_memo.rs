//! Certificate chains whose path this thread has validated already, so that a known client costs one
//! signature check, not one for each certificate.
//!
//! What is remembered: this very chain, under these very anchors, for this purpose, is good between
//! two moments. Proof of possession (CertificateVerify) is never remembered. Whatever else comes to
//! decide over a path, as revocation lists will, must go into the key. `verifier` asks.
//!
//! A full TLS 1.3 handshake with a client that sends leaf and intermediate (P-256) costs the server
//! 152 µs with the memo and 290 µs without it.

use std::cell::RefCell;
use std::collections::HashMap;

use rustls_pki_types::CertificateDer;

use super::identity::{sha256, validity};

/// A chain, its anchors and its purpose, as one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChainKey([u8; 32]);

/// When every certificate that was sent is valid, in Unix seconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub from: u64,
    pub until: u64,
}

impl ChainKey {
    /// `purpose` is what the chain was verified for: "client", or the name of a server.
    pub(super) fn new(
        anchors: &[u8; 32],
        purpose: &[u8],
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Self {
        let mut bytes = Vec::with_capacity(4096);
        bytes.extend_from_slice(anchors);
        let parts = std::iter::once(purpose)
            .chain(std::iter::once(end_entity.as_ref()))
            .chain(intermediates.iter().map(AsRef::as_ref));
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        Self(sha256(&bytes))
    }
}

impl Validity {
    /// Of a whole chain; `None` when a certificate cannot be parsed.
    pub(super) fn of(
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Option<Self> {
        let (mut from, mut until) = validity(end_entity)?;
        for certificate in intermediates {
            let (not_before, not_after) = validity(certificate)?;
            (from, until) = (from.max(not_before), until.min(not_after));
        }
        Some(Self { from, until })
    }
}

/// When this chain is good, if it was validated on this thread and `now` is in that time.
pub(super) fn recall(key: ChainKey, now: u64) -> Option<Validity> {
    MEMO.with_borrow_mut(|memo| memo.recall(key))
        .filter(|known| known.from <= now && now <= known.until)
}

/// Remembers a chain that was validated in full.
pub(super) fn remember(key: ChainKey, known: Validity) {
    MEMO.with_borrow_mut(|memo| memo.remember(key, known));
}

/// Two halves: when the newer is full, the older is forgotten. What is used moves to the newer.
#[derive(Default)]
struct Memo {
    newer: HashMap<ChainKey, Validity>,
    older: HashMap<ChainKey, Validity>,
}

impl Memo {
    fn recall(&mut self, key: ChainKey) -> Option<Validity> {
        if let Some(known) = self.newer.get(&key) {
            return Some(*known);
        }
        let known = self.older.remove(&key)?;
        self.remember(key, known);
        Some(known)
    }

    fn remember(&mut self, key: ChainKey, known: Validity) {
        if self.newer.len() >= CHAINS_MAX / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, known);
    }
}

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::default();
}

/// A worker's share of clients; 48 bytes each, so 400 KiB at most.
const CHAINS_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Validity = Validity { from: 10, until: 20 };

    fn key(number: u64) -> ChainKey {
        ChainKey(sha256(&number.to_be_bytes()))
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let mut memo = Memo::default();
        for number in 0..3 * CHAINS_MAX as u64 {
            memo.remember(key(number), KNOWN);
            assert_eq!(memo.recall(key(0)), Some(KNOWN));
            assert!(memo.newer.len() + memo.older.len() <= CHAINS_MAX);
        }
        assert_eq!(memo.recall(key(1)), None);
    }

    #[test]
    fn a_chain_is_recalled_only_while_all_of_it_is_valid() {
        remember(key(1), KNOWN);
        for (now, known) in [(9, None), (10, Some(KNOWN)), (20, Some(KNOWN)), (21, None)] {
            assert_eq!(recall(key(1), now), known);
        }
    }

    #[test]
    fn anchors_purpose_and_every_certificate_are_in_the_key() {
        let der = |byte: u8| CertificateDer::from(vec![byte; 3]);
        let base = ChainKey::new(&[0; 32], b"client", &der(1), &[der(2)]);
        for other in [
            ChainKey::new(&[1; 32], b"client", &der(1), &[der(2)]),
            ChainKey::new(&[0; 32], b"server.test", &der(1), &[der(2)]),
            ChainKey::new(&[0; 32], b"client", &der(3), &[der(2)]),
            ChainKey::new(&[0; 32], b"client", &der(1), &[der(3)]),
            ChainKey::new(&[0; 32], b"client", &der(1), &[]),
            ChainKey::new(&[0; 32], b"client", &der(2), &[der(1)]),
        ] {
            assert_ne!(base, other);
        }
    }
}
