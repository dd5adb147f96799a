//! Whom to believe and rules about identities, as a file says them. Next: `listener`, whose filters
//! hold such rules too.

use super::super::error::{Location, Problems};
use super::super::node::{At, FromNode, Key, Node, join};
use super::{List, Table};

tables! {
    /// A rule about the identity in a certificate: exactly one of these.
    RawIdentity {
        /// URI name: "spiffe://example.org/ns/*/sa/web-*" or "spiffe://example.org/ns/orders/**".
        /// `*` takes one segment of the path or, beside other characters, one character or more of
        /// it; `**` any number of whole segments, or none. Scheme and host, or trust domain, are
        /// written out and compared without case, the path with it. Names with percent-encoding,
        /// `.` and `..` segments, two slashes in a row, a user, a query or a fragment match nothing;
        /// of spiffe:// names only valid ids of clients match, and only where it is the
        /// certificate's only URI.
        uri: String,
        /// DNS name: "orders.internal", or "*.internal" for exactly one label more. Case does not
        /// matter. A wildcard in a certificate is matched by the same wildcard only.
        dns: String,
        /// Mail address: "me@example.com", or "@example.com" for every mailbox of exactly this host.
        /// The case of the mailbox matters.
        email: String,
        /// IP address, or network: "10.0.0.0/8".
        ip: String,
        /// Common name of the subject, exactly; a `*` at its start or end takes one character or
        /// more. No other rule looks at common names.
        cn: String,
        /// Serial number, in hexadecimal as the access log has it: "0a1b2c" or "0a:1b:2c". In
        /// `allow` and `deny` only.
        serial: String,
    }

    /// `[trust.NAME]`
    RawTrust {
        /// PEM files of CA certificates, relative to this file. At least one must be written. Clients are
        /// told their names, unless these are more than 16,000 bytes together.
        anchors: List<String>,
        /// Files of revocation lists, PEM or DER, relative to this file. Default: [].
        crls: List<String>,
        /// How revocation is checked.
        revocation: RawRevocation,
        /// Intermediates between the certificate and the anchor, at most, from 0 to 6. Default: 6.
        depth_max: u64,
        /// Kinds of keys that clients may have: "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519",
        /// and "rsa-2048-4096" for RSA of 2048 to 4096 bits. Upstreams are not asked. Default:
        /// ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048-4096"].
        client_keys: List<String>,
        /// Names, of which a certificate must have one. Default: [], any name.
        san: List<RawIdentity>,
        /// SHA-256 of certificates or of their public keys (SubjectPublicKeyInfo), one of which a
        /// certificate must have: 64 hexadecimal digits, with colons or without, or "sha256/" and
        /// base64. Default: [], any.
        pins: List<String>,
        /// "enforce", or "audit", which lets in, logs and counts whomever it would refuse: unknown CAs,
        /// and clients without a certificate, too. Default: "enforce".
        mode: String,
        /// What becomes of live sessions that a new list, anchor or rule refuses: "keep" them,
        /// "drain" at an idle moment, or "close" at once. Default: "keep".
        on_change: String,
    }

    /// `trust.NAME.revocation`
    RawRevocation {
        /// "chain" looks at every certificate below the anchor, "leaf" at the last only; or "off".
        /// Default: "chain" where there are `crls`, else "off".
        check: String,
        /// When no list covers a certificate: "refuse" or "accept". Default: "refuse".
        unknown: String,
        /// When the list that covers a certificate is past its next update, or has not begun: "refuse" or "accept".
        /// Default: "refuse".
        stale: String,
    }
}
