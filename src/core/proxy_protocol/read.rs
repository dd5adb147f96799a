//! Reads a header out of the bytes received so far: header, need more, or reject.
//!
//! Never allocates and never consumes. A claimed length is judged before a byte behind it is waited
//! for. As strict as the specification where it leaves a choice: a sender that we cannot read is a
//! sender that we would misread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BLOCK_BYTES_MAX, FIXED_BYTES, LINE_BYTES_MAX, SIGNATURE, checksum, kind};

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So far they may become a header.
    NeedMore,
    Header(Header),
    Reject(Broken),
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How long it is: what comes behind is the client's.
    pub bytes: usize,
    pub origin: Origin,
}

/// On whose behalf the connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The sender's own, as a health check (LOCAL).
    Sender,
    /// Of somebody whom the sender cannot name by an IP address: UNKNOWN, UNSPEC, a Unix socket, or
    /// something that is no stream. The connection's own addresses hold (§2.2).
    Unknown,
    Client {
        source: SocketAddr,
        destination: SocketAddr,
    },
}

/// Why the first bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the first bytes are no PROXY header")]
    Missing,
    #[error("the line of version 1 does not end within {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("the line of version 1 does not end with CR LF")]
    LineEnd,
    #[error("the line of version 1 names no protocol of \"TCP4\", \"TCP6\" and \"UNKNOWN\"")]
    LineProtocol,
    #[error("the line of version 1 does not hold two addresses and two ports of its family")]
    LineAddresses,
    #[error("the signature of version 2 is followed by the version {0}")]
    Version(u8),
    #[error("the command is {0}, which is neither LOCAL (0) nor PROXY (1)")]
    Command(u8),
    #[error("family and protocol, {0:#04x}, are none that version 2 knows")]
    Family(u8),
    #[error("the header claims {claimed} bytes behind its first 16, more than {BLOCK_BYTES_MAX}")]
    TooLong { claimed: u16 },
    #[error("the header has {claimed} bytes behind its first 16, too few for its addresses")]
    TooShort { claimed: u16 },
    #[error("a field is longer than what is left of the header")]
    Field,
    #[error("the checksum is not four bytes, or is there twice")]
    ChecksumForm,
    #[error("the checksum is wrong")]
    Checksum,
}

/// Looks at the first bytes of a connection, all that were received.
pub fn read(input: &[u8]) -> Read {
    let read = if begins(input, SIGNATURE) {
        version_2(input)
    } else if begins(input, LINE_START) {
        version_1(input)
    } else {
        Err(Broken::Missing)
    };
    match read {
        Ok(Some(header)) => Read::Header(header),
        Ok(None) => Read::NeedMore,
        Err(broken) => Read::Reject(broken),
    }
}

/// Whether `input` begins with `start`, as far as it goes.
fn begins(input: &[u8], start: &[u8]) -> bool {
    let common = input.len().min(start.len());
    input[..common] == start[..common]
}

type Found = Result<Option<Header>, Broken>;

fn version_1(input: &[u8]) -> Found {
    let seen = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if seen.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Broken::LineTooLong) };
    };
    match seen[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if seen.len() < LINE_BYTES_MAX => return Ok(None),
        [b'\r'] => return Err(Broken::LineTooLong),
        _ => return Err(Broken::LineEnd),
    }
    let words = seen.get(LINE_START.len()..end).ok_or(Broken::Missing)?;
    Ok(Some(Header { bytes: end + 2, origin: line_origin(words)? }))
}

/// What stands between "PROXY " and the end of the line.
fn line_origin(words: &[u8]) -> Result<Origin, Broken> {
    // Whatever follows UNKNOWN is to be ignored, in whatever bytes it is.
    if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        return Ok(Origin::Unknown);
    }
    let words = std::str::from_utf8(words).map_err(|_not_text| Broken::LineAddresses)?;
    let mut words = words.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match words.next() {
        Some("TCP4") => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(Broken::LineProtocol),
    };
    let mut all = || {
        let source = address(words.next()?)?;
        let destination = address(words.next()?)?;
        let source = SocketAddr::new(source, port(words.next()?)?);
        let destination = SocketAddr::new(destination, port(words.next()?)?);
        words.next().is_none().then_some(Origin::Client { source, destination })
    };
    all().ok_or(Broken::LineAddresses)
}

/// Decimal, without a sign or a leading zero.
fn port(text: &str) -> Option<u16> {
    let is_plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| is_plain)
}

