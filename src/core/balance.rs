//! Which endpoint of a cluster gets the next connection, and which of several clusters.
//!
//! Owns the rules; weights and counts come in as arguments, and the caller keeps them. Nothing here
//! knows why an endpoint may not be chosen: its weight is 0 then. Next: `maglev`, the rule that goes
//! by who the client is; `pool`, which dials where this points.

/// An endpoint as a choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its share of the sum of all; 0: it may not be chosen.
    pub weight: u32,
    /// Connections open to it.
    pub active: u32,
}

/// Endpoints in turn, each as often as its weight says and as evenly spread as that allows (nginx's
/// smooth weighted round robin).
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    first: usize,
    /// What each endpoint is owed. Who is owed most is next, and pays the sum of all weights.
    owed: Vec<i64>,
}

/// The endpoint with the fewest open connections for its weight: of all where they are few, else the
/// better of two at random (power of two choices: as good as a scan to within a constant, without the
/// herd).
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastConnections {
    turn: usize,
}

impl RoundRobin {
    /// `first` differs from worker to worker, so that all do not start with the same endpoint.
    pub fn new(first: usize) -> Self {
        Self { first, owed: Vec::new() }
    }

    /// The next endpoint; `None` when none may be chosen. Whoever may not be is owed nothing for it.
    pub fn choose(&mut self, candidates: &[Candidate]) -> Option<usize> {
        self.owed.resize(candidates.len(), 0);
        let mut sum = 0;
        let mut chosen: Option<usize> = None;
        for at in in_turn(self.first, candidates.len()) {
            let weight = i64::from(candidates[at].weight);
            if weight == 0 {
                continue;
            }
            sum += weight;
            self.owed[at] += weight;
            // Of equals the first: the one whose turn is nearest.
            if chosen.is_none_or(|chosen| self.owed[at] > self.owed[chosen]) {
                chosen = Some(at);
            }
        }
        self.owed[chosen?] -= sum;
        chosen
    }
}

impl LeastConnections {
    /// `first` as for `RoundRobin`.
    pub fn new(first: usize) -> Self {
        Self { turn: first }
    }

    /// The endpoint of the fewest connections for its weight; equal ones in turn, so that an idle
    /// cluster does not always use its first. `None` when none may be chosen.
    pub fn choose(&mut self, candidates: &[Candidate], random: u64) -> Option<usize> {
        let lighter = |one: usize, other: usize| {
            if is_lighter(candidates[other], candidates[one]) { other } else { one }
        };
        let chosen = if candidates.len() <= SCAN_MAX {
            let usable =
                in_turn(self.turn, candidates.len()).filter(|at| candidates[*at].weight > 0);
            usable.reduce(lighter)?
        } else {
            let [first, second] = halves(random);
            let one = pick(candidates.iter().map(|it| it.weight), first)?;
            let others = candidates.iter().enumerate();
            let others = others.map(|(at, it)| if at == one { 0 } else { it.weight });
            pick(others, second).map_or(one, |other| lighter(one, other))
        };
        self.turn = chosen + 1;
        Some(chosen)
    }
}

/// An endpoint at random, each as often as its weight says; `None` when none may be chosen.
pub fn at_random(candidates: &[Candidate], random: u64) -> Option<usize> {
    pick(candidates.iter().map(|it| it.weight), halves(random)[0])
}

/// One of several things at random, each as often as its weight says; `None` where all are 0.
pub fn by_weight(weights: impl Iterator<Item = u32> + Clone, random: u64) -> Option<usize> {
    pick(weights, halves(random)[0])
}

/// Whether `one` has fewer connections for its weight than `other`, the next one included: of two that
/// are idle, the heavier is the lighter.
fn is_lighter(one: Candidate, other: Candidate) -> bool {
    let load =
        |of: Candidate, against: Candidate| (u64::from(of.active) + 1) * u64::from(against.weight);
    load(one, other) < load(other, one)
}

/// Where `point`, of 2³², falls when all weights lie side by side.
fn pick(weights: impl Iterator<Item = u32> + Clone, point: u32) -> Option<usize> {
    let sum: u64 = weights.clone().map(u64::from).sum();
    let mut left = (u128::from(sum) * u128::from(point)) >> 32;
    for (at, weight) in weights.enumerate() {
        let weight = u128::from(weight);
        if left < weight {
            return Some(at);
        }
        left -= weight;
    }
    None
}

/// All of `0..count` once, from `turn` on and around.
fn in_turn(turn: usize, count: usize) -> impl Iterator<Item = usize> {
    // `checked_rem`: without endpoints there is none to begin with.
    let first = turn.checked_rem(count).unwrap_or(0);
    (first..count).chain(0..first)
}

/// Two independent numbers out of one.
fn halves(random: u64) -> [u32; 2] {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    [half(random), half(random >> 32)]
}

