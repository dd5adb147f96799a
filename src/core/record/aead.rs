//! One key, ready for use, and the library whose code it runs: AWS-LC's, or ring's on a CPU for which
//! AWS-LC has none of its fastest ([ADR 17](../../../docs/adr/0017-ring-for-aes-gcm.md)).
//!
//! Never sees a record or counts one: `opener.rs` and `sealer.rs` say what is opened and sealed, and where.

use std::sync::LazyLock;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use ring::aead as ring_aead;
use zeroize::optimization_barrier;

use super::TAG;
use super::keys::{Aead, IV, KEY_MAX};

/// An expanded key. AWS-LC keeps its own in 600 bytes of memory that it wipes when they are freed, ring's has 544
/// and is wiped here.
pub(super) enum Expanded {
    AwsLc(LessSafeKey),
    Ring(RingKey),
}

/// Who expands keys. Both give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    AwsLc,
    Ring,
}

impl Library {
    /// The faster one for `aead` on this CPU; where all code is to run (`perf/guided/make`), as `key` falls.
    pub(super) fn best_for(aead: Aead, key: &[u8]) -> Self {
        match aead {
            Aead::Aes128Gcm | Aead::Aes256Gcm if cfg!(every_library) => {
                if key.first().is_some_and(|byte| byte % 2 == 0) { Self::Ring } else { Self::AwsLc }
            }
            Aead::Aes128Gcm | Aead::Aes256Gcm if has_wide_aes_without_avx512() => Self::Ring,
            Aead::Aes128Gcm | Aead::Aes256Gcm | Aead::Chacha20Poly1305 => Self::AwsLc,
        }
    }
}

/// AES-GCM two blocks at a time (VAES, VPCLMULQDQ) is ring's with AVX2 and AWS-LC's with AVX-512 alone.
#[cfg(target_arch = "x86_64")]
fn has_wide_aes_without_avx512() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
        && !(is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl"))
}

#[cfg(not(target_arch = "x86_64"))]
fn has_wide_aes_without_avx512() -> bool {
    false
}

impl Expanded {
    /// `None` when `key` has not the length that `aead` takes, or the library has no memory for it.
    pub(super) fn new(library: Library, aead: Aead, key: &[u8]) -> Option<Self> {
        match library {
            Library::AwsLc => {
                UnboundKey::new(aead.algorithm(), key).ok().map(LessSafeKey::new).map(Self::AwsLc)
            }
            Library::Ring => RingKey::new(aead, key).map(Self::Ring),
        }
    }

    /// Opens `ciphertext` into `out`, which is as long.
    ///
    /// # Errors
    /// When it is not authentic; what `out` holds then is not to be used.
    #[inline]
    pub(super) fn open(
        &self,
        nonce: [u8; IV],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG],
        out: &mut [u8],
    ) -> Result<(), Unspecified> {
        match self {
            Self::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, out)
            }
            Self::Ring(key) => {
                copy(ciphertext, out)?;
                key.open(nonce, aad, tag, out, 0)
            }
        }
    }

    /// Opens the ciphertext that begins at `from` within `text`, and ends with it, to the front of `text`.
    ///
    /// # Errors
    /// When it is not authentic, or the library can do no such thing, which [`Library::Ring`] can.
    #[inline]
    pub(super) fn open_within(
        &self,
        nonce: [u8; IV],
        aad: &[u8],
        tag: &[u8; TAG],
        text: &mut [u8],
        from: usize,
    ) -> Result<(), Unspecified> {
        match self {
            Self::AwsLc(_) => Err(Unspecified),
            Self::Ring(key) => key.open(nonce, aad, tag, text, from),
        }
    }

    /// Seals in place: `body` is the plaintext, a byte for the inner type, and the tag.
    ///
    /// # Errors
    /// When `body` has no room for type and tag, or the library fails.
    #[inline]
    pub(super) fn seal(
        &self,
        nonce: [u8; IV],
        aad: &[u8],
        inner_type: u8,
        body: &mut [u8],
    ) -> Result<(), Unspecified> {
        let length = body.len().checked_sub(1 + TAG).ok_or(Unspecified)?;
        match self {
            Self::AwsLc(key) => {
                let (plaintext, type_and_tag) = body.split_at_mut(length);
                let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(aad));
                key.seal_in_place_scatter(nonce, aad, plaintext, &[inner_type], type_and_tag)
            }
            Self::Ring(key) => {
                let (inner, tag) = body.split_at_mut(length + 1);
                inner[length] = inner_type;
                tag.copy_from_slice(&key.seal(nonce, aad, inner)?);
                Ok(())
            }
        }
    }

    /// Seals `plaintext` into `body`, which is a byte for the inner type and a tag longer.
    ///
    /// # Errors
    /// When `body` is not that long, or the library fails.
    #[inline]
    pub(super) fn seal_from(
        &self,
        nonce: [u8; IV],
        aad: &[u8],
        inner_type: u8,
        plaintext: &[u8],
        body: &mut [u8],
    ) -> Result<(), Unspecified> {
        let (ciphertext, type_and_tag) =
            body.split_at_mut_checked(plaintext.len()).ok_or(Unspecified)?;
        match self {
            Self::AwsLc(key) => key.seal_out_of_place_scatter(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                plaintext,
                ciphertext,
                &[inner_type],
                type_and_tag,
            ),
            Self::Ring(_) if type_and_tag.len() != 1 + TAG => Err(Unspecified),
            Self::Ring(_) => {
                copy(plaintext, ciphertext)?;
                self.seal(nonce, aad, inner_type, body)
            }
        }
    }

    /// Seals all of `text` in place; the tag is the caller's to put.
    ///
    /// # Errors
    /// When the library fails.
    pub(super) fn seal_detached(
        &self,
        nonce: [u8; IV],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG], Unspecified> {
        match self {
            Self::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), text)?;
                tag.as_ref().try_into().map_err(|_not_of_16_bytes| Unspecified)
            }
            Self::Ring(key) => key.seal(nonce, aad, text),
        }
    }
}

