//! Any text gives a plan or problems with places in it: never a panic, never an empty refusal.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::load_text;
use super::super::render::{Style, render_with};

const SAMPLES: &[&str] = &[
    include_str!("../../../config/minimal.toml"),
    include_str!("../../../config/sni-routing.toml"),
    include_str!("../../../config/mtls-end-to-end.toml"),
    include_str!("../../../config/mesh.toml"),
    include_str!("../../../config/reference.toml"),
    include_str!("../../../tests/data/reference-full.toml"),
];

/// Pieces that mean something, so that mutations get past the syntax.
const PIECES: &[&str] = &[
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\"",
    "'",
    "\n",
    "#",
    "\\",
    "0",
    "-1",
    "1e9",
    "true",
    "[]",
    "{}",
    "\"5s\"",
    "\"$sni\"",
    "\"*\"",
    "listener",
    "cluster.echo",
    "tls",
    "match",
    "default",
    "ü",
    "\u{202e}",
    "\0",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_loads_or_is_explained(text in "(?s).{0,200}") {
        holds(&text)?;
    }

    #[test]
    fn any_pieces_load_or_are_explained(pieces in prop::collection::vec(select(PIECES), 0..40)) {
        holds(&pieces.join(" "))?;
        holds(&pieces.concat())?;
    }

    #[test]
    fn mutated_samples_load_or_are_explained(
        sample in select(SAMPLES),
        edits in prop::collection::vec((any::<Index>(), any::<Index>(), select(PIECES)), 1..6),
    ) {
        let mut text = sample.to_owned();
        for (at, length, piece) in edits {
            let boundaries: Vec<usize> =
                text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
            let start = at.index(boundaries.len());
            let end = (start + length.index(12)).min(boundaries.len() - 1);
            text.replace_range(boundaries[start]..boundaries[end], piece);
        }
        holds(&text)?;
    }

    #[test]
    fn every_prefix_of_a_sample_loads_or_is_explained(sample in select(SAMPLES), at in any::<Index>()) {
        let boundaries: Vec<usize> = sample.char_indices().map(|(offset, _)| offset).collect();
        holds(&sample[..boundaries[at.index(boundaries.len())]])?;
    }
}

fn holds(text: &str) -> Result<(), TestCaseError> {
    let Err(problems) = load_text(text, Path::new("/nowhere/test.toml")) else { return Ok(()) };
    prop_assert!(!problems.is_empty(), "refused without a reason");
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    for problem in &problems {
        prop_assert!(problem.at.line <= lines + 1, "{} is beyond the end", problem);
        prop_assert!(problem.at.line > 0 && problem.at.column > 0, "{} counts from 0", problem);
        prop_assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "{}", problem);
    }
    let places: Vec<(u32, u32)> =
        problems.iter().map(|problem| (problem.at.line, problem.at.column)).collect();
    prop_assert!(places.is_sorted(), "out of order: {:?}", places);
    let shown = render_with(&problems, Style::Plain, |_| Some(text.to_owned()));
    prop_assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", shown);
    Ok(())
}
