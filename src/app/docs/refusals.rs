//! `docs/refusals.md`: every reason for which a connection is refused or ends badly.
//!
//! The reasons and their hints are `core::refusal`'s; nothing is said here that is not said there.

use super::cell;
use crate::core::refusal::{Blame, Reason};

/// The page, in Markdown.
pub fn refusals() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (blame, heading) in SECTIONS {
        let reasons: Vec<&Reason> = Reason::ALL.iter().filter(|it| it.blame() == *blame).collect();
        page.push_str(&format!("\n## {heading}\n\n| reason | what to do |\n| --- | --- |\n"));
        for reason in reasons {
            page.push_str(&format!("| `{}` | {} |\n", reason.code(), cell(reason.hint())));
        }
    }
    page
}

const SECTIONS: &[(Blame, &str)] = &[
    (Blame::Client, "The client has to act"),
    (Blame::Upstream, "The upstream has to act"),
    (Blame::Operator, "The operator has to act"),
    (Blame::Load, "A limit did its work"),
];

const INTRODUCTION: &str = "\
<!-- Made by `portcullis docs refusals`; do not edit. -->

# Refusals

Why a connection was refused, or ended other than by both sides closing it. The code in the first
column is `reason` in the access log and the label `reason` of the metric `portcullis_refusals_total`. The
text in the second column is `hint` in the access log. What is particular to one connection stands in
`detail`, and the TLS alert that the client was sent in `alert`.

Codes are public: none is renamed without a word in the changelog.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_on_the_page_once() {
        let page = refusals();
        for reason in Reason::ALL {
            let row = format!("| `{}` |", reason.code());
            assert_eq!(page.matches(&row).count(), 1, "{reason:?}");
        }
    }
}
