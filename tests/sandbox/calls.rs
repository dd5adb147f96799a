//! The filter of system calls, from within: what serving never does is forbidden, in every thread and in what
//! is started, and what it does is not.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use linux_raw_sys::general as kernel;
use nix::sched::{CloneFlags, unshare};
use portcullis::sys::call_filter::{self, Filtered, Rings};
use portcullis::sys::privileges::{self, Kept};
use portcullis::sys::ring;
use portcullis_kit::missing;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto};
use rustix::net::{socket, socketpair};

use super::{in_child, say, status};

// threat 45
#[test]
fn who_is_behind_the_filter_does_not_do_what_serving_never_does() {
    in_child("calls::who_is_behind_the_filter_does_not_do_what_serving_never_does", |directory| {
        if !enter(Rings::Forbidden) {
            return;
        }
        let user = || {
            unshare(CloneFlags::CLONE_NEWUSER)
                .map_err(|error| Errno::from_raw_os_error(error as i32))
        };
        let datagram = SocketType::DGRAM;
        let made =
            |family, kind, protocol: Option<Protocol>| socket(family, kind, protocol).map(drop);
        for (what, result) in [
            ("namespaces", user()),
            ("a program in memory", rustix::fs::memfd_create("x", MemfdFlags::empty()).map(drop)),
            ("the kernel's cryptography", made(ALG, SocketType::SEQPACKET, None)),
            ("netlink", made(AddressFamily::NETLINK, datagram, None)),
            ("virtual machines", made(AddressFamily::VSOCK, SocketType::STREAM, None)),
            ("raw packets", made(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))),
            ("raw packets of TCP", made(AddressFamily::INET6, SocketType::RAW, Some(ipproto::TCP))),
            ("ping", made(AddressFamily::INET, datagram, Some(ipproto::ICMP))),
            ("SCTP", made(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP))),
            (
                "a pair",
                socketpair(AddressFamily::TIPC, SocketType::STREAM, SocketFlags::empty(), None)
                    .map(drop),
            ),
        ] {
            assert_eq!(result, Err(Errno::PERM), "{what}");
        }
        let file = directory.join("log");
        let error = chown(&file, Some(1), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = File::open(&file).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(ring::probe().is_err());
        // Whatever is started from here on is behind it too.
        assert_eq!(std::thread::spawn(user).join().unwrap(), Err(Errno::PERM));
    });
}

// threat 45
#[test]
fn who_is_behind_the_filter_can_do_what_serving_takes() {
    in_child("calls::who_is_behind_the_filter_can_do_what_serving_takes", |directory| {
        assert!(!call_filter::is_from_outside() || status("Seccomp:") == "2");
        let before = call_filter::is_from_outside();
        if !enter(Rings::Forbidden) {
            return;
        }
        assert_eq!(call_filter::is_from_outside(), before, "it is our own");
        std::thread::spawn(|| assert_eq!(status("Seccomp:"), "2")).join().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop(UdpSocket::bind("127.0.0.1:0").unwrap());
        drop(UnixDatagram::unbound().unwrap());
        portcullis::sys::channel::Channel::pair().unwrap();
        fs::set_permissions(directory.join("read/file"), PermissionsExt::from_mode(0o600)).unwrap();
        let inotify = portcullis::sys::inotify::Inotify::new();
        assert!(inotify.is_ok(), "{inotify:?}");
        // As for an upgrade: another program, with its libraries, and then the same filter again.
        assert!(Command::new("/bin/sh").args(["-c", "exit 0"]).status().unwrap().success());
        privileges::give_up(None, Kept::default()).unwrap();
        let again = (0..1_000).map(|_| call_filter::enter(Rings::Forbidden).unwrap());
        let upgrades = again.take_while(|filtered| matches!(filtered, Filtered::Yes)).count();
        assert!((10..1_000).contains(&upgrades), "{upgrades}");
        assert!(matches!(call_filter::enter(Rings::Forbidden).unwrap(), Filtered::Inherited));
    });
}

#[test]
fn rings_are_made_where_the_driver_makes_them() {
    if let Err(forbidden) = ring::probe() {
        return missing(
            &format!("io_uring ({forbidden})"),
            "run this test where the kernel lets it",
        );
    }
    in_child("calls::rings_are_made_where_the_driver_makes_them", |_| {
        if enter(Rings::Allowed) {
            ring::probe().unwrap();
            assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(nix::errno::Errno::EPERM));
        }
    });
}

