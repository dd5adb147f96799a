//! Whether every worker still works: control asks each to beat, and looks whether it has.
//!
//! A worker beats when it reads its mail, as it does for sockets and snapshots: one that hangs in a
//! task does not. Tells the log which one hangs; `supervisor` tells systemd when none does.

use std::time::{Duration, Instant};

use crate::worker::{Order, Peer};

/// Asks, and remembers who answered when.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    next: Instant,
    workers: Vec<Beats>,
}

#[derive(Debug, Clone, Copy)]
struct Beats {
    asked: u64,
    /// When it was seen to have answered everything.
    alive_at: Instant,
    is_told: bool,
}

impl Heartbeat {
    /// Asks so often, and at least each second.
    pub(super) fn new(workers: usize, interval: Duration, now: Instant) -> Self {
        let beats = Beats { asked: 0, alive_at: now, is_told: false };
        Self { interval: interval.min(INTERVAL_MAX), next: now, workers: vec![beats; workers] }
    }

    /// To be called often. `has_ended` says of a worker that it has nothing left to do.
    pub(super) fn look(&mut self, peers: &[Peer], has_ended: impl Fn(usize) -> bool, now: Instant) {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.interval;
        }
        for (worker, (beats, peer)) in self.workers.iter_mut().zip(peers).enumerate() {
            if has_ended(worker) {
                beats.alive_at = now;
            } else if peer.counters.beats.value() >= beats.asked {
                beats.alive_at = now;
                if std::mem::take(&mut beats.is_told) {
                    tracing::warn!(worker, "the worker answers again");
                }
                if is_due {
                    beats.asked += 1;
                    peer.mailbox.order(Order::Beat);
                }
            } else if now >= beats.alive_at + HANGS_AFTER && !beats.is_told {
                beats.is_told = true;
                tracing::error!(
                    worker,
                    "the worker has not answered for {HANGS_AFTER:?}: its clients wait; if it stays so, \
                     please report it with a stack trace (`gdb -p PID -batch -ex 'thread apply all bt'`), \
                     and restart"
                );
            }
        }
    }

    /// Whether every worker was alive within this time before `now`.
    pub(super) fn all_within(&self, time: Duration, now: Instant) -> bool {
        self.workers.iter().all(|beats| now <= beats.alive_at + time)
    }
}

const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Longer than any one task of a worker takes, also on a machine that is busy with something else.
const HANGS_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::plan::Io;
    use crate::sys::clock;
    use crate::worker::Mailbox;

    #[test] // threat 40
    fn one_worker_that_does_not_answer_is_noticed_and_others_do_not_hide_it() {
        let peer = || Peer { io: Io::Epoll, counters: Arc::default(), mailbox: Mailbox::new() };
        let peers = [peer(), peer()];
        let start = clock::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut heart = Heartbeat::new(2, Duration::from_millis(500), start);
        let is_alive = |heart: &Heartbeat, now| heart.all_within(Duration::from_secs(1), now);
        let answer = |of: usize| peers[of].counters.beats.increment();
        for moment in [0, 500, 1_000] {
            heart.look(&peers, |_| false, at(moment));
            assert!(is_alive(&heart, at(moment)));
            answer(0);
            answer(1);
        }
        // The second one hangs: it is asked once more, and not again and again.
        for moment in (1_500..8_000).step_by(500) {
            heart.look(&peers, |_| false, at(moment));
            answer(0);
            assert_eq!(is_alive(&heart, at(moment)), moment <= 2_500, "at {moment}");
        }
        assert!(heart.workers[1].is_told && !heart.workers[0].is_told);
        assert_eq!(heart.workers[1].asked, 4);
        answer(1);
        heart.look(&peers, |_| false, at(8_000));
        assert!(is_alive(&heart, at(8_000)) && !heart.workers[1].is_told);
        // One that has nothing left to do need not answer.
        heart.look(&peers, |worker| worker == 1, at(20_000));
        assert!(!is_alive(&heart, at(20_000 + 1_001)));
        assert_eq!(heart.workers[1].alive_at, at(20_000));
    }
}
