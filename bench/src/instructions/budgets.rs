//! How many instructions each case may take: read from a file, compared with what was counted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::callgrind::Count;

/// What was counted when the budgets were made, and by how much a count may differ from it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budgets {
    compiler: String,
    head_room_percent: u64,
    cases: BTreeMap<String, Budget>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    instructions: u64,
    /// Into aws-lc.
    calls: u64,
}

/// One line a case.
#[derive(Debug)]
pub(crate) struct Verdict {
    cases: Vec<(String, Count, Judged)>,
    /// Budgets of cases that there are not.
    stale: Vec<String>,
    note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    Within(Budget),
    /// Less by more than the head-room.
    Below(Budget),
    Over(Budget),
    NoBudget,
}

impl Budgets {
    pub(crate) fn of(counted: &[(String, Count)], compiler: &str) -> Self {
        let budget = |count: &Count| Budget { instructions: count.ours, calls: count.calls };
        let cases = counted.iter().map(|(name, count)| (name.clone(), budget(count))).collect();
        Self { compiler: compiler.to_owned(), head_room_percent: HEAD_ROOM_PERCENT, cases }
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.to_string()).with_context(|| path.display().to_string())
    }

    /// Holds what was counted against the budgets; `compiler` made what was counted.
    pub(crate) fn judge(&self, counted: &[(String, Count)], compiler: &str) -> Verdict {
        let percent = if compiler == self.compiler {
            self.head_room_percent
        } else {
            self.head_room_percent + OTHER_COMPILER_PERCENT
        };
        let judge = |name: &String, count: &Count| match self.cases.get(name) {
            None => Judged::NoBudget,
            Some(budget) => budget.judge(count, percent),
        };
        let cases = counted.iter().map(|(name, count)| (name.clone(), *count, judge(name, count)));
        let is_stale = |name: &&String| counted.iter().all(|(counted, _)| counted != *name);
        let stale = self.cases.keys().filter(is_stale).cloned().collect();
        let is_others = compiler != self.compiler;
        let note = is_others.then(|| {
            format!(
                "The budgets are of {}, this is {compiler}: {percent} % more are let pass.",
                self.compiler
            )
        });
        Verdict { cases: cases.collect(), stale, note }
    }
}

impl Budget {
    fn judge(self, count: &Count, percent: u64) -> Judged {
        let room = self.instructions * percent / 100 + HEAD_ROOM_MIN;
        if count.ours > self.instructions + room || count.calls > self.calls {
            Judged::Over(self)
        } else if count.ours + room < self.instructions || count.calls < self.calls {
            Judged::Below(self)
        } else {
            Judged::Within(self)
        }
    }
}

impl fmt::Display for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Made by `bench/count record`; bench/README.md says what is counted.\n")?;
        writeln!(f, "compiler = \"{}\"", self.compiler)?;
        writeln!(f, "head_room_percent = {}\n\n[cases]", self.head_room_percent)?;
        for (name, Budget { instructions, calls }) in &self.cases {
            writeln!(f, "\"{name}\" = {{ instructions = {instructions}, calls = {calls} }}")?;
        }
        Ok(())
    }
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        let is_good = |judged: &Judged| match judged {
            Judged::Within(_) | Judged::Below(_) => true,
            Judged::Over(_) | Judged::NoBudget => false,
        };
        self.stale.is_empty() && self.cases.iter().all(|(_, _, judged)| is_good(judged))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [case, ours, calls, within] = ["case", "ours (budget)", "calls", "in aws-lc"];
        writeln!(f, "{case:<44}{ours:>20}{calls:>12}{within:>12}")?;
        for (name, Count { ours, cryptography, calls }, judged) in &self.cases {
            let (budget, word) = match judged {
                Judged::Within(budget) => (Some(budget), ""),
                Judged::Below(budget) => (Some(budget), "  less: record it"),
                Judged::Over(budget) => (Some(budget), "  TOO MUCH"),
                Judged::NoBudget => (None, "  NO BUDGET: record it"),
            };
            let of =
                |budget: Option<u64>| budget.map_or("-".to_owned(), |budget| budget.to_string());
            let ours = format!("{ours} ({})", of(budget.map(|budget| budget.instructions)));
            let calls = format!("{calls} ({})", of(budget.map(|budget| budget.calls)));
            writeln!(f, "{name:<44}{ours:>20}{calls:>12}{cryptography:>12}{word}")?;
        }
        for name in &self.stale {
            writeln!(f, "{name:<44}  NO SUCH CASE: record the others")?;
        }
        self.note.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

/// Two measurements of one build differ by less than one per cent.
const HEAD_ROOM_PERCENT: u64 = 4;

/// Another compiler inlines otherwise; what it changes is recorded when there is time for it.
const OTHER_COMPILER_PERCENT: u64 = 12;

/// For the smallest, where a few per cent are less than an instruction or two.
const HEAD_ROOM_MIN: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(cases: &[(&str, u64)]) -> Vec<(String, Count)> {
        let count = |ours| Count { ours, cryptography: 9, calls: 2 };
        cases.iter().map(|(name, ours)| ((*name).to_owned(), count(*ours))).collect()
    }

    #[test]
    fn what_takes_more_than_its_budget_and_head_room_is_not_good() {
        let budgets = Budgets::of(&counted(&[("a/b", 1_000)]), ONE);
        for (count, compiler, is_good) in [
            (500, ONE, true),
            (1_000, ONE, true),
            (1_044, ONE, true),
            (1_045, ONE, false),
            (1_164, ANOTHER, true),
            (1_165, ANOTHER, false),
        ] {
            let verdict = budgets.judge(&counted(&[("a/b", count)]), compiler);
            assert_eq!(verdict.is_good(), is_good, "{count} {compiler}");
        }
    }

    #[test]
    fn a_call_of_cryptography_more_is_not_good() {
        let mut count = counted(&[("a/b", 1_000)]);
        let budgets = Budgets::of(&count, ONE);
        assert!(budgets.judge(&count, ONE).is_good());
        count[0].1.calls += 1;
        assert!(!budgets.judge(&count, ONE).is_good());
    }

    #[test]
    fn cases_and_budgets_are_the_same() {
        let budgets = Budgets::of(&counted(&[("a/b", 1_000)]), ONE);
        assert!(!budgets.judge(&counted(&[("a/b", 1), ("a/new", 1)]), ONE).is_good());
        assert!(!budgets.judge(&[], ONE).is_good());
    }

    #[test]
    fn budgets_are_read_as_they_were_written() {
        let budgets = Budgets::of(&counted(&[("a/b", 1_000), ("c", 7)]), ONE);
        let read: Budgets = toml::from_str(&budgets.to_string()).unwrap();
        assert_eq!(read.to_string(), budgets.to_string());
        assert_eq!(read.cases, budgets.cases);
    }

    const ONE: &str = "rustc 1";
    const ANOTHER: &str = "rustc 2";
}
