//! Owns the reading of `/proc/PID`: the CPU time and memory of the process under test and of this
//! one. Read `run.rs` for when it is asked.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::quantity;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessSample {
    /// User and system time of all its threads, those that ended too, in nanoseconds.
    pub cpu: Duration,
    /// Of this, system time, to 10 ms.
    pub kernel: Duration,
    /// Resident bytes.
    pub rss: u64,
    /// The most it ever had resident.
    pub rss_peak: u64,
    /// In clock ticks since boot; another number is another process.
    pub started: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors; 0 if not ours to see.
    pub descriptors: u64,
}

impl ProcessSample {
    /// Reads process `pid`.
    ///
    /// # Errors
    /// It is gone, or `/proc` is not what it used to be.
    pub fn take(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} is gone"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let sample = Self::parse(&stat, &status, descriptors as u64)
            .with_context(|| format!("cannot make sense of /proc/{pid}/stat"))?;
        Ok(Self { cpu: cpu_clock(pid).unwrap_or(sample.cpu), ..sample })
    }

    fn parse(stat: &str, status: &str, descriptors: u64) -> Option<Self> {
        // The command, in parentheses, may hold spaces and parentheses itself.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // proc(5) counts from 1 and the command is field 2: field n is at n - 3 here.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let span = |ticks| Duration::from_secs_f64(quantity::float(ticks) / TICKS_PER_SECOND);
        Some(Self {
            cpu: span(field(14)? + field(15)?),
            kernel: span(field(15)?),
            rss: kilobytes(status, "VmRSS:") * 1024,
            rss_peak: kilobytes(status, "VmHWM:") * 1024,
            started: field(22)?,
            threads: field(20)?,
            descriptors,
        })
    }
}

/// The CPU clock of a process, which is finer than `/proc`'s; some sandboxes have none.
fn cpu_clock(pid: u32) -> Option<Duration> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    Some(clock_gettime(clock_getcpuclockid(pid).ok()?).ok()?.into())
}

fn kilobytes(status: &str, key: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// USER_HZ is 100 on every Linux that runs this.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let sample = ProcessSample::take(std::process::id()).unwrap();
        assert!(sample.rss > 0 && sample.threads >= 1 && sample.started > 0);
    }

    #[test]
    fn cpu_time_is_counted_in_less_than_clock_ticks() {
        let cpu = ProcessSample::take(std::process::id()).unwrap().cpu;
        assert_ne!(cpu.subsec_nanos() % 10_000_000, 0, "{cpu:?}");
    }

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) (b) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 3 0 4242 0 0";
        let sample = ProcessSample::parse(stat, "VmRSS:\t 10 kB\nVmHWM:\t 20 kB\n", 5).unwrap();
        assert_eq!(sample.cpu, Duration::from_secs(2));
        assert_eq!((sample.started, sample.threads, sample.rss), (4242, 3, 10240));
    }
}
