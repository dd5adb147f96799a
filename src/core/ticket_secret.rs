//! The secrets that ticket keys are made of: how they are held, derived, and told from weak ones.
//!
//! It draws no randomness and reads no file. `ticket_ring`, `ticket_roots` and `ticket_key_file` hold
//! such secrets; read `ticket_ring` next.

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

/// Boxed, so that moving a key leaves no copy of it behind.
pub(super) type Secret = Box<Zeroizing<[u8; SECRET_BYTES]>>;

/// An AES-256 key, and as much randomness.
pub const SECRET_BYTES: usize = 32;

/// Why bytes cannot have come from a random generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    #[error("all its bytes are zero")]
    Zero,
    #[error("all its bytes are the same")]
    Constant,
    #[error("its bytes only count up or down")]
    Counting,
    #[error("it has fewer than {DISTINCT_MIN} different bytes")]
    FewBytes,
    #[error("it repeats itself")]
    Repeated,
    #[error("it is text")]
    Text,
}

impl Weakness {
    /// What no random generator makes in the lifetime of anybody: by chance, 16 random bytes are of
    /// fewer than 8 kinds once in 10^12 times, and all of them text once in 10^6. So text is looked
    /// for in 32 bytes and more only.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let first = bytes.first().copied()?;
        let mut seen = [false; 256];
        for byte in bytes {
            seen[usize::from(*byte)] = true;
        }
        let distinct = seen.iter().filter(|seen| **seen).count();
        let mut steps = bytes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
        let step = steps.next();
        let (left, right) = bytes.split_at(bytes.len() / 2);
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        if distinct == 1 {
            Some(if first == 0 { Self::Zero } else { Self::Constant })
        } else if steps.all(|next| Some(next) == step) {
            Some(Self::Counting)
        } else if distinct < DISTINCT_MIN {
            Some(Self::FewBytes)
        } else if left == right {
            Some(Self::Repeated)
        } else {
            (bytes.len() >= SECRET_BYTES && bytes.iter().all(is_text)).then_some(Self::Text)
        }
    }
}

/// HKDF-Extract (RFC 5869 §2.2) of what a source gives; `salt` says which kind of source.
pub(super) fn extract(salt: &[u8], secret: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret)
}

/// HKDF-Expand (RFC 5869 §2.3) to 32 bytes. `info` starts with the purpose; what follows has the same
/// length for every use of a purpose.
pub(super) fn expand(prk: &hkdf::Prk, info: &[&[u8]]) -> Secret {
    let mut out = Box::new(Zeroizing::new([0; SECRET_BYTES]));
    let filled = prk.expand(info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut **out));
    #[expect(clippy::expect_used, reason = "going on with a key of zeroes would be far worse")]
    filled.expect("32 bytes are one block of HKDF-SHA-256, which has 255");
    out
}

const DISTINCT_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_no_generator_makes_is_weak() {
        let counting: Vec<u8> = (250..=255).chain(0..10).collect();
        let falling: Vec<u8> = (0..32).rev().map(|byte| byte * 3).collect();
        let few: Vec<u8> = (0..32).map(|at| [1, 9, 2, 7, 40, 3, 5][at * at % 7]).collect();
        let half: Vec<u8> = (0..16).map(|at: u8| at.wrapping_mul(at).wrapping_mul(37)).collect();
        let cases: [(&[u8], Weakness); 8] = [
            (&[0; 32], Weakness::Zero),
            (&[7; 16], Weakness::Constant),
            (&counting, Weakness::Counting),
            (&falling, Weakness::Counting),
            (&few, Weakness::FewBytes),
            (&[&half[..], &half[..]].concat(), Weakness::Repeated),
            (b"correct horse battery staple and more words", Weakness::Text),
            (b"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c", Weakness::Text),
        ];
        for (bytes, weakness) in cases {
            assert_eq!(Weakness::of(bytes), Some(weakness), "{bytes:?}");
        }
        assert_eq!(Weakness::of(&[]), None, "nothing is another mistake");
    }

    proptest! {
        #[test]
        fn what_a_generator_makes_is_not(bytes: [u8; 32]) {
            // Small inputs, which proptest is fond of, are weak indeed.
            let mut kinds = bytes.to_vec();
            kinds.sort_unstable();
            kinds.dedup();
            prop_assume!(kinds.len() > 20 && !bytes.is_ascii());
            prop_assert_eq!(Weakness::of(&bytes), None);
        }
    }
}
