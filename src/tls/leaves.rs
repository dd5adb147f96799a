//! The certificates of this thread's clients, each in memory once however many sessions show it.
//!
//! A service that opens a hundred connections shows the same certificate on each. Nothing hangs on what
//! is remembered here but memory: no certificate is trusted for it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

/// The certificate's DER, as it is kept.
pub(super) fn shared(der: &[u8]) -> Arc<[u8]> {
    LEAVES.with_borrow_mut(|leaves| leaves.shared(der))
}

/// Two halves: when the newer is full, the older is forgotten. What is used moves to the newer.
#[derive(Default)]
struct Leaves {
    newer: HashSet<Arc<[u8]>>,
    older: HashSet<Arc<[u8]>>,
}

impl Leaves {
    fn shared(&mut self, der: &[u8]) -> Arc<[u8]> {
        if der.len() > LEAF_BYTES_MAX {
            return der.into();
        }
        if let Some(known) = self.newer.get(der) {
            return Arc::clone(known);
        }
        let known = self.older.take(der).unwrap_or_else(|| der.into());
        if self.newer.len() >= LEAVES_MAX / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(Arc::clone(&known));
        known
    }
}

thread_local! {
    static LEAVES: RefCell<Leaves> = RefCell::default();
}

/// So many are remembered, and none that is longer: 4 MiB at most, and 0.5 MiB as certificates are.
const LEAVES_MAX: usize = 1024;
const LEAF_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_kept_once_and_never_taken_for_another() {
        let mut leaves = Leaves::default();
        let (one, other) = (leaves.shared(b"one"), leaves.shared(b"other"));
        assert!(Arc::ptr_eq(&one, &leaves.shared(b"one")));
        assert!(Arc::ptr_eq(&other, &leaves.shared(b"other")));
        assert_eq!((&*one, &*other), (&b"one"[..], &b"other"[..]));
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let mut leaves = Leaves::default();
        let used = leaves.shared(b"used");
        for number in 0..3 * LEAVES_MAX {
            leaves.shared(&number.to_be_bytes());
            assert!(Arc::ptr_eq(&used, &leaves.shared(b"used")));
            assert!(leaves.newer.len() + leaves.older.len() <= LEAVES_MAX);
        }
        let long = vec![7; LEAF_BYTES_MAX + 1];
        assert!(!Arc::ptr_eq(&leaves.shared(&long), &leaves.shared(&long)));
    }
}
