//! What the kernel writes about processes in `/proc`.

/// One reading; empty where /proc is missing.
#[derive(Debug, Default)]
pub struct Status(String);

impl Status {
    pub fn read() -> Self {
        Self(std::fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// Bytes in RAM.
    pub fn resident(&self) -> Option<u64> {
        Some(self.field("VmRSS:")? * 1024)
    }

    pub fn threads(&self) -> Option<u64> {
        self.field("Threads:")
    }

    /// A seccomp filter looks at its system calls.
    pub fn is_filtered(&self) -> bool {
        self.field("Seccomp:") == Some(2)
    }

    /// How many of these there are; `None` before Linux 5.9.
    pub fn filters(&self) -> Option<u64> {
        self.field("Seccomp_filters:")
    }

    /// The number of a line as `VmRSS:  1234 kB`.
    fn field(&self, key: &str) -> Option<u64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

/// When a process started, in ticks since the machine did (proc_pid_stat(5), field 22).
pub fn started_ticks(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name that may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(STARTED - 3)?.parse().ok()
}

const STARTED: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_started_after_the_first_one() {
        let (first, ours) = (started_ticks(1).unwrap(), started_ticks(std::process::id()).unwrap());
        assert!(first <= ours && ours > 0, "{first} {ours}");
        assert_eq!(started_ticks(u32::MAX), None);
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let status = Status::read();
        assert!(status.resident().is_some_and(|bytes| bytes > 100_000), "{status:?}");
        assert!(status.threads().is_some_and(|threads| threads > 0), "{status:?}");
    }
}
