//! The connections of one worker that are relaying: who to wake when the process drains.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// A place for each relaying connection; 24 bytes each.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    places: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    phase: Cell<DrainPhase>,
}

/// How urgently connections are to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DrainPhase {
    #[default]
    Serving,
    /// Those whose turn has come end at their next idle moment.
    Draining,
    /// All are reset.
    Forced,
}

/// A connection's place, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    roster: Rc<Roster>,
    at: usize,
}

impl Roster {
    pub(crate) fn enter(self: &Rc<Self>) -> Place {
        let mut places = self.places.borrow_mut();
        let at = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(None);
            places.len() - 1
        });
        Place { roster: Rc::clone(self), at }
    }

    pub(crate) fn phase(&self) -> DrainPhase {
        self.phase.get()
    }

    /// Wakes the connections of `count` places from the one at `from`; where to go on, if there are
    /// more.
    pub(crate) fn wake(&self, from: usize, count: usize) -> Option<usize> {
        let places = self.places.borrow();
        let until = from.saturating_add(count).min(places.len());
        for waker in places.get(from..until)?.iter().flatten() {
            waker.wake_by_ref();
        }
        (until < places.len()).then_some(until)
    }

    /// Changes the phase and wakes every connection, to look at its schedule.
    pub(crate) fn set_phase(&self, phase: DrainPhase) {
        self.phase.set(phase);
        for waker in self.places.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
    }
}

impl Place {
    /// Keeps the waker of the task that polls.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut places = self.roster.places.borrow_mut();
        let place = &mut places[self.at];
        if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *place = Some(cx.waker().clone());
        }
    }

    pub(crate) fn phase(&self) -> DrainPhase {
        self.roster.phase()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.roster.places.borrow_mut()[self.at] = None;
        self.roster.free.borrow_mut().push(self.at);
    }
}
