//! Owns the local addresses that connections start from. One address has some 28,000 ports and a
//! closed connection keeps its port for a minute (TIME_WAIT), so 500 connections/s from one address
//! run dry; loopback has 16 million addresses to spread over. Read `worker.rs` next.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// Where connections come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel chooses.
    Off,
    /// 127.9.0.0/16 for an IPv4 loopback target, else the kernel.
    Auto,
    /// In turn through this network.
    Network {
        /// Its first address.
        base: Ipv4Addr,
        /// How many addresses it has.
        count: u32,
    },
}

impl FromStr for Source {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => return Ok(Self::Off),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        let (base, bits) = text.split_once('/').unwrap_or((text, "32"));
        let base: Ipv4Addr = base.parse().context("a source is ADDRESS/BITS, auto or off")?;
        let bits: u32 = bits.parse().context("a source is ADDRESS/BITS, auto or off")?;
        if !(8..=32).contains(&bits) {
            bail!("a source network has 8 to 32 bits");
        }
        let count = 1_u32 << (32 - bits);
        Ok(Self::Network { base: Ipv4Addr::from(u32::from(base) & !(count - 1)), count })
    }
}

/// Hands out addresses in turn.
#[derive(Debug)]
pub struct Sources {
    network: Option<(u32, u32)>,
    next: u32,
}

impl Sources {
    /// For connections to `target`; `offset` keeps load threads apart.
    #[must_use]
    pub fn new(source: Source, target: SocketAddr, offset: u32) -> Self {
        let loopback = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let network = match source {
            Source::Off => None,
            Source::Auto if loopback => Some((u32::from(Ipv4Addr::new(127, 9, 0, 0)), 1 << 16)),
            Source::Auto => None,
            Source::Network { base, count } => Some((u32::from(base), count)),
        };
        Self { network, next: offset }
    }

    /// The address to bind to, if any.
    pub fn next_address(&mut self) -> Option<Ipv4Addr> {
        let (base, count) = self.network?;
        self.next = self.next.wrapping_add(1);
        // The first address of a network is not a host's; a network of one has only that.
        let step = if count > 2 { 1 + self.next % (count - 2) } else { 0 };
        Some(Ipv4Addr::from(base + step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_targets_get_many_sources_and_others_none() {
        let target: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let mut sources = Sources::new(Source::Auto, target, 0);
        let first = sources.next_address().unwrap();
        let second = sources.next_address().unwrap();
        assert_ne!(first, second);
        assert_eq!(first.octets()[..2], [127, 9]);
        let mut sources = Sources::new(Source::Auto, "192.0.2.1:1".parse().unwrap(), 0);
        assert_eq!(sources.next_address(), None);
    }

    #[test]
    fn a_network_is_masked() {
        let source: Source = "127.5.1.77/24".parse().unwrap();
        assert_eq!(source, Source::Network { base: Ipv4Addr::new(127, 5, 1, 0), count: 256 });
        assert!("127.0.0.1/4".parse::<Source>().is_err());
    }
}
