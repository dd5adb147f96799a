//! How much one key of TLS 1.2 may seal. TLS 1.2 has no new keys within a session, so the session ends with it.
//!
//! What weakens AES-GCM is how many blocks of AES a key has been used for: RFC 8446 §5.5 takes 2^24.5 records of
//! full size for a safe number of them, and RFC 9325 §4.4 wants such a limit for TLS 1.2 too. rustls counts records of
//! any size, so that a session of small messages would end after some minutes. Here the blocks are counted, and rustls'
//! count is lifted ([ADR 21](../../docs/adr/0021-a-tls12-key-in-blocks.md)). `tls12` asks for each record that it seals.

use std::sync::LazyLock;

use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::{SupportedCipherSuite, Tls12CipherSuite};

/// What is left of a sending key.
#[derive(Debug)]
pub(super) struct KeyBudget {
    /// Blocks of AES; `None` for ChaCha20, whose sequence number ends first.
    blocks: Option<u64>,
}

impl KeyBudget {
    pub(super) fn new(suite: Option<SupportedCipherSuite>) -> Self {
        let is_counted = suite.is_some_and(|suite| COUNTED.contains(&suite));
        Self { blocks: is_counted.then_some(BLOCKS_MAX) }
    }

    /// Takes what `content` bytes in records of `content_max` cost; false if that is more than is left.
    pub(super) fn spend(&mut self, content: usize, content_max: usize) -> bool {
        let Some(blocks) = &mut self.blocks else { return true };
        let records = content.div_ceil(content_max).max(1);
        // Of each record the last block may not be full, and one more makes the tag (NIST SP 800-38D §7.1).
        let cost = content / BLOCK + records * 2;
        match blocks.checked_sub(cost as u64) {
            Some(left) => {
                *blocks = left;
                true
            }
            None => false,
        }
    }

    #[cfg(test)]
    pub(super) fn of_blocks(blocks: u64) -> Self {
        Self { blocks: Some(blocks) }
    }
}

/// `suite` without rustls' count of records where its blocks are counted here, and as it is where not.
pub(super) fn counted_here(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let ours = SUITES.iter().find(|ours| ours.common.suite == suite.suite());
    ours.map_or(suite, SupportedCipherSuite::Tls12)
}

static SUITES: LazyLock<Vec<Tls12CipherSuite>> = LazyLock::new(|| {
    let uncounted = |suite: &SupportedCipherSuite| {
        let SupportedCipherSuite::Tls12(theirs) = suite else { return None };
        let Tls12CipherSuite { common, prf_provider, kx, sign, aead_alg } = *theirs;
        let CipherSuiteCommon { suite, hash_provider, .. } = *common;
        let common = CipherSuiteCommon { suite, hash_provider, confidentiality_limit: u64::MAX };
        Some(Tls12CipherSuite {
            common,
            prf_provider: *prf_provider,
            kx: *kx,
            sign,
            aead_alg: *aead_alg,
        })
    };
    COUNTED.iter().filter_map(uncounted).collect()
});

const COUNTED: [SupportedCipherSuite; 4] = [
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// 2^24 records of 2^14 bytes.
const BLOCKS_MAX: u64 = 1 << 34;
const BLOCK: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_costs_is_its_length() {
        let left = |content, content_max| {
            let mut budget = KeyBudget::of_blocks(10_000);
            assert!(budget.spend(content, content_max));
            10_000 - budget.blocks.unwrap()
        };
        assert_eq!([left(0, 1 << 14), left(1, 1 << 14), left(16, 1 << 14)], [2, 2, 3]);
        assert_eq!([left(1 << 14, 1 << 14), left(1 << 14, 512)], [1026, 1024 + 64]);
    }

    #[test]
    fn a_key_that_is_used_up_seals_nothing_more() {
        let mut budget = KeyBudget::of_blocks(5);
        assert_eq!([(); 3].map(|()| budget.spend(1, 1 << 14)), [true, true, false]);
        let mut unbounded = KeyBudget::new(Some(cipher_suite::TLS13_AES_128_GCM_SHA256));
        assert!((0..9).all(|_| unbounded.spend(usize::MAX, 1 << 14)));
    }

    #[test]
    fn rustls_counts_no_records_where_blocks_are_counted_and_nothing_else_is_changed() {
        for theirs in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            let ours = counted_here(*theirs);
            let is_gcm = theirs.tls13().is_none() && !format!("{theirs:?}").contains("CHACHA20");
            assert_eq!(KeyBudget::new(Some(ours)).blocks, is_gcm.then_some(BLOCKS_MAX), "{ours:?}");
            let (SupportedCipherSuite::Tls12(ours), SupportedCipherSuite::Tls12(theirs)) =
                (ours, theirs)
            else {
                continue;
            };
            let limit = if is_gcm { u64::MAX } else { theirs.common.confidentiality_limit };
            assert_eq!(ours.common.confidentiality_limit, limit, "{ours:?}");
            assert_eq!(ours.common.suite, theirs.common.suite);
            let hash = |suite: &Tls12CipherSuite| suite.common.hash_provider.algorithm();
            assert_eq!(hash(ours), hash(theirs));
            assert_eq!((&ours.kx, ours.sign), (&theirs.kx, theirs.sign));
        }
    }
}
