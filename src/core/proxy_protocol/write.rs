//! Writes the header that an upstream is sent.
//!
//! Says only what it is given: who the client is, and whether that was verified, `tls` knows. A value
//! that does not fit is left out and never cut, for half a name is another name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{FIXED_BYTES, SIGNATURE, checksum, kind};

/// The client's connection: where from, where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// What version 2 says beside the addresses; `None` is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields<'a> {
    pub alpn: Option<&'a [u8]>,
    /// The name that the client asked for.
    pub authority: Option<&'a str>,
    pub unique_id: Option<&'a [u8]>,
    pub tls: Option<Tls<'a>>,
    /// Who the client is, as its verified certificate says: our own vector, 0xE0.
    pub identity: Option<&'a str>,
    pub crc32c: bool,
}

/// How the client's bytes were protected.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// As "TLSv1.3".
    pub version: &'a str,
    pub cipher: &'a str,
    pub certificate: Certificate<'a>,
    /// The client's session is a resumed one: what it showed, it showed earlier.
    pub is_resumed: bool,
    /// By which the certificate that we showed is signed.
    pub signature_algorithm: Option<&'a str>,
    /// Of the key in the certificate that we showed.
    pub key_algorithm: Option<&'a str>,
    pub group: Option<&'a str>,
    /// By which we signed the handshake.
    pub signature_scheme: Option<&'a str>,
}

/// What is known of the client's certificate.
#[derive(Debug, Clone, Copy)]
pub enum Certificate<'a> {
    /// The client has shown none.
    None,
    /// The client has shown one that was not accepted, to a trust that only audits. Nothing of it is
    /// told: nobody has vouched for it.
    Unverified,
    Verified {
        common_name: Option<&'a str>,
        /// The whole certificate.
        der: Option<&'a [u8]>,
    },
}

/// The line of version 1.
pub fn version_1(addresses: Addresses) -> Vec<u8> {
    let (source, destination) = (addresses.source.port(), addresses.destination.port());
    let line = match addresses.of_one_family() {
        OneFamily::V4(from, to) => format!("PROXY TCP4 {from} {to} {source} {destination}\r\n"),
        OneFamily::V6(from, to) => format!("PROXY TCP6 {from} {to} {source} {destination}\r\n"),
    };
    line.into_bytes()
}

/// The header of a connection that is the sender's own and nobody's behind it, as a probe is. Version 1
/// has no word for that but that the client is not known.
pub fn own_connection(is_version_1: bool) -> Vec<u8> {
    if is_version_1 {
        return b"PROXY UNKNOWN\r\n".to_vec();
    }
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[VERSION_2_LOCAL, 0, 0, 0]);
    header
}

/// A whole header of version 2. Vectors stand in the order of their types: there are readers that sort
/// them before they sum them up.
pub fn version_2(addresses: Addresses, fields: &Fields<'_>) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES_USUAL);
    header.extend_from_slice(SIGNATURE);
    header.extend_from_slice(&[VERSION_2_PROXY, 0, 0, 0]);
    header[FAMILY_AT] = match addresses.of_one_family() {
        OneFamily::V4(from, to) => {
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            TCP_4
        }
        OneFamily::V6(from, to) => {
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            TCP_6
        }
    };
    header.extend_from_slice(&addresses.source.port().to_be_bytes());
    header.extend_from_slice(&addresses.destination.port().to_be_bytes());
    add(&mut header, kind::ALPN, fields.alpn);
    add(&mut header, kind::AUTHORITY, text(fields.authority));
    let sum_at = fields.crc32c.then(|| {
        add(&mut header, kind::CRC32C, Some(&[0; 4]));
        header.len() - 4
    });
    add(&mut header, kind::UNIQUE_ID, fields.unique_id);
    if let Some(tls) = &fields.tls {
        add(&mut header, kind::SSL, Some(&ssl(tls)));
    }
    add(&mut header, kind::IDENTITY, text(fields.identity));
    let length = u16::try_from(header.len() - FIXED_BYTES).unwrap_or(u16::MAX);
    header[FIXED_BYTES - 2..FIXED_BYTES].copy_from_slice(&length.to_be_bytes());
    if let Some(at) = sum_at {
        let sum = checksum(&header, at);
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    }
    header
}

/// Both addresses in the family that can hold both.
enum OneFamily {
    V4(std::net::Ipv4Addr, std::net::Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Addresses {
    fn of_one_family(self) -> OneFamily {
        let canonical = |address: SocketAddr| address.ip().to_canonical();
        match (canonical(self.source), canonical(self.destination)) {
            (IpAddr::V4(from), IpAddr::V4(to)) => OneFamily::V4(from, to),
            (from, to) => OneFamily::V6(as_v6(from), as_v6(to)),
        }
    }
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The value of the vector SSL (§2.2.6).
fn ssl(tls: &Tls<'_>) -> Vec<u8> {
    let (mut client, verify, common_name, der) = match tls.certificate {
        Certificate::None => (CLIENT_SSL, NOT_VERIFIED, None, None),
        Certificate::Unverified => (CLIENT_SSL | CLIENT_CERT_SESS, NOT_VERIFIED, None, None),
        Certificate::Verified { common_name, der } => {
            (CLIENT_SSL | CLIENT_CERT_SESS, VERIFIED, common_name, der)
        }
    };
    if client & CLIENT_CERT_SESS != 0 && !tls.is_resumed {
        client |= CLIENT_CERT_CONN;
    }
    let mut value = vec![client];
    value.extend_from_slice(&verify.to_be_bytes());
    for (kind, text) in [
        (kind::SSL_VERSION, Some(tls.version)),
        (kind::SSL_CN, common_name),
        (kind::SSL_CIPHER, Some(tls.cipher)),
        (kind::SSL_SIG_ALG, tls.signature_algorithm),
        (kind::SSL_KEY_ALG, tls.key_algorithm),
        (kind::SSL_GROUP, tls.group),
        (kind::SSL_SIG_SCHEME, tls.signature_scheme),
    ] {
        add(&mut value, kind, self::text(text));
    }
    add(&mut value, kind::SSL_CLIENT_CERT, der.filter(|der| der.len() <= CERTIFICATE_BYTES_MAX));
    value
}

/// A text that may be told: not endless, and nothing that a reader's log could choke on.
fn text(text: Option<&str>) -> Option<&[u8]> {
    let text = text.filter(|text| text.len() <= TEXT_BYTES_MAX && !text.is_empty())?;
    (!text.chars().any(char::is_control)).then_some(text.as_bytes())
}

/// Adds a vector, if there is a value and a vector can hold it.
fn add(out: &mut Vec<u8>, kind: u8, value: Option<&[u8]>) {
    let Some(value) = value else { return };
    let Ok(length) = u16::try_from(value.len()) else { return };
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

const VERSION_2_PROXY: u8 = 0x21;
const VERSION_2_LOCAL: u8 = 0x20;
const FAMILY_AT: usize = 13;
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;

const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

const VERIFIED: u32 = 0;
const NOT_VERIFIED: u32 = 1;

/// Addresses, and texts of usual lengths; with a certificate it grows once.
const HEADER_BYTES_USUAL: usize = 512;

/// With every text at its longest, a header takes less than 20 KiB beside the certificate, so that its
/// 16 bits of length hold both. A URI of a certificate has at most 2,048 bytes (SPIFFE ID §2.3).
const TEXT_BYTES_MAX: usize = 2048;
const CERTIFICATE_BYTES_MAX: usize = 40 * 1024;
