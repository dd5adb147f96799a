//! Driving what is said before a hello: answering a client that asks for TLS, and asking an upstream.
//!
//! What to say is `core::prelude`'s. A client's prelude is within `timeouts.hello`, an upstream's
//! within `connect.timeout`; both callers bound the time.

use super::Worker;
use super::connection::Connection;
use super::flow::Leg;
use super::generation::Entrance;
use super::stream;
use crate::core::prelude::postgres::{Postgres, Step};
use crate::core::prelude::{self, upstream};
use crate::core::refusal::{Reason, Refusal};
use crate::core::route::ChainId;

/// How a client's prelude ended.
#[derive(Debug)]
pub(super) enum Prelude {
    /// Nothing was asked or answered: what is held is the client's first word.
    Nothing,
    /// The client asked for something else than TLS, was refused it, and may go on.
    Begun,
    /// The client asked for TLS and was promised it: plain text will not do any more.
    TlsPromised,
    /// It goes on in plain text, as a raw chain allows.
    PlainText(ChainId),
}

impl Connection {
    /// The prelude of the listener, if it has one, up to the client's first byte of TLS.
    pub(super) async fn prelude(&mut self, entrance: &Entrance) -> Result<Prelude, Refusal> {
        match entrance.plan().prelude {
            None => Ok(Prelude::Nothing),
            Some(prelude::Prelude::Postgres) => self.postgres(entrance).await,
        }
    }

    async fn postgres(&mut self, entrance: &Entrance) -> Result<Prelude, Refusal> {
        let (mut postgres, mut ended) = (Postgres::new(), Prelude::Nothing);
        loop {
            match postgres.step(&self.down.partial) {
                Step::NeedMore => self.receive(&ended).await?,
                Step::Answer { answer } => {
                    ended = Prelude::Begun;
                    self.answer(&answer).await?;
                }
                Step::Promise { answer } => {
                    self.answer(&answer).await?;
                    return Ok(Prelude::TlsPromised);
                }
                Step::NoPrelude => return Ok(ended),
                Step::PlainText { refusal, answer } => {
                    let chosen = self.choose_raw(entrance, Some(refusal));
                    if chosen.is_err() {
                        // Who does not take it is refused all the same.
                        drop(stream::send_all(&mut self.down.stream, answer).await);
                    }
                    return chosen.map(Prelude::PlainText);
                }
                Step::Refuse(refusal) => return Err(refusal),
            }
        }
    }

    /// Drops the request, and answers it.
    async fn answer(&mut self, answer: &[u8]) -> Result<(), Refusal> {
        let request = self.down.partial.len();
        self.down.consume(&self.worker, request);
        stream::send_all(&mut self.down.stream, answer).await.map_err(|error| {
            let detail = format!("gone before its request for TLS was answered: {error}");
            Refusal::new(Reason::HelloTruncated, detail)
        })
    }
}

/// Asks a Postgres server for TLS; afterwards it waits for our ClientHello, and nothing of its answer
/// is held.
///
/// # Errors
/// Why TLS cannot begin.
pub(super) async fn ask_postgres(worker: &Worker, leg: &mut Leg) -> Result<(), Refusal> {
    let left = |what: String| {
        let detail = format!("it left when it was asked for TLS: {what}");
        Refusal::new(Reason::UpstreamTls, detail)
    };
    let sent = stream::send_all(&mut leg.stream, &upstream::request()).await;
    sent.map_err(|error| left(error.to_string()))?;
    loop {
        match upstream::answer(&leg.partial) {
            upstream::Answer::NeedMore => match leg.fill(worker).await {
                Ok(0) => return Err(left("end of stream".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(left(error.to_string())),
            },
            upstream::Answer::Yes => {
                let answer = leg.partial.len();
                leg.consume(worker, answer);
                return Ok(());
            }
            upstream::Answer::Refused(refusal) => return Err(refusal),
        }
    }
}
