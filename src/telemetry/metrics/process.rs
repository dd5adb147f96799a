//! What the kernel knows of this process: memory, descriptors, threads, processor time.
//!
//! Read from /proc at a scrape, on the thread that scrapes. Where /proc is missing, so are they.

use std::fmt;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::encode::Families;
use crate::sys::status::Status;

pub(super) fn encode(started: Duration, families: &mut Families<'_, '_>) -> fmt::Result {
    families
        .info("portcullis_build", "This build")?
        .sample(&[("version", env!("CARGO_PKG_VERSION"))])?;
    families
        .gauge("portcullis_process_start_time_seconds", "Unix time of the start")?
        .sample(&[], started.as_secs_f64())?;
    families
        .counter("portcullis_process_cpu_seconds", "Processor time spent, user and system")?
        .sample(&[], cpu_time().as_secs_f64())?;
    let status = Status::read();
    let mut memory = families.gauge("portcullis_process_resident_memory_bytes", "Memory in RAM")?;
    if let Some(bytes) = status.resident() {
        memory.sample(&[], bytes)?;
    }
    let mut threads = families.gauge("portcullis_process_threads", "Threads")?;
    if let Some(count) = status.threads() {
        threads.sample(&[], count)?;
    }
    let mut open =
        families.gauge("portcullis_process_open_descriptors", "File descriptors open now")?;
    if let Some(count) = open_descriptors() {
        open.sample(&[], count)?;
    }
    let mut max =
        families.gauge("portcullis_process_descriptors_max", "Limit of open file descriptors")?;
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        max.sample(&[], limit)?;
    }
    Ok(())
}

fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

fn open_descriptors() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them reads the directory.
    u64::try_from(entries).ok()?.checked_sub(1)
}
