//! Wires.

use portcullis::tls::wire::{OUT_BYTES_MIN, Scratch, Stop, Wire, transfer};
use portcullis_kit::monotonic_now;

/// What `received` holds, in the clear.
pub(crate) fn opened(wire: &mut Wire, received: &mut [u8]) -> Vec<u8> {
    let mut out = vec![0; OUT_BYTES_MIN + received.len()];
    let now = monotonic_now();
    let done = transfer(wire, &mut Wire::Plain, received, &mut out, &mut Scratch::default(), now);
    assert!(matches!(done.stop, Stop::InputEmpty | Stop::CloseNotify), "{done:?}");
    assert_eq!(done.consumed, received.len());
    out.truncate(done.produced);
    out
}
