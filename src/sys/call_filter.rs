//! Keeps this process from system calls that serving never makes (seccomp, seccomp(2)): for good, in all its
//! threads, in those that they start, and in what these execute.
//!
//! `rules` is which calls these are. Nobody is killed for one: it answers that it is not permitted; only calls
//! of another architecture end the process. Enter it last: it forbids what it takes to become another user.

#[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
mod rules;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::status::Status;

/// Whether a driver is to come that makes rings of io_uring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rings {
    Allowed,
    Forbidden,
}

/// What became of it.
#[derive(Debug)]
pub enum Filtered {
    Yes,
    /// The processes before this one, of which each was started by the last, have left no room for another
    /// filter: theirs hold.
    Inherited,
    /// The kernel has no filters, or this process may have none.
    No(io::Error),
    /// It is not known which calls this processor has.
    Processor,
}

/// Of the filters that the kernel counts for this process those that it has put in force itself.
static OWN: AtomicU64 = AtomicU64::new(0);

/// From here on the calls of `rules` are forbidden.
///
/// # Errors
/// The kernel refuses what it knows.
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
pub fn enter(rings: Rings) -> io::Result<Filtered> {
    use seccompiler::{Error, apply_filter_all_threads};

    for program in rules::programs(rings).map_err(io::Error::other)? {
        match apply_filter_all_threads(&program) {
            Ok(()) => OWN.fetch_add(1, Ordering::Relaxed),
            Err(Error::Seccomp(error)) => return refused(error),
            Err(error) => return Err(io::Error::other(error)),
        };
    }
    Ok(Filtered::Yes)
}

/// Nothing is forbidden.
///
/// # Errors
/// None.
#[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64")))]
pub fn enter(_: Rings) -> io::Result<Filtered> {
    Ok(Filtered::Processor)
}

/// Whether somebody else's filter looks at the calls of this process: who started it, or what it was started in.
pub fn is_from_outside() -> bool {
    let status = Status::read();
    match status.filters() {
        Some(filters) => filters > OWN.load(Ordering::Relaxed),
        // Before Linux 5.9 they are not counted.
        None => status.is_filtered(),
    }
}

#[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64"))]
fn refused(error: io::Error) -> io::Result<Filtered> {
    use rustix::io::Errno;

    match Errno::from_io_error(&error) {
        // All filters of a process together have 32,768 instructions.
        Some(Errno::NOMEM) if Status::read().is_filtered() => Ok(Filtered::Inherited),
        // Not built in (CONFIG_SECCOMP, CONFIG_SECCOMP_FILTER), or kept from it by another filter.
        Some(Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::ACCESS) => Ok(Filtered::No(error)),
        _ => Err(error),
    }
}
