//! What holds of every step of a handshake whose peer has no keys, whichever side it is.

use portcullis::tls::{Advance, Outcome};

/// Drops from `held` what the step is done with; `false` where the peer was refused.
///
/// # Panics
/// When more is done with than was there, the peer got through, or the alert in `out`, which is in the clear, is not
/// the one that the refusal names.
pub fn goes_on(advance: Advance, held: &mut Vec<u8>, out: &[u8]) -> bool {
    assert!(advance.consumed <= held.len());
    held.drain(..advance.consumed);
    match advance.outcome {
        Outcome::NeedMore => true,
        Outcome::Failed(refusal) => {
            assert!(!refusal.detail.is_empty());
            if let (Some(alert), &[21, 3, _, 0, 2, 2, sent]) = (refusal.alert, out) {
                assert_eq!(alert, sent);
            }
            false
        }
        Outcome::Done => panic!("a peer without keys got through"),
    }
}
