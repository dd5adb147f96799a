//! Owns the wish of the user to end a run early: Ctrl-C or SIGTERM ends it in order, with its
//! result; a second one ends the process. Read `progress.rs` for who asks.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::run::{Phase, Watch};
use crate::tick::Tick;

/// Whether the user wants to end.
#[derive(Debug, Clone)]
pub struct Interrupt {
    wanted: watch::Receiver<bool>,
}

impl Interrupt {
    /// Listens once it returns. Where that fails, signals end the process as ever.
    #[must_use]
    pub fn listen() -> Self {
        let (tell, wanted) = watch::channel(false);
        let (ready, listens) = std::sync::mpsc::channel::<()>();
        let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let Ok(runtime) = crate::peer::runtime() else { return };
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                drop(ready);
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if tell.send_replace(true) {
                        std::process::exit(130);
                    }
                }
            });
        });
        // An error either way: nothing is sent, and the sender is dropped.
        let _ = listens.recv();
        Self { wanted }
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        *self.wanted.borrow()
    }

    /// Waits until it is.
    pub async fn wanted(&self) {
        let mut wanted = self.wanted.clone();
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            // Nobody listens to signals, so none ends anything in order.
            std::future::pending::<()>().await;
        }
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
