//! The kernel says that it has no memory left, or forbids what was always allowed: who is on call learns
//! what to do, once, and the gateway serves on where it can.

use std::process::Command;

use linux_raw_sys::general::{__NR_accept4, __NR_connect};
use portcullis_kit::{Gateway, PATIENCE, PlainEcho, connect_plain, connect_tls, missing};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::support::{Config, NAME, Pki, behind_a_filter};

/// A gateway for which one system call fails from its start on; `None` where that cannot be had.
fn failing(call: u32, errno: Errno, config: &Config) -> Option<Gateway> {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|ran| ran.status.success()) {
        missing("python3", "python3");
        return None;
    }
    let directory = TempDir::with_prefix("portcullis-gateway-").unwrap();
    let filtered = behind_a_filter(call, errno.raw_os_error().unsigned_abs());
    Some(Gateway::start_as(filtered, directory, &config.to_string()))
}

// threat 32
#[test]
fn clients_that_cannot_be_accepted_are_told_of_once_with_a_remedy() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let config = Config::edge(&pki, upstream.address());
    for (errno, remedy) in [
        (Errno::NOBUFS, "look at net.ipv4.tcp_mem"),
        (Errno::NFILE, "raise the sysctl fs.file-max"),
        (Errno::PERM, "a filter of system calls around this process"),
    ] {
        let Some(gateway) = failing(__NR_accept4, errno, &config) else { return };
        let waiting: Vec<_> =
            (0..3).map(|_| connect_plain(gateway.addr("edge")).unwrap()).collect();
        gateway.wait_log(&["clients are not let in", remedy]);
        drop(waiting);
        assert_eq!(gateway.other_output().matches("clients are not let in").count(), 1);
        assert_eq!(gateway.terminate().code(), Some(0));
    }
}

// threat 32
#[test]
fn a_dial_without_memory_is_nobodys_fault_but_this_machines() {
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let config = Config::edge(&pki, upstream.address());
    let Some(gateway) = failing(__NR_connect, Errno::NOBUFS, &config) else { return };
    let client = connect_tls(gateway.addr("edge"), NAME, &pki.client().build());
    let record = gateway.wait_access(PATIENCE, |record| record["reason"] == "local_resources");
    drop(client);
    let detail = record["detail"].as_str().unwrap();
    assert!(detail.contains(&upstream.address().to_string()), "{detail}");
    assert!(detail.contains("net.ipv4.tcp_mem"), "{detail}");
    assert_eq!(gateway.settled().refusals("local_resources"), 1);
}
