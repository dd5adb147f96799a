//! The key schedule of TLS 1.3 (RFC 8446 §7.1) and the hash of its transcript by ring, for which they take less of
//! a handshake than AWS-LC's ([ADR 18](../../docs/adr/0018-ring-for-the-key-schedule.md)).
//!
//! HKDF over an HMAC is rustls', but for its extraction, which would leave secrets in memory that is freed. Here are
//! HMAC and hash as rustls wants them, keys wiped when they are freed, and the suites that have them. All else of a
//! suite is AWS-LC's (behind `ticket_nonce`), and so is TLS 1.2.

use std::sync::LazyLock;

use ring::{digest, hmac};
use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::crypto::hmac::{Hmac, Key, Tag};
use rustls::crypto::tls13::{Hkdf, HkdfExpander, HkdfUsingHmac, OkmBlock};
use rustls::{SupportedCipherSuite, Tls13CipherSuite};
use zeroize::optimization_barrier;

use super::ticket_nonce::{self, Sealing};

/// `suite` with ring's key schedule where it is one of TLS 1.3, and as it is where not.
pub(super) fn by_ring(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let ours = SUITES.iter().find(|ours| ours.common.suite == suite.suite());
    ours.map_or(suite, SupportedCipherSuite::Tls13)
}

static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    let with = |(suite, sealing): (&SupportedCipherSuite, &'static Sealing)| {
        let Tls13CipherSuite { common, quic, .. } = suite.tls13()?;
        let CipherSuiteCommon { suite, hash_provider, confidentiality_limit } = common;
        let (hash_provider, hkdf_provider): (&dyn Hash, &dyn Hkdf) = match hash_provider.algorithm()
        {
            HashAlgorithm::SHA256 => (&SHA256, &HKDF_SHA256),
            HashAlgorithm::SHA384 => (&SHA384, &HKDF_SHA384),
            _ => return None,
        };
        let (suite, confidentiality_limit) = (*suite, *confidentiality_limit);
        let common = CipherSuiteCommon { suite, hash_provider, confidentiality_limit };
        Some(Tls13CipherSuite { common, hkdf_provider, aead_alg: sealing, quic: *quic })
    };
    KNOWN.iter().zip(&*SEALINGS).filter_map(with).collect()
});

static SEALINGS: LazyLock<Vec<Sealing>> = LazyLock::new(|| {
    KNOWN.iter().filter_map(|suite| Some(Sealing(suite.tls13()?.aead_alg))).collect()
});

const KNOWN: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

static SHA256: RingHash = RingHash(&digest::SHA256, HashAlgorithm::SHA256);
static SHA384: RingHash = RingHash(&digest::SHA384, HashAlgorithm::SHA384);

static HKDF_SHA256: RingHkdf = RingHkdf(RingHmac(&hmac::HMAC_SHA256));
static HKDF_SHA384: RingHkdf = RingHkdf(RingHmac(&hmac::HMAC_SHA384));

/// rustls' HKDF, which hands an extracted secret on in a `Vec` that nobody wipes. Here it never leaves the types that
/// do.
struct RingHkdf(RingHmac);

impl Hkdf for RingHkdf {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.extract_from_secret(salt, &ZEROS[..self.0.hash_output_len()])
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        // Without a salt it is as many zeros (RFC 5869 §2.2).
        let salt = salt.unwrap_or(&ZEROS[..self.0.hash_output_len()]);
        let extracted = self.0.with_key(salt).sign(&[secret]);
        self.expander_for_okm(&OkmBlock::new(extracted.as_ref()))
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        HkdfUsingHmac(&self.0).expander_for_okm(okm)
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        HkdfUsingHmac(&self.0).hmac_sign(key, message)
    }
}

const ZEROS: &[u8] = &[0; Tag::MAX_LEN];

struct RingHmac(&'static hmac::Algorithm);

impl Hmac for RingHmac {
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        Box::new(RingKey(hmac::Key::new(*self.0, key)))
    }

    fn hash_output_len(&self) -> usize {
        self.0.digest_algorithm().output_len()
    }
}

/// A key of ring's, which does not wipe what it frees.
struct RingKey(hmac::Key);

impl Key for RingKey {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let cut = ticket_nonce::cut_label(middle);
        let middle = cut.as_ref().map_or(middle, |cut| &cut[..]);
        let mut context = hmac::Context::with_key(&self.0);
        context.update(first);
        for part in middle {
            context.update(part);
        }
        context.update(last);
        Tag::new(context.sign().as_ref())
    }

    fn tag_len(&self) -> usize {
        self.0.algorithm().digest_algorithm().output_len()
    }
}

impl RingKey {
    /// Writes a key of zeros over this one. The barrier keeps the compiler from leaving out what is freed unread.
    fn wipe(&mut self) {
        let algorithm = self.0.algorithm();
        if let Some(blank) = BLANKS.iter().find(|blank| blank.algorithm() == algorithm) {
            self.0 = blank.clone();
            optimization_barrier(&self.0);
        }
    }
}

