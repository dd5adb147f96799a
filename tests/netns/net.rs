//! Two machines on one: the thread of a test and what it starts are in one network namespace, the other
//! end of a virtual cable is in another.
//!
//! Neither has a name. The kernel takes a namespace away, with its cable and its rules, as soon as the
//! last thread and socket in it are gone, however a test ends.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use portcullis_kit::{PATIENCE, PlainEcho, missing};

/// Where the gateway is, and what other addresses it may dial from.
pub(crate) const GATEWAY: &str = "10.77.0.1";
pub(crate) const SOURCES: [&str; 2] = ["10.77.0.11", "10.77.0.12"];
pub(crate) const GATEWAY_V6: &str = "fd77::1";

/// Where clients come from.
pub(crate) const CLIENTS: &str = "10.77.0.9";

/// Where upstreams are. Ports are free: nobody else is here.
pub(crate) const A: &str = "10.77.0.2:7000";
pub(crate) const B: &str = "10.77.0.3:7000";
pub(crate) const A_V6: &str = "[fd77::2]:7000";
pub(crate) const B_V6: &str = "[fd77::3]:7000";

/// The other end of the cable: a thread that does there what it is told.
pub(crate) struct Far {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce(&mut Vec<PlainEcho>) + Send>;

/// Runs `test` in a network of its own.
pub(crate) fn with_far(test: impl FnOnce(&Far) + Send + 'static) {
    for tool in ["ip", "nft", "ss"] {
        if Command::new(tool).arg("-V").stdout(Stdio::null()).status().is_err() {
            return missing(tool, "install iproute2 and nftables");
        }
    }
    let ended = thread::spawn(move || match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(&Far::new()),
        // Not even CI must be root: `.ci/run` runs this as root once more.
        Err(Errno::EPERM) => {
            let line =
                "SKIPPED: no right to make network namespaces: run as root (tests/README.md)";
            writeln!(std::io::stderr(), "{line}").expect("standard error takes a line");
        }
        Err(error) => panic!("no network namespace: {error}"),
    });
    if let Err(panic) = ended.join() {
        resume_unwind(panic);
    }
}

impl Far {
    fn new() -> Self {
        let (jobs, to_do) = mpsc::channel::<Job>();
        let (says, place) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("another network namespace");
            let thread = nix::unistd::gettid();
            says.send(format!("/proc/{}/task/{thread}/ns/net", std::process::id())).unwrap();
            let mut servers = Vec::new();
            to_do.into_iter().for_each(|job| job(&mut servers));
        });
        let far = Self { jobs: Some(jobs), thread: Some(thread) };
        let place = place.recv_timeout(PATIENCE).unwrap();
        run("ip link set lo up");
        run(&format!("ip link add near type veth peer name far netns {place}"));
        for address in [GATEWAY, SOURCES[0], SOURCES[1]] {
            run(&format!("ip address add {address}/24 dev near"));
        }
        run(&format!("ip address add {GATEWAY_V6}/64 dev near nodad"));
        run("ip link set near up");
        far.run(|| {
            run("ip link set lo up");
            // The first is where connections come from.
            for address in [CLIENTS, "10.77.0.2", "10.77.0.3"] {
                run(&format!("ip address add {address}/24 dev far"));
            }
            for address in ["fd77::2/64", "fd77::3/64"] {
                run(&format!("ip address add {address} dev far nodad"));
            }
            run("ip link set far up");
            nft("table inet faults {\n chain input {\n type filter hook input priority 0\n }\n \
                 chain output {\n type filter hook output priority 0\n }\n}\n");
        });
        far
    }

    /// Does `job` over there.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.with_servers(|_| job())
    }

    fn with_servers<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Vec<PlainEcho>) -> T + Send + 'static,
    ) -> T {
        let (says, done) = mpsc::channel();
        let job = Box::new(move |servers: &mut Vec<PlainEcho>| drop(says.send(job(servers))));
        self.jobs.as_ref().expect("until it is dropped").send(job).expect("the far end lives");
        done.recv_timeout(PATIENCE).expect("the far end does its job")
    }

    /// An upstream at this address that echoes.
    pub(crate) fn serve(&self, address: &str) {
        let address: SocketAddr = address.parse().unwrap();
        self.with_servers(move |servers| servers.push(PlainEcho::on(address)));
    }

    /// A rule for what arrives over there from the cable.
    pub(crate) fn rule_in(&self, rule: &str) {
        self.nft(format!("add rule inet faults input iifname far {rule}\n"));
    }

    /// A rule for what leaves from there into the cable.
    pub(crate) fn rule_out(&self, rule: &str) {
        self.nft(format!("add rule inet faults output oifname far {rule}\n"));
    }

    /// Nothing of what goes to this upstream or comes from it arrives.
    pub(crate) fn cut(&self, upstream: &str) {
        let (address, _port) = upstream.rsplit_once(':').unwrap();
        self.rule_in(&format!("ip daddr {address} drop"));
        self.rule_out(&format!("ip saddr {address} drop"));
    }

    /// Takes every rule back.
    pub(crate) fn mend(&self) {
        self.nft("flush chain inet faults input\nflush chain inet faults output\n".to_owned());
    }

    fn nft(&self, rules: String) {
        self.run(move || nft(&rules));
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The local ports that connections from the gateway's end may have.
pub(crate) fn set_local_ports(first: u16, last: u16) {
    let range = format!("{first} {last}");
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("root may say so");
}

/// Connections that are established at the gateway's end, one a line, with their timers.
pub(crate) fn established() -> Vec<String> {
    let listed = Command::new("ss").args(["-tnoH", "state", "established"]).output().unwrap();
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

fn nft(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}
