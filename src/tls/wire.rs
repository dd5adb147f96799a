//! One side of an established session: bytes of the network to plain bytes and back.

use std::time::Instant;

use crate::core::refusal::Refusal;

/// One side of a session after its handshake. Holds no buffer for bytes.
#[derive(Debug)]
pub enum Wire {
    Plain,
    Tls13(Box<Tls13>),
    Tls12(Box<Tls12>),
}

#[derive(Debug)]
pub struct Tls13 {}

#[derive(Debug)]
pub struct Tls12 {}

/// Space that `transfer` works in; one for each worker thread.
#[derive(Debug, Default)]
pub struct Scratch {}

/// What one `transfer` did.
#[derive(Debug)]
pub struct Transfer {
    /// Bytes at the front of the input that are done with; the rest is passed again with more.
    pub consumed: usize,
    /// Bytes written at the front of the output.
    pub produced: usize,
    /// Plain bytes moved.
    pub payload: u64,
    pub stop: Stop,
}

#[derive(Debug)]
pub enum Stop {
    /// No whole record is left in the input.
    InputEmpty,
    /// The next record does not fit: send `out`, then go on. With an empty `out` of at least
    /// `OUT_BYTES_MIN` this never happens.
    OutputFull,
    /// `from` said that it will send nothing more.
    CloseNotify,
    /// The session cannot go on.
    Failed(Fault),
}

/// Why a session cannot go on. `refusal.alert` is what to send with `seal_alert` on `side`.
#[derive(Debug)]
pub struct Fault {
    pub side: Side,
    pub refusal: Refusal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    From,
    To,
}

/// The smallest `out` that takes any one record with whatever has to go before it.
pub const OUT_BYTES_MIN: usize = 17 * 1024;

/// The smallest `out` of `seal_control`, `seal_close` and `seal_alert`.
pub const CONTROL_BYTES_MAX: usize = 256;

/// Moves as many whole records as fit from `input` (received from `from`) into `out` (to be sent on
/// `to`), in one pass.
pub fn transfer(
    _from: &mut Wire,
    _to: &mut Wire,
    _input: &mut [u8],
    _out: &mut [u8],
    _scratch: &mut Scratch,
    _now: Instant,
) -> Transfer {
    Transfer { consumed: 0, produced: 0, payload: 0, stop: Stop::InputEmpty }
}

impl Wire {
    /// A KeyUpdate reply, or a key update of our own that is due, waits to be sent on this side.
    pub fn owes_control(&self) -> bool {
        false
    }

    /// Writes what is owed. At most one KeyUpdate reply is ever owed (threat 15).
    pub fn seal_control(&mut self, _out: &mut [u8]) -> usize {
        0
    }

    /// Writes close_notify; nothing on `Plain`.
    pub fn seal_close(&mut self, _out: &mut [u8]) -> usize {
        0
    }

    /// Writes a fatal alert; nothing on `Plain`.
    pub fn seal_alert(&mut self, _alert: u8, _out: &mut [u8]) -> usize {
        0
    }

    /// Whether FIN without close_notify means that data may be missing (threat 26).
    pub fn has_close_semantics(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}
