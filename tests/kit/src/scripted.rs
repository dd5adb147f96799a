//! An upstream that does to its first connection exactly what a test says, on a thread of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::deadline::{Deadline, PATIENCE};

/// A server for one connection.
#[derive(Debug)]
pub struct Scripted<T> {
    address: SocketAddr,
    result: Receiver<T>,
}

impl<T: Send + 'static> Scripted<T> {
    /// Listens on a free port; `script` gets the first connection, with `PATIENCE` as its timeouts.
    pub fn start(script: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (sender, result) = mpsc::channel();
        // Where nobody connects, the thread waits until the test's process ends.
        thread::spawn(move || {
            let Ok((socket, _)) = listener.accept() else { return };
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
            drop(sender.send(script(socket)));
        });
        Self { address, result }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the script returned.
    ///
    /// # Panics
    /// When it panicked, or has not ended within `PATIENCE`.
    pub fn result(self) -> T {
        let result = Deadline::after(PATIENCE).receive(&self.result, "the script's end");
        result.expect("the script did not panic")
    }
}
