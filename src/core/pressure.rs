//! What is let go of as the memory of the process comes near its limit: first what is only kept ahead
//! of need, then new clients and sessions that nobody uses, those first that have been idle longest, and
//! with them the sessions for which most is kept.
//!
//! Pure: `app::memory` measures, the workers act.

use std::num::NonZeroU64;
use std::time::Duration;

/// How far it has come; each stage does what those before it do as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Calm,
    /// No ready connections, no spare buffers.
    Lean,
    /// New connections are refused, and sessions that are idle for long make room for them.
    Closed,
    /// Whatever is idle is closed, and the sessions for which most is kept.
    Shedding,
}

/// What workers go by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    pub stage: Stage,
    /// Bytes in memory, and how many there may be.
    pub resident: u64,
    pub limit: u64,
    /// From `Closed` on: who has moved nothing for so long goes.
    pub patience: Duration,
    /// From `Shedding` on: for whom more bytes are kept goes, whatever moves.
    pub heaviest: Option<usize>,
}

/// Looks at the memory now and then.
#[derive(Debug)]
pub struct PressureWatch {
    stage: Stage,
    patience: Duration,
    heaviest: usize,
}

impl PressureWatch {
    pub fn new() -> Self {
        Self { stage: Stage::Calm, patience: PATIENCE_MAX, heaviest: HEAVIEST_MAX }
    }

    /// What holds with so many bytes in memory; `None` has no limit. To be asked at equal intervals:
    /// as long as nothing helps, each of them halves the patience with idle sessions and what may be kept
    /// for one.
    pub fn look(&mut self, resident: u64, limit: Option<NonZeroU64>) -> Pressure {
        let Some(limit) = limit else {
            *self = Self::new();
            return Pressure::default();
        };
        let percent = u128::from(resident) * 100 / u128::from(limit.get());
        let holds = |stage: &Stage| {
            // What was reached is left a little later, or every connection that goes would flap it.
            let slack = if *stage <= self.stage { SLACK } else { 0 };
            percent + slack >= stage.begins_at()
        };
        self.stage = Stage::ALL.into_iter().rfind(holds).unwrap_or_default();
        let patience = self.patience;
        self.patience = match self.stage {
            Stage::Shedding => (patience / 2).max(PATIENCE_MIN),
            Stage::Closed => (patience / 2).max(PATIENCE_CLOSED),
            Stage::Calm | Stage::Lean => PATIENCE_MAX,
        };
        let is_shedding = self.stage == Stage::Shedding;
        let heaviest = is_shedding.then_some(self.heaviest);
        self.heaviest = match heaviest {
            Some(bytes) => (bytes / 2).max(HEAVIEST_MIN),
            None => HEAVIEST_MAX,
        };
        Pressure { stage: self.stage, resident, limit: limit.get(), patience, heaviest }
    }
}

impl Default for PressureWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    const ALL: [Self; 4] = [Self::Calm, Self::Lean, Self::Closed, Self::Shedding];

    /// As logs and metrics have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Lean => "lean",
            Self::Closed => "closed",
            Self::Shedding => "shedding",
        }
    }

    /// Percent of the limit.
    const fn begins_at(self) -> u128 {
        match self {
            Self::Calm => 0,
            Self::Lean => 80,
            Self::Closed => 90,
            Self::Shedding => 100,
        }
    }
}

/// Percent.
const SLACK: u128 = 5;

/// With whom nothing has moved for so long goes first.
const PATIENCE_MAX: Duration = Duration::from_secs(600);

/// Below the limit only those go who have been idle for longer than a pause: a crowd that stays and does
/// nothing must not keep everybody else out.
const PATIENCE_CLOSED: Duration = Duration::from_secs(30);

/// Who has just moved something stays, whatever the memory says.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// Bytes kept for one session; no session has much more.
const HEAVIEST_MAX: usize = 256 * 1024;

/// A record on its way is nobody's fault.
const HEAVIEST_MIN: usize = 17 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stages(percents: &[u64]) -> Vec<Stage> {
        let mut watch = PressureWatch::new();
        percents.iter().map(|percent| watch.look(*percent, NonZeroU64::new(100)).stage).collect()
    }

    #[test]
    fn stages_come_one_after_another_and_go_a_little_later() {
        use Stage::{Calm, Closed, Lean, Shedding};
        let seen = stages(&[79, 80, 89, 90, 100, 95, 94, 86, 84, 75, 74, 79, 130]);
        let expected = [
            Calm, Lean, Lean, Closed, Shedding, Shedding, Closed, Closed, Lean, Lean, Calm, Calm,
            Shedding,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn patience_halves_while_nothing_helps_and_is_whole_again_afterwards() {
        let mut watch = PressureWatch::new();
        let mut patience = |resident| watch.look(resident, NonZeroU64::new(100)).patience.as_secs();
        let seen: Vec<_> = (0..12).map(|_| patience(100)).collect();
        assert_eq!(seen, [600, 300, 150, 75, 37, 18, 9, 4, 2, 1, 1, 1]);
        assert_eq!([patience(84), patience(84), patience(100), patience(100)], [1, 600, 600, 300]);
        let seen: Vec<_> = (0..7).map(|_| patience(90)).collect();
        assert_eq!(seen, [150, 75, 37, 30, 30, 30, 30], "of those who keep new clients out");
    }

    #[test]
    fn the_heaviest_go_first_and_only_beyond_the_limit() {
        let mut watch = PressureWatch::new();
        let mut heaviest = |resident| {
            watch.look(resident, NonZeroU64::new(100)).heaviest.map(|bytes| bytes / 1024)
        };
        assert_eq!([heaviest(80), heaviest(99)], [None, None]);
        let seen: Vec<_> = (0..8).filter_map(|_| heaviest(100)).collect();
        assert_eq!(seen, [256, 128, 64, 32, 17, 17, 17, 17]);
        assert_eq!([heaviest(94), heaviest(100)], [None, Some(256)], "from the start again");
    }

    #[test]
    fn without_a_limit_there_is_no_pressure() {
        let mut watch = PressureWatch::new();
        assert_eq!(watch.look(100, NonZeroU64::new(100)).stage, Stage::Shedding);
        assert_eq!(watch.look(u64::MAX, None), Pressure::default());
    }

    proptest! {
        #[test]
        fn a_stage_holds_whatever_came_before(
            before in prop::collection::vec(0_u64..200, 0..20), now in 0_u64..200,
        ) {
            let percents: Vec<_> = before.into_iter().chain([now]).collect();
            let stage = stages(&percents)[percents.len() - 1];
            prop_assert!(u128::from(now) + SLACK >= stage.begins_at());
            let fresh = stages(&[now])[0];
            prop_assert!(stage >= fresh);
        }
    }
}
