//! The anchors that clients are told of when they are asked for a certificate (RFC 8446 §4.2.4,
//! RFC 5246 §7.4.4), so that one with several shows the right one.
//!
//! All of them or none: to a client a name that is missing means that its certificate would be in vain.

use rustls::{DistinguishedName, RootCertStore};

/// What all names may take, with the two bytes before each. The field has room for 64 KiB, and above that every
/// handshake would fail; some clients take no message above 16 KiB.
pub(super) const NAMES_BYTES_MAX: usize = 16_000;

/// The names of a trust's anchors.
#[derive(Debug)]
pub(super) struct Hints {
    told: Vec<DistinguishedName>,
    /// What all of them would take.
    bytes: usize,
}

impl Hints {
    pub(super) fn new(roots: &RootCertStore) -> Self {
        let mut told = Vec::with_capacity(roots.len());
        // A CA that renews its key keeps its name, mostly: neighbours in a bundle.
        for name in roots.subjects() {
            let is_told =
                told.last().is_some_and(|last: &DistinguishedName| last.as_ref() == name.as_ref());
            if !is_told {
                told.push(name);
            }
        }
        let bytes = told.iter().map(|name| 2 + name.as_ref().len()).sum();
        if bytes > NAMES_BYTES_MAX {
            told = Vec::new();
        }
        Self { told, bytes }
    }

    /// In the order of the anchors; empty says that any will do.
    pub(super) fn told(&self) -> &[DistinguishedName] {
        &self.told
    }

    /// How many bytes the names have, where those are too many to tell them.
    pub(super) fn untold(&self) -> Option<usize> {
        (self.bytes > NAMES_BYTES_MAX).then_some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::TrustAnchor;

    use super::*;

    fn hints(names: &[&[u8]]) -> Hints {
        let anchor = |name: &&[u8]| TrustAnchor {
            subject: name.to_vec().into(),
            subject_public_key_info: Vec::new().into(),
            name_constraints: None,
        };
        Hints::new(&names.iter().map(anchor).collect())
    }

    #[test]
    fn each_name_is_told_once() {
        let hints = hints(&[b"one", b"one", b"two"]);
        // With the header of a SEQUENCE, which an anchor has not.
        let told: Vec<_> = hints.told().iter().map(|name| &name.as_ref()[2..]).collect();
        assert_eq!(told, [b"one", b"two"]);
        assert_eq!(hints.untold(), None);
    }

    #[test]
    fn all_are_told_or_none() {
        let long = vec![b'n'; 1_000];
        // 1,000 bytes, 4 of a SEQUENCE's header, 2 of the list's.
        let names: Vec<_> = (0..16_u8).map(|at| [&[at][..], &long[1..]].concat()).collect();
        let names: Vec<_> = names.iter().map(Vec::as_slice).collect();
        let (few, many) = (hints(&names[..15]), hints(&names));
        assert_eq!((few.told().len(), few.untold()), (15, None));
        assert_eq!((many.told().len(), many.untold()), (0, Some(16 * 1_006)));
    }
}
