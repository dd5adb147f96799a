//! Whether this kernel lets this process use io_uring, and with which settings a ring is made.
//!
//! A ring of a worker is the runtime's; here is one made that nobody uses, to know beforehand what a
//! worker would run into, and to say it in words.

use std::io;

use io_uring::{Builder, IoUring, Probe, opcode};
use rustix::io::Errno;

use super::call_filter;

/// Submissions of one turn. More than these go to the kernel in two calls.
pub const ENTRIES: u32 = 256;

/// Completions that the ring holds, 64 KiB a worker. What is beyond waits in the kernel, at the price
/// of one call more.
const COMPLETIONS: u32 = 4096;

/// Why there is no io_uring for this process.
#[derive(Debug, thiserror::Error)]
pub enum Forbidden {
    #[error("the sysctl kernel.io_uring_disabled is {0}")]
    Sysctl(u8),
    #[error("a seccomp filter forbids it")]
    Filter(#[source] io::Error),
    #[error("this kernel has none")]
    Absent(#[source] io::Error),
    #[error("this kernel is older than Linux 6.0")]
    TooOld(#[source] io::Error),
    #[error("this kernel does not offer the operation {0}")]
    Operation(&'static str),
    #[error("the kernel does not let this process use it")]
    Denied(#[source] io::Error),
    #[error("a ring cannot be made")]
    Ring(#[source] io::Error),
}

impl Forbidden {
    /// What the operator can do about it, beside doing without.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Sysctl(1) => {
                "put its user into the group that kernel.io_uring_group names, or set \
                 `sysctl kernel.io_uring_disabled=0`"
            }
            Self::Sysctl(_) => "set `sysctl kernel.io_uring_disabled=0`",
            Self::Filter(_) => {
                "container engines forbid it by default: allow io_uring_setup, io_uring_enter and \
                 io_uring_register in the seccomp profile, or in SystemCallFilter of the unit; and who \
                 takes over from a process on epoll in an upgrade is in its filter: restart instead"
            }
            Self::Absent(_) | Self::TooOld(_) | Self::Operation(_) => {
                "it takes Linux 6.0 or later, built with CONFIG_IO_URING"
            }
            Self::Denied(_) => "ask the security module (SELinux, AppArmor) in the kernel's log",
            Self::Ring(_) => "look at the limits of memory, locked memory and descriptors",
        }
    }
}

/// How every ring is made: one thread uses it, and completions wait until that thread enters the
/// kernel instead of interrupting it (both since Linux 6.0 at the latest).
pub fn settings() -> Builder {
    let mut settings = IoUring::builder();
    settings.setup_single_issuer().setup_coop_taskrun().setup_cqsize(COMPLETIONS);
    settings
}

/// Makes a ring, enters the kernel with it, asks which operations there are, and drops it.
///
/// # Errors
/// Why a worker could not use one.
pub fn probe() -> Result<(), Forbidden> {
    let explained = |error| explain(error, &Surroundings::read());
    let ring = settings().build(ENTRIES).map_err(explained)?;
    // A filter may allow to make one and not to use it.
    ring.submit().map_err(explained)?;
    let mut offered = Probe::new();
    ring.submitter().register_probe(&mut offered).map_err(explained)?;
    for (code, name) in OPERATIONS {
        if !offered.is_supported(code) {
            return Err(Forbidden::Operation(name));
        }
    }
    Ok(())
}

/// What a worker asks of the kernel.
const OPERATIONS: [(u8, &str); 2] = [
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
    (opcode::AsyncCancel2::CODE, "IORING_OP_ASYNC_CANCEL"),
];

/// What tells one EPERM from another.
#[derive(Debug, Default)]
struct Surroundings {
    disabled: u8,
    is_filtered: bool,
}

impl Surroundings {
    fn read() -> Self {
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        let disabled = disabled.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Self { disabled, is_filtered: call_filter::is_from_outside() }
    }
}

fn explain(error: io::Error, surroundings: &Surroundings) -> Forbidden {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    let is_denied = is(Errno::PERM) || is(Errno::ACCESS);
    match surroundings {
        Surroundings { disabled: disabled @ 1.., .. } if is(Errno::PERM) => {
            Forbidden::Sysctl(*disabled)
        }
        // Filters answer with either; a kernel that has it says ENOSYS only through one.
        Surroundings { is_filtered: true, .. } if is_denied || is(Errno::NOSYS) => {
            Forbidden::Filter(error)
        }
        _ if is(Errno::NOSYS) => Forbidden::Absent(error),
        // A flag that it does not know; the sizes are right.
        _ if is(Errno::INVAL) => Forbidden::TooOld(error),
        _ if is_denied => Forbidden::Denied(error),
        _ => Forbidden::Ring(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_the_kernel_has_its_words() {
        let free = Surroundings::default();
        let filtered = Surroundings { disabled: 0, is_filtered: true };
        let disabled = |disabled| Surroundings { disabled, is_filtered: true };
        let cases = [
            (Errno::PERM, disabled(2), "the sysctl kernel.io_uring_disabled is 2"),
            (Errno::PERM, disabled(1), "the sysctl kernel.io_uring_disabled is 1"),
            (Errno::PERM, filtered, "a seccomp filter forbids it"),
            (Errno::NOSYS, disabled(0), "a seccomp filter forbids it"),
            (Errno::NOSYS, free, "this kernel has none"),
            (Errno::INVAL, disabled(0), "this kernel is older than Linux 6.0"),
            (Errno::ACCESS, Surroundings::default(), "the kernel does not let this process use it"),
            (Errno::NOMEM, disabled(2), "a ring cannot be made"),
        ];
        for (errno, surroundings, words) in cases {
            let forbidden = explain(errno.into(), &surroundings);
            assert_eq!(forbidden.to_string(), words, "{errno:?} {surroundings:?}");
            assert!(!forbidden.help().is_empty());
        }
    }
}
