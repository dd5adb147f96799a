//! The roots of ticket keys that nodes share, and the file that carries them.
//!
//! A root is in force from a moment on, until the next one is; the key of an epoch follows from the
//! root in force when it begins, the epoch's number and its length, and nothing else. So a file can be
//! copied to every node before its newest root is used. Draws no randomness and opens no file.
//! `ticket_ring` holds the keys.

use std::fmt::{self, Write};

use aws_lc_rs::hkdf;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::ticket_ring::{Schedule, TicketKey};
use super::ticket_secret::{SECRET_BYTES, Secret, Weakness, expand, extract};

/// One root or more, the oldest first; it stands for all the time before it too. `Debug` shows no
/// secret.
#[derive(Clone)]
pub struct TicketRoots(Vec<Root>);

#[derive(Clone)]
struct Root {
    /// In Unix seconds.
    from: u64,
    secret: Secret,
}

/// What is wrong with a file of roots, said after its path. No message holds what the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    #[error("is empty")]
    Empty,
    #[error("does not begin with the line \"{MARKER}\"")]
    NoMarker,
    #[error("is a root file of another version of portcullis")]
    OtherVersion,
    #[error("holds no root")]
    NoRoot,
    #[error("holds more than {ROOTS_MAX} roots")]
    TooMany,
    #[error(
        "line {line} is not a time in Unix seconds, a space and {SECRET_BYTES} bytes in base64"
    )]
    Line { line: usize },
    #[error("line {line} holds no random root: {weakness}")]
    Weak { line: usize, weakness: Weakness },
    #[error("line {line} holds the same root as a line above it")]
    Duplicate { line: usize },
    #[error("line {line} is in force from no later than the line above it")]
    Order { line: usize },
}

/// A root that comes later than the new one is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// When that one comes into force, in Unix seconds.
    pub from: u64,
}

impl TicketRoots {
    /// A root for all time.
    pub fn new(secret: &[u8; SECRET_BYTES]) -> TicketRoots {
        TicketRoots(vec![Root::new(0, secret)])
    }

    /// What a file says.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(file: &[u8]) -> Result<TicketRoots, RootsError> {
        let mut lines = file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).zip(1..);
        let (first, _) = lines.next().unwrap_or_default();
        if file.trim_ascii().is_empty() {
            return Err(RootsError::Empty);
        }
        if first != MARKER.as_bytes() {
            let other = first.starts_with(MARKER_STEM.as_bytes());
            return Err(if other { RootsError::OtherVersion } else { RootsError::NoMarker });
        }
        let mut roots: Vec<Root> = Vec::new();
        for (text, line) in lines {
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            if roots.len() == ROOTS_MAX {
                return Err(RootsError::TooMany);
            }
            let root = Root::parse(text).ok_or(RootsError::Line { line })?;
            if let Some(weakness) = Weakness::of(&**root.secret) {
                return Err(RootsError::Weak { line, weakness });
            }
            if roots.iter().any(|other| other.secret == root.secret) {
                return Err(RootsError::Duplicate { line });
            }
            if roots.last().is_some_and(|last| last.from >= root.from) {
                return Err(RootsError::Order { line });
            }
            roots.push(root);
        }
        if roots.is_empty() { Err(RootsError::NoRoot) } else { Ok(TicketRoots(roots)) }
    }

    /// The file that says this.
    pub fn render(&self) -> Zeroizing<String> {
        // A string that grew would leave secrets behind where it was.
        let length = MARKER.len() + NOTES.len() + self.0.len() * LINE_BYTES_MAX;
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(MARKER);
        text.push_str(NOTES);
        for root in &self.0 {
            let mut encoded = Zeroizing::new([0; ENCODED_BYTES]);
            // Neither can fail: the buffer is as long as 32 bytes become, and strings take all.
            let written =
                STANDARD.encode_slice(root.secret.as_slice(), &mut *encoded).unwrap_or_default();
            let encoded = std::str::from_utf8(&encoded[..written]).unwrap_or_default();
            let pushed = writeln!(text, "{} {encoded}", root.from);
            debug_assert!(pushed.is_ok() && text.len() <= length);
        }
        text
    }

    /// A new root from `from` on. The one before goes on until then, and its tickets open as long as
    /// they live; what has been out of force for `KEPT_SECONDS` at `unix_now` goes.
    ///
    /// # Errors
    /// When the last root comes into force no earlier; nothing is changed then.
    pub fn add(
        &mut self,
        secret: &[u8; SECRET_BYTES],
        from: u64,
        unix_now: u64,
    ) -> Result<(), Waiting> {
        if let Some(last) = self.0.last().filter(|last| last.from >= from) {
            return Err(Waiting { from: last.from });
        }
        self.0.push(Root::new(from, secret));
        let ended = |next: &Root| next.from.saturating_add(KEPT_SECONDS) <= unix_now;
        let gone = self.0.iter().skip(1).take_while(|next| ended(next)).count();
        self.0.drain(..gone.max(self.0.len().saturating_sub(ROOTS_MAX)));
        Ok(())
    }

    /// How many there are, in force or not.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What tells these roots, with epochs of this length, from all others, and nothing about them:
    /// nodes with the same fingerprint open each other's tickets.
    pub fn fingerprint(&self, schedule: &Schedule) -> [u8; SECRET_BYTES] {
        let length = schedule.rotate_seconds().to_be_bytes();
        let all = self.0.iter().fold(Zeroizing::new(Vec::new()), |mut all, root| {
            all.extend_from_slice(&root.from.to_be_bytes());
            all.extend_from_slice(&**expand(&root.prk(), &[b"fingerprint", &length]));
            all
        });
        **expand(&extract(SALT, &all), &[b"fingerprints"])
    }

    /// The key of `epoch`. The length of the epochs is part of it: nodes that count time differently
    /// never mean different hours by the same key.
    pub(super) fn key(&self, epoch: u64, schedule: &Schedule) -> TicketKey {
        let begins = schedule.start(epoch);
        let in_force = self.0.iter().rev().find(|root| root.from <= begins);
        // There is a first: neither `parse` nor `add` leaves an empty list.
        let prk = in_force.or(self.0.first()).map_or_else(|| extract(SALT, &[]), Root::prk);
        let length = schedule.rotate_seconds().to_be_bytes();
        TicketKey::expand(&prk, epoch, &[&length, &epoch.to_be_bytes()])
    }
}

