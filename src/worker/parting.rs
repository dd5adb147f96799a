//! How both legs of a session are left: closed as they are, with a goodbye, or reset.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::flow::{Leg, Legs};
use super::{Worker, stream};
use crate::core::relay::{Closing, LINGER};
use crate::sys::clock;

/// Leaves both as `how` asks. Whoever does not close in time is closed.
pub(super) async fn part(worker: &Rc<Worker>, legs: &mut Legs<'_>, how: Closing) {
    let until = Some(clock::now() + LINGER);
    let Legs { down, up } = legs;
    let both = pin!(async {
        tokio::join!(leave(worker, down, how), leave(worker, up, how));
    });
    drop(worker.timers.until(until, both).await);
}

async fn leave(worker: &Worker, leg: &mut Leg, how: Closing) {
    match how {
        Closing::Done => {}
        // A leg with an alert on its way: the peer is to see it before the end.
        Closing::Reset if !leg.is_closing() => stream::reset(&leg.stream),
        Closing::Reset | Closing::Polite => say_goodbye(worker, leg).await,
    }
}

/// close_notify, FIN, and what the peer still sends is read to its end.
async fn say_goodbye(worker: &Worker, leg: &mut Leg) {
    let sent = poll_fn(|cx| {
        leg.send_close(worker, cx)?;
        if leg.flush(worker, cx)? == 0 { Poll::Ready(io::Result::Ok(())) } else { Poll::Pending }
    });
    if sent.await.is_ok() {
        stream::linger(worker, &mut leg.stream).await;
    }
}
