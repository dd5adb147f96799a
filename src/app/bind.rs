//! Listening sockets: one for each worker on each address, bound by control before anybody serves,
//! or taken from whom gave them (`inherited`).

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::inherited::{GivenListener, Inherited, spread};
use crate::config::error::Problem;
use crate::config::plan::Listener;
use crate::core::addresses::overlap;
use crate::sys::socket;
use crate::worker::{ListenerKey, Snapshot};

/// The sockets of one listener, not yet given to the workers.
#[derive(Debug)]
pub struct Bound {
    pub key: ListenerKey,
    /// With the port that the kernel chose for 0.
    pub address: SocketAddr,
    /// By worker. One each, where nobody gave them.
    pub sockets: Vec<Vec<TcpListener>>,
    /// The same sockets, each once, for whoever takes the place of this process.
    pub kept: Vec<TcpListener>,
}

/// Binds the listeners of `snapshot` that are neither `held` already nor `inherited`; `held` are those
/// that go, too, until their sockets are closed. All problems at once, and then no socket stays.
///
/// # Errors
/// Each address that cannot be listened on, at the place that names it.
pub fn bind(
    snapshot: &Snapshot,
    workers: usize,
    held: &[(ListenerKey, SocketAddr)],
    inherited: &mut Inherited,
) -> Result<Vec<Bound>, Vec<Problem>> {
    let listeners = &snapshot.plan.listeners;
    let (staying, leaving): (Vec<_>, Vec<_>) =
        held.iter().partition(|(key, _)| snapshot.listener(*key).is_some());
    let mut staying: Vec<_> = staying.into_iter().map(|(_, address)| address).collect();
    let mut leaving: Vec<_> = leaving.into_iter().map(|(_, address)| address).collect();
    let mut bound = Vec::new();
    let mut problems = Vec::new();
    let mut to_bind = Vec::new();
    for (listener, key) in listeners.iter().zip(snapshot.listener_keys()) {
        if held.iter().any(|(held, _)| held == key) {
            continue;
        }
        match inherited.take(listener) {
            Ok(None) => to_bind.push((listener, *key)),
            Err(problem) => problems.push(problem),
            Ok(Some(GivenListener { address, sockets, .. })) => {
                staying.push(address);
                match Bound::new(*key, address, sockets, workers) {
                    Ok(one) => bound.push(one),
                    Err(error) => problems.push(bind_problem(listener, &error)),
                }
            }
        }
    }
    leaving.extend(inherited.addresses());
    for (listener, key) in to_bind {
        let overlaps =
            |held: &[SocketAddr]| held.iter().any(|held| overlap(*held, listener.address));
        let bound_one = if overlaps(&staying) {
            // As at a start, where the second of two such listeners finds the first.
            Err(io::ErrorKind::AddrInUse.into())
        } else {
            bind_one(listener.address, workers, overlaps(&leaving))
        };
        match bound_one.and_then(|(address, all)| Bound::new(key, address, all, workers)) {
            Ok(one) => bound.push(one),
            Err(error) => problems.push(bind_problem(listener, &error)),
        }
    }
    if problems.is_empty() { Ok(bound) } else { Err(problems) }
}

impl Bound {
    fn new(
        key: ListenerKey,
        address: SocketAddr,
        sockets: Vec<TcpListener>,
        workers: usize,
    ) -> io::Result<Self> {
        let kept = sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { key, address, sockets: spread(sockets, workers)?, kept })
    }
}

/// `is_covered`: from one address to all of the machine, or back, or removed a moment ago. We are in the
/// way ourselves until the workers have changed over, and SO_REUSEPORT lets both be.
fn bind_one(
    mut address: SocketAddr,
    workers: usize,
    is_covered: bool,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    if !is_covered {
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

fn bind_problem(listener: &Listener, error: &io::Error) -> Problem {
    let address = listener.address;
    let port = address.port();
    let help = match error.kind() {
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
