//! Congestion control of sockets whose peer is on this machine.
//!
//! BBR paces: timers of the kernel spread a stream over time, for the sake of a network that is not there over
//! loopback (docs/adr/0014-no-pacing-on-loopback.md).

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::LazyLock;

use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};
use socket2::{Domain, Protocol, Socket, Type};

/// Every kernel has it, and every process may choose it.
const UNPACED: &str = "reno";

/// Whether sockets of this machine are paced unless they are told otherwise.
static IS_PACED: LazyLock<bool> = LazyLock::new(|| {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
    socket.is_ok_and(|socket| tcp_congestion(socket).is_ok_and(|name| paces(&name)))
});

/// Keeps a socket from being paced if `address` is loopback: what it is about to connect to, or to listen
/// on. Sockets that it accepts inherit it.
pub(super) fn unpace_local(socket: &impl AsFd, address: IpAddr) {
    if address.to_canonical().is_loopback() && *IS_PACED {
        // Where that is not to be had, it is a matter of speed only.
        let _is_unpaced = set_tcp_congestion(socket, UNPACED);
    }
}

/// BBR is the only one of Linux' that paces of its own accord; its versions have a digit behind the name.
fn paces(name: &str) -> bool {
    name.starts_with("bbr")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn bbr_paces_and_others_do_not() {
        let is_paced = ["bbr", "bbr2", "bbr3", "cubic", "reno", "dctcp"].map(paces);
        assert_eq!(is_paced, [true, true, true, false, false, false]);
    }

    #[test]
    fn a_socket_for_loopback_is_not_paced_and_others_are_as_the_machine_has_them() {
        let congestion_for = |address: IpAddr| {
            let kind = Domain::for_address((address, 0).into());
            let socket = Socket::new(kind, Type::STREAM, Some(Protocol::TCP)).unwrap();
            let before = tcp_congestion(&socket).unwrap();
            unpace_local(&socket, address);
            (before, tcp_congestion(&socket).unwrap())
        };
        let local: [IpAddr; 3] = [
            Ipv4Addr::new(127, 0, 0, 7).into(),
            Ipv6Addr::LOCALHOST.into(),
            Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        ];
        for address in local {
            let (before, after) = congestion_for(address);
            assert!(!paces(&after), "{address}: {after}");
            assert!(paces(&before) || before == after, "{address}: {before}, {after}");
        }
        // Documentation addresses (RFC 5737).
        let (before, after) = congestion_for(Ipv4Addr::new(192, 0, 2, 1).into());
        assert_eq!(before, after);
    }
}
