//! The listening sockets of one worker, each with the task that accepts on it.
//!
//! A listener has one of them, or several where the process took over from one with more workers:
//! the kernel has given each socket clients of its own. `accept` is that task.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::generation::{Entrance, Generation};
use super::snapshot::ListenerKey;
use super::{Worker, accept};

/// What a worker listens on.
#[derive(Debug, Default)]
pub(super) struct Listening {
    sockets: RefCell<BTreeMap<ListenerKey, Vec<Accepting>>>,
    lost: Rc<Notify>,
}

#[derive(Debug)]
struct Accepting {
    task: JoinHandle<()>,
    leave: Rc<Leave>,
}

/// How the task of one socket learns that its listener is no more.
#[derive(Debug)]
pub(super) struct Leave {
    key: ListenerKey,
    /// The last generation that has the listener, once there is one that has not.
    under: RefCell<Option<Rc<Generation>>>,
    told: Notify,
}

/// Tells that a socket is lost, unless it was given up.
#[derive(Debug)]
pub(super) struct Loss {
    lost: Rc<Notify>,
    is_wanted: bool,
}

impl Listening {
    /// Accepts on a socket from now on.
    pub(super) fn open(&self, worker: &Rc<Worker>, key: ListenerKey, socket: TcpListener) {
        let leave = Rc::new(Leave { key, under: RefCell::default(), told: Notify::new() });
        let loss = Loss { lost: Rc::clone(&self.lost), is_wanted: false };
        let run = accept::run(Rc::clone(worker), Rc::clone(&leave), socket, loss);
        let task = tokio::task::spawn_local(run);
        self.sockets.borrow_mut().entry(key).or_default().push(Accepting { task, leave });
    }

    /// Gives up the sockets of the listeners that are in `before` and not in `after`, once what waits
    /// in their queues is accepted.
    pub(super) fn leave(&self, before: &Rc<Generation>, after: &Generation) {
        self.sockets.borrow_mut().retain(|key, accepting| {
            let stays = after.snapshot.listener(*key).is_some();
            if !stays {
                accepting.iter().for_each(|one| one.leave(before));
            }
            stays
        });
    }

    /// Closes all sockets, and accepts before what waits in the queues of those that are not
    /// `passed_on`: who waits there would be reset, and in the others it is another process' client.
    pub(super) async fn close(&self, last: &Rc<Generation>, passed_on: &[ListenerKey]) {
        let sockets = std::mem::take(&mut *self.sockets.borrow_mut());
        for (key, accepting) in sockets {
            for one in accepting {
                if passed_on.contains(&key) {
                    one.task.abort();
                } else {
                    one.leave(last);
                }
                // Its end closes the socket.
                drop(one.task.await);
            }
        }
    }

    /// Waits until a socket is lost that nobody gave up.
    pub(super) async fn loss(&self) {
        self.lost.notified().await;
    }
}

impl Accepting {
    /// Ends the task once what waits in the queue of its socket is accepted, under `last`.
    fn leave(&self, last: &Rc<Generation>) {
        self.leave.under.replace(Some(Rc::clone(last)));
        self.leave.told.notify_one();
    }
}

impl Leave {
    /// By what a connection of this socket that comes now is served.
    pub(super) fn entrance(&self, worker: &Worker) -> Option<Entrance> {
        let current = worker.generation();
        let (generation, listener) = match current.snapshot.listener(self.key) {
            Some(listener) => (current, listener),
            None => {
                let last = self.under.borrow().clone()?;
                let listener = last.snapshot.listener(self.key)?;
                (last, listener)
            }
        };
        Some(Entrance { generation, listener })
    }

    /// Waits until the listener is no more.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}

impl Loss {
    /// The socket is given up.
    pub(super) fn forgive(mut self) {
        self.is_wanted = true;
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        if !self.is_wanted {
            self.lost.notify_one();
        }
    }
}
