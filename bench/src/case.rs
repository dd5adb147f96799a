//! One piece of work: what it is called, how much it moves, and how it is done once more.

use std::fmt;
use std::hint::black_box;

/// Can be done any number of times.
pub struct Case {
    name: String,
    bytes: Option<u64>,
    is_counted: bool,
    /// Made anew before each turn, beside what is measured.
    is_prepared: bool,
    work: Box<dyn Work>,
}

impl Case {
    /// `work` is what is measured. What it returns is not optimised away.
    pub fn new<R>(name: impl Into<String>, mut work: impl FnMut() -> R + 'static) -> Self {
        let work = Same(move || {
            black_box(work());
        });
        let name = name.into();
        Self { name, bytes: None, is_counted: true, is_prepared: false, work: Box::new(work) }
    }

    /// For work that uses up what it begins with: `prepare` makes that, and is not measured.
    pub fn prepared<S: 'static, R>(
        name: impl Into<String>,
        prepare: impl FnMut() -> S + 'static,
        mut work: impl FnMut(&mut S) -> R + 'static,
    ) -> Self {
        let work = move |state: &mut S| {
            black_box(work(state));
        };
        let work = Prepared { state: None, prepare, work };
        let name = name.into();
        Self { name, bytes: None, is_counted: true, is_prepared: true, work: Box::new(work) }
    }

    /// How many bytes one turn moves.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = Some(bytes as u64);
        self
    }

    /// For people only: what is told by the time, as the caches that a look-up misses, or what takes
    /// long to set up.
    #[must_use]
    pub fn timed_only(mut self) -> Self {
        self.is_counted = false;
        self
    }

    /// Gets ready for a turn.
    pub fn prepare(&mut self) {
        self.work.prepare();
    }

    /// One turn.
    pub fn turn(&mut self) {
        self.work.turn();
    }

    /// As `group/case`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn moves(&self) -> Option<u64> {
        self.bytes
    }

    pub fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// Whether each turn has to be prepared.
    pub fn is_prepared(&self) -> bool {
        self.is_prepared
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

trait Work {
    fn prepare(&mut self);
    fn turn(&mut self);
}

struct Same<F>(F);

impl<F: FnMut()> Work for Same<F> {
    fn prepare(&mut self) {}

    fn turn(&mut self) {
        (self.0)();
    }
}

struct Prepared<S, P, F> {
    state: Option<S>,
    prepare: P,
    work: F,
}

impl<S, P: FnMut() -> S, F: FnMut(&mut S)> Work for Prepared<S, P, F> {
    fn prepare(&mut self) {
        self.state = Some((self.prepare)());
    }

    fn turn(&mut self) {
        if let Some(state) = &mut self.state {
            (self.work)(state);
        }
    }
}
