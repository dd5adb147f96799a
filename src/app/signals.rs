//! The signals of the process: those that it acts on, and those that it cannot act on yet.
//!
//! `run` is who acts.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that are acted on: SIGTERM and SIGINT, which mean the same, and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    End,
    Reload,
}

impl Signals {
    /// From here on none of them ends the process by itself.
    ///
    /// # Errors
    /// The system takes no handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one. May be dropped and called again.
    pub async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::End,
            _ = self.interrupt.recv() => Wanted::End,
            _ = self.hangup.recv() => Wanted::Reload,
        }
    }
}

/// A signal that other daemons act on and this one cannot yet. Left alone it would end the process,
/// and every session with it, without a word.
#[derive(Debug, Clone, Copy)]
struct UnavailableSignal {
    kind: SignalKind,
    name: &'static str,
    /// What it asks for elsewhere, and what to do here.
    instead: &'static str,
}

const UNAVAILABLE: [UnavailableSignal; 2] = [
    UnavailableSignal {
        kind: SignalKind::user_defined1(),
        name: "SIGUSR1",
        instead: "reopening logs is not available yet: rotate the access log by copy and truncate",
    },
    UnavailableSignal {
        kind: SignalKind::user_defined2(),
        name: "SIGUSR2",
        instead: "upgrade in place is not available yet: SIGTERM drains, then start the new program",
    },
];

/// From here on these are answered.
///
/// # Errors
/// The system takes no handler.
pub fn answer_unavailable() -> io::Result<()> {
    for unavailable in UNAVAILABLE {
        let received = signal(unavailable.kind)?;
        tokio::spawn(answer(unavailable, received));
    }
    Ok(())
}

/// Says each time that nothing was done.
async fn answer(unavailable: UnavailableSignal, mut received: Signal) {
    let UnavailableSignal { kind: _, name, instead } = unavailable;
    while received.recv().await.is_some() {
        tracing::warn!("{name} changed nothing: {instead}");
    }
}
