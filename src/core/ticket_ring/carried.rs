//! A ring as bytes, for the process that takes the place of this one.
//!
//! They are secrets all: they go from memory to memory and are never written anywhere. Roots of a file
//! are not carried, the other process reads the file.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::super::ticket_secret::Secret;
use super::{KEY_ID_BYTES, Origin, PREVIOUS_MAX, SECRET_BYTES, Schedule, TicketKey, TicketRing};

/// Why bytes are no ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error("they begin otherwise: another version wrote them")]
    OtherVersion,
    #[error("they end too early, or go on where they should end")]
    Length,
    #[error("their times make no schedule")]
    Schedule,
}

impl TicketRing {
    /// The keys and what the next ones follow from; `None` for a ring of roots.
    pub fn export(&self) -> Option<Zeroizing<Vec<u8>>> {
        let TicketRing { schedule, origin, next, current, previous } = self;
        let Origin::Chain(root) = origin else { return None };
        // All at once: a vector that grows leaves copies behind.
        let mut out = Zeroizing::new(Vec::with_capacity(BYTES_MAX));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&schedule.rotate_seconds.to_be_bytes());
        out.extend_from_slice(&(schedule.previous as u64).to_be_bytes());
        out.extend_from_slice(&***root);
        for TicketKey { epoch, id, secret } in [next, current].into_iter().chain(previous) {
            out.extend_from_slice(&epoch.to_be_bytes());
            out.extend_from_slice(id);
            out.extend_from_slice(&***secret);
        }
        Some(out)
    }

    /// What `export` has written.
    ///
    /// # Errors
    /// It has not.
    pub fn import(bytes: &[u8]) -> Result<Self, RingError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(RingError::OtherVersion)?;
        let (&rotate_seconds, rest) = rest.split_first_chunk().ok_or(RingError::Length)?;
        let (&previous, rest) = rest.split_first_chunk().ok_or(RingError::Length)?;
        let rotate_seconds = u64::from_be_bytes(rotate_seconds);
        let previous = usize::try_from(u64::from_be_bytes(previous)).unwrap_or(usize::MAX);
        if rotate_seconds == 0 || previous > PREVIOUS_MAX {
            return Err(RingError::Schedule);
        }
        let (root, rest) = secret(rest)?;
        let (next, rest) = key(rest)?;
        let (current, mut rest) = key(rest)?;
        let mut keys = VecDeque::new();
        while !rest.is_empty() {
            let (one, after) = key(rest)?;
            keys.push_back(one);
            rest = after;
        }
        if keys.len() > PREVIOUS_MAX {
            return Err(RingError::Length);
        }
        let schedule = Schedule { rotate_seconds, previous };
        Ok(Self { schedule, origin: Origin::Chain(root), next, current, previous: keys })
    }
}

fn key(bytes: &[u8]) -> Result<(TicketKey, &[u8]), RingError> {
    let (&epoch, rest) = bytes.split_first_chunk().ok_or(RingError::Length)?;
    let (&id, rest) = rest.split_first_chunk().ok_or(RingError::Length)?;
    let (secret, rest) = secret(rest)?;
    Ok((TicketKey { epoch: u64::from_be_bytes(epoch), id, secret }, rest))
}

fn secret(bytes: &[u8]) -> Result<(Secret, &[u8]), RingError> {
    let (secret, rest) = bytes.split_at_checked(SECRET_BYTES).ok_or(RingError::Length)?;
    let mut copy = Box::new(Zeroizing::new([0; SECRET_BYTES]));
    copy.copy_from_slice(secret);
    Ok((copy, rest))
}

const MAGIC: &[u8] = b"portcullis ring 1\n";

const KEY_BYTES: usize = 8 + KEY_ID_BYTES + SECRET_BYTES;

const BYTES_MAX: usize = MAGIC.len() + 16 + SECRET_BYTES + (PREVIOUS_MAX + 2) * KEY_BYTES;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::ticket_roots::TicketRoots;
    use super::*;

    const HOUR: u64 = 3600;

    fn ring() -> TicketRing {
        let hours = |hours| Duration::from_secs(hours * HOUR);
        let schedule = Schedule::new(hours(1), hours(3)).unwrap();
        let mut ring = TicketRing::new(&[7; SECRET_BYTES], 10, schedule);
        ring.advance(15 * HOUR);
        ring
    }

    #[test] // threat 37
    fn a_carried_ring_holds_the_same_keys_and_goes_on_with_the_same() {
        let mut ours = ring();
        let bytes = ours.export().unwrap();
        assert!(bytes.len() <= BYTES_MAX, "it never grew");
        let mut theirs = TicketRing::import(&bytes).unwrap();
        assert_eq!(theirs.schedule(), ours.schedule());
        for hour in [15, 16, 18, 30] {
            assert_eq!(theirs.advance(hour * HOUR), ours.advance(hour * HOUR));
            let keys = |ring: &TicketRing| {
                ring.keys().map(|key| (key.epoch, key.id, **key.secret)).collect::<Vec<_>>()
            };
            assert_eq!(keys(&theirs), keys(&ours), "at {hour}");
        }
    }

    #[test]
    fn nothing_else_is_a_ring() {
        let bytes = ring().export().unwrap();
        for length in 0..bytes.len() {
            let is_whole = (bytes.len() - length).is_multiple_of(KEY_BYTES)
                && length >= bytes.len() - 3 * KEY_BYTES;
            assert_eq!(TicketRing::import(&bytes[..length]).is_ok(), is_whole, "{length}");
        }
        let mut other = bytes.to_vec();
        other[0] ^= 1;
        assert_eq!(TicketRing::import(&other).unwrap_err(), RingError::OtherVersion);
        let mut other = bytes.to_vec();
        other[MAGIC.len()..MAGIC.len() + 8].fill(0);
        assert_eq!(TicketRing::import(&other).unwrap_err(), RingError::Schedule);
    }

    #[test]
    fn roots_of_a_file_are_not_carried() {
        let schedule = *ring().schedule();
        let roots = TicketRoots::new(&[7; SECRET_BYTES]);
        assert!(TicketRing::of_roots(roots, schedule, 0).export().is_none());
    }
}
