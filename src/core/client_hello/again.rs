//! What a client may change in its hello when it is asked for another key share (RFC 8446 §4.1.2).
//!
//! The first hello chose the filter chain; a second one that offers something else would get what was
//! chosen for other words.

use std::fmt;

use super::hello::ClientHello;
use super::parse::{
    COOKIE, EARLY_DATA, ENCRYPTED_CLIENT_HELLO, KEY_SHARE, PRE_SHARED_KEY, SERVER_NAME,
};

/// What stands otherwise in a second hello and may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// As the RFC names it.
    Field(&'static str),
    /// By its type: it is new, gone, or another.
    Extension(u16),
}

impl ClientHello<'_> {
    /// What `second` has changed of this hello, though it may not, where it was asked for another key share and
    /// given no cookie. The order of extensions says nothing. Whether the share is of the group that was asked
    /// for, whether early data is offered again and whether all keys were withdrawn is for rustls to say.
    pub fn changed_by(&self, second: &ClientHello<'_>) -> Option<Changed> {
        let fields = [
            ("legacy_version", self.legacy_version == second.legacy_version),
            ("random", self.random == second.random),
            ("legacy_session_id", self.session_id == second.session_id),
            ("cipher_suites", self.cipher_suites.0 == second.cipher_suites.0),
            ("legacy_compression_methods", self.compression_methods == second.compression_methods),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, is_same)| !is_same) {
            return Some(Changed::Field(field));
        }
        let (before, after) = (Extensions(self.extensions), Extensions(second.extensions));
        let may_differ = |one: &(u16, &[u8])| MAY_CHANGE.contains(&one.0);
        let gone = before.clone().find(|one| !may_differ(one) && !after.has(*one));
        let new = after.clone().find(|one| !may_differ(one) && !before.has(*one));
        let changed = gone.or(new).map(|(kind, _)| kind);
        changed.or_else(|| self.changed_too_far_by(second)).map(Changed::Extension)
    }

    /// The extension that has changed in another way than it may.
    fn changed_too_far_by(&self, second: &ClientHello<'_>) -> Option<u16> {
        let has = |kind| Extensions(second.extensions).any(|(other, _)| other == kind);
        let cases = [
            // It was in the first already, and is the answer to nothing (RFC 8446 §4.2.2).
            (COOKIE, has(COOKIE)),
            (KEY_SHARE, has(KEY_SHARE) && !is_one_share(second.key_shares)),
            (PRE_SHARED_KEY, second.has_pre_shared_key() && !self.has_pre_shared_key()),
            (ENCRYPTED_CLIENT_HELLO, second.has_ech != self.has_ech),
        ];
        cases.into_iter().find(|(_, is_too_far)| *is_too_far).map(|(kind, _)| kind)
    }
}

/// RFC 8446 §4.2.8: the list has a single share then.
fn is_one_share(list: &[u8]) -> bool {
    match list {
        [_, _, high, low, share @ ..] => {
            share.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

/// Type and body of each.
#[derive(Debug, Clone)]
struct Extensions<'a>(&'a [u8]);

impl Extensions<'_> {
    fn has(&self, one: (u16, &[u8])) -> bool {
        self.clone().any(|other| other == one)
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [kind_high, kind_low, high, low, rest @ ..] = self.0 else { return None };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (body, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((u16::from_be_bytes([*kind_high, *kind_low]), body))
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Extension(SERVER_NAME) => f.write_str("server_name"),
            Self::Extension(kind) => write!(f, "extension {kind}"),
        }
    }
}

/// Each in its own way (RFC 8446 §4.1.2). The outer hello of ECH is sealed anew over the inner one
/// (RFC 9849 §6.1.5).
const MAY_CHANGE: [u16; 5] =
    [PADDING, PRE_SHARED_KEY, EARLY_DATA, KEY_SHARE, ENCRYPTED_CLIENT_HELLO];

/// RFC 7685.
const PADDING: u16 = 21;
