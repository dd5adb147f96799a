//! Owns the description of the host on which a run was made, and of its limits. Two results are
//! comparable only if these agree. Read `verdict.rs` and `doctor.rs` next.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::clock;

/// The host and the command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// `Linux 6.18.0 x86_64`.
    pub kernel: String,
    /// The processor's name; the numbers of its kind where the kernel knows no name, as on arm64.
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
        let cpu = processor(&read("/proc/cpuinfo"));
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

/// Pins the calling thread to a CPU.
///
/// # Errors
/// This process may not use that CPU, or this host has none of that number.
pub fn pin_thread(cpu: usize) -> Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        bail!("no CPU has the number {cpu}");
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .with_context(|| format!("CPU {cpu} is not to be had: see /sys/devices/system/cpu/online"))
}

/// Whether `threads` threads can be pinned to the CPUs from `first` on.
///
/// # Errors
/// They cannot: a thread that is not where it was wanted measures something else.
pub fn check_pin(first: Option<usize>, threads: u32) -> Result<()> {
    let Some(first) = first else { return Ok(()) };
    // Tried, not looked up: `taskset` narrows what is inherited, not what may be asked for.
    let before = sched_getaffinity(None).context("cannot see the CPUs of this process")?;
    let tried = (first..).take(threads as usize).try_for_each(pin_thread);
    let restored = sched_setaffinity(None, &before).context("cannot go back to all CPUs");
    tried.with_context(|| format!("--pin {first} with {threads} threads"))?;
    restored
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

/// The first processor of /proc/cpuinfo, which says `model name` on x86-64 only. Numbers will do: what is
/// told must differ where processors do.
fn processor(cpuinfo: &str) -> String {
    let first = cpuinfo.trim_start().split("\n\n").next().unwrap_or_default();
    let value = |key: &str| {
        first.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim_end() == key).then(|| value.trim())
        })
    };
    if let Some(name) = value("model name") {
        return name.to_owned();
    }
    let told = KIND.iter().filter_map(|key| Some(format!("{key} {}", value(key)?)));
    told.collect::<Vec<_>>().join(", ")
}

/// What of /proc/cpuinfo tells kinds apart, on arm64 and on riscv64.
const KIND: [&str; 8] = [
    "CPU implementer",
    "CPU part",
    "CPU variant",
    "CPU revision",
    "uarch",
    "mvendorid",
    "marchid",
    "mimpid",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_told_by_its_name() {
        let cpuinfo = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 1\n\
            model name\t: AMD EPYC 7B13\nstepping\t: 0\n\nprocessor\t: 1\nmodel name\t: another\n";
        assert_eq!(processor(cpuinfo), "AMD EPYC 7B13");
    }

    #[test]
    fn a_processor_without_a_name_is_told_by_the_numbers_of_its_kind() {
        let of = |part: &str| {
            processor(&format!(
                "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm aes\n\
                 CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n\
                 CPU part\t: {part}\nCPU revision\t: 1\n\nprocessor\t: 1\n"
            ))
        };
        let told = "CPU implementer 0x41, CPU part 0xd0c, CPU variant 0x3, CPU revision 1";
        assert_eq!(of("0xd0c"), told);
        assert_ne!(of("0xd40"), told, "Graviton 2 is none of the third");
        let riscv = "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc\nmmu\t\t: sv39\n\
            uarch\t\t: sifive,u74-mc\nmvendorid\t: 0x489\nmarchid\t\t: 0x8000000000000007\n\
            mimpid\t\t: 0x4210427\n\n";
        let told =
            "uarch sifive,u74-mc, mvendorid 0x489, marchid 0x8000000000000007, mimpid 0x4210427";
        assert_eq!(processor(riscv), told);
        assert_eq!(processor(""), "");
    }
}