// threat 45
#[test]
fn calls_are_known_by_their_numbers_and_arguments() {
    in_child("calls::calls_are_known_by_their_numbers_and_arguments", |_| {
        let numbers: Vec<_> = FORBIDDEN.iter().map(u32::to_string).collect();
        let Some(free) = python(&numbers) else { return missing("python3", "apt install python3") };
        assert!(!free.iter().any(|answer| answer == "EPERM"), "without a filter: {free:?}");
        if !enter(Rings::Forbidden) {
            return;
        }
        let answers = |calls: &[String]| python(calls).unwrap();
        for (call, answer) in numbers.iter().zip(answers(&numbers)) {
            assert_eq!(answer, "EPERM", "call {call}");
        }
        assert_eq!(answers(&[kernel::__NR_clone3.to_string()]), ["ENOSYS"]);
        assert_eq!(answers(&["470".to_owned(), "511".to_owned()]), ["ENOSYS", "ENOSYS"]);
        let with = |call: u32, arguments: &[u32]| {
            let words = [call].into_iter().chain(arguments.iter().copied());
            words.map(|word| word.to_string()).collect::<Vec<_>>().join(",")
        };
        let (read, write, execute) = (kernel::PROT_READ, kernel::PROT_WRITE, kernel::PROT_EXEC);
        let anonymous = kernel::MAP_PRIVATE | kernel::MAP_ANONYMOUS;
        let map = |protection| with(kernel::__NR_mmap, &[0, 4096, protection, anonymous, 0, 0]);
        let protect = |protection| with(kernel::__NR_mprotect, &[0, 0, protection]);
        let sigchld = 17;
        for (call, expected) in [
            (map(read | write), "0"),
            (map(read | execute), "0"),
            (map(write | execute), "EPERM"),
            (protect(read | write), "0"),
            (protect(read | execute), "EPERM"),
            (with(kernel::__NR_clone, &[kernel::CLONE_NEWUSER | sigchld, 0, 0, 0, 0]), "EPERM"),
            // What TIOCSTI puts into a terminal is read there as typed.
            (with(kernel::__NR_ioctl, &[0, 0x5412]), "EPERM"),
            (with(kernel::__NR_ioctl, &[0, 0x541c]), "EPERM"),
        ] {
            assert_eq!(answers(std::slice::from_ref(&call)), [expected], "{call}");
        }
        if cfg!(target_arch = "x86_64") {
            let named = [kernel::__NR_socket, kernel::__NR_clone, kernel::__NR_clone3];
            let x32 = FORBIDDEN.iter().copied().chain(named).chain([521, 539, 545]);
            let x32: Vec<_> = x32.map(|call| (call | 0x4000_0000).to_string()).collect();
            for (call, answer) in x32.iter().zip(answers(&x32)) {
                assert_eq!(answer, "EPERM", "call {call} of x32");
            }
        }
    });
}

/// Whether the filter is in force; where it cannot be, that is told.
fn enter(rings: Rings) -> bool {
    privileges::give_up(None, Kept { low_ports: true, files: true }).unwrap();
    match call_filter::enter(rings).unwrap() {
        Filtered::Yes => true,
        lacking => {
            missing(
                &format!("a filter of system calls ({lacking:?})"),
                "run this test on a kernel that has it",
            );
            false
        }
    }
}

/// What each of `calls` answers, made by another program; `None` where there is no python3.
fn python(calls: &[String]) -> Option<Vec<String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sandbox/calls.py");
    let output = Command::new("python3").arg(script).args(calls).output().ok()?;
    say(String::from_utf8_lossy(&output.stderr).trim());
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    Some(said.lines().map(str::to_owned).collect())
}

/// AF_ALG
const ALG: AddressFamily = AddressFamily::from_raw(38);

/// Of each kind those that a process without rights is answered otherwise by the kernel itself, when it asks
/// for nonsense.
const FORBIDDEN: [u32; 22] = [
    kernel::__NR_ptrace,
    kernel::__NR_process_vm_readv,
    kernel::__NR_process_vm_writev,
    kernel::__NR_pidfd_getfd,
    kernel::__NR_kcmp,
    kernel::__NR_add_key,
    kernel::__NR_request_key,
    kernel::__NR_keyctl,
    kernel::__NR_shmget,
    kernel::__NR_shmat,
    kernel::__NR_unshare,
    kernel::__NR_setns,
    kernel::__NR_setresuid,
    kernel::__NR_personality,
    kernel::__NR_memfd_create,
    kernel::__NR_execveat,
    kernel::__NR_name_to_handle_at,
    kernel::__NR_fchown,
    kernel::__NR_setxattr,
    kernel::__NR_userfaultfd,
    kernel::__NR_vmsplice,
    kernel::__NR_remap_file_pages,
];
