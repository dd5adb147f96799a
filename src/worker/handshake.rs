//! Driving one TLS handshake over a socket: receive, advance, send, until it is done or refused.

use super::flow::Leg;
use super::{Worker, stream};
use crate::core::refusal::{Reason, Refusal};
use crate::tls::{Advance, ClientHandshake, Outcome, ServerHandshake};

/// Both roles, as far as driving goes.
pub(super) trait Handshake {
    /// Who is to blame when the peer goes away.
    const CLOSED: Reason;
    fn advance(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Advance;
    /// Whether, once it is done, the peer waits for nothing of what the last `advance` had to say.
    fn may_wait(&self) -> bool;
    /// Adds to why the peer went away what is known of it.
    fn explain(&self, detail: &mut String);
}

impl Handshake for ServerHandshake {
    const CLOSED: Reason = Reason::ClientClosed;
    fn advance(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Advance {
        ServerHandshake::advance(self, input, out)
    }
    fn may_wait(&self) -> bool {
        self.ends_with_tickets()
    }
    fn explain(&self, _detail: &mut String) {}
}

impl Handshake for ClientHandshake {
    const CLOSED: Reason = Reason::UpstreamTls;
    fn advance(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Advance {
        ClientHandshake::advance(self, input, out)
    }
    fn may_wait(&self) -> bool {
        false
    }
    fn explain(&self, detail: &mut String) {
        ClientHandshake::explain(self, detail);
    }
}

/// The first flight of a handshake that this side begins; nothing was received yet.
///
/// # Errors
/// rustls had none.
pub(super) fn opening(handshake: &mut impl Handshake) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    match handshake.advance(&mut [], &mut out).outcome {
        Outcome::Failed(refusal) => Err(refusal),
        Outcome::NeedMore | Outcome::Done => Ok(out),
    }
}

/// Runs `handshake` to its end. What the leg has received and not consumed comes first; what is left
/// of it behind the handshake stays there.
///
/// # Errors
/// Why it failed; the alert, if one is due, was sent.
pub(super) async fn drive(
    worker: &Worker,
    leg: &mut Leg,
    handshake: &mut impl Handshake,
) -> Result<(), Refusal> {
    let mut out = worker.spares.take();
    let ended = exchange(worker, leg, &mut out, handshake).await;
    worker.spares.put_back(&mut out);
    ended
}

async fn exchange<H: Handshake>(
    worker: &Worker,
    leg: &mut Leg,
    out: &mut Vec<u8>,
    handshake: &mut H,
) -> Result<(), Refusal> {
    loop {
        let advance = handshake.advance(&mut leg.partial, out);
        leg.consume(worker, advance.consumed);
        // A client that has asked for something gets its ticket with the answer, in one packet.
        let is_asked = !leg.partial.is_empty();
        let may_wait = matches!(advance.outcome, Outcome::Done) && handshake.may_wait();
        let sent = match is_asked && may_wait {
            true => stream::send_with_more(&mut leg.stream, out).await,
            false => stream::send_all(&mut leg.stream, out).await,
        };
        out.clear();
        match advance.outcome {
            Outcome::Failed(refusal) => return Err(refusal),
            Outcome::Done => return sent.map_err(|error| closed(handshake, &error.to_string())),
            Outcome::NeedMore => sent.map_err(|error| closed(handshake, &error.to_string()))?,
        }
        match leg.fill(worker).await {
            Ok(0) => return Err(closed(handshake, "end of stream")),
            Ok(_) => {}
            Err(error) => return Err(closed(handshake, &error.to_string())),
        }
    }
}

fn closed<H: Handshake>(handshake: &H, what: &str) -> Refusal {
    let mut detail = format!("the peer left in the middle of the handshake: {what}");
    handshake.explain(&mut detail);
    Refusal::new(H::CLOSED, detail)
}
