//! Which system calls are forbidden, as the programs that the kernel runs at each call.
//!
//! It is a list of what is forbidden, not of what is allowed: another C library, another allocator or the
//! program that an upgrade starts makes other calls than these here, and is to be served by the same filter.
//! docs/security.md says why each kind is on it. Here is nothing about files, which are Landlock's.

use std::collections::BTreeMap;

use linux_raw_sys::general as kernel;
use linux_raw_sys::ioctl::{TIOCLINUX, TIOCSTI};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, ipproto};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use super::Rings;

/// By the number of a call: what of its arguments makes it forbidden; nothing, and it always is.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Two, for a program has one answer.
pub(super) fn programs(rings: Rings) -> Result<[BpfProgram; 2], BackendError> {
    Ok([program(unknown(), Errno::NOSYS)?, program(forbidden(rings)?, Errno::PERM)?])
}

fn program(rules: Rules, answer: Errno) -> Result<BpfProgram, BackendError> {
    let answer = SeccompAction::Errno(answer.raw_os_error().unsigned_abs());
    let processor = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, answer, processor)?.try_into()
}

/// Calls that do not exist, as far as this process can tell. The flags of clone3 lie in memory, where no filter
/// sees them: C libraries go on with clone. What is newer than this list would not be on it.
fn unknown() -> Rules {
    let newer = NEWER.0..=NEWER.1;
    newer.chain([kernel::__NR_clone3]).map(|call| (i64::from(call), Vec::new())).collect()
}

fn forbidden(rings: Rings) -> Result<Rules, BackendError> {
    let mut rules = conditional()?;
    let lists = [FORBIDDEN, FORBIDDEN_OF_OLD, if_forbidden(rings)];
    rules.extend(lists.concat().into_iter().map(|call| (i64::from(call), Vec::new())));
    if cfg!(target_arch = "x86_64") {
        let same = rules.keys().copied().chain([i64::from(kernel::__NR_clone3)]);
        let other: Vec<_> = same.map(|call| call | X32).collect();
        rules.extend(other.into_iter().map(|call| (call, Vec::new())));
        // Kernels before 5.9 took these without the bit as well.
        let own = X32_OWN.into_iter().flat_map(|call| [call, call | X32]);
        rules.extend(own.map(|call| (call, Vec::new())));
    }
    Ok(rules)
}

fn if_forbidden(rings: Rings) -> &'static [u32] {
    match rings {
        Rings::Allowed => &[],
        Rings::Forbidden => RINGS,
    }
}

/// Calls that serving makes, with other arguments than these.
fn conditional() -> Result<Rules, BackendError> {
    let namespaces = NAMESPACES.iter().map(|flag| rule(vec![has(0, *flag)?]));
    let types = NO_TYPES.iter().map(|kind| rule(vec![is_type(1, *kind)?]));
    let terminals = [TIOCSTI, TIOCLINUX].map(|request| rule(vec![is(1, request)?]));
    let executable = || rule(vec![has(2, kernel::PROT_EXEC)?]);
    let family = |families: &[AddressFamily]| {
        rule(none_of(0, families.iter().map(|family| u32::from(family.as_raw())))?)
    };
    // 0 is what the type says.
    let protocols = [ipproto::TCP, ipproto::UDP].map(|protocol| protocol.as_raw().get());
    let protocol = rule(none_of(2, protocols.into_iter().chain([0]))?);
    let internet = [AddressFamily::UNIX, AddressFamily::INET, AddressFamily::INET6];
    let sockets = [family(&internet), protocol].into_iter().chain(types);
    // Memory is for writing or for executing. A program that is started has its libraries mapped for
    // executing, from files.
    let both = rule(vec![has(2, kernel::PROT_WRITE | kernel::PROT_EXEC)?]);
    Ok(Rules::from([
        (kernel::__NR_socket.into(), sockets.collect::<Result<_, _>>()?),
        (kernel::__NR_socketpair.into(), vec![family(&[AddressFamily::UNIX])?]),
        (kernel::__NR_clone.into(), namespaces.collect::<Result<_, _>>()?),
        (kernel::__NR_ioctl.into(), terminals.into_iter().collect::<Result<_, _>>()?),
        (kernel::__NR_mmap.into(), vec![both?]),
        (kernel::__NR_mprotect.into(), vec![executable()?]),
        (kernel::__NR_pkey_mprotect.into(), vec![executable()?]),
    ]))
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}

fn is(argument: u8, value: u32) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Eq, value)
}

/// All the bits of `flags`.
fn has(argument: u8, flags: u32) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(flags.into()), flags)
}

/// Without the flags that are told along with it (socket(2)).
fn is_type(argument: u8, kind: SocketType) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(0xf), kind.as_raw())
}

fn none_of(
    argument: u8,
    values: impl IntoIterator<Item = u32>,
) -> Result<Vec<SeccompCondition>, BackendError> {
    values.into_iter().map(|value| condition(argument, SeccompCmpOp::Ne, value)).collect()
}

/// Of the lower half, as the kernel takes all of these.
fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u32,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value.into())
}

/// The first call that was not there when this list was made (Linux 6.18), and the last that there may be: all
/// processors count alike from 424 on, and on x86-64 other numbers begin at 512.
const NEWER: (u32, u32) = (470, 511);

