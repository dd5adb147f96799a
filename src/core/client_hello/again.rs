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
    /// What `second` has changed of this hello, though it may not. Its server name is not asked: rustls
    /// compares that. The order of extensions says nothing.
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
        let lacks = |all: &Extensions<'_>, one| !all.clone().any(|other| other == one);
        let gone = before.clone().find(|one| lacks(&after, *one));
        let new = after.clone().find(|one| lacks(&before, *one));
        gone.or(new).map(|(kind, _)| Changed::Extension(kind))
    }
}

/// Those that may not change.
#[derive(Debug, Clone)]
struct Extensions<'a>(&'a [u8]);

impl<'a> Iterator for Extensions<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let [kind_high, kind_low, high, low, rest @ ..] = self.0 {
            let kind = u16::from_be_bytes([*kind_high, *kind_low]);
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let (body, rest) = rest.split_at_checked(len)?;
            self.0 = rest;
            if !MAY_CHANGE.contains(&kind) {
                return Some((kind, body));
            }
        }
        None
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Extension(kind) => write!(f, "extension {kind}"),
        }
    }
}

/// The outer hello of ECH is sealed anew over the inner one (RFC 9849 §6.1.5).
const MAY_CHANGE: [u16; 7] =
    [SERVER_NAME, PADDING, PRE_SHARED_KEY, EARLY_DATA, COOKIE, KEY_SHARE, ENCRYPTED_CLIENT_HELLO];

/// RFC 7685.
const PADDING: u16 = 21;
