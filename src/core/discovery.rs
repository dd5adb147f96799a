//! The addresses of one host name: how long an answer holds, when to ask again, and what holds while
//! nobody answers.
//!
//! Sans-I/O: answers and times go in. `app::upkeep` asks, on control's thread.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What is known of a name.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// In order, and each once.
    addresses: Vec<IpAddr>,
    /// When those of each family were last confirmed.
    good_at: [Instant; 2],
    failures: u32,
    silent: Option<Family>,
}

/// What a name is asked for, and answered, apart: A (RFC 1035 section 3.4.1) and AAAA (RFC 3596).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Nobody said whether there are addresses of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    pub family: Family,
    /// For people.
    pub cause: String,
}

/// What a name server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Vec<IpAddr>,
    /// How long they hold.
    pub ttl: Duration,
    pub silence: Option<Silence>,
}

/// What an answer, or the lack of one, leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The addresses are others than before.
    pub has_changed: bool,
    /// When to ask again.
    pub pause: Duration,
}

impl Discovery {
    /// With what was known of the name before, as if it were confirmed now.
    pub fn new(addresses: Vec<IpAddr>, now: Instant) -> Self {
        Self { addresses: usable(addresses), good_at: [now; 2], failures: 0, silent: None }
    }

    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// No address at all is a failure: a service that has moved has addresses elsewhere, and one that is
    /// nowhere loses nothing by a dial to where it was. Those of a family that nobody speaks of hold as
    /// where nobody answers.
    pub fn answered(&mut self, answer: Answer, now: Instant) -> Step {
        let Answer { addresses, ttl, silence } = answer;
        let silent = silence.map(|silence| silence.family);
        let mut addresses = usable(addresses);
        if addresses.is_empty() {
            return self.failed(now);
        }
        self.failures = 0;
        self.silent = silent;
        for family in Family::BOTH {
            if silent == Some(family) {
                addresses.extend(self.held(family, now));
            } else {
                self.good_at[family as usize] = now;
            }
        }
        let has_changed = self.replace(usable(addresses));
        Step { has_changed, pause: ttl.clamp(TTL_MIN, TTL_MAX) }
    }

    /// Nobody said what addresses the name has. The last good ones hold for a day.
    pub fn failed(&mut self, now: Instant) -> Step {
        let pause = RETRY_FIRST.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        let held = Family::BOTH.iter().flat_map(|family| self.held(*family, now)).collect();
        Step { has_changed: self.replace(held), pause }
    }

    /// Of a family that nobody has spoken of now.
    fn held(&self, family: Family, now: Instant) -> Vec<IpAddr> {
        let age = now.saturating_duration_since(self.good_at[family as usize]);
        let is_good = age < AGE_MAX;
        self.addresses.iter().copied().filter(|address| is_good && family.has(*address)).collect()
    }

    /// True if they are others.
    fn replace(&mut self, addresses: Vec<IpAddr>) -> bool {
        let has_changed = addresses != self.addresses;
        self.addresses = addresses;
        has_changed
    }

    /// The family that the last answer lacked.
    pub fn silent(&self) -> Option<Family> {
        self.silent
    }