const FORBIDDEN: &[u32] = &[
    // Memory, descriptors and secrets of other processes.
    kernel::__NR_ptrace,
    kernel::__NR_process_vm_readv,
    kernel::__NR_process_vm_writev,
    kernel::__NR_process_madvise,
    kernel::__NR_process_mrelease,
    kernel::__NR_pidfd_getfd,
    kernel::__NR_kcmp,
    kernel::__NR_migrate_pages,
    kernel::__NR_move_pages,
    kernel::__NR_perf_event_open,
    kernel::__NR_lookup_dcookie,
    kernel::__NR_add_key,
    kernel::__NR_request_key,
    kernel::__NR_keyctl,
    kernel::__NR_shmget,
    kernel::__NR_shmat,
    kernel::__NR_semget,
    kernel::__NR_msgget,
    kernel::__NR_mq_open,
    // Another view of the machine.
    kernel::__NR_unshare,
    kernel::__NR_setns,
    kernel::__NR_chroot,
    kernel::__NR_pivot_root,
    kernel::__NR_mount,
    kernel::__NR_umount2,
    kernel::__NR_open_tree,
    kernel::__NR_open_tree_attr,
    kernel::__NR_move_mount,
    kernel::__NR_fsopen,
    kernel::__NR_fsconfig,
    kernel::__NR_fsmount,
    kernel::__NR_fspick,
    kernel::__NR_mount_setattr,
    // Another user. capset is not here: it only takes away, and a process that takes over needs less than this
    // one where its configuration does.
    kernel::__NR_setuid,
    kernel::__NR_setgid,
    kernel::__NR_setreuid,
    kernel::__NR_setregid,
    kernel::__NR_setresuid,
    kernel::__NR_setresgid,
    kernel::__NR_setfsuid,
    kernel::__NR_setfsgid,
    kernel::__NR_setgroups,
    kernel::__NR_lsm_set_self_attr,
    kernel::__NR_personality,
    // What Landlock does not keep from: files in memory, which can be executed by /proc/self/fd; files by number;
    // owners, times and attributes. Modes are not here: the admin socket's is set.
    kernel::__NR_memfd_create,
    kernel::__NR_memfd_secret,
    kernel::__NR_execveat,
    kernel::__NR_name_to_handle_at,
    kernel::__NR_open_by_handle_at,
    kernel::__NR_mknodat,
    kernel::__NR_fchown,
    kernel::__NR_fchownat,
    kernel::__NR_utimensat,
    kernel::__NR_setxattr,
    kernel::__NR_lsetxattr,
    kernel::__NR_fsetxattr,
    kernel::__NR_setxattrat,
    kernel::__NR_removexattr,
    kernel::__NR_lremovexattr,
    kernel::__NR_fremovexattr,
    kernel::__NR_removexattrat,
    kernel::__NR_file_setattr,
    kernel::__NR_fanotify_init,
    kernel::__NR_fanotify_mark,
    // Parts of the kernel that serving has no use for, and that faults were found in.
    kernel::__NR_bpf,
    kernel::__NR_userfaultfd,
    kernel::__NR_io_setup,
    kernel::__NR_vmsplice,
    kernel::__NR_remap_file_pages,
    // The machine itself.
    kernel::__NR_kexec_load,
    kernel::__NR_kexec_file_load,
    kernel::__NR_reboot,
    kernel::__NR_init_module,
    kernel::__NR_finit_module,
    kernel::__NR_delete_module,
    kernel::__NR_swapon,
    kernel::__NR_swapoff,
    kernel::__NR_acct,
    kernel::__NR_quotactl,
    kernel::__NR_quotactl_fd,
    kernel::__NR_nfsservctl,
    kernel::__NR_clock_settime,
    kernel::__NR_clock_adjtime,
    kernel::__NR_settimeofday,
    kernel::__NR_adjtimex,
    kernel::__NR_sethostname,
    kernel::__NR_setdomainname,
    kernel::__NR_syslog,
    kernel::__NR_vhangup,
];

/// What the newer processors have not got any more, or never had.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN_OF_OLD: &[u32] = &[
    kernel::__NR_iopl,
    kernel::__NR_ioperm,
    kernel::__NR_modify_ldt,
    kernel::__NR_mknod,
    kernel::__NR_chown,
    kernel::__NR_lchown,
    kernel::__NR_utime,
    kernel::__NR_utimes,
    kernel::__NR_futimesat,
    kernel::__NR_uselib,
    kernel::__NR_sysfs,
];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_OF_OLD: &[u32] = &[];

/// io_uring makes sockets of any family and asks no filter.
const RINGS: &[u32] =
    &[kernel::__NR_io_uring_setup, kernel::__NR_io_uring_enter, kernel::__NR_io_uring_register];

/// Flags of clone(2). That of time namespaces is one of unshare(2) only.
const NAMESPACES: [u32; 7] = [
    kernel::CLONE_NEWCGROUP,
    kernel::CLONE_NEWIPC,
    kernel::CLONE_NEWNET,
    kernel::CLONE_NEWNS,
    kernel::CLONE_NEWPID,
    kernel::CLONE_NEWUSER,
    kernel::CLONE_NEWUTS,
];

/// All but streams and datagrams. 10 is SOCK_PACKET, 6 SOCK_DCCP.
const NO_TYPES: [SocketType; 5] = [
    SocketType::RAW,
    SocketType::RDM,
    SocketType::SEQPACKET,
    SocketType::from_raw(6),
    SocketType::from_raw(10),
];

/// A kernel that has the x32 ABI takes the numbers of x86-64 with this bit as well, of which no filter that is
/// written for x86-64 hears (seccomp(2)).
const X32: i64 = 0x4000_0000;

/// Those of the calls above that have a number of their own there: execveat, io_setup, ioctl, kexec_load,
/// move_pages, process_vm_readv, process_vm_writev, ptrace, vmsplice.
const X32_OWN: [i64; 9] = [545, 543, 514, 528, 533, 539, 540, 521, 532];
