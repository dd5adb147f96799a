//! Panics where a test asks for it: in a hello's name, in the middle of a pass, with the thread's
//! scratch in use, and in a dial to a cluster of that name. Nothing of it is in the program.

/// Panics at bytes that ask for it.
pub(super) fn look_at(bytes: &[u8]) {
    let asks = bytes.windows(WORD.len()).any(|part| part == WORD.as_bytes());
    assert!(!asks, "a test asked for a panic");
}

pub(crate) const WORD: &str = "panic-on-purpose";
