//! Which errors of system calls say that this machine has no more of something, and what helps.

use std::io;

use rustix::io::Errno;

/// What to do about an error that says that descriptors or memory ran out; `None` for any other.
pub fn remedy(error: &io::Error) -> Option<&'static str> {
    Some(match Errno::from_io_error(error)? {
        Errno::MFILE => {
            "this process is out of descriptors: raise LimitNOFILE (ulimit -n), or lower limits.connections"
        }
        Errno::NFILE => {
            "the machine is out of descriptors: raise the sysctl fs.file-max, or find who holds them"
        }
        Errno::NOBUFS | Errno::NOMEM => {
            "the kernel has no memory for sockets: look at net.ipv4.tcp_mem, at the memory limit of the unit or \
             container, and at the machine's memory; or lower limits.connections"
        }
        // From epoll_ctl(2) only.
        Errno::NOSPC => {
            "the kernel watches no more sockets: raise the sysctl fs.epoll.max_user_watches"
        }
        _ => return None,
    })
}

/// The same for an error of accept(2) that is no client's.
pub fn remedy_of_accept(error: &io::Error) -> &'static str {
    remedy(error).unwrap_or(
        "accept4 fails: a security module, or a filter of system calls around this process, may forbid it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shortage_has_a_remedy_of_its_own_and_nothing_else_has_one() {
        let of = |errno: Errno| remedy(&errno.into());
        for (errno, names) in [
            (Errno::MFILE, "LimitNOFILE"),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NOBUFS, "tcp_mem"),
            (Errno::NOMEM, "tcp_mem"),
            (Errno::NOSPC, "max_user_watches"),
        ] {
            assert!(of(errno).is_some_and(|remedy| remedy.contains(names)), "{errno:?}");
        }
        for errno in [Errno::CONNABORTED, Errno::PERM, Errno::CONNREFUSED, Errno::TIMEDOUT] {
            assert_eq!(of(errno), None);
        }
        assert_eq!(remedy(&io::ErrorKind::ConnectionAborted.into()), None);
    }
}