impl fmt::Debug for TicketRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketRoots({}, secrets withheld)", self.0.len())
    }
}

impl Root {
    fn new(from: u64, secret: &[u8; SECRET_BYTES]) -> Self {
        let mut own = Box::new(Zeroizing::new([0; SECRET_BYTES]));
        own.copy_from_slice(secret);
        Self { from, secret: own }
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let (from, secret) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        if from.is_empty() || !from.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let mut decoded = Zeroizing::new([0; ENCODED_BYTES]);
        let length = STANDARD.decode_slice(secret.trim_ascii(), &mut *decoded).ok()?;
        let secret = <&[u8; SECRET_BYTES]>::try_from(&decoded[..length]).ok()?;
        Some(Self::new(from.parse().ok()?, secret))
    }

    fn prk(&self) -> hkdf::Prk {
        extract(SALT, &**self.secret)
    }
}

/// The first line of every such file.
pub const MARKER: &str = "# portcullis stek root 1";
const MARKER_STEM: &str = "# portcullis stek root ";
const NOTES: &str = "
#
# All session-ticket keys follow from this file and the clock. Whoever reads it can pass for any
# client: mode 0600, the same file on every node of a fleet, in no backup and no repository.
# `portcullis stek rotate` adds a root, `portcullis stek rotate --revoke` replaces them all.
#
# Unix seconds from which a root is in force, and the root, 32 random bytes in base64.
";

const SALT: &[u8] = b"portcullis stek root 1";

