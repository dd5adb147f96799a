//! How one generation takes the place of another on a worker, while its sessions go on.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use super::generation::{Entrance, Generation};
use super::snapshot::{ListenerKey, Snapshot};
use super::{Worker, review, thread, upstream};

/// Serves new connections by `snapshot`. Control has checked it and bound its sockets: nothing here
/// can fail.
pub(super) fn take(worker: &Rc<Worker>, snapshot: Arc<Snapshot>) {
    let before = worker.generation();
    if snapshot.generation <= before.snapshot.generation {
        // It came before, with a socket from a worker that was ahead.
        return;
    }
    if snapshot.plan.access_log.refusals_per_second
        != before.snapshot.plan.access_log.refusals_per_second
    {
        worker.report_limit.replace(thread::report_limit(&snapshot, worker.peers.len()));
    }
    // From here on whoever is accepted begins under the new one.
    let after = Rc::new(before.with(snapshot, worker.index));
    worker.generation.replace(Rc::clone(&after));
    // Clusters that changed or are gone lend no connection any more; sessions keep theirs.
    for cluster in before.clusters_beside(&after) {
        cluster.retire();
    }
    for cluster in after.clusters_beside(&before) {
        upstream::keep_ready(worker, cluster);
    }
    // Listeners that are gone serve, by the old one, who waits in their queues.
    worker.listening.leave(&before, &after);
    // Whom the new one would not let in finds out now.
    tokio::task::spawn_local(review::all(Rc::clone(worker)));
}

/// Accepts on the sockets of listeners that are new in `snapshot`.
pub(super) fn listen(
    worker: &Rc<Worker>,
    snapshot: Arc<Snapshot>,
    sockets: Vec<(ListenerKey, TcpListener)>,
) {
    if sockets.is_empty() || worker.drain.get().is_some() {
        // In a drain no socket is opened any more.
        return;
    }
    for (key, socket) in sockets {
        worker.listening.open(worker, key, socket);
    }
    let current = worker.generation();
    if snapshot.generation < current.snapshot.generation {
        // A worker that was ahead has brought a later one before these came. What that has no more is
        // given up as if it had been there then.
        worker.listening.leave(&former(&current, snapshot, worker.index), &current);
    }
}

/// By what a connection is served that another worker accepted under `snapshot`; its listener's place
/// is `listener` there.
pub(super) fn entrance(worker: &Rc<Worker>, snapshot: Arc<Snapshot>, listener: usize) -> Entrance {
    if snapshot.generation > worker.generation().snapshot.generation {
        take(worker, Arc::clone(&snapshot));
    }
    let current = worker.generation();
    let key = snapshot.listener_keys()[listener];
    match current.snapshot.listener(key) {
        Some(listener) => Entrance { generation: current, listener },
        // Removed meanwhile: served as when it was accepted.
        None => Entrance { generation: former(&current, snapshot, worker.index), listener },
    }
}

/// What a snapshot before the current one was on this worker. Nothing is made ready for it.
fn former(current: &Generation, snapshot: Arc<Snapshot>, worker: usize) -> Rc<Generation> {
    let former = current.with(snapshot, worker);
    for cluster in former.clusters_beside(current) {
        cluster.retire();
    }
    Rc::new(former)
}
