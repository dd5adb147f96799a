//! Which worker serves a connection that was just accepted.
//!
//! Owns the rule; counts come in as arguments, and the caller keeps them and moves the sockets.

/// Moves accepted sockets to lighter workers, before TLS begins.
///
/// The kernel spreads connections over listener sockets by a hash, which leaves 1.5–2 times the
/// mean on one worker when there are few. Where connections stay, every one counts: a socket moves
/// when the other worker has a sixteenth fewer, and one at least. Where they come and go, such a
/// difference is noise that is gone before the handshake ends (open connections are Poisson, their
/// deviation is √n): then a socket moves for a difference of 3√n only. What tells the two apart is
/// the share of closes among the latest 32 or so accepts and closes. Simulated below: of 64 long
/// connections on four workers never more than 17 are on one (by hash alone 20, on average), and of
/// short ones under even load at most 1.7 % move.
///
/// Count a moved socket for its new worker as soon as it is moved, and never move it again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handoff {
    /// 0 when all latest events were accepts, `CHURN_ONE` when all were closes.
    churn: u32,
}

impl Handoff {
    /// Call after `target`, for every socket that the kernel gave this worker.
    pub fn accepted(&mut self) {
        self.churn -= self.churn / CHURN_WINDOW;
    }

    pub fn closed(&mut self) {
        self.churn += (CHURN_ONE - self.churn) / CHURN_WINDOW;
    }

    /// The worker of `sampled` (worker, its open connections) that should have the socket which
    /// this worker, with `own_open` others, has accepted; `None` to keep it.
    pub fn target(&self, own_open: usize, sampled: &[(usize, usize)]) -> Option<usize> {
        let &(worker, open) = sampled.iter().min_by_key(|(_, open)| open)?;
        let settled = (own_open / 16).max(1);
        let margin = if self.churn < CHURN_LIMIT {
            settled
        } else {
            settled.max(own_open.isqrt().saturating_mul(3))
        };
        (own_open >= open.saturating_add(margin)).then_some(worker)
    }
}

const CHURN_ONE: u32 = 1 << 16;
const CHURN_WINDOW: u32 = 32;
/// Steady load closes as often as it accepts: one half.
const CHURN_LIMIT: u32 = CHURN_ONE / 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::seeded::Random;

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            usize::try_from((self.next() >> 16) & u64::from(u32::MAX)).unwrap() % limit
        }
    }

    struct Workers {
        open: Vec<usize>,
        handoffs: Vec<Handoff>,
        moved: usize,
    }

    impl Workers {
        fn new(count: usize) -> Workers {
            Workers { open: vec![0; count], handoffs: vec![Handoff::default(); count], moved: 0 }
        }

        /// As the kernel's hash: any worker. Returns the one that has the connection in the end.
        fn accept(&mut self, random: &mut Random) -> usize {
            let count = self.open.len();
            let hashed = random.below(count);
            let sampled = [0; 2].map(|_| (hashed + 1 + random.below(count - 1)) % count);
            let sampled = sampled.map(|worker| (worker, self.open[worker]));
            let target = self.handoffs[hashed].target(self.open[hashed], &sampled);
            self.handoffs[hashed].accepted();
            self.moved += usize::from(target.is_some());
            let worker = target.unwrap_or(hashed);
            self.open[worker] += 1;
            worker
        }

        fn close(&mut self, worker: usize) {
            self.open[worker] -= 1;
            self.handoffs[worker].closed();
        }
    }

    // threat 41
    #[test]
    fn few_long_connections_end_within_a_tenth_of_the_mean() {
        for count in [2, 4] {
            let (mut hash_sum, mut worst) = (0, 0);
            for seed in 1..=200 {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
                let mut hashed = vec![0; count];
                (0..64).for_each(|_| hashed[random.below(count)] += 1);
                hash_sum += hashed.iter().max().unwrap();
                let mut workers = Workers::new(count);
                (0..64).for_each(|_| {
                    workers.accept(&mut random);
                });
                worst = worst.max(*workers.open.iter().max().unwrap());
            }
            println!(
                "{count} workers: mean {}, hash alone {}, worst handed {worst}",
                64 / count,
                hash_sum / 200
            );
            assert!(worst * count * 10 <= 64 * 11, "{count} workers: {worst} of 64 on one");
        }
    }

    #[test]
    fn short_connections_of_an_even_load_mostly_stay() {
        for (count, open) in [(2, 4), (2, 40), (4, 10), (4, 100), (16, 30), (16, 1000)] {
            let mut random = Random(count as u64 * 1_000 + open as u64);
            let mut workers = Workers::new(count);
            let mut live = Vec::new();
            let accepts = 50_000;
            // Accepts and closes in random order around a steady number: each lives a random time.
            let mut accepted = 0;
            while accepted < accepts {
                if random.below(open * count + live.len()) < open * count {
                    live.push(workers.accept(&mut random));
                    accepted += 1;
                } else {
                    let worker = live.swap_remove(random.below(live.len()));
                    workers.close(worker);
                }
            }
            println!("{count} workers, {open} open each: {} of {accepts} moved", workers.moved);
            assert!(workers.moved * 100 < accepts * 3, "{} of {accepts} moved", workers.moved);
        }
    }

    #[test]
    fn a_hot_worker_sheds_even_when_connections_are_short() {
        let mut handoff = Handoff::default();
        (0..500).for_each(|_| {
            handoff.accepted();
            handoff.closed();
        });
        assert_eq!(handoff.target(100, &[(1, 90), (2, 75)]), None, "within the noise");
        assert_eq!(handoff.target(100, &[(1, 90), (2, 20)]), Some(2));
        assert_eq!(handoff.target(0, &[(1, 0)]), None);
        assert_eq!(handoff.target(usize::MAX, &[]), None);
        assert_eq!(handoff.target(usize::MAX, &[(3, 0)]), Some(3));
    }
}
