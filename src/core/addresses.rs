//! Which addresses to listen on are in each other's way.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses that are taken, none in the way of another, however many there are.
#[derive(Debug, Default)]
pub struct Taken {
    ports: HashMap<u16, Port>,
    count: usize,
}

/// The numbers of those on one port.
#[derive(Debug, Default)]
struct Port {
    by_ip: HashMap<IpAddr, usize>,
    first: Option<usize>,
    first_v4: Option<usize>,
}

impl Taken {
    /// Takes one more, which is numbered from 0.
    ///
    /// # Errors
    /// The number of the first that is in its way; it is not taken then.
    pub fn take(&mut self, address: SocketAddr) -> Result<(), usize> {
        let number = self.count;
        if address.port() != 0 {
            let port = self.ports.entry(address.port()).or_default();
            port.overlapped_by(address.ip()).map_or(Ok(()), Err)?;
            port.by_ip.insert(address.ip(), number);
            port.first.get_or_insert(number);
            if address.is_ipv4() {
                port.first_v4.get_or_insert(number);
            }
        }
        self.count += 1;
        Ok(())
    }
}

impl Port {
    fn overlapped_by(&self, ip: IpAddr) -> Option<usize> {
        let of = |ip: IpAddr| self.by_ip.get(&ip).copied();
        let same = of(ip).into_iter();
        let wider = of(ALL_V6).into_iter().chain(of(ALL_V4).filter(|_| ip.is_ipv4()));
        let narrower = match ip {
            ALL_V6 => self.first,
            ALL_V4 => self.first_v4,
            _ => None,
        };
        same.chain(wider).chain(narrower).min()
    }
}

/// Whether a socket on one address is in the way of one on the other. `[::]` takes IPv4 as well; port 0 is
/// another one each time.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

const ALL_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ALL_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = SocketAddr> {
        let ips = ["0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1", "fe80::1", "::ffff:0.0.0.0"];
        let ip = prop::sample::select(ips.map(|ip| ip.parse::<IpAddr>().unwrap()).to_vec());
        (ip, 0_u16..4).prop_map(SocketAddr::from)
    }

    proptest! {
        #[test]
        fn the_first_in_the_way_is_found_as_by_comparing_with_each(
            addresses in prop::collection::vec(address(), 0..40),
        ) {
            let (mut taken, mut compared) = (Taken::default(), Vec::<SocketAddr>::new());
            for address in addresses {
                let expected = compared.iter().position(|other| overlap(*other, address));
                prop_assert_eq!(taken.take(address), expected.map_or(Ok(()), Err));
                if expected.is_none() {
                    compared.push(address);
                }
            }
        }
    }

    #[test]
    fn very_many_addresses_are_compared_within_the_patience_of_a_test() {
        portcullis_kit::within(portcullis_kit::PATIENCE, "taking addresses", || {
            let mut taken = Taken::default();
            for number in 0..300_000_u32 {
                let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | number));
                assert_eq!(taken.take((ip, 443).into()), Ok(()));
            }
            let all = SocketAddr::from((ALL_V6, 443));
            assert_eq!(taken.take(all), Err(0));
        });
    }

    #[test]
    fn addresses_overlap_where_one_stands_for_the_other() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "[::1]:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("0.0.0.0:0", "127.0.0.1:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
