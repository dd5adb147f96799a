//! Owns the list of what is compared: each row's work, its unit, and the bar that it is held against.

use crate::way::{Leg, Mode, Way};

/// One line of the comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    /// What it is called on the command line and in files.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) way: Way,
    pub(crate) load: Load,
    pub(crate) bar: Bar,
}

/// What `portcullis-load` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Connect, handshake, a byte to the upstream and back, close.
    Handshakes { tls: &'static str, group: &'static str, resume: Resume, clients: Clients },
    /// Bytes one way through one connection.
    Stream(&'static str),
    /// 64 bytes to the upstream and back, again and again.
    PingPong,
    /// Connections that do nothing.
    Idle(Clients),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    Never,
    Always,
}

/// Whose connections they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clients {
    /// Those that come again and again.
    Few,
    /// Each is another one than all before, as far back as a gateway remembers: `crowd.rs`.
    Crowd,
}

/// What the gateway should stay below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// So many times what Envoy uses.
    OfEnvoy(f64),
    /// So many units.
    Absolute(f64),
}

impl Row {
    pub(crate) const fn unit(&self) -> &'static str {
        match self.load {
            Load::Handshakes { .. } | Load::PingPong => "CPU-us",
            Load::Stream(_) => "CPU-ns/byte",
            Load::Idle(_) => "KiB",
        }
    }

    pub(crate) fn is_post_quantum(&self) -> bool {
        matches!(self.load, Load::Handshakes { group: POST_QUANTUM, .. })
    }

    pub(crate) const fn is_memory(&self) -> bool {
        matches!(self.load, Load::Idle(_))
    }

    pub(crate) const fn is_of_a_crowd(&self) -> bool {
        match self.load {
            Load::Handshakes { clients, .. } | Load::Idle(clients) => {
                matches!(clients, Crowd)
            }
            Load::Stream(_) | Load::PingPong => false,
        }
    }

    /// Whether a gateway that has worked before would need less: it has memory that earlier work freed, or
    /// remembers clients.
    pub(crate) const fn wants_a_new_gateway(&self) -> bool {
        self.is_memory() || self.is_of_a_crowd()
    }

    pub(crate) fn named(key: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.key == key)
    }
}

const fn way(leg: Leg, mode: Mode) -> Way {
    Way { leg, mode }
}

const fn handshakes(tls: &'static str, group: &'static str, resume: Resume) -> Load {
    Load::Handshakes { tls, group, resume, clients: Few }
}

const fn row(key: &'static str, title: &'static str, way: Way, load: Load, bar: Bar) -> Row {
    Row { key, title, way, load, bar }
}

pub(crate) const CLASSICAL: &str = "x25519";
/// In TLS 1.2 the same list says which curves a certificate may be on.
const CLASSICAL_TLS12: &str = "x25519,secp256r1";
pub(crate) const POST_QUANTUM: &str = "x25519mlkem768";

use Bar::{Absolute, OfEnvoy};
use Clients::{Crowd, Few};
use Leg::{Mtls, Pass, Plain};
use Mode::{Echo, Sink, Source};
use Resume::{Always, Never};

pub(crate) const ROWS: [Row; 19] = [
    row(
        "full",
        "full mTLS handshake, a byte and back, close",
        way(Plain, Echo),
        handshakes("1.3", CLASSICAL, Never),
        OfEnvoy(0.70),
    ),
    row(
        "resumed",
        "the same, resumed",
        way(Plain, Echo),
        handshakes("1.3", CLASSICAL, Always),
        OfEnvoy(0.58),
    ),
    row(
        "full-many",
        "full, each by another client",
        way(Plain, Echo),
        Load::Handshakes { tls: "1.3", group: CLASSICAL, resume: Never, clients: Crowd },
        OfEnvoy(0.70),
    ),
    row(
        "full-pq",
        "full, X25519MLKEM768",
        way(Plain, Echo),
        handshakes("1.3", POST_QUANTUM, Never),
        OfEnvoy(0.62),
    ),
    row(
        "resumed-pq",
        "resumed, X25519MLKEM768",
        way(Plain, Echo),
        handshakes("1.3", POST_QUANTUM, Always),
        OfEnvoy(0.53),
    ),
    row(
        "resumed-tls12",
        "resumed, TLS 1.2",
        way(Plain, Echo),
        handshakes("1.2", CLASSICAL_TLS12, Always),
        OfEnvoy(0.53),
    ),
    row(
        "upstream",
        "resumed, to a new mTLS upstream connection (resumed)",
        way(Mtls, Echo),
        handshakes("1.3", CLASSICAL, Always),
        OfEnvoy(0.58),
    ),
    row("up-plain", "bulk up, mTLS to plain", way(Plain, Sink), Load::Stream("up"), OfEnvoy(0.50)),
    row(
        "down-plain",
        "bulk down, mTLS to plain",
        way(Plain, Source),
        Load::Stream("down"),
        OfEnvoy(0.50),
    ),
    row("up-mtls", "bulk up, mTLS to mTLS", way(Mtls, Sink), Load::Stream("up"), OfEnvoy(0.50)),
    row(
        "down-mtls",
        "bulk down, mTLS to mTLS",
        way(Mtls, Source),
        Load::Stream("down"),
        OfEnvoy(0.50),
    ),
    row("up-pass", "bulk up, passthrough", way(Pass, Sink), Load::Stream("up"), OfEnvoy(0.40)),
    row(
        "down-pass",
        "bulk down, passthrough",
        way(Pass, Source),
        Load::Stream("down"),
        OfEnvoy(0.40),
    ),
    row(
        "connection-pass",
        "passthrough, a connection by its SNI",
        way(Pass, Echo),
        handshakes("1.3", CLASSICAL, Always),
        OfEnvoy(0.52),
    ),
    row(
        "ping-plain",
        "64 bytes and back, mTLS to plain",
        way(Plain, Echo),
        Load::PingPong,
        OfEnvoy(0.78),
    ),
    row(
        "ping-mtls",
        "64 bytes and back, mTLS to mTLS",
        way(Mtls, Echo),
        Load::PingPong,
        OfEnvoy(0.78),
    ),
    row(
        "idle-plain",
        "memory of an idle connection, mTLS to plain",
        way(Plain, Echo),
        Load::Idle(Few),
        Absolute(6.0),
    ),
    row(
        "idle-plain-many",
        "the same, each of another client",
        way(Plain, Echo),
        Load::Idle(Crowd),
        Absolute(6.0),
    ),
    row(
        "idle-mtls",
        "memory of an idle connection, mTLS to mTLS",
        way(Mtls, Echo),
        Load::Idle(Few),
        Absolute(10.0),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_keys_of_their_own() {
        for row in &ROWS {
            assert_eq!(Row::named(row.key).map(|found| found.title), Some(row.title));
        }
        assert_eq!(Row::named("nothing"), None);
        assert_eq!(ROWS.iter().filter(|row| row.is_post_quantum()).count(), 2);
    }

    #[test]
    fn a_crowd_meets_a_gateway_that_knows_nobody() {
        let keys = |is: fn(&Row) -> bool| -> Vec<_> {
            ROWS.iter().filter(|row| is(row)).map(|row| row.key).collect()
        };
        assert_eq!(keys(Row::is_of_a_crowd), ["full-many", "idle-plain-many"]);
        let fresh = ["full-many", "idle-plain", "idle-plain-many", "idle-mtls"];
        assert_eq!(keys(Row::wants_a_new_gateway), fresh);
    }
}
