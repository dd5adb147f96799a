//! Owns the ways in which an attempt can end. Every attempt ends in exactly one of them, so that
//! the counts balance. Read `session.rs` for who decides, `tally.rs` for who counts.

use std::fmt;
use std::io;

use rustix::io::Errno;
use rustls::Error as TlsError;

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// Nobody listens (RST in answer to SYN), or the host is unreachable.
    Refused,
    /// No proof of acceptance within the time allowed.
    Timeout,
    /// RST after the connection stood.
    Reset,
    /// A fatal TLS alert, by its number (RFC 8446 §6.2).
    Alert(u8),
    /// The peer broke the protocol, or its certificate was not believed.
    Tls,
    /// FIN without close_notify before the proof: a truncation.
    UnexpectedEof,
    /// An orderly close before the proof.
    Closed,
    /// The wrong bytes came back.
    BadData,
    /// This host ran out of ports, descriptors or memory: the generator's fault.
    Local,
    /// Too many were in flight already (`--max-inflight`); never attempted on the wire.
    Dropped,
}

impl Failure {
    /// The class of an I/O error on an established or connecting socket.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => Self::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected => Self::Reset,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Local,
        }
    }

    /// What an I/O error says, and what can be done about it where the cause is this host.
    #[must_use]
    pub fn explain_io(error: &io::Error) -> String {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE) => {
                format!("{error}: raise `ulimit -n`, or have fewer connections at once")
            }
            Some(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => format!(
                "{error}: --source has no port left, each is kept for a minute, or is not of this \
                 host: give it a larger network that is routed here"
            ),
            _ => error.to_string(),
        }
    }

    /// The class of a rustls error.
    #[must_use]
    pub fn from_tls(error: &TlsError) -> Self {
        match error {
            TlsError::AlertReceived(alert) => Self::Alert(u8::from(*alert)),
            _ => Self::Tls,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Timeout => f.write_str("timeout"),
            Self::Reset => f.write_str("reset"),
            Self::Alert(number) => write!(f, "alert-{number}"),
            Self::Tls => f.write_str("tls"),
            Self::UnexpectedEof => f.write_str("unexpected-eof"),
            Self::Closed => f.write_str("closed"),
            Self::BadData => f.write_str("bad-data"),
            Self::Local => f.write_str("local"),
            Self::Dropped => f.write_str("dropped-by-generator"),
        }
    }
}

/// The name of the alert that a class is, as `alert-116`; `None` of other classes.
#[must_use]
pub fn alert_name_of(class: &str) -> Option<&'static str> {
    alert_name(class.strip_prefix("alert-")?.parse().ok()?)
}

/// The words for an alert number, for people; `None` for numbers that nobody registered.
#[must_use]
pub fn alert_name(number: u8) -> Option<&'static str> {
    let name = match number {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => return None,
    };
    Some(name)
}