impl Drop for RingKey {
    fn drop(&mut self) {
        self.wipe();
    }
}

struct RingHash(&'static digest::Algorithm, HashAlgorithm);

impl Hash for RingHash {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Transcript(digest::Context::new(self.0)))
    }

    fn hash(&self, data: &[u8]) -> Output {
        Output::new(digest::digest(self.0, data).as_ref())
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.1
    }
}

struct Transcript(digest::Context);

impl Context for Transcript {
    fn fork_finish(&self) -> Output {
        Output::new(self.0.clone().finish().as_ref())
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> Output {
        Output::new(self.0.finish().as_ref())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

/// Set up once, for a copy takes less than the hashing of zeros.
static BLANKS: LazyLock<[hmac::Key; 2]> =
    LazyLock::new(|| [hmac::HMAC_SHA256, hmac::HMAC_SHA384].map(|one| hmac::Key::new(one, &[])));

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 0..=length)
    }

    proptest! {
        /// All that TLS 1.3 asks of HKDF, with secrets and labels below and above a block of the hash.
        #[test]
        fn what_is_derived_is_what_aws_lc_derives(
            salt in proptest::option::of(bytes(200)),
            secret in bytes(200),
            info in vec(bytes(100), 0..5),
            length in 0_usize..200,
        ) {
            for known in KNOWN {
                let derived = |suite: SupportedCipherSuite| {
                    let hkdf = suite.tls13().unwrap().hkdf_provider;
                    let info: Vec<&[u8]> = info.iter().map(Vec::as_slice).collect();
                    let expander = hkdf.extract_from_secret(salt.as_deref(), &secret);
                    let block = expander.expand_block(&info);
                    let mut slice = vec![0; length];
                    expander.expand_slice(&info, &mut slice).unwrap();
                    let from_zeros = hkdf.extract_from_zero_ikm(salt.as_deref()).expand_block(&[]);
                    let from_block = hkdf.expander_for_okm(&block).expand_block(&info);
                    let signed = hkdf.hmac_sign(&block, &secret);
                    let blocks = [block, from_zeros, from_block].map(|one: OkmBlock| one.as_ref().to_vec());
                    (blocks, slice, signed.as_ref().to_vec())
                };
                prop_assert_eq!(derived(by_ring(known)), derived(known));
            }
        }
    }

    proptest! {
        #[test]
        fn a_transcript_has_the_hash_that_aws_lc_gives_it(parts in vec(bytes(300), 0..6)) {
            for known in KNOWN {
                let hashed = |suite: SupportedCipherSuite| {
                    let hash = suite.tls13().unwrap().common.hash_provider;
                    let mut transcript = hash.start();
                    let mut outputs = Vec::new();
                    for part in &parts {
                        transcript.update(part);
                        outputs.push(transcript.fork_finish().as_ref().to_vec());
                        outputs.push(hash.hash(part).as_ref().to_vec());
                    }
                    let mut fork = transcript.fork();
                    fork.update(b"of one only");
                    outputs.push(fork.finish().as_ref().to_vec());
                    outputs.push(transcript.finish().as_ref().to_vec());
                    (outputs, hash.output_len())
                };
                prop_assert_eq!(hashed(by_ring(known)), hashed(known));
            }
        }
    }

    #[test]
    fn a_suite_of_tls_1_3_keeps_all_but_its_hashes() {
        for known in KNOWN {
            let (ours, theirs) = (by_ring(known).tls13().unwrap(), known.tls13().unwrap());
            assert!(!std::ptr::addr_eq(ours.hkdf_provider, theirs.hkdf_provider), "{known:?}");
            let hashes = [ours, theirs].map(|one| one.common.hash_provider);
            assert!(!std::ptr::addr_eq(hashes[0], hashes[1]), "{known:?}");
            assert_eq!(ours.aead_alg.key_len(), theirs.aead_alg.key_len(), "{known:?}");
            assert_eq!(
                ours.common.hash_provider.algorithm(),
                theirs.common.hash_provider.algorithm()
            );
            assert_eq!(ours.common.confidentiality_limit, theirs.common.confidentiality_limit);
        }
        let tls12 = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        assert_eq!(by_ring(tls12), tls12);
    }

    #[test]
    fn a_wiped_key_is_the_key_of_zeros() {
        for algorithm in [hmac::HMAC_SHA256, hmac::HMAC_SHA384] {
            let mut key = RingKey(hmac::Key::new(algorithm, &[7; 32]));
            let blank = RingKey(hmac::Key::new(algorithm, &[0; 32]));
            key.wipe();
            assert_eq!(key.sign(&[b"text"]).as_ref(), blank.sign(&[b"text"]).as_ref());
        }
    }
}
