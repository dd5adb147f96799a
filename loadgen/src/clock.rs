//! Owns the generator's view of time: the monotonic clock, the wall clock, and the CPU clock of
//! the calling thread. Nothing else in the crate asks the system what time it is; everything
//! that computes with time takes it as an argument. Read `arrivals.rs` next.

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this module is the generator's only clock")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since the Unix epoch, for file headers and certificate dates.
#[expect(clippy::disallowed_methods, reason = "this module is the generator's only clock")]
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Milliseconds since the Unix epoch, to match a run with the logs of others.
#[expect(clippy::disallowed_methods, reason = "this module is the generator's only clock")]
#[must_use]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

/// Waits without doing anything; only the coordinating thread may, never a load thread.
#[expect(clippy::disallowed_methods, reason = "the coordinator has no event to wait on")]
pub fn sleep(span: Duration) {
    std::thread::sleep(span);
}

/// CPU time that the calling thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// Time that the calling thread was ready to run and had no CPU; nothing where the kernel does not
/// say (`CONFIG_SCHED_INFO`).
#[must_use]
pub fn thread_waited() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    waited(&text).unwrap_or_default()
}

/// The second of three numbers, in nanoseconds (`Documentation/scheduler/sched-stats.rst`).
fn waited(schedstat: &str) -> Option<Duration> {
    Some(Duration::from_nanos(schedstat.split_whitespace().nth(1)?.parse().ok()?))
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_without_a_cpu_is_the_second_number() {
        assert_eq!(waited("81000 2000000 7\n"), Some(Duration::from_millis(2)));
        assert_eq!(waited(""), None);
    }
}