/// A key of ring's, which does not wipe what it frees.
pub(super) struct RingKey(Box<ring_aead::LessSafeKey>);

impl RingKey {
    pub(super) fn new(aead: Aead, key: &[u8]) -> Option<Self> {
        let algorithm = match aead {
            Aead::Aes128Gcm => &ring_aead::AES_128_GCM,
            Aead::Aes256Gcm => &ring_aead::AES_256_GCM,
            Aead::Chacha20Poly1305 => &ring_aead::CHACHA20_POLY1305,
        };
        let key = ring_aead::UnboundKey::new(algorithm, key).ok()?;
        Some(Self(Box::new(ring_aead::LessSafeKey::new(key))))
    }

    #[inline]
    fn open(
        &self,
        nonce: [u8; IV],
        aad: &[u8],
        tag: &[u8; TAG],
        text: &mut [u8],
        from: usize,
    ) -> Result<(), Unspecified> {
        let nonce = ring_aead::Nonce::assume_unique_for_key(nonce);
        let (aad, tag) = (ring_aead::Aad::from(aad), ring_aead::Tag::from(*tag));
        let opened = self.0.open_in_place_separate_tag(nonce, aad, tag, text, from..);
        opened.map(|_text| ()).map_err(|_not_authentic| Unspecified)
    }

    #[inline]
    fn seal(&self, nonce: [u8; IV], aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG], Unspecified> {
        let nonce = ring_aead::Nonce::assume_unique_for_key(nonce);
        let aad = ring_aead::Aad::from(aad);
        let tag = self.0.seal_in_place_separate_tag(nonce, aad, text);
        let tag = tag.map_err(|_too_long| Unspecified)?;
        tag.as_ref().try_into().map_err(|_not_of_16_bytes| Unspecified)
    }

    /// Writes the key of nothing but zeros over this one. The barrier keeps the compiler from leaving out what
    /// is freed unread.
    pub(super) fn wipe(&mut self) {
        let algorithm = self.0.algorithm();
        let mut blanks = BLANKS.iter().flatten();
        if let Some(blank) = blanks.find(|blank| blank.algorithm() == algorithm) {
            *self.0 = blank.clone();
            optimization_barrier(&*self.0);
        }
    }
}

/// Keys of zeros, expanded once: a copy takes 50 ns, where expanding took 190 at each end of a connection.
static BLANKS: LazyLock<[Option<ring_aead::LessSafeKey>; 3]> = LazyLock::new(|| {
    let algorithms =
        [&ring_aead::AES_128_GCM, &ring_aead::AES_256_GCM, &ring_aead::CHACHA20_POLY1305];
    algorithms.map(|algorithm| {
        let zeros = &[0; KEY_MAX][..algorithm.key_len()];
        ring_aead::UnboundKey::new(algorithm, zeros).ok().map(ring_aead::LessSafeKey::new)
    })
});

impl Drop for RingKey {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// In pieces: where the C library has `rep movsb` for a copy of some KiB, that takes up to ten times as long on
/// AMD's Zen 3 when source and destination lie alike within their pages.
#[inline]
fn copy(from: &[u8], to: &mut [u8]) -> Result<(), Unspecified> {
    if from.len() != to.len() {
        return Err(Unspecified);
    }
    for (to, from) in to.chunks_mut(COPY_BYTES).zip(from.chunks(COPY_BYTES)) {
        to.copy_from_slice(from);
    }
    Ok(())
}

pub(super) const COPY_BYTES: usize = 1024;
