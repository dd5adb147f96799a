//! A block of IP addresses in CIDR notation, and a table that finds the longest one an address is
//! in.
//!
//! Families never mix: an IPv4 client that arrives on a dual-stack socket as `::ffff:a.b.c.d` is an
//! IPv4 client, and `::/0` holds IPv6 clients only. Nothing here resolves names. Read `mod.rs`
//! next.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 or IPv6 block (RFC 4632, RFC 4291 §2.3) without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is not a `Prefix`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    #[error("not an IP address")]
    Address,
    #[error("the prefix length is not a number from 0 to {max}")]
    Length { max: u8 },
    #[error("the address has bits set beyond the prefix length; the block is {block}")]
    HostBits { block: Prefix },
}

impl Prefix {
    /// The block of `length` bits that starts at `address`. An IPv4-mapped IPv6 block becomes the
    /// IPv4 block it stands for.
    ///
    /// # Errors
    /// `Length` beyond 32 or 128 bits, `HostBits` where the address does not start the block.
    pub fn new(address: IpAddr, length: u8) -> Result<Prefix, PrefixError> {
        let max = bits(address);
        if length > max {
            return Err(PrefixError::Length { max });
        }
        let block = Prefix { address: masked(address, length), length };
        if block.address != address {
            return Err(PrefixError::HostBits { block });
        }
        let IpAddr::V6(v6) = address else { return Ok(block) };
        match v6.to_ipv4_mapped() {
            Some(v4) if length >= MAPPED_BITS => {
                Ok(Prefix { address: IpAddr::V4(v4), length: length - MAPPED_BITS })
            }
            _ => Ok(block),
        }
    }

    /// Whether `address` is in this block.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        same_family(self.address, address) && masked(address, self.length) == self.address
    }

    /// The first address of the block.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The bits that all addresses of the block share: 0–32 for IPv4, 0–128 for IPv6.
    pub fn length(&self) -> u8 {
        self.length
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `"10.0.0.0/8"`, `"2001:db8::/32"`, or an address alone for the block that holds only it.
    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address = IpAddr::from_str(address).map_err(|_refused| PrefixError::Address)?;
        let max = bits(address);
        let length = match length {
            None => max,
            // `u8::from_str` takes "+8" and "08"; neither is CIDR notation.
            Some(digits)
                if digits.starts_with('+') || (digits.len() > 1 && digits.starts_with('0')) =>
            {
                return Err(PrefixError::Length { max });
            }
            Some(digits) => u8::from_str(digits).map_err(|_refused| PrefixError::Length { max })?,
        };
        Prefix::new(address, length)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Values by prefix, found by the longest prefix an address is in.
///
/// One binary search for each distinct prefix length: lists of thousands of blocks stay flat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PrefixTable<T> {
    /// By length descending, then by address, so that each length is one sorted run.
    entries: Box<[(Prefix, T)]>,
}

impl<T: Copy> PrefixTable<T> {
    /// `entries` hold no prefix twice.
    pub(super) fn new(mut entries: Vec<(Prefix, T)>) -> PrefixTable<T> {
        entries.sort_unstable_by_key(|(prefix, _)| run_order(*prefix));
        PrefixTable { entries: entries.into() }
    }

    /// The value of the longest prefix that `address` is in.
    pub(super) fn find(&self, address: IpAddr) -> Option<T> {
        let address = address.to_canonical();
        let mut rest = &*self.entries;
        while let Some(((prefix, _), _)) = rest.split_first() {
            let length = prefix.length;
            let (run, shorter) = rest.split_at(rest.partition_point(|(p, _)| p.length == length));
            rest = shorter;
            if length > bits(address) {
                continue;
            }
            let wanted = masked(address, length);
            if let Ok(at) = run.binary_search_by_key(&wanted, |(p, _)| p.address) {
                return Some(run[at].1);
            }
        }
        None
    }

    /// Heap bytes of the table.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }
}

fn run_order(prefix: Prefix) -> (u8, IpAddr) {
    (u8::MAX - prefix.length, prefix.address)
}

fn same_family(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

/// Bits in an address of this family.
fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `address` with everything beyond the first `length` bits cleared.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// The fixed part of an IPv4-mapped address, `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_blocks_are_read_and_written_back() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(prefix(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_block_is_refused_with_its_reason() {
        for text in ["", "x", "10.0.0/8", "010.0.0.0/8", " 10.0.0.0/8", "localhost", "[::1]"] {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError::Address), "{text}");
        }
        for text in ["10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/8/8"] {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError::Length { max: 32 }), "{text}");
        }
        assert_eq!("::/129".parse::<Prefix>(), Err(PrefixError::Length { max: 128 }));
        let block = prefix("10.0.0.0/8");
        assert_eq!("10.1.0.0/8".parse::<Prefix>(), Err(PrefixError::HostBits { block }));
    }

    #[test]
    fn a_mapped_address_is_in_the_ipv4_block_only() {
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert!(prefix("10.0.0.0/8").contains(mapped));
        assert!(!prefix("::/0").contains(mapped));
        let table = PrefixTable::new(vec![(prefix("::/0"), 6), (prefix("0.0.0.0/0"), 4)]);
        assert_eq!(table.find(mapped), Some(4));
        assert_eq!(table.find("::1".parse().unwrap()), Some(6));
    }

    #[test]
    fn the_longest_prefix_wins() {
        let table = PrefixTable::new(vec![
            (prefix("10.0.0.0/8"), 8),
            (prefix("10.1.0.0/16"), 16),
            (prefix("10.1.2.3"), 32),
            (prefix("2001:db8::/32"), 132),
        ]);
        for (address, found) in [
            ("10.1.2.3", Some(32)),
            ("10.1.2.4", Some(16)),
            ("10.2.0.1", Some(8)),
            ("11.0.0.1", None),
            ("2001:db8::1", Some(132)),
            ("2001:db9::1", None),
        ] {
            assert_eq!(table.find(address.parse().unwrap()), found, "{address}");
        }
    }
}
