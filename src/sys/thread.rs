//! Cores: which ones this process may use, a thread's place on one of them, and what it has had of it.

use std::io;
use std::time::Duration;

use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// The cores that this process may run on, in ascending order; never empty.
pub fn cores() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return vec![0] };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Keeps the calling thread on one core.
pub fn pin_to(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// What the kernel calls the calling thread.
pub fn id() -> u64 {
    gettid().as_raw_nonzero().get().unsigned_abs().into()
}

/// What a thread of this process has had of the cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub running: Duration,
    /// Ready to run, while others had the core.
    pub waiting: Duration,
}

/// The usage of the thread that `id` named; `None` where it has ended, or the kernel keeps no account
/// (CONFIG_SCHED_INFO).
pub fn usage(id: u64) -> Option<Usage> {
    let line = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).ok()?;
    let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
    let mut next = || numbers.next().map(Duration::from_nanos);
    Some(Usage { running: next()?, waiting: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_seen_to_run() {
        let before = usage(id()).expect("the kernel keeps an account");
        let deadline = portcullis_kit::Deadline::after(portcullis_kit::PATIENCE);
        let mut work = 0_u64;
        // The account is kept by the kernel's tick: it moves some milliseconds late.
        while usage(id()).expect("as before").running == before.running {
            work = std::hint::black_box(work.wrapping_add(1));
            assert!(!deadline.is_over(), "the account stands still");
        }
        assert_eq!(usage(u64::from(u32::MAX)), None);
    }

    #[test]
    fn a_thread_can_be_pinned_to_any_allowed_core() {
        for core in cores() {
            std::thread::spawn(move || pin_to(core).map(|()| cores()))
                .join()
                .unwrap()
                .map(|now| assert_eq!(now, vec![core]))
                .unwrap();
        }
    }
}
