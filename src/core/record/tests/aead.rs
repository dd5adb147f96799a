//! The libraries that may stand behind a key give the same bytes, and refuse the same ones.

use aws_lc_rs::error::Unspecified;
use proptest::prelude::*;

use super::super::aead::{Expanded, Library, RingKey};
use super::*;

const BOTH: [Library; 2] = [Library::AwsLc, Library::Ring];
const AEADS: [Aead; 3] = [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::Chacha20Poly1305];

fn key(library: Library, aead: Aead) -> Expanded {
    Expanded::new(library, aead, &vec![7; aead.key_length()]).unwrap()
}

/// The body of a record, sealed from elsewhere.
fn sealed(key: &Expanded, nonce: [u8; 12], text: &[u8]) -> Vec<u8> {
    let mut body = vec![0; text.len() + 1 + TAG];
    key.seal_from(nonce, &[1, 2, 3], 23, text, &mut body).unwrap();
    body
}

/// What is in the body of a record, its type included.
fn opened(
    key: &Expanded,
    nonce: [u8; 12],
    aad: &[u8],
    body: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let (ciphertext, tag) = body.split_last_chunk::<TAG>().unwrap();
    let mut inner = vec![0; ciphertext.len()];
    key.open(nonce, aad, ciphertext, tag, &mut inner).map(|()| inner)
}

proptest! {
    #[test]
    fn what_one_library_seals_the_other_opens(
        text in proptest::collection::vec(any::<u8>(), 0..PLAINTEXT_MAX),
        nonce: [u8; 12],
    ) {
        for aead in AEADS {
            let [one, other] = BOTH.map(|library| key(library, aead));
            let body = sealed(&one, nonce, &text);
            prop_assert_eq!(&body, &sealed(&other, nonce, &text));
            let mut in_place = [&text[..], &[0; 1 + TAG]].concat();
            other.seal(nonce, &[1, 2, 3], 23, &mut in_place).unwrap();
            prop_assert_eq!(&body, &in_place);
            let inner = [&text[..], &[23]].concat();
            for key in [one, other] {
                prop_assert_eq!(opened(&key, nonce, &[1, 2, 3], &body), Ok(inner.clone()));
            }
        }
    }
}

#[test]
fn neither_opens_what_was_changed_by_a_bit() {
    for (library, aead) in BOTH.into_iter().flat_map(|library| AEADS.map(|aead| (library, aead))) {
        let (key, nonce) = (key(library, aead), [9; 12]);
        for length in [0, 1, 15, 16, 200, 4_000] {
            let body = sealed(&key, nonce, &vec![5; length]);
            assert!(opened(&key, nonce, &[1, 2, 3], &body).is_ok());
            assert!(opened(&key, nonce, &[1, 2, 4], &body).is_err(), "what goes with it");
            assert!(opened(&key, [8; 12], &[1, 2, 3], &body).is_err(), "the nonce");
            for at in [0, length / 2, length, length + 1, length + TAG] {
                let mut changed = body.clone();
                changed[at] ^= 0x40;
                let found = opened(&key, nonce, &[1, 2, 3], &changed);
                assert!(found.is_err(), "{library:?} {aead:?}: byte {at} of {length}");
            }
        }
    }
}

#[test]
fn a_place_of_the_wrong_length_is_an_error() {
    for library in BOTH {
        let key = key(library, Aead::Aes128Gcm);
        let mut short = [0; TAG];
        assert!(key.seal([0; 12], &[], 23, &mut short).is_err());
        assert!(key.seal_from([0; 12], &[], 23, &[1], &mut short).is_err());
        assert!(key.seal_from([0; 12], &[], 23, &[1; 20], &mut short).is_err());
        assert!(
            key.seal_from([0; 12], &[], 23, &[1; 4], &mut [0; 4 + 2 + TAG]).is_err(),
            "too long"
        );
        assert!(key.open([0; 12], &[], &[1; 20], &[0; TAG], &mut short).is_err());
        assert!(Expanded::new(library, Aead::Aes128Gcm, &[1; 15]).is_none());
    }
}

#[test]
fn a_wiped_key_of_rings_is_the_key_of_zeros() {
    for aead in AEADS {
        let expanded = |byte| RingKey::new(aead, &vec![byte; aead.key_length()]).unwrap();
        let (mut key, blank) = (expanded(7), expanded(0));
        key.wipe();
        let [found, expected] =
            [key, blank].map(|key| sealed(&Expanded::Ring(key), [1; 12], b"text"));
        assert_eq!(found, expected, "{aead:?}");
    }
}
