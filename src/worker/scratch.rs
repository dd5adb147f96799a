//! The buffers of one thread: scratch that every connection works in, and spares for bytes that a
//! connection must keep (a partial record, a short write). An idle connection owns none of them.

use std::cell::RefCell;

use crate::core::record::{RECORD_MAX, sealed_length};
use crate::tls::{OUT_BYTES_MIN, Scratch as TlsScratch};

/// One receive, and the share of a session that need not think of others: a pass costs 6 to 8 us, however much it
/// carries, and a byte to or from a plain side 0.98 of what it does by 256 KiB at once.
pub(crate) const RECEIVE_BYTES_MAX: usize = 512 * 1024;

/// The most where bytes are both opened and sealed, for 512 KiB do not fit the core's cache (1.02 of what a byte costs by
/// 256 KiB); and while memory presses, for what is received may have to be kept.
pub(crate) const RECEIVE_BYTES_LEAN: usize = 256 * 1024;

/// The first receive of a flow: bounds what has to be kept for a reader that stalls.
pub(crate) const RECEIVE_BYTES_MIN: usize = 16 * 1024;

/// The most after its destination proved slow, and for one that takes short records.
pub(crate) const RECEIVE_BYTES_SLOW: usize = 64 * 1024;

/// Before what is received, as much as the longest of it grows when plain bytes are sealed within the buffer; whole
/// lines of the cache.
pub(crate) const LEAD: usize = (sealed_length(INPUT_BYTES) - INPUT_BYTES).next_multiple_of(64);

/// One receive behind a partial record.
const INPUT_BYTES: usize = RECEIVE_BYTES_MAX + RECORD_MAX;

/// Spare buffers kept, and the largest of them.
const SPARES_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// And those for what a fast stream left of a send. They are for nothing smaller, which may be kept long.
const LARGE_SPARES_MAX: usize = 4;
const LARGE_SPARE_BYTES_MAX: usize = RECEIVE_BYTES_LEAN * 5 / 4;

/// Where bytes are received, transformed, and sent from, within one poll.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// [`LEAD`], a kept partial record, then what was received; and what is to be sent, written over it, where it
    /// was opened or sealed in place.
    pub(crate) input: Box<[u8]>,
    pub(crate) output: Box<[u8]>,
    pub(crate) tls: TlsScratch,
}

/// Buffers between two owners.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        // Sealing adds 22 bytes to each 16 KiB of plain text; a sixteenth is more than enough. For short records a pass
        // ends early.
        let output = INPUT_BYTES + INPUT_BYTES / 16 + OUT_BYTES_MIN;
        Self {
            input: vec![0; LEAD + INPUT_BYTES].into(),
            output: vec![0; output].into(),
            tls: TlsScratch::default(),
        }
    }
}

impl Spares {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.small.borrow_mut().pop().unwrap_or_default()
    }

    /// An empty buffer for so many bytes.
    pub(crate) fn take_for(&self, bytes: usize) -> Vec<u8> {
        if bytes <= SPARE_BYTES_MAX {
            return self.take();
        }
        if bytes > LARGE_SPARE_BYTES_MAX {
            return Vec::with_capacity(bytes);
        }
        let large = self.large.borrow_mut().pop();
        large.unwrap_or_else(|| Vec::with_capacity(LARGE_SPARE_BYTES_MAX))
    }

    /// Frees what is spare.
    pub(crate) fn empty(&self) {
        self.small.borrow_mut().clear();
        self.large.borrow_mut().clear();
    }

    /// Takes a buffer back, leaving an empty one without memory in its place.
    pub(crate) fn put_back(&self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        let mut buffer = std::mem::take(buffer);
        let (spares, most) = match buffer.capacity() {
            bytes if bytes <= SPARE_BYTES_MAX => (&self.small, SPARES_MAX),
            bytes if bytes <= LARGE_SPARE_BYTES_MAX => (&self.large, LARGE_SPARES_MAX),
            _ => return,
        };
        let mut spares = spares.borrow_mut();
        if spares.len() < most {
            buffer.clear();
            spares.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_buffers_are_bounded_in_number_and_in_size() {
        let spares = Spares::default();
        let kept = || (spares.small.borrow().len(), spares.large.borrow().len());
        for _ in 0..SPARES_MAX + 8 {
            spares.put_back(&mut vec![7; SPARE_BYTES_MAX]);
            spares.put_back(&mut vec![7; SPARE_BYTES_MAX + 1]);
        }
        assert_eq!(kept(), (SPARES_MAX, LARGE_SPARES_MAX));
        spares.empty();
        spares.put_back(&mut Vec::new());
        spares.put_back(&mut vec![7; LARGE_SPARE_BYTES_MAX + 1]);
        assert_eq!(kept(), (0, 0), "one without memory, and one with too much");
    }

    #[test]
    fn a_large_buffer_is_not_lent_for_little() {
        let spares = Spares::default();
        spares.put_back(&mut vec![7; LARGE_SPARE_BYTES_MAX]);
        assert_eq!(spares.take().capacity(), 0);
        assert_eq!(spares.take_for(SPARE_BYTES_MAX).capacity(), 0);
        let mut large = spares.take_for(SPARE_BYTES_MAX + 1);
        assert_eq!((large.len(), large.capacity()), (0, LARGE_SPARE_BYTES_MAX));
        spares.put_back(&mut large);
        assert_eq!(large.capacity(), 0);
        assert_eq!(spares.take_for(SPARE_BYTES_MAX + 1).capacity(), LARGE_SPARE_BYTES_MAX);
        let fresh = spares.take_for(SPARE_BYTES_MAX + 1);
        assert!(fresh.capacity() > SPARE_BYTES_MAX, "or it would grow as it is filled");
        let more = spares.take_for(LARGE_SPARE_BYTES_MAX + 1);
        assert!(more.capacity() > LARGE_SPARE_BYTES_MAX, "or it would grow as well");
    }
}
