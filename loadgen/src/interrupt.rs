//! Owns the wish of the user to end a run early: Ctrl-C or SIGTERM ends it in order, with its
//! result; a second one ends the process. Read `progress.rs` for who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::run::{Phase, Watch};
use crate::tick::Tick;

/// Whether the user wants to end.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    wanted: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begins to listen. Where that fails, signals end the process as ever.
    #[must_use]
    pub fn listen() -> Self {
        let interrupt = Self::default();
        let wanted = Arc::clone(&interrupt.wanted);
        let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let Ok(runtime) = crate::peer::runtime() else { return };
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if wanted.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                }
            });
        });
        interrupt
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}

/// Commands that make many runs look at nothing else.
impl Watch for Interrupt {
    fn tick(&mut self, _tick: &Tick, _phase: Phase) -> bool {
        true
    }

    fn idle(&mut self) -> bool {
        !self.is_wanted()
    }
}
