//! Randomness for what rustls shows in a handshake: hello randoms, ids of sessions, what makes tickets differ. A
//! thread takes some of it at once, for AWS-LC's generator does as much for four bytes as for half a kibibyte.
//!
//! Nothing secret waits here, and nothing that must be unique under a key that lives on: keys, and the nonces that
//! tickets are sealed with, are drawn from AWS-LC itself, which notices when its machine was copied.

use std::cell::RefCell;

use aws_lc_rs::error::Unspecified;
use rustls::crypto::{GetRandomFailed, SecureRandom};
use zeroize::Zeroize;

/// The store of this thread.
#[derive(Debug)]
pub(super) struct Random;

impl SecureRandom for Random {
    fn fill(&self, out: &mut [u8]) -> Result<(), GetRandomFailed> {
        let filled = STORE.with_borrow_mut(|store| store.fill(out, aws_lc_rs::rand::fill));
        filled.map_err(|_no_randomness| GetRandomFailed)
    }
}

thread_local! {
    static STORE: RefCell<Store> = const { RefCell::new(Store { bytes: [0; STORE_BYTES], given: STORE_BYTES }) };
}

/// A handshake of TLS 1.3 takes 32 with a client, and 36 for each ticket; with an upstream 66.
const STORE_BYTES: usize = 512;

struct Store {
    bytes: [u8; STORE_BYTES],
    /// So many at the front were given away, and are overwritten.
    given: usize,
}

impl Store {
    fn fill(
        &mut self,
        out: &mut [u8],
        draw: impl Fn(&mut [u8]) -> Result<(), Unspecified>,
    ) -> Result<(), Unspecified> {
        if out.len() > STORE_BYTES {
            return draw(out);
        }
        if out.len() > STORE_BYTES - self.given {
            self.given = STORE_BYTES;
            draw(&mut self.bytes)?;
            self.given = 0;
        }
        let taken = &mut self.bytes[self.given..][..out.len()];
        out.copy_from_slice(taken);
        taken.zeroize();
        self.given += out.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A generator whose pairs of bytes count from 1, so that none comes twice.
    fn counting(count: &Cell<u16>) -> impl Fn(&mut [u8]) -> Result<(), Unspecified> {
        |out| {
            for pair in out.chunks_mut(2) {
                count.set(count.get() + 1);
                pair.copy_from_slice(&count.get().to_be_bytes()[..pair.len()]);
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn no_byte_is_given_twice_or_kept(lengths in vec(0_usize..700, 1..40)) {
            let count = Cell::new(0);
            let mut store = Store { bytes: [0; STORE_BYTES], given: STORE_BYTES };
            let mut seen = std::collections::HashSet::new();
            for length in lengths {
                // Pairs stay whole.
                let mut out = vec![0; length * 2];
                store.fill(&mut out, counting(&count)).unwrap();
                for pair in out.chunks(2) {
                    prop_assert!(pair != [0, 0] && seen.insert(pair.to_vec()));
                }
                prop_assert!(store.bytes[..store.given].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn without_randomness_there_is_none() {
        let mut store = Store { bytes: [0; STORE_BYTES], given: 500 };
        let mut out = [7; 20];
        for _ in 0..2 {
            assert!(store.fill(&mut out, |_| Err(Unspecified)).is_err());
        }
        assert_eq!(out, [7; 20]);
        assert_eq!(store.given, STORE_BYTES);
    }

    #[test]
    fn threads_get_bytes_of_their_own() {
        let draw = || {
            let mut out = [0; 32];
            Random.fill(&mut out).unwrap();
            out
        };
        let other = std::thread::spawn(draw).join().unwrap();
        assert_ne!(draw(), other);
    }
}
