//! Listening sockets that the process was given instead of binding them: by systemd (socket
//! activation), or by the process whose place it takes (`upgrade`).
//!
//! Says which socket is whose and spreads sockets over workers; opens nothing. `bind` asks it first.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::admin::AdminSocket;
use crate::config::error::Problem;
use crate::config::plan::{Admin, AdminAddress, Listener};

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    listeners: Vec<GivenListener>,
    admin: Vec<GivenAdmin>,
}

/// The sockets of one address.
#[derive(Debug)]
pub struct GivenListener {
    pub giver: Giver,
    /// Of the listener, or what systemd calls it (`FileDescriptorName=`).
    pub name: String,
    /// What the configuration of the giver had for it; for systemd's, where it listens.
    pub configured: SocketAddr,
    /// Where it really listens.
    pub address: SocketAddr,
    /// One for each worker of the giver.
    pub sockets: Vec<TcpListener>,
}

/// A socket for the admin pages.
#[derive(Debug)]
pub struct GivenAdmin {
    pub giver: Giver,
    pub address: AdminAddress,
    pub socket: AdminSocket,
    /// Whoever has it removes the file of a unix socket at the end.
    pub owns_file: bool,
}

/// Who gave a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    Systemd,
    Predecessor,
}

impl Inherited {
    pub fn add(&mut self, given: GivenListener) {
        // systemd gives the sockets of one address one by one.
        let known = self.listeners.iter_mut().find(|it| {
            it.giver == given.giver && it.address == given.address && it.name == given.name
        });
        match known {
            Some(known) => known.sockets.extend(given.sockets),
            None => self.listeners.push(given),
        }
    }

    pub fn add_admin(&mut self, given: GivenAdmin) {
        self.admin.push(given);
    }

    /// The sockets of a listener: those of its address or, for port 0 and for what systemd has named
    /// after it, those of its name.
    ///
    /// # Errors
    /// systemd's socket of this name listens elsewhere.
    pub fn take(&mut self, listener: &Listener) -> Result<Option<GivenListener>, Problem> {
        let wanted = listener.address;
        let is_its = |given: &GivenListener| match wanted.port() {
            // A former process has bound another port because it was told so.
            0 => {
                let is_any = given.giver == Giver::Systemd || given.configured.port() == 0;
                is_any && *given.name == *listener.name && given.configured.ip() == wanted.ip()
            }
            _ => given.configured == wanted || given.address == wanted,
        };
        if let Some(at) = self.listeners.iter().position(is_its) {
            return Ok(Some(self.listeners.swap_remove(at)));
        }
        let is_namesake =
            |given: &&GivenListener| given.giver == Giver::Systemd && *given.name == *listener.name;
        match self.listeners.iter().find(is_namesake) {
            None => Ok(None),
            Some(given) => Err(Problem {
                at: listener.at.clone(),
                message: format!(
                    "systemd's socket {} listens on {}, the configuration says {wanted}",
                    given.name, given.address
                ),
                help: format!(
                    "write address = \"{}\", or change ListenStream= of the socket unit",
                    given.address
                ),
            }),
        }
    }

    /// The socket of the admin pages, where one of its address was given.
    pub fn take_admin(&mut self, admin: &Admin) -> Option<GivenAdmin> {
        if let Some(at) = self.admin.iter().position(|given| given.address == admin.address) {
            return Some(self.admin.swap_remove(at));
        }
        // systemd does not say what a socket is for.
        let AdminAddress::Tcp(wanted) = admin.address else { return None };
        let is_its =
            |given: &GivenListener| given.giver == Giver::Systemd && given.address == wanted;
        let at = self.listeners.iter().position(is_its)?;
        let GivenListener { giver, sockets, .. } = self.listeners.swap_remove(at);
        let socket = AdminSocket::Tcp(sockets.into_iter().next()?);
        Some(GivenAdmin { giver, address: admin.address.clone(), socket, owns_file: false })
    }

    /// Where sockets listen that nobody has taken.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|given| given.address)
    }

    /// Closes what nobody has taken, and says what that was.
    pub fn close(self) -> Vec<String> {
        let listeners = self.listeners.iter();
        let listeners = listeners.map(|it| format!("{} {} ({})", it.giver, it.name, it.address));
        let admin =
            self.admin.iter().map(|it| format!("{} admin ({})", it.giver, shown(&it.address)));
        listeners.chain(admin).collect()
    }
}

impl fmt::Display for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd's",
            Self::Predecessor => "the former process'",
        })
    }
}

fn shown(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// What each worker is to listen with. No socket is left out: the kernel puts clients into the queue
/// of each. Where there are fewer than workers, some share one.
///
/// # Errors
/// No descriptor is left to share with.
pub fn spread(sockets: Vec<TcpListener>, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let given = sockets.len();
    let mut all: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for (at, socket) in sockets.into_iter().enumerate() {
        for worker in (at + given..workers).step_by(given.max(1)) {
            all[worker].push(socket.try_clone()?);
        }
        all[at % workers].push(socket);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Which of the given sockets each worker has.
    fn shares(given: usize, workers: usize) -> Vec<Vec<usize>> {
        let sockets: Vec<_> =
            (0..given).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = sockets.iter().map(|it| it.local_addr().unwrap().port()).collect();
        let place = |socket: &TcpListener| {
            let port = socket.local_addr().unwrap().port();
            ports.iter().position(|known| *known == port).unwrap()
        };
        let all = spread(sockets, workers).unwrap();
        let flags = all.iter().flatten().map(|it| rustix::io::fcntl_getfd(it.as_fd()).unwrap());
        assert!(flags.into_iter().all(|flags| flags.contains(rustix::io::FdFlags::CLOEXEC)));
        all.iter().map(|of_worker| of_worker.iter().map(place).collect()).collect()
    }

    #[test]
    fn every_worker_has_a_socket_and_every_socket_a_worker() {
        assert_eq!(shares(2, 2), [[0], [1]]);
        assert_eq!(shares(1, 3), [[0], [0], [0]]);
        assert_eq!(shares(2, 3), [[0], [1], [0]]);
        assert_eq!(shares(4, 1), [[0, 1, 2, 3]]);
        assert_eq!(shares(5, 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(shares(0, 2), [[0; 0], [0; 0]]);
    }
}