/// Scanning 16 counts is one or two cache lines; the herd of a scan needs more endpoints than that.
const SCAN_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::seeded::Random;
    use proptest::prelude::*;

    fn all(weights: &[u32]) -> Vec<Candidate> {
        weights.iter().map(|&weight| Candidate { weight, active: 0 }).collect()
    }

    fn loaded(pairs: &[(u32, u32)]) -> Vec<Candidate> {
        pairs.iter().map(|&(weight, active)| Candidate { weight, active }).collect()
    }

    #[test]
    fn round_robin_takes_each_in_turn_and_skips_who_may_not_be_chosen() {
        let mut robin = RoundRobin::new(1);
        let three = all(&[1, 1, 1]);
        let turns = [0; 6].map(|_| robin.choose(&three).unwrap());
        assert_eq!(turns, [1, 2, 0, 1, 2, 0]);
        assert_eq!([0; 3].map(|_| robin.choose(&all(&[1, 0, 1])).unwrap()), [2, 0, 2]);
        assert_eq!(robin.choose(&all(&[0, 0, 0])), None);
        assert_eq!(robin.choose(&[]), None);
        assert_eq!(RoundRobin::new(usize::MAX).choose(&all(&[1, 1])), Some(1));
    }

    #[test]
    fn turns_of_a_heavy_endpoint_are_spread_and_not_in_a_row() {
        let mut robin = RoundRobin::new(0);
        let turns = [0; 7].map(|_| robin.choose(&all(&[5, 1, 1])).unwrap());
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0], "the example of nginx' authors");
    }

    #[test]
    fn the_fewest_connections_for_its_weight_win_and_equals_rotate() {
        let mut least = LeastConnections::new(0);
        assert_eq!(least.choose(&loaded(&[(1, 3), (1, 1), (1, 2)]), 0), Some(1));
        assert_eq!(least.choose(&loaded(&[(1, 3), (0, 1), (1, 2)]), 0), Some(2));
        assert_eq!(least.choose(&loaded(&[(4, 6), (1, 1)]), 0), Some(0));
        assert_eq!(least.choose(&loaded(&[(4, 8), (1, 1)]), 0), Some(1));
        assert_eq!(least.choose(&loaded(&[(0, 0)]), 0), None);
        assert_eq!(least.choose(&[], 0), None);
        let mut idle = LeastConnections::new(0);
        assert_eq!([0; 3].map(|_| idle.choose(&all(&[1, 1, 1]), 0).unwrap()), [0, 1, 2]);
        let mut weighted = LeastConnections::new(0);
        assert_eq!(weighted.choose(&all(&[1, 3, 1]), 0), Some(1));
    }

    proptest! {
        #[test]
        fn a_choice_is_never_one_without_weight(
            pairs in prop::collection::vec((0..3u32, 0..9u32), 0..40),
            random: u64,
            turn: usize,
        ) {
            let candidates = loaded(&pairs);
            let is_any = candidates.iter().any(|it| it.weight > 0);
            let least = LeastConnections::new(turn).choose(&candidates, random);
            let robin = RoundRobin::new(turn).choose(&candidates);
            let random = at_random(&candidates, random);
            for chosen in [least, robin, random] {
                prop_assert_eq!(chosen.is_some(), is_any);
                prop_assert!(chosen.is_none_or(|chosen| candidates[chosen].weight > 0));
            }
            if candidates.len() <= SCAN_MAX && let Some(least) = least {
                let usable = candidates.iter().filter(|it| it.weight > 0);
                for other in usable {
                    prop_assert!(!is_lighter(*other, candidates[least]));
                }
            }
        }

        #[test]
        fn in_a_round_each_has_exactly_as_many_turns_as_its_weight(
            weights in prop::collection::vec(0..20u32, 1..20),
            turn: usize,
        ) {
            let (candidates, mut robin) = (all(&weights), RoundRobin::new(turn));
            for _ in 0..2 {
                let mut turns = vec![0; weights.len()];
                for _ in 0..weights.iter().sum() {
                    turns[robin.choose(&candidates).unwrap()] += 1;
                }
                prop_assert_eq!(&turns, &weights);
            }
        }

        #[test]
        fn what_is_owed_stays_within_the_sum_whoever_comes_and_goes(
            rounds in prop::collection::vec(prop::collection::vec(0..1_000u32, 8), 1..200),
        ) {
            let mut robin = RoundRobin::new(0);
            for weights in &rounds {
                robin.choose(&all(weights));
            }
            prop_assert!(robin.owed.iter().all(|owed| owed.abs() <= 8_000 * 8), "{:?}", robin.owed);
        }
    }

    #[test]
    fn two_choices_keep_many_endpoints_even_for_their_weights() {
        let (mut random, mut least) = (Random(7), LeastConnections::new(0));
        let mut endpoints: Vec<_> =
            (0..200).map(|at| Candidate { weight: 1 + at % 2, active: 0 }).collect();
        for _ in 0..30_000 {
            let chosen = least.choose(&endpoints, random.next()).unwrap();
            endpoints[chosen].active += 1;
        }
        for endpoint in endpoints {
            let each = endpoint.active / endpoint.weight;
            assert!((90..=105).contains(&each), "{endpoint:?}");
        }
    }

    #[test]
    fn shares_at_random_are_those_of_the_weights() {
        let (mut random, candidates) = (Random(3), all(&[95, 0, 5]));
        let mut counts = [0u32; 3];
        for _ in 0..20_000 {
            counts[at_random(&candidates, random.next()).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((18_850..=19_150).contains(&counts[0]), "{counts:?}");
        assert_eq!(by_weight([0, 0].into_iter(), 1), None);
        assert_eq!(by_weight([1].into_iter(), u64::MAX), Some(0));
    }
}
