//! Listening sockets: one for each worker on each address, bound by control before anybody serves.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::config::error::Problem;
use crate::config::plan::Listener;
use crate::sys::socket;
use crate::worker::{ListenerKey, Snapshot};

/// The sockets of one listener, not yet given to the workers.
#[derive(Debug)]
pub struct Bound {
    pub key: ListenerKey,
    /// With the port that the kernel chose for 0.
    pub address: SocketAddr,
    /// One a worker.
    pub sockets: Vec<TcpListener>,
}

/// Binds the listeners of `snapshot` that are not `held` already. All problems at once, and then no
/// socket stays.
///
/// # Errors
/// Each address that cannot be listened on, at the place that names it.
pub fn bind(
    snapshot: &Snapshot,
    workers: usize,
    held: &[(ListenerKey, SocketAddr)],
) -> Result<Vec<Bound>, Vec<Problem>> {
    let listeners = &snapshot.plan.listeners;
    let mut bound = Vec::new();
    let mut problems = Vec::new();
    for (listener, key) in listeners.iter().zip(snapshot.listener_keys()) {
        if held.iter().any(|(held, _)| held == key) {
            continue;
        }
        match bind_one(listener.address, workers, held) {
            Ok((address, sockets)) => bound.push(Bound { key: *key, address, sockets }),
            Err(error) => problems.push(bind_problem(listener, listeners, &error)),
        }
    }
    if problems.is_empty() { Ok(bound) } else { Err(problems) }
}

fn bind_one(
    mut address: SocketAddr,
    workers: usize,
    held: &[(ListenerKey, SocketAddr)],
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    // From one address to all of the machine, or back: we are in the way ourselves until the workers
    // have changed over, and SO_REUSEPORT lets both be.
    if !held.iter().any(|(_, held)| overlap(*held, address)) {
        socket::ensure_free(address)?;
    }
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = socket::listen(address)?;
        // Port 0: the first socket gets a port, the others join it there.
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok((address, sockets))
}

/// Whether one address stands for the other, too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let shared = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (shared || one.ip() == other.ip())
}

fn bind_problem(listener: &Listener, all: &[Listener], error: &io::Error) -> Problem {
    let address = listener.address;
    let port = address.port();
    // The same address twice is found by `config`; all addresses of the machine and one of them is not.
    let ours = all.iter().find(|other| {
        let shared = other.address.ip().is_unspecified() || address.ip().is_unspecified();
        other.name != listener.name && other.address.port() == port && shared
    });
    let help = match error.kind() {
        io::ErrorKind::AddrInUse if ours.is_some() => {
            let (name, other) = ours.map_or(("", address), |it| (&*it.name, it.address));
            format!(
                "listener {name} takes {other}, and one of the two addresses stands for all of this \
                 machine: give each address of its own, or another port"
            )
        }
        io::ErrorKind::AddrInUse => format!(
            "another process listens there: `ss -ltnp 'sport = :{port}'` says which; end it or choose another port"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 need a right: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, `setcap cap_net_bind_service=+ep` on the binary, or a port above 1023 instead of {port}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine: `ip addr` lists them", address.ip())
        }
        _ => String::new(),
    };
    let message = format!("cannot listen on {address}: {error}");
    Problem { at: listener.at.clone(), message, help }
}
