//! The PROXY protocol, versions 1 and 2: what a balancer says of a client before the client's first
//! byte, and what we say to an upstream (HAProxy's doc/proxy-protocol.txt).
//!
//! Reads and writes whole headers and nothing else: whom to believe is for the configuration to say,
//! when to read and to send is the worker's. Next: `read`, then `write`.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Broken, Header, Origin, Read, read};
pub use write::{Addresses, Certificate, Fields, Tls, own_connection, version_1, version_2};

/// The longest line of version 1, its end included (§2.1).
pub const LINE_BYTES_MAX: usize = 107;

/// What may follow the 16 fixed bytes of version 2. Balancers send a few hundred bytes; one that adds
/// a client certificate sends two thousand.
pub const BLOCK_BYTES_MAX: usize = 4096;

/// What every header of version 2 begins with (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and protocol, length.
const FIXED_BYTES: usize = 16;

/// Types of the vectors behind the addresses (§2.2.1 to §2.2.8).
mod kind {
    pub(super) const ALPN: u8 = 0x01;
    pub(super) const AUTHORITY: u8 = 0x02;
    pub(super) const CRC32C: u8 = 0x03;
    pub(super) const UNIQUE_ID: u8 = 0x05;
    pub(super) const SSL: u8 = 0x20;
    pub(super) const SSL_VERSION: u8 = 0x21;
    pub(super) const SSL_CN: u8 = 0x22;
    pub(super) const SSL_CIPHER: u8 = 0x23;
    pub(super) const SSL_SIG_ALG: u8 = 0x24;
    pub(super) const SSL_KEY_ALG: u8 = 0x25;
    pub(super) const SSL_GROUP: u8 = 0x26;
    pub(super) const SSL_SIG_SCHEME: u8 = 0x27;
    pub(super) const SSL_CLIENT_CERT: u8 = 0x28;
    /// The first of those for applications. Ours: the client's verified identity.
    pub(super) const IDENTITY: u8 = 0xe0;
}

/// CRC32C of a header whose checksum, four bytes at `at`, counts as zeros (§2.2.3).
fn checksum(header: &[u8], at: usize) -> u32 {
    let (before, rest) = header.split_at(at.min(header.len()));
    let behind = rest.get(4..).unwrap_or_default();
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    crc32c::crc32c_append(crc, behind)
}
