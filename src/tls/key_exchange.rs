//! Which key-exchange group a client gets: the first of the chain's that costs it no other round trip.
//!
//! rustls takes the first group of the client's list that the server has, whether a share for it came or not,
//! and never asks in which order the server has them. The choice is therefore made here, from what the peek
//! read, and kept in the `handshake_context`; the groups that rustls is given say of themselves that they are
//! not usable while another is chosen. What was chosen holds for the second hello as well.

use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, ProtocolVersion};

use super::crypto;
use super::handshake_context;
use crate::config::plan::{Group, TlsVersion};
use crate::core::client_hello::ClientHello;

/// What a client offers of the groups that exist here, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OfferedGroups {
    listed: u8,
    shared: u8,
}

impl OfferedGroups {
    pub fn of(hello: &ClientHello<'_>) -> Self {
        let known = |bits, code| bits | known(code).map_or(0, bit);
        Self {
            listed: hello.supported_groups().fold(0, known),
            shared: hello.key_share_groups().fold(0, known),
        }
    }

    /// The first of `ours` that the client has sent a share for; without one the first that it lists, as in
    /// TLS 1.2, where there are no shares. `None`: nothing in common, and rustls says so.
    pub(super) fn choose(self, ours: &[Group], version: TlsVersion) -> Option<Group> {
        let first = |offered: u8| {
            let is_usable = |group: Group| match version {
                TlsVersion::Tls12 => group != Group::X25519MlKem768,
                TlsVersion::Tls13 => true,
            };
            ours.iter().copied().find(|group| offered & bit(*group) != 0 && is_usable(*group))
        };
        match version {
            TlsVersion::Tls12 => first(self.listed),
            // A share for a group that is not listed is none (RFC 8446 §4.2.8).
            TlsVersion::Tls13 => first(self.listed & self.shared).or_else(|| first(self.listed)),
        }
    }
}

/// The group as rustls gets it. Where nothing is chosen, as towards upstreams, it is usable.
pub(super) fn choosable(group: Group) -> &'static dyn SupportedKxGroup {
    match group {
        Group::X25519MlKem768 => &Choosable(Group::X25519MlKem768),
        Group::X25519 => &Choosable(Group::X25519),
        Group::Secp256r1 => &Choosable(Group::Secp256r1),
        Group::Secp384r1 => &Choosable(Group::Secp384r1),
    }
}

#[derive(Debug)]
struct Choosable(Group);

impl Choosable {
    fn inner(&self) -> &'static dyn SupportedKxGroup {
        crypto::group(self.0)
    }
}

impl SupportedKxGroup for Choosable {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        self.inner().start()
    }

    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        self.inner().start_and_complete(peer)
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        self.inner().ffdhe_group()
    }

    fn name(&self) -> NamedGroup {
        self.inner().name()
    }

    fn fips(&self) -> bool {
        self.inner().fips()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        let chosen = handshake_context::with(|context| context.group).flatten();
        chosen.is_none_or(|chosen| chosen == self.0) && self.inner().usable_for_version(version)
    }
}

fn known(code: u16) -> Option<Group> {
    match NamedGroup::from(code) {
        NamedGroup::X25519MLKEM768 => Some(Group::X25519MlKem768),
        NamedGroup::X25519 => Some(Group::X25519),
        NamedGroup::secp256r1 => Some(Group::Secp256r1),
        NamedGroup::secp384r1 => Some(Group::Secp384r1),
        _ => None,
    }
}

const fn bit(group: Group) -> u8 {
    match group {
        Group::X25519MlKem768 => 1,
        Group::X25519 => 2,
        Group::Secp256r1 => 4,
        Group::Secp384r1 => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Group::{Secp256r1 as P256, Secp384r1 as P384, X25519, X25519MlKem768 as Hybrid};

    fn offered(listed: &[Group], shared: &[Group]) -> OfferedGroups {
        let bits = |groups: &[Group]| groups.iter().fold(0, |bits, group| bits | bit(*group));
        OfferedGroups { listed: bits(listed), shared: bits(shared) }
    }

    #[test]
    fn a_share_goes_before_the_order_and_the_order_before_the_client_s() {
        for (ours, listed, shared, expected) in [
            (&[X25519, Hybrid][..], &[Hybrid, X25519][..], &[Hybrid, X25519][..], Some(X25519)),
            (&[Hybrid, X25519], &[X25519, Hybrid], &[X25519, Hybrid], Some(Hybrid)),
            (&[Hybrid, X25519], &[Hybrid, X25519], &[X25519], Some(X25519)),
            (&[P384, P256], &[X25519, P256, P384], &[X25519], Some(P384)),
            (&[P256, P384], &[X25519, P384], &[], Some(P384)),
            // A share for what is not listed.
            (&[P256, X25519], &[X25519], &[P256], Some(X25519)),
            (&[P256], &[X25519], &[P256], None),
            (&[P256], &[], &[], None),
        ] {
            let chosen = offered(listed, shared).choose(ours, TlsVersion::Tls13);
            assert_eq!(chosen, expected, "{ours:?} {listed:?} {shared:?}");
        }
    }

    #[test]
    fn tls12_has_no_shares_and_no_hybrid() {
        let all = [Hybrid, X25519, P256, P384];
        let chosen =
            |ours: &[Group]| offered(&all, &[X25519, Hybrid]).choose(ours, TlsVersion::Tls12);
        assert_eq!(chosen(&[Hybrid, P384, X25519]), Some(P384));
        assert_eq!(chosen(&[Hybrid]), None);
    }

    #[test]
    fn names_and_bits_are_of_the_same_groups() {
        let all = [Hybrid, X25519, P256, P384];
        for group in all {
            assert_eq!(choosable(group).name(), crypto::group(group).name());
            assert_eq!(known(u16::from(choosable(group).name())), Some(group));
        }
        assert_eq!(all.map(bit).iter().fold(0, |bits, bit| bits ^ bit), 0b1111);
    }
}
