//! Whom to believe and rules about identities, as a file says them. Next: `listener`, whose filters
//! hold such rules too.

use super::super::error::{Location, Problems};
use super::super::node::{At, FromNode, Key, Node, join};
use super::{List, Table};

tables! {
    /// A rule about the identity in a certificate.
    RawIdentity {
        /// URI name; `*` is one segment, `**` any number.
        uri: String,
        /// DNS name.
        dns: String,
        /// Mail address.
        email: String,
        /// IP address.
        ip: String,
        /// Common name of the subject.
        cn: String,
        /// Serial number, in hexadecimal.
        serial: String,
    }

    /// `[trust.NAME]`
    RawTrust {
        /// PEM files of CA certificates, relative to this file. At least one must be written.
        anchors: List<String>,
        /// Files of revocation lists.
        crls: List<String>,
        /// How revocation is checked.
        revocation: RawRevocation,
        /// Longest chain that is accepted.
        depth_max: u64,
        /// Kinds of keys that clients may have.
        client_keys: List<String>,
        /// Names of which a certificate must have one.
        san: List<RawIdentity>,
        /// SHA-256 digests of certificates or of their keys.
        pins: List<String>,
        /// "enforce" or "audit". Default: "enforce".
        mode: String,
        /// What becomes of live sessions that a change refuses: "keep", "drain" or "close".
        /// Default: "keep".
        on_change: String,
    }

    /// `trust.NAME.revocation`
    RawRevocation {
        /// "chain", "leaf" or "off". Default: "off".
        check: String,
        /// When no list covers a certificate: "refuse" or "accept".
        unknown: String,
        /// When a list is out of date: "refuse" or "accept".
        stale: String,
    }
}
