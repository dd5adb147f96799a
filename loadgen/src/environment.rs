//! Owns the description of the host on which a run was made, and of its limits. Two results are
//! comparable only if these agree. Read `verdict.rs` and `doctor.rs` next.

use serde::{Deserialize, Serialize};

use crate::clock;

/// The host and the command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// `Linux 6.18.0 x86_64`.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// How many of them this process may use.
    pub cores: usize,
    /// Frequency governor, or `none` on virtual machines.
    pub governor: String,
    /// One-minute load average when the run started.
    pub loadavg: f64,
    /// This program's version.
    pub generator: String,
    /// The arguments as given.
    pub flags: Vec<String>,
    /// Seconds since the Unix epoch.
    pub started_unix: u64,
}

impl Environment {
    /// Looks around.
    #[must_use]
    pub fn look(flags: Vec<String>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| {
                Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned())
            })
            .unwrap_or_default();
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            kernel: format!(
                "Linux {} {}",
                read("/proc/sys/kernel/osrelease"),
                std::env::consts::ARCH
            ),
            cpu,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            governor: if governor.is_empty() { "none".to_owned() } else { governor },
            loadavg: load_average(),
            generator: env!("CARGO_PKG_VERSION").to_owned(),
            flags,
            started_unix: clock::unix_seconds(),
        }
    }
}

/// The one-minute load average.
#[must_use]
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// The soft limit of open descriptors, after raising it to the hard one.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many local ports one source address has.
#[must_use]
pub fn port_count() -> u64 {
    let text =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ends: Vec<u64> = text.split_whitespace().filter_map(|end| end.parse().ok()).collect();
    match ends[..] {
        [first, last] if last >= first => last - first + 1,
        _ => 28_232,
    }
}
