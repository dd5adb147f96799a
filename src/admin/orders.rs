//! What the admin endpoint asks of control: it changes nothing itself, it hands in an order and waits
//! for what came of it.
//!
//! `app` carries out; this is all that the two share.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::config::plan::LogLevel;

/// Something to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminOrder {
    /// Load the configuration again.
    Reload,
    /// Drain, and end when the last session has.
    Drain,
    /// How much the log says, until the next reload.
    LogLevel(LogLevel),
    /// Open the files of the logs anew.
    LogReopen,
}

/// An order with the place for its answer.
#[derive(Debug)]
pub struct Ordered {
    pub order: AdminOrder,
    pub answer: oneshot::Sender<Told>,
}

/// What came of an order.
#[derive(Debug, Clone)]
pub struct Told {
    pub outcome: Outcome,
    /// For whoever gave it.
    pub body: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// What it needs is wrong: somebody has to mend it first.
    Wrong,
    /// Not at this time, or not here.
    Refused,
}

/// Where orders are handed in. A few wait; who comes when there are more is refused.
pub type Orders = mpsc::Sender<Ordered>;

/// Orders in the making, and where control takes them.
pub fn orders() -> (Orders, mpsc::Receiver<Ordered>) {
    mpsc::channel(WAITING_MAX)
}

impl Told {
    pub fn done(body: Value) -> Self {
        Self { outcome: Outcome::Done, body }
    }

    pub fn wrong(body: Value) -> Self {
        Self { outcome: Outcome::Wrong, body }
    }

    /// `why` says what to do instead.
    pub fn refused(why: &str) -> Self {
        Self { outcome: Outcome::Refused, body: serde_json::json!({ "error": why }) }
    }
}

const WAITING_MAX: usize = 16;
