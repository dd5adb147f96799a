//! Whether a client is still there while an upstream is found for it: nobody reads its socket then, and one
//! that has gone must not hold a place among those who wait for a dial.

use std::time::Duration;

use super::connection::Connection;
use super::flow::Leg;
use crate::core::refusal::{Reason, Refusal};
use crate::sys::{clock, socket};

impl Connection {
    /// Returns once the client has to go, at the end of a drain, or has gone for certain.
    pub(super) async fn departure(&self) -> Refusal {
        tokio::select! {
            dismissed = self.worker.crowd.is_dismissed() => dismissed,
            gone = self.has_gone() => gone,
        }
    }

    /// It was reset, or ended a TLS stream without a byte and without close_notify. One that has only
    /// sent its end is there: half-closed clients wait for their answer.
    async fn has_gone(&self) -> Refusal {
        loop {
            self.worker.timers.sleep_until(clock::now() + LOOK).await;
            if let Some(refusal) = gone(&self.down) {
                return refusal;
            }
        }
    }
}

fn gone(client: &Leg) -> Option<Refusal> {
    const WHEN: &str = "while its upstream was dialled";
    if let Err(error) = socket::take_error(&client.stream) {
        return Some(Refusal::new(Reason::ClientReset, format!("{WHEN}: {error}")));
    }
    // What came behind the handshake may be its close_notify.
    let is_unclean = client.wire.has_close_semantics()
        && client.partial.is_empty()
        && socket::is_at_end(&client.stream);
    is_unclean.then(|| Refusal::new(Reason::ClientUncleanEof, WHEN))
}

/// A dial is rarely so long; then it may be one of thousands, as an endpoint does not answer.
const LOOK: Duration = Duration::from_millis(500);
