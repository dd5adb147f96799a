//! The local addresses that a cluster is dialled from, in turn.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

/// Those of each family, and whose turn it is.
#[derive(Debug)]
pub(super) struct Sources {
    v4: Box<[IpAddr]>,
    v6: Box<[IpAddr]>,
    turn: Cell<usize>,
}

impl Sources {
    /// `first` differs from worker to worker, so that all do not begin with the same one.
    pub(super) fn new(sources: &[IpAddr], first: usize) -> Self {
        let of = |is_v4: bool| sources.iter().copied().filter(|it| it.is_ipv4() == is_v4).collect();
        Self { v4: of(true), v6: of(false), turn: Cell::new(first) }
    }

    /// How many there are for dials to `address`.
    pub(super) fn count(&self, address: SocketAddr) -> usize {
        self.of(address).len()
    }

    /// The next one for a dial to `address`; `None` leaves it to the kernel.
    pub(super) fn next(&self, address: SocketAddr) -> Option<IpAddr> {
        let sources = self.of(address);
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        sources.get(turn.checked_rem(sources.len())?).copied()
    }

    fn of(&self, address: SocketAddr) -> &[IpAddr] {
        if address.is_ipv4() { &self.v4 } else { &self.v6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_for_addresses_of_its_kind() {
        let parse = |text: &str| text.parse().unwrap();
        let sources = Sources::new(&["10.0.0.1", "::1", "10.0.0.2"].map(parse), 1);
        let v4: SocketAddr = "10.0.0.9:1".parse().unwrap();
        let turns = [0; 3].map(|_| sources.next(v4).unwrap().to_string());
        assert_eq!(turns, ["10.0.0.2", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(sources.next("[::2]:1".parse().unwrap()), Some(parse("::1")));
        assert_eq!(Sources::new(&[], usize::MAX).next(v4), None);
    }
}
