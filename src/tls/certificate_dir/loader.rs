//! Threads that read pairs, so that no worker waits for a disk.
//!
//! Shared by all directories and all generations of a process; they end with the last of those.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::{Answer, CertificateDir, Found, unavailable};

/// Where pairs are asked for.
#[derive(Debug)]
pub(in crate::tls) struct Loader {
    /// One a thread. All requests for one pair go to the same, so that the first has it read and the
    /// others find it.
    queues: Vec<Sender<Job>>,
}

#[derive(Debug)]
struct Job {
    directory: Arc<CertificateDir>,
    number: u32,
    answer: oneshot::Sender<Answer>,
}

impl Loader {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives none.
    pub(in crate::tls) fn start() -> io::Result<Arc<Self>> {
        let mut queues = Vec::with_capacity(THREADS);
        for index in 0..THREADS {
            let (sender, queue) = bounded(JOBS_MAX);
            let name = format!("certificates-{index}");
            std::thread::Builder::new().name(name).spawn(move || work(&queue))?;
            queues.push(sender);
        }
        Ok(Arc::new(Self { queues }))
    }

    /// Has a pair read.
    pub(super) fn request(&self, directory: &Arc<CertificateDir>, number: u32) -> Found {
        let (answer, receiver) = oneshot::channel();
        let directory = Arc::clone(directory);
        let queue = &self.queues[number as usize % THREADS];
        match queue.try_send(Job { directory, number, answer }) {
            Ok(()) => Found::Loading(receiver),
            Err(_full) => {
                let detail = format!("{JOBS_MAX} clients wait for certificates: is the disk slow?");
                Found::Ready(Err(unavailable(detail)))
            }
        }
    }
}

/// Until the last directory is gone.
fn work(queue: &Receiver<Job>) {
    while let Ok(Job { directory, number, answer }) = queue.recv() {
        // The client may have gone while it waited.
        if answer.is_closed() {
            continue;
        }
        let read = catch_unwind(AssertUnwindSafe(|| directory.read_in(number)));
        let read = read.unwrap_or_else(|_panic| {
            Err(unavailable("reading the certificate panicked: please report it with the log"))
        });
        // Whoever asked may be gone; the pair is in memory for the next.
        drop(answer.send(read));
    }
}

/// A pair takes some 180 µs in the dev profile; with two a slow file does not hold up all others.
const THREADS: usize = 2;

/// Handshakes that wait, for each thread; `limits.handshakes_in_flight` is usually reached before.
const JOBS_MAX: usize = 16_384;
