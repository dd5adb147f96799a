//! Deadlines of one worker: the core's timer wheel, driven by one task.
//!
//! A future that waits for a socket is raced against a deadline without a timer of the runtime for
//! each connection.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::core::timer_wheel::{TimerKey, TimerWheel};
use crate::sys::clock;

/// Deadlines here are whole seconds; 16 ms late is early enough and wakes an idle worker rarely.
const TICK: Duration = Duration::from_millis(16);

/// The timers of one worker.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: RefCell<TimerWheel<Waker>>,
    /// When the driving task comes back.
    armed: Cell<Option<Instant>>,
    sooner: Notify,
}

/// A deadline of one task, kept over many polls; moving it later costs nothing until it fires.
#[derive(Debug)]
pub(crate) struct Alarm {
    timers: Rc<Timers>,
    set: Option<(Instant, TimerKey)>,
}

/// The deadline came first.
#[derive(Debug)]
pub(crate) struct Elapsed;

impl Timers {
    pub(crate) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            wheel: RefCell::new(TimerWheel::new(now, TICK)),
            armed: Cell::new(None),
            sooner: Notify::new(),
        })
    }

    /// Wakes what is due, for ever.
    pub(crate) async fn drive(self: Rc<Self>) {
        let mut due = Vec::new();
        loop {
            let next = self.wheel.borrow().next_deadline();
            self.armed.set(next);
            match next {
                None => self.sooner.notified().await,
                Some(at) => {
                    let sleep = pin!(tokio::time::sleep_until(at.into()));
                    tokio::select! {
                        () = sleep => {}
                        () = self.sooner.notified() => {}
                    }
                }
            }
            self.wheel.borrow_mut().advance(clock::now(), &mut due);
            due.drain(..).for_each(Waker::wake);
        }
    }

    /// Runs `work` until it is done or `at` has come. Work is pinned by the caller, for an `async fn` has its
    /// arguments twice.
    pub(crate) async fn until<F: Future + Unpin>(
        self: &Rc<Self>,
        at: Option<Instant>,
        mut work: F,
    ) -> Result<F::Output, Elapsed> {
        let mut alarm = Alarm::new(self);
        poll_fn(|cx| {
            if let Poll::Ready(done) = Pin::new(&mut work).poll(cx) {
                return Poll::Ready(Ok(done));
            }
            match at {
                Some(at) => alarm.poll(at, cx).map(|()| Err(Elapsed)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Returns at `at`.
    pub(crate) async fn sleep_until(self: &Rc<Self>, at: Instant) {
        let mut alarm = Alarm::new(self);
        poll_fn(|cx| alarm.poll(at, cx)).await;
    }

    fn schedule(&self, at: Instant, waker: Waker) -> TimerKey {
        let key = self.wheel.borrow_mut().schedule(at, waker);
        if self.armed.get().is_none_or(|armed| at < armed) {
            self.armed.set(Some(at));
            self.sooner.notify_one();
        }
        key
    }
}

impl Alarm {
    pub(crate) fn new(timers: &Rc<Timers>) -> Self {
        Self { timers: Rc::clone(timers), set: None }
    }

    /// Ready once `at` has come; else the task is woken then, or somewhat earlier when `at` has
    /// moved later since the alarm was set: the caller polls again and no timer is moved each time
    /// that bytes flow.
    pub(crate) fn poll(&mut self, at: Instant, cx: &Context<'_>) -> Poll<()> {
        if let Some((set, key)) = self.set {
            let pending = self.timers.wheel.borrow().is_set(key);
            if pending && set <= at {
                return Poll::Pending;
            }
            self.timers.wheel.borrow_mut().cancel(key);
            self.set = None;
        }
        if clock::now() >= at {
            return Poll::Ready(());
        }
        self.set = Some((at, self.timers.schedule(at, cx.waker().clone())));
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((_, key)) = self.set {
            self.timers.wheel.borrow_mut().cancel(key);
        }
    }
}