/// A day more than a ticket may live (RFC 8446 §4.6.1), for the epoch that it was sealed in.
pub const KEPT_SECONDS: u64 = 8 * 86_400;
pub const ROOTS_MAX: usize = 16;
const ENCODED_BYTES: usize = SECRET_BYTES.div_ceil(3) * 4;
/// 20 digits, a space, the root and the end of the line.
const LINE_BYTES_MAX: usize = 20 + 1 + ENCODED_BYTES + 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::ticket_ring::TicketRing;
    use proptest::prelude::*;

    const HOUR: u64 = 3600;

    fn secret(seed: u8) -> [u8; SECRET_BYTES] {
        std::array::from_fn(|at| {
            let at = u8::try_from(at).unwrap();
            at.wrapping_mul(at).wrapping_mul(73).wrapping_add(at).wrapping_mul(91) ^ seed
        })
    }

    fn encoded(seed: u8) -> String {
        STANDARD.encode(secret(seed))
    }

    fn schedule(rotate: u64) -> Schedule {
        Schedule::new(Duration::from_secs(rotate), Duration::from_secs(12 * HOUR)).unwrap()
    }

    fn ring(roots: &TicketRoots, now: u64) -> TicketRing {
        TicketRing::of_roots(roots.clone(), schedule(HOUR), now)
    }

    fn held(ring: &TicketRing) -> Vec<(u64, [u8; 16], [u8; 32])> {
        ring.keys().map(|key| (key.epoch(), *key.id(), *key.secret())).collect()
    }

    /// Computed with Python's `hmac` from the words of this file and RFC 5869.
    #[test]
    fn keys_are_the_known_ones() {
        let bytes = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let key = TicketRoots::new(&bytes).key(495_000, &schedule(HOUR));
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(key.id()), KNOWN_ID);
        assert_eq!(hex(key.secret()), KNOWN_SECRET);
    }

    #[test]
    fn every_start_and_every_way_to_a_moment_gives_the_same_keys() {
        let roots = TicketRoots::new(&secret(1));
        let now = 500_000 * HOUR + 17;
        let wanted = held(&ring(&roots, now));
        assert_eq!(wanted.len(), 14);
        for start in [0, now - 3 * HOUR, now - 40 * HOUR, now, now + 90 * HOUR] {
            let mut walked = ring(&roots, start);
            walked.advance(now);
            assert_eq!(held(&walked), wanted, "from {start}");
        }
    }

    #[test]
    fn nodes_whose_clocks_are_minutes_apart_hold_each_others_keys() {
        let roots = TicketRoots::new(&secret(1));
        for offset in [1, 60, 300, 1800, HOUR] {
            for moment in [500_000 * HOUR, 500_000 * HOUR - 1, 500_000 * HOUR + 1799] {
                let (behind, ahead) = (ring(&roots, moment), ring(&roots, moment + offset));
                assert!(behind.find(ahead.current().id()).is_some(), "{offset} at {moment}");
                assert!(ahead.find(behind.current().id()).is_some(), "{offset} at {moment}");
            }
        }
    }

    #[test]
    fn other_roots_and_other_lengths_of_epochs_share_no_key() {
        let roots = TicketRoots::new(&secret(1));
        let ours = ring(&roots, 1000 * HOUR);
        let theirs = [
            ring(&TicketRoots::new(&secret(2)), 1000 * HOUR),
            TicketRing::of_roots(roots.clone(), schedule(2 * HOUR), 2000 * HOUR),
        ];
        for other in &theirs {
            assert_eq!(other.current().epoch(), 1000);
            assert!(ours.keys().all(|key| other.find(key.id()).is_none()));
        }
        let prints =
            [&roots, &TicketRoots::new(&secret(2))].map(|r| r.fingerprint(&schedule(HOUR)));
        assert_ne!(prints[0], prints[1]);
        assert_ne!(prints[0], roots.fingerprint(&schedule(2 * HOUR)));
        assert_eq!(prints[0], TicketRoots::new(&secret(1)).fingerprint(&schedule(HOUR)));
    }

    #[test]
    fn a_root_takes_over_at_its_moment_and_the_old_tickets_still_open() {
        let old = TicketRoots::new(&secret(1));
        let mut new = old.clone();
        let from = 1000 * HOUR + 60;
        new.add(&secret(2), from, from - HOUR).unwrap();
        // Before the moment nodes with either file are one fleet, one key ahead included.
        let before = 999 * HOUR;
        assert_eq!(held(&ring(&old, before)), held(&ring(&new, before)));
        // The epoch that it falls into keeps its key.
        assert_eq!(ring(&old, from).current().id(), ring(&new, from).current().id());
        let after = ring(&new, 1001 * HOUR);
        assert_ne!(ring(&old, 1001 * HOUR).current().id(), after.current().id());
        assert!(after.find(ring(&old, from).current().id()).is_some());
        assert_ne!(old.fingerprint(&schedule(HOUR)), new.fingerprint(&schedule(HOUR)));
    }

    #[test]
    fn a_root_waits_for_the_one_before_and_goes_when_no_ticket_needs_it() {
        let mut roots = TicketRoots::new(&secret(1));
        roots.add(&secret(2), 1000, 900).unwrap();
        assert_eq!(roots.add(&secret(3), 1000, 950), Err(Waiting { from: 1000 }));
        assert_eq!(roots.count(), 2);
        let later = 1000 + KEPT_SECONDS;
        let mut kept = roots.clone();
        kept.add(&secret(3), later, later - 1).unwrap();
        assert_eq!(kept.count(), 3);
        roots.add(&secret(3), later + 60, later).unwrap();
        assert_eq!(roots.count(), 2, "the first is gone");
        for turn in 0..40 {
            roots.add(&secret(turn + 9), 2 * later + u64::from(turn), later).unwrap();
        }
        assert_eq!(roots.count(), ROOTS_MAX);
        TicketRoots::parse(roots.render().as_bytes()).unwrap();
    }

    #[test]
    fn files_that_are_not_sound_are_told_apart() {
        let (one, two) = (encoded(1), encoded(2));
        let line = |line| RootsError::Line { line };
        let many: String = (0..17).map(|at| format!("{at} {}\n", encoded(at))).collect();
        let zero = STANDARD.encode([0; 32]);
        let cases = [
            ("".to_owned(), RootsError::Empty),
            (" \n\n".to_owned(), RootsError::Empty),
            (format!("0 {one}\n"), RootsError::NoMarker),
            ("-----BEGIN PRIVATE KEY-----\n".to_owned(), RootsError::NoMarker),
            (format!("# portcullis stek root 2\n0 {one}\n"), RootsError::OtherVersion),
            (format!("{MARKER}\n# nothing\n"), RootsError::NoRoot),
            (format!("{MARKER}\n{one}\n"), line(2)),
            (format!("{MARKER}\n\n0 {}\n", &one[4..]), line(3)),
            (format!("{MARKER}\n0 {one}{two}\n"), line(2)),
            (format!("{MARKER}\n-1 {one}\n"), line(2)),
            (format!("{MARKER}\n+1 {one}\n"), line(2)),
            (format!("{MARKER}\n99999999999999999999 {one}\n"), line(2)),
            (
                format!("{MARKER}\n0 {zero}\n"),
                RootsError::Weak { line: 2, weakness: Weakness::Zero },
            ),
            (format!("{MARKER}\n0 {one}\n9 {one}\n"), RootsError::Duplicate { line: 3 }),
            (format!("{MARKER}\n9 {one}\n9 {two}\n"), RootsError::Order { line: 3 }),
            (format!("{MARKER}\n{many}"), RootsError::TooMany),
        ];
        for (text, error) in cases {
            let found = TicketRoots::parse(text.as_bytes()).unwrap_err();
            assert_eq!(found, error, "{text}");
            assert!(!found.to_string().contains(&one[..8]), "{found}");
        }
        let crlf = format!("{MARKER}\r\n0 {one}\r\n7 {two}");
        assert_eq!(TicketRoots::parse(crlf.as_bytes()).unwrap().count(), 2);
    }

    // threat 46
    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", TicketRoots::new(&secret(1)));
        assert_eq!(shown, "TicketRoots(1, secrets withheld)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_roots_or_a_mistake(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(TicketRoots::parse(&bytes).is_err());
            let marked = [MARKER.as_bytes(), b"\n", &bytes].concat();
            if let Err(error) = TicketRoots::parse(&marked) {
                prop_assert!(!error.to_string().is_empty());
            }
        }

        #[test]
        fn what_is_rendered_is_parsed_and_any_change_of_a_root_is_another(
            secrets in prop::collection::btree_map(any::<u64>(), any::<[u8; 32]>(), 1..6),
            flip in 0..256usize,
        ) {
            let sound = |bytes: &[u8; 32]| Weakness::of(bytes).is_none();
            prop_assume!(secrets.values().all(sound));
            let roots = secrets.iter().map(|(from, secret)| Root::new(*from, secret)).collect();
            let mut roots = TicketRoots(roots);
            let parsed = TicketRoots::parse(roots.render().as_bytes());
            prop_assume!(!matches!(parsed, Err(RootsError::Duplicate { .. })));
            let print = |roots: &TicketRoots| roots.fingerprint(&schedule(HOUR));
            prop_assert_eq!(print(&parsed.unwrap()), print(&roots));
            let before = print(&roots);
            roots.0[0].secret[flip / 8] ^= 1 << (flip % 8);
            prop_assert_ne!(print(&roots), before);
        }
    }

    const KNOWN_ID: &str = "dbf2f388102b4e9c09db76ebc18e10c5";
    const KNOWN_SECRET: &str = "596e5580969afaf81e5b19387f1117653be17c58b0b6939d97c0a3331798ac81";
}