    /// True before the second failure in a row.
    pub fn is_news(&self) -> bool {
        self.failures <= 1
    }
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    /// As in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The addresses of an answer that can be dialled, in order and each once; of too many the lowest ones,
/// so that it is all the same in which order a name server gives them.
pub fn usable(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.retain(|address| !is_nobody(*address));
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// No address of a server. A name server that blocks a name answers 0.0.0.0 or ::, and a dial to those
/// comes to this very machine.
fn is_nobody(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_unspecified()
        || address.is_multicast()
        || matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

/// An answer that holds for no time at all is asked for once a second.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// A name that moves is noticed within five minutes, whatever its answer says.
pub const TTL_MAX: Duration = Duration::from_secs(5 * 60);
/// How long addresses hold that nobody confirms.
pub const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Of one name; an answer of more is cut to the lowest ones.
pub const ADDRESSES_MAX: usize = 256;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "std gives no other way to an Instant")]
        Instant::now()
    }

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn whole(addresses: Vec<IpAddr>, ttl: Duration) -> Answer {
        Answer { addresses, ttl, silence: None }
    }

    // threat 39
    #[test]
    fn an_answer_holds_for_its_ttl_within_bounds() {
        let now = start();
        for (ttl, pause) in [(0, 1), (1, 1), (30, 30), (300, 300), (86_400, 300)] {
            let mut name = Discovery::new(Vec::new(), now);
            let step = name.answered(whole(ips(&[1]), seconds(ttl)), now);
            assert_eq!(step, Step { has_changed: true, pause: seconds(pause) });
        }
    }

    #[test]
    fn the_order_of_an_answer_is_no_change() {
        let now = start();
        let mut name = Discovery::new(ips(&[1, 2]), now);
        assert!(!name.answered(whole(ips(&[2, 1, 2]), seconds(5)), now).has_changed);
        assert!(name.answered(whole(ips(&[2]), seconds(5)), now).has_changed);
        assert_eq!(name.addresses(), ips(&[2]));
    }

    // threat 39
    #[test]
    fn many_addresses_in_another_order_are_no_other_addresses() {
        let now = start();
        let mut many: Vec<IpAddr> =
            (0..400_u32).map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect();
        let mut name = Discovery::new(usable(many.clone()), now);
        assert_eq!(name.addresses(), &many[..ADDRESSES_MAX]);
        for _ in 0..4 {
            many.rotate_left(100);
            assert!(!name.answered(whole(usable(many.clone()), seconds(5)), now).has_changed);
        }
    }

    // threat 39
    #[test]
    fn an_address_of_nobody_is_no_answer() {
        let now = start();
        let mut name = Discovery::new(ips(&[1]), now);
        let nobodies =
            ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "::ffff:0.0.0.0"];
        let nobodies: Vec<IpAddr> = nobodies.map(|ip| ip.parse().unwrap()).into();
        assert!(!name.answered(whole(nobodies.clone(), seconds(5)), now).has_changed);
        assert_eq!((name.addresses(), name.is_news()), (&ips(&[1])[..], true));
        name.answered(whole([nobodies, ips(&[2])].concat(), seconds(5)), now);
        assert_eq!(name.addresses(), ips(&[2]));
    }

    // threat 39
    #[test]
    fn the_last_good_addresses_hold_for_a_day_of_failures_and_no_longer() {
        let now = start();
        let mut name = Discovery::new(Vec::new(), now);
        name.answered(whole(ips(&[1, 2]), seconds(5)), now);
        let mut at = now;
        let mut pauses = Vec::new();
        loop {
            let step = if pauses.len() % 2 == 0 {
                name.failed(at)
            } else {
                // An empty answer is none.
                name.answered(whole(Vec::new(), seconds(5)), at)
            };
            if step.has_changed {
                break;
            }
            assert_eq!(name.addresses(), ips(&[1, 2]));
            pauses.push(step.pause.as_secs());
            at += step.pause;
        }
        assert!((AGE_MAX..AGE_MAX + RETRY_MAX).contains(&(at - now)));
        assert!(name.addresses().is_empty());
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert!(!name.failed(at).has_changed, "told once");
        assert!(name.answered(whole(ips(&[3]), seconds(5)), at).has_changed);
        assert_eq!(name.failed(at).pause, seconds(1), "pauses begin anew");
    }

    // threat 39
    #[test]
    fn addresses_of_a_family_that_nobody_speaks_of_hold_for_a_day() {
        let now = start();
        let six: IpAddr = "fd00::6".parse().unwrap();
        let both = [ips(&[1]), vec![six]].concat();
        let mut name = Discovery::new(Vec::new(), now);
        name.answered(whole(both.clone(), TTL_MIN), now);
        let silence = Silence { family: Family::V6, cause: "refused".to_owned() };
        let without_six =
            |last| Answer { silence: Some(silence.clone()), ..whole(ips(&[last]), TTL_MIN) };
        let step = name.answered(without_six(1), now + AGE_MAX / 2);
        assert_eq!(step, Step { has_changed: false, pause: TTL_MIN });
        assert_eq!((name.addresses(), name.silent()), (&both[..], Some(Family::V6)));
        // What is said of the other counts, and is good from then on.
        assert!(name.answered(without_six(2), now + AGE_MAX - TTL_MIN).has_changed);
        assert_eq!(name.addresses(), [ips(&[2]), vec![six]].concat());
        assert!(name.failed(now + AGE_MAX).has_changed, "nobody has confirmed it for a day");
        assert_eq!(name.addresses(), ips(&[2]));
        // A whole answer without one is an answer.
        name.answered(whole(both, TTL_MIN), now + AGE_MAX);
        assert!(name.answered(whole(ips(&[1]), TTL_MIN), now + AGE_MAX).has_changed);
        assert_eq!((name.addresses(), name.silent()), (&ips(&[1])[..], None));
    }

    /// Octets of which every other address is one of nobody or near to one.
    fn any_octets() -> impl Strategy<Value = [u8; 4]> {
        let near_nobody = [[0; 4], [0, 0, 0, 1], [223, 255, 255, 255], [224, 0, 0, 0]]
            .into_iter()
            .chain([[239, 255, 255, 255], [240, 0, 0, 0], [255, 255, 255, 254], [255; 4]])
            .collect::<Vec<_>>();
        prop_oneof![any::<[u8; 4]>(), prop::sample::select(near_nobody)]
    }

    fn is_of_a_server(octets: [u8; 4]) -> bool {
        octets != [0; 4] && octets != [255; 4] && !(224..240).contains(&octets[0])
    }

    proptest! {
        #[test]
        fn addresses_are_those_of_servers_in_order_each_once_and_bounded(
            answer in prop_oneof![
                prop::collection::vec(any_octets(), 0..4),
                prop::collection::vec(any_octets(), 0..600),
            ],
        ) {
            let now = start();
            let mut name = Discovery::new(Vec::new(), now);
            let step = name.answered(whole(answer.iter().map(|ip| IpAddr::from(*ip)).collect(), TTL_MIN), now);
            let servers: BTreeSet<_> = answer.into_iter().filter(|ip| is_of_a_server(*ip)).collect();
            let lowest: Vec<_> = servers.into_iter().take(256).map(IpAddr::from).collect();
            prop_assert_eq!(step.has_changed, !lowest.is_empty());
            prop_assert_eq!(name.addresses(), lowest);
        }
    }
}
