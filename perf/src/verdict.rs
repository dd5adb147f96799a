//! Owns the sums over rounds: medians, ratios within a round, and what may be said of them. Rounds of a
//! busy machine differ by a third; two programs in the same round differ by much less.

use crate::gateway::Program;
use crate::rounds::Round;
use crate::row::{Bar, ROWS, Row};

/// How a program did against another, over all rounds in which both were measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Against {
    /// The median of the rounds' ratios; all of them are on its side of 1.
    Ratio(f64),
    /// The same, but rounds disagree on who uses less.
    Tie(f64),
}

/// A row's line in the table.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) row: &'static Row,
    /// Medians, in the order of `Program::ALL`.
    pub(crate) medians: Vec<Option<f64>>,
    /// Portcullis against each of them.
    pub(crate) against: Vec<Option<Against>>,
    /// The median of the floors.
    pub(crate) floor: Option<f64>,
    /// Whether the bar is met, where that can be said.
    pub(crate) met: Option<bool>,
}

impl Against {
    pub(crate) const fn ratio(self) -> f64 {
        match self {
            Self::Ratio(ratio) | Self::Tie(ratio) => ratio,
        }
    }

    fn of(ratios: Vec<f64>) -> Option<Self> {
        let less = ratios.iter().filter(|ratio| **ratio < 1.0).count();
        let agree = less == 0 || less == ratios.len();
        let median = median(ratios)?;
        Some(if agree { Self::Ratio(median) } else { Self::Tie(median) })
    }
}

impl Line {
    /// The lines of all rows that anybody was measured at.
    pub(crate) fn all(rounds: &[Round]) -> Vec<Self> {
        let lines = ROWS.iter().map(|row| Self::new(row, rounds));
        lines.filter(|line| line.medians.iter().any(Option::is_some)).collect()
    }

    fn new(row: &'static Row, rounds: &[Round]) -> Self {
        let figure = |round: &Round, program: Program| {
            round.figures.get(program.name())?.get(row.key).copied()
        };
        let over =
            |program| median(rounds.iter().filter_map(|round| figure(round, program)).collect());
        let against = |program| {
            let ratio = |round| Some(figure(round, Program::Portcullis)? / figure(round, program)?);
            Against::of(rounds.iter().filter_map(ratio).collect())
        };
        let medians: Vec<_> = Program::ALL.map(over).into();
        let against: Vec<_> = Program::ALL.map(against).into();
        let at = |program| Program::ALL.iter().position(|other| *other == program);
        let own = at(Program::Portcullis).and_then(|at| medians.get(at).copied().flatten());
        let to_envoy = at(Program::Envoy).and_then(|at| against.get(at).copied().flatten());
        let met = match row.bar {
            Bar::OfEnvoy(bar) => to_envoy.map(|against| against.ratio() <= bar),
            Bar::Absolute(bar) => own.map(|own| own <= bar),
        };
        let floors = rounds.iter().filter_map(|round| round.floor.get(row.key).copied());
        Self { row, medians, against, floor: median(floors.collect()), met }
    }

    /// Portcullis' median.
    pub(crate) fn own(&self) -> Option<f64> {
        self.medians.first().copied().flatten()
    }

    /// Portcullis against Envoy.
    pub(crate) fn of_envoy(&self) -> Option<Against> {
        self.of(Program::Envoy)
    }

    /// Portcullis against another.
    pub(crate) fn of(&self, other: Program) -> Option<Against> {
        let at = Program::ALL.iter().position(|program| *program == other)?;
        self.against.get(at).copied().flatten()
    }

    pub(crate) fn of_floor(&self) -> Option<f64> {
        Some(self.own()? / self.floor?)
    }
}

/// The one in the middle, or the mean of the two there.
pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = *figures.get(figures.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rounds::Circumstances;

    /// A round in which portcullis and Envoy did the rows with these figures, above a floor of 1.
    pub(crate) fn round(figures: &[(&str, f64, f64)]) -> Round {
        let column = |pick: fn(&(&str, f64, f64)) -> f64| {
            figures.iter().map(|figure| (figure.0.to_owned(), pick(figure))).collect()
        };
        let figures: BTreeMap<String, BTreeMap<String, f64>> = [
            ("portcullis".to_owned(), column(|figure| figure.1)),
            ("envoy".to_owned(), column(|figure| figure.2)),
        ]
        .into();
        Round {
            circumstances: Circumstances {
                commit: "c0ffee".to_owned(),
                date: "2026-01-01T00:00:00Z".to_owned(),
                kernel: "Linux 6".to_owned(),
                cpu: "a processor".to_owned(),
                cores: 2,
                versions: [("envoy".to_owned(), "1".to_owned())].into(),
            },
            floor: figures["portcullis"].keys().map(|key| (key.clone(), 1.0)).collect(),
            figures,
            disturbed: 0,
            skipped: BTreeMap::new(),
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round; the ratio is the same.
        let rounds = [round(&[("full", 6.0, 10.0)]), round(&[("full", 12.0, 20.0)])];
        let lines = Line::all(&rounds);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].of_envoy(), Some(Against::Ratio(0.6)));
        assert_eq!((lines[0].own(), lines[0].of_floor()), (Some(9.0), Some(9.0)));
        assert_eq!(lines[0].met, Some(true));
    }

    #[test]
    fn rounds_that_disagree_are_a_tie() {
        let rounds = [1.1, 0.9, 0.95].map(|own| round(&[("resumed", own, 1.0)]));
        let line = &Line::all(&rounds)[0];
        assert_eq!(line.of_envoy(), Some(Against::Tie(0.95)));
        assert_eq!(line.met, Some(false));
    }

    #[test]
    fn memory_is_held_against_its_own_bar() {
        let met = |own| Line::all(&[round(&[("idle-plain", own, 27.0)])])[0].met;
        assert_eq!((met(5.9), met(6.1)), (Some(true), Some(false)));
    }

    #[test]
    fn the_median_of_two_is_between_them() {
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
