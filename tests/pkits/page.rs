//! `docs/pkits.md`: every case, what the standard says of it, what the gateway did, and why that
//! differs where it does.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::cases::{Case, Difference, Section};
use crate::front::{Outcome, Verdict};

/// A case and what became of it.
struct Row<'a> {
    case: &'a Case,
    outcome: &'a Outcome,
}

/// The whole page. `outcomes` are in the order of the cases.
///
/// # Panics
/// When an invalid path is accepted, a difference is not explained, or an explanation explains none.
pub(crate) fn page(
    sections: &[Section],
    outcomes: &[Outcome],
    differences: &[Difference],
) -> String {
    let mut explained = HashMap::new();
    for difference in differences {
        explained.extend(difference.cases.iter().map(|case| (*case, difference)));
    }
    let mut left = outcomes;
    let mut tables = String::new();
    let mut faults = String::new();
    let mut counts = Counts::default();
    for section in sections {
        let (of_section, others) = left.split_at(section.cases.len());
        left = others;
        write!(tables, "\n## {}\n\n{TABLE_HEAD}", section.title).expect("a string grows");
        for (case, outcome) in section.cases.iter().zip(of_section) {
            let row = Row { case, outcome };
            counts.add(&row);
            let difference = explained.remove(case.number);
            let line = row.text(difference);
            if row.differs() && difference.is_none() {
                faults += &format!("not explained: {line}");
            } else if difference.is_some() && !row.differs() {
                faults += &format!("explained, and does not differ: {line}");
            }
            tables += &line;
        }
    }
    if std::env::var_os("DBG").is_none() {
        assert_eq!(counts.invalid_accepted, 0, "an invalid path is let in:\n{faults}{tables}");
        assert!(faults.is_empty(), "tests/pkits/differences.txt:\n{faults}");
    }
    let mut whys = String::new();
    for Difference { label, why, .. } in differences {
        write!(whys, "\n### {label}\n\n{why}\n").expect("a string grows");
    }
    format!("{INTRODUCTION}{}{HOW}\n## Differences\n{whys}{tables}", counts.text())
}

/// How often standard and gateway say what.
#[derive(Default)]
struct Counts {
    valid: usize,
    valid_accepted: usize,
    invalid: usize,
    invalid_accepted: usize,
}

impl Counts {
    fn add(&mut self, row: &Row<'_>) {
        let accepted = usize::from(row.is_accepted());
        if row.case.is_valid {
            self.valid += 1;
            self.valid_accepted += accepted;
        } else {
            self.invalid += 1;
            self.invalid_accepted += accepted;
        }
    }

    fn text(&self) -> String {
        format!(
            "\n| the standard says | cases | accepted | refused |\n| --- | --- | --- | --- |\n\
             | valid | {} | {} | {} |\n| invalid | {} | {} | {} |\n",
            self.valid,
            self.valid_accepted,
            self.valid - self.valid_accepted,
            self.invalid,
            self.invalid_accepted,
            self.invalid - self.invalid_accepted,
        )
    }
}

impl Row<'_> {
    /// Whether the gateway, configured with all that belongs to the case, let the client in.
    fn is_accepted(&self) -> bool {
        self.outcome.unusable.is_empty() && self.outcome.verdict == Verdict::Accepted
    }

    fn differs(&self) -> bool {
        self.is_accepted() != self.case.is_valid
    }

    fn text(&self, difference: Option<&Difference>) -> String {
        let Row { case, outcome } = self;
        let standard = if case.is_valid { "valid" } else { "invalid" };
        let listener = match &outcome.verdict {
            Verdict::Accepted => "accepted".to_owned(),
            Verdict::Refused(reason) => format!("refused: `{reason}`"),
        };
        let ours = if outcome.unusable.is_empty() {
            listener
        } else {
            let why = outcome.unusable.iter().map(|(list, why)| format!("`{list}`: {why}"));
            let why = why.collect::<Vec<_>>().join("; ");
            format!("configuration refused ({why}); without it {listener}")
        };
        let link = difference
            .map_or_else(String::new, |Difference { label, .. }| format!("[{label}](#{label})"));
        format!("| {} | {} | {standard} | {ours} | {link} |\n", case.number, case.name)
    }
}

const TABLE_HEAD: &str = "\
| case | name | standard | ours | difference |\n| --- | --- | --- | --- | --- |\n";

const INTRODUCTION: &str = "\
# NIST's PKITS

NIST's Public Key Interoperability Test Suite is 224 certificate paths, each with its revocation lists,
and what a validator that follows RFC 5280 must say of each. `tests/pkits` sends every one of them as a
TLS 1.3 client to one gateway, by a server name of its own, and makes this page of what happened:

```
UPDATE_PKITS=1 cargo test --test pkits
```

Without that variable the test compares, and fails for any difference.
";

const HOW: &str = "
A path that the standard calls invalid and the gateway accepts fails the test: there is none. A valid
one that is refused is a limit, with its reason below. The same limits refuse many an invalid one before
its own fault is looked at, above all in 4.9 to 4.13.

Each case has a trust of its own: the suite's root as its anchor, the case's lists, and

```toml
revocation = { check = \"chain\", unknown = \"refuse\", stale = \"refuse\" }
```

The standard's word is that of the suite with its default settings: any policy will do, and none is
demanded. A client is *accepted* when a byte comes back from the upstream, and *refused* with the reason
that stands in the access log. Where the configuration is refused for one of the lists, so is every
client of the case; the test then takes that list out, and the page says what becomes of the client
without it. Clients sign with the key that the suite has for their certificate. Three leaves have keys
of DSA, with which rustls does not sign, and borrow another; the gateway looks at the chain first.
";