fn version_2(input: &[u8]) -> Found {
    let Some(&version_and_command) = input.get(SIGNATURE.len()) else { return Ok(None) };
    let (version, command) = (version_and_command >> 4, version_and_command & 0xf);
    if version != 2 {
        return Err(Broken::Version(version));
    }
    let command = match command {
        0 => Command::Local,
        1 => Command::Proxy,
        other => return Err(Broken::Command(other)),
    };
    let Some(&family) = input.get(SIGNATURE.len() + 1) else { return Ok(None) };
    let family = match (command, Family::of(family)) {
        (_, Some(family)) => family,
        // Of LOCAL the whole block is discarded, "including the family which is ignored".
        (Command::Local, None) => Family::Unspecified,
        (Command::Proxy, None) => return Err(Broken::Family(family)),
    };
    let Some(&[high, low]) = input.get(14..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
    let claimed = u16::from_be_bytes([high, low]);
    if usize::from(claimed) > BLOCK_BYTES_MAX {
        return Err(Broken::TooLong { claimed });
    }
    if command == Command::Proxy && usize::from(claimed) < family.address_bytes() {
        return Err(Broken::TooShort { claimed });
    }
    let bytes = FIXED_BYTES + usize::from(claimed);
    let Some(header) = input.get(..bytes) else { return Ok(None) };
    let vectors = check(header, family.address_bytes());
    match (command, family, vectors) {
        (_, _, Err(broken @ Broken::Checksum)) => Err(broken),
        // What need not be understood need not be well-formed.
        (Command::Local, _, _) => Ok(Some(Header { bytes, origin: Origin::Sender })),
        (Command::Proxy, Family::Unspecified, _) => {
            Ok(Some(Header { bytes, origin: Origin::Unknown }))
        }
        (Command::Proxy, _, Err(broken)) => Err(broken),
        (Command::Proxy, family, Ok(())) => {
            let origin = family.origin(&header[FIXED_BYTES..]).unwrap_or(Origin::Unknown);
            Ok(Some(Header { bytes, origin }))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Local,
    Proxy,
}

/// What the addresses are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspecified,
    Inet { stream: bool },
    Inet6 { stream: bool },
    Unix,
}

impl Family {
    fn of(byte: u8) -> Option<Self> {
        let stream = byte & 0xf == 1;
        match (byte >> 4, byte & 0xf) {
            (0, 0..=2) => Some(Self::Unspecified),
            (1, 0..=2) => Some(Self::Inet { stream }),
            (2, 0..=2) => Some(Self::Inet6 { stream }),
            (3, 0..=2) => Some(Self::Unix),
            _ => None,
        }
    }

    fn address_bytes(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Inet { .. } => 12,
            Self::Inet6 { .. } => 36,
            Self::Unix => 216,
        }
    }

    /// `None` of what has no address of a TCP connection.
    fn origin(self, block: &[u8]) -> Option<Origin> {
        let (source, destination, ports): (IpAddr, IpAddr, &[u8]) = match self {
            Self::Inet { stream: true } => {
                let (source, rest) = block.split_first_chunk::<4>()?;
                let (destination, ports) = rest.split_first_chunk::<4>()?;
                (IpAddr::from(*source), IpAddr::from(*destination), ports)
            }
            Self::Inet6 { stream: true } => {
                let (source, rest) = block.split_first_chunk::<16>()?;
                let (destination, ports) = rest.split_first_chunk::<16>()?;
                (IpAddr::from(*source), IpAddr::from(*destination), ports)
            }
            Self::Inet { stream: false }
            | Self::Inet6 { stream: false }
            | Self::Unspecified
            | Self::Unix => return None,
        };
        let &[a, b, c, d] = ports.first_chunk()?;
        Some(Origin::Client {
            source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
            destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
        })
    }
}

/// Walks over the vectors of a whole header and verifies its checksum, if it has one.
fn check(header: &[u8], address_bytes: usize) -> Result<(), Broken> {
    let mut at = FIXED_BYTES + address_bytes;
    let mut given = None;
    while at < header.len() {
        let &[this, high, low] =
            header.get(at..).and_then(<[u8]>::first_chunk).ok_or(Broken::Field)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(at + 3..at + 3 + length).ok_or(Broken::Field)?;
        if this == kind::CRC32C {
            let value = <[u8; 4]>::try_from(value).map_err(|_length| Broken::ChecksumForm)?;
            if given.replace((at + 3, u32::from_be_bytes(value))).is_some() {
                return Err(Broken::ChecksumForm);
            }
        }
        at += 3 + length;
    }
    match given {
        Some((at, given)) if checksum(header, at) != given => Err(Broken::Checksum),
        Some(_) | None => Ok(()),
    }
}

/// What every line of version 1 begins with.
const LINE_START: &[u8] = b"PROXY ";
