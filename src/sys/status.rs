//! What the kernel writes about this process in `/proc/self/status`.

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

    /// The number of a line as `VmRSS:  1234 kB`.
    fn field(&self, key: &str) -> Option<u64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_threads() {
        let status = Status::read();
        assert!(status.resident().is_some_and(|bytes| bytes > 100_000), "{status:?}");
        assert!(status.threads().is_some_and(|threads| threads > 0), "{status:?}");
    }
}
