//! Owns the plain progress lines, one a second on standard error, for when nobody can watch a
//! picture. Read `live.rs` for the picture.

use crate::interrupt::Interrupt;
use crate::output;
use crate::plan::{Loop, RunPlan};
use crate::quantity::{float, show_micros};
use crate::run::{Phase, Watch};
use crate::tick::Tick;

/// Prints a line a second.
#[derive(Debug)]
pub struct Progress {
    seconds: u64,
    is_open: bool,
    interrupt: Interrupt,
    quiet: bool,
}

impl Progress {
    /// For a plan.
    #[must_use]
    pub fn new(plan: &RunPlan, interrupt: Interrupt, quiet: bool) -> Self {
        Self {
            seconds: plan.phases.until_end().as_secs(),
            is_open: matches!(plan.pace, Loop::Open { .. }),
            interrupt,
            quiet,
        }
    }
}

impl Watch for Progress {
    fn tick(&mut self, tick: &Tick, phase: Phase) -> bool {
        if self.quiet {
            return true;
        }
        let phase = match phase {
            Phase::Before => "warm-up",
            Phase::Measured => "measured",
            Phase::After => return true,
        };
        let mut both = tick.confirmed[0].clone();
        // Cannot fail: both have the same bounds.
        let _ = both.add(&tick.confirmed[1]);
        let lag = if self.is_open {
            format!("  lag max {}", show_micros(float(tick.lag_max)))
        } else {
            String::new()
        };
        output::note(format_args!(
            "{:>3}/{} s {phase:<8} {:>6} full {:>6} resumed {:>5} errors  p50 {:>8} p99 {:>8}  in flight {}{lag}",
            tick.second + 1,
            self.seconds,
            tick.full,
            tick.resumed,
            tick.failures_total(),
            show_micros(float(both.value_at_quantile(0.5))),
            show_micros(float(both.value_at_quantile(0.99))),
            tick.in_flight,
        ));
        true
    }

    fn idle(&mut self) -> bool {
        !self.interrupt.is_wanted()
    }
}
