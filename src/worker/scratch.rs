//! The buffers of one thread: scratch that every connection works in, and spares for bytes that a
//! connection must keep (a partial record, a short write). An idle connection owns none of them.

use std::cell::RefCell;

use crate::core::record::RECORD_MAX;
use crate::tls::{OUT_BYTES_MIN, Scratch as TlsScratch};

/// One receive. Larger reads did not raise throughput further; smaller ones pay a system call more.
pub(crate) const RECEIVE_BYTES_MAX: usize = 256 * 1024;

/// The first receive of a flow, and every one after its destination proved slow: bounds what has to
/// be kept for a reader that stalls.
pub(crate) const RECEIVE_BYTES_MIN: usize = 16 * 1024;

/// Spare buffers kept, and the largest worth keeping.
const SPARES_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// Where bytes are received, transformed, and sent from, within one poll.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// A kept partial record, then what was received.
    pub(crate) input: Box<[u8]>,
    pub(crate) output: Box<[u8]>,
    pub(crate) tls: TlsScratch,
}

/// Buffers between two owners.
#[derive(Debug, Default)]
pub(crate) struct Spares(RefCell<Vec<Vec<u8>>>);

impl Scratch {
    pub(crate) fn new() -> Self {
        let input = RECEIVE_BYTES_MAX + RECORD_MAX;
        // Sealing adds 22 bytes to each 16 KiB of plain text; a sixteenth is more than enough.
        let output = input + input / 16 + OUT_BYTES_MIN;
        Self {
            input: vec![0; input].into(),
            output: vec![0; output].into(),
            tls: TlsScratch::default(),
        }
    }
}

impl Spares {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Frees what is spare.
    pub(crate) fn empty(&self) {
        self.0.borrow_mut().clear();
    }

    /// Takes a buffer back, leaving an empty one without memory in its place.
    pub(crate) fn put_back(&self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        let mut buffer = std::mem::take(buffer);
        let mut spares = self.0.borrow_mut();
        if spares.len() < SPARES_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            spares.push(buffer);
        }
    }
}
