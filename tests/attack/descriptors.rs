//! No descriptor left: clients are turned away one by one, and sessions do not notice. Whose descriptors
//! these are only root sees, for the gateway is not dumpable.

use std::fs;
use std::io::Write;
use std::time::Duration;

use portcullis_kit::{Gateway, PATIENCE, PlainEcho, connect_plain, eventually, is_root};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::support::{Keys, Pki, cpu, crowd, echo, until_closed};

/// Descriptors of the gateway, in ascending order.
fn open(gateway: &Gateway) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut all: Vec<u64> =
        entries.map(|entry| name(entry).to_str().unwrap().parse().unwrap()).collect();
    all.sort_unstable();
    all
}

fn limit(gateway: &Gateway, descriptors: u64) {
    let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(descriptors), maximum }).unwrap();
}

// threat 31
#[test]
fn without_descriptors_clients_are_shed_and_sessions_go_on() {
    if !is_root() {
        return;
    }
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let keys =
        Keys { listener: "timeouts = { hello = \"60s\", handshake = \"60s\" }", ..Keys::default() };
    let gateway = pki.gateway(upstream.address(), keys);
    let mut session = pki.session(&gateway);
    // No number is free below the limit but those of gaps, and these are filled.
    let all = open(&gateway);
    let end = all.last().unwrap() + 1;
    limit(&gateway, end);
    let gaps = usize::try_from(end).unwrap() - all.len();
    let filling = crowd(gateway.addr("edge"), gaps);
    eventually(PATIENCE, "gaps filled", || (open(&gateway).len() as u64 == end).then_some(()));
    let (cpu_before, began) = (cpu(&gateway), portcullis_kit::monotonic_now());
    for turn in 0..8 {
        let socket = connect_plain(gateway.addr("edge")).unwrap();
        assert_eq!(until_closed(&socket), b"", "client {turn}");
        echo(&mut session);
    }
    // One in 50 ms, and no spinning in between.
    let (spent, took) = (cpu(&gateway) - cpu_before, began.elapsed());
    assert!(spent < took / 2 + Duration::from_millis(50), "{spent:?} of {took:?}");
    limit(&gateway, 4096);
    drop(filling);
    echo(&mut pki.session(&gateway));
    echo(&mut session);
    drop(session);
    assert!(gateway.settled().refusals("local_resources") >= 8);
}

// threat 31
#[test]
fn a_bulk_flow_without_a_pipe_goes_on_by_receive_and_send() {
    if !is_root() {
        return;
    }
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = pki.gateway(upstream.address(), Keys::default());
    let mut socket = connect_plain(gateway.addr("raw")).unwrap();
    let mut reader = socket.try_clone().unwrap();
    upstream.wait("the upstream", |counts| counts.accepted == 1);
    // Not one descriptor more: the limit is the lowest number that is free.
    let all = open(&gateway);
    let free = (0..).zip(&all).find_map(|(free, taken)| (free != *taken).then_some(free));
    limit(&gateway, free.unwrap_or(all.len() as u64));
    let back = std::thread::spawn(move || portcullis_kit::read_to_end(&mut reader).unwrap());
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
    socket.write_all(&sent).unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(back.join().unwrap() == sent, "what came back differs");
    limit(&gateway, 4096);
    drop(socket);
    gateway.settled();
}

// threat 31
#[test]
fn flows_that_stall_do_not_take_every_descriptor() {
    if !is_root() {
        return;
    }
    let (pki, upstream) = (Pki::new(), PlainEcho::start());
    let gateway = pki.gateway(upstream.address(), Keys::default());
    let mut session = pki.session(&gateway);
    let before = open(&gateway).len();
    // Each sends until nobody takes more, and reads nothing.
    let stalled: Vec<_> = crowd(gateway.addr("raw"), 40)
        .into_iter()
        .map(|mut socket| {
            socket.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            let block = vec![0; 256 * 1024];
            while socket.write(&block).is_ok() {}
            echo(&mut session);
            socket
        })
        .collect();
    let taken = open(&gateway).len() - before;
    // Two sockets each, and 64 pipes.
    assert!(taken <= 2 * 40 + 2 * 64, "{taken} descriptors");
    echo(&mut session);
    drop((session, stalled));
    gateway.settled();
}
