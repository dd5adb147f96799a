//! Guesses which protocol a peer speaks that does not speak TLS, for the operator to read.
//!
//! A guess is only ever logged: nothing is routed by it. It may be wrong, and it works on whatever
//! bytes came first. `reject` prints it.

use std::fmt;

/// What the first bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LooksLike {
    Http,
    Ssh,
    /// A hello of SSL 2.0, also as a wrapper for later versions (RFC 6101 appendix E).
    SslV2,
    /// An alert, a change_cipher_spec or application data: a session begun elsewhere.
    OtherTlsRecord,
    /// A startup packet or an SSLRequest, which needs a listener that answers it first.
    Postgres,
    ProxyProtocol,
    Smtp,
    Mqtt,
    Redis,
    Nats,
    Ldap,
    Text,
    Unknown,
}

impl LooksLike {
    pub(super) fn guess(input: &[u8]) -> Self {
        for (start, looks_like) in STARTS {
            // Three bytes tell these apart; fewer would be a guess about a guess.
            let common = start.len().min(input.len());
            if common >= 3 && start[..common] == input[..common] {
                return *looks_like;
            }
        }
        match input {
            [20 | 21 | 23 | 24, 3, ..] => Self::OtherTlsRecord,
            [0x80..=0xff, _, 1, 0 | 3, ..] => Self::SslV2,
            // Length, then protocol 3.x, SSLRequest, GSSENCRequest or CancelRequest.
            [0, 0, _, _, 0, 3, ..] | [0, 0, 0, 8..=16, 4, 0xd2, 0x16, ..] => Self::Postgres,
            [0x10, _, 0, 4 | 6, b'M', b'Q', ..] => Self::Mqtt,
            // RESP: an array of so many strings.
            [b'*', b'1'..=b'9', b'\r' | b'0'..=b'9', ..] => Self::Redis,
            // BER: a sequence that begins with an integer, the message id.
            [0x30, 0..=0x7f, 2, ..] | [0x30, 0x84, _, _, _, _, 2, ..] => Self::Ldap,
            _ if input.iter().take(16).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
                Self::Text
            }
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for LooksLike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "plain HTTP",
            Self::Ssh => "SSH",
            Self::SslV2 => "an SSL 2.0 hello",
            Self::OtherTlsRecord => "a TLS record other than a handshake",
            Self::Postgres => {
                "Postgres before TLS, for which listeners have prelude = \"postgres\""
            }
            Self::ProxyProtocol => "a PROXY protocol header",
            Self::Smtp => "SMTP",
            Self::Mqtt => "plain MQTT",
            Self::Redis => "plain Redis",
            Self::Nats => "plain NATS",
            Self::Ldap => "plain LDAP",
            Self::Text => "text",
            Self::Unknown => "no protocol known here",
        })
    }
}

const STARTS: &[(&[u8], LooksLike)] = &[
    (b"CONNECT {", LooksLike::Nats),
    (b"PING\r\n", LooksLike::Nats),
    (b"GET ", LooksLike::Http),
    (b"POST ", LooksLike::Http),
    (b"HEAD ", LooksLike::Http),
    (b"PUT ", LooksLike::Http),
    (b"PATCH ", LooksLike::Http),
    (b"DELETE ", LooksLike::Http),
    (b"OPTIONS ", LooksLike::Http),
    (b"TRACE ", LooksLike::Http),
    (b"CONNECT ", LooksLike::Http),
    (b"PRI * HTTP/2.0", LooksLike::Http),
    (b"SSH-", LooksLike::Ssh),
    (b"PROXY ", LooksLike::ProxyProtocol),
    (b"\r\n\r\n\0\r\nQUIT\n", LooksLike::ProxyProtocol),
    (b"EHLO ", LooksLike::Smtp),
    (b"HELO ", LooksLike::Smtp),
    (b"LHLO ", LooksLike::Smtp),
];
