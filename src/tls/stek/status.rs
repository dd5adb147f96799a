//! Ticket keys as people may see them: ids, roles, times, never a secret.
//!
//! `StekKeys::status` makes it; the command `stek status` shows it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::Held;
use super::source::{self, Loaded};
use crate::core::ticket_ring::{Schedule, TicketKey, TicketRing};
use crate::core::ticket_secret::SECRET_BYTES;
use crate::tls::identity::sha256;

/// One key of those that are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StekStatus {
    pub id: StekId,
    pub role: StekRole,
    pub origin: StekOrigin,
    /// `None` of a key from a key file: no clock says when it is used.
    pub epoch: Option<StekEpoch>,
}

/// The first 8 bytes of a key's id, which stands in every ticket; shown in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StekId(pub [u8; 8]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StekRole {
    /// New tickets are sealed with it, and it opens its own.
    Seals,
    /// It opens tickets that it has sealed.
    Opens,
    /// It seals next, and opens what nodes seal that are there already.
    Next,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StekOrigin {
    /// Random at start.
    Auto,
    Root,
    /// A key file; `line` is 0 where all of it is the key.
    File {
        file: Arc<Path>,
        line: usize,
    },
}

/// When a key is used, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StekEpoch {
    pub number: u64,
    pub seals_from: u64,
    pub seals_until: u64,
    pub opens_until: u64,
}

pub(super) fn of(held: &Held) -> Vec<StekStatus> {
    match held {
        Held::Auto(ring) => of_ring(ring, &StekOrigin::Auto),
        Held::Root(ring) => of_ring(ring, &StekOrigin::Root),
        Held::Files(loaded) => of_files(loaded),
    }
}

/// Of roots it is theirs; of files that of all ids in their order, which says which one seals.
pub(super) fn fingerprint(held: &Held) -> Option<[u8; SECRET_BYTES]> {
    match held {
        Held::Auto(_) => None,
        Held::Root(ring) => ring.roots().map(|roots| roots.fingerprint(ring.schedule())),
        Held::Files(loaded) => {
            let ids: Vec<u8> = loaded.iter().flat_map(|loaded| *loaded.key.id()).collect();
            Some(sha256(&ids))
        }
    }
}

fn of_ring(ring: &TicketRing, origin: &StekOrigin) -> Vec<StekStatus> {
    let current = ring.current().epoch();
    let one = |key: &TicketKey| StekStatus {
        id: StekId::of(key),
        role: match key.epoch() {
            _ if key.id() == ring.current().id() => StekRole::Seals,
            epoch if epoch > current => StekRole::Next,
            _ => StekRole::Opens,
        },
        origin: origin.clone(),
        epoch: Some(StekEpoch::of(key.epoch(), ring.schedule())),
    };
    ring.keys().map(one).collect()
}

fn of_files(loaded: &[Loaded]) -> Vec<StekStatus> {
    let sealing = source::sealing(loaded.len());
    let one = |(index, loaded): (usize, &Loaded)| StekStatus {
        id: StekId::of(&loaded.key),
        role: match index {
            _ if index == sealing => StekRole::Seals,
            0 => StekRole::Next,
            _ => StekRole::Opens,
        },
        origin: StekOrigin::File { file: Arc::clone(&loaded.file), line: loaded.line },
        epoch: None,
    };
    let mut all: Vec<_> = loaded.iter().enumerate().map(one).collect();
    all.rotate_left(sealing);
    all
}

impl StekId {
    fn of(key: &TicketKey) -> Self {
        let mut short = [0; 8];
        short.copy_from_slice(&key.id()[..8]);
        Self(short)
    }
}

impl StekEpoch {
    fn of(number: u64, schedule: &Schedule) -> Self {
        let next = number.saturating_add(1);
        Self {
            number,
            seals_from: schedule.start(number),
            seals_until: schedule.start(next),
            opens_until: schedule.end(number),
        }
    }
}

impl StekRole {
    pub fn name(self) -> &'static str {
        match self {
            Self::Seals => "seals",
            Self::Opens => "opens",
            Self::Next => "next",
        }
    }
}

impl fmt::Display for StekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
