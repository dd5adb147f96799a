//! Owns the tables: one for terminals, one in Markdown. `verdict.rs` has the sums.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, ensure};

use crate::gateway::Program;
use crate::rounds::Round;
use crate::row::Bar;
use crate::verdict::{Against, Line};

/// For a terminal.
pub(crate) fn text(rounds: &[Round]) -> Result<String> {
    let mut text = circumstances(rounds, "")?;
    text += &format!("\n{:<53}{:>12}", "for each", "unit");
    for program in Program::ALL {
        write!(text, "{:>11}", program.name())?;
    }
    writeln!(text, "{:>11}{:>7}  {:<6}{:>8}", "of envoy", "bar", "", "x floor")?;
    for line in Line::all(rounds) {
        write!(text, "{:<53}{:>12}", line.row.title, line.row.unit())?;
        for median in &line.medians {
            write!(text, "{:>11}", figure(*median))?;
        }
        let (bar, met) = (bar(line.row.bar), met(line.met));
        let (ratio, floor) = (against(line.of_envoy()), times(line.of_floor()));
        writeln!(text, "{ratio:>11}{bar:>7}  {met:<6}{floor:>8}")?;
    }
    write!(text, "\nportcullis against the others, ~ where rounds disagree\n{:<53}", "")?;
    for program in Program::ALL.iter().skip(1) {
        write!(text, "{:>11}", program.name())?;
    }
    text.push('\n');
    for line in Line::all(rounds) {
        write!(text, "{:<53}", line.row.title)?;
        for other in line.against.iter().skip(1) {
            write!(text, "{:>11}", against(*other))?;
        }
        text.push('\n');
    }
    Ok(text + &reasons(rounds, ""))
}

/// For documents.
pub(crate) fn markdown(rounds: &[Round]) -> Result<String> {
    let mut text = circumstances(rounds, "- ")?;
    let lines = Line::all(rounds);
    let shown: Vec<usize> = (0..Program::ALL.len())
        .filter(|at| lines.iter().any(|line| line.medians.get(*at).copied().flatten().is_some()))
        .collect();
    text += "\n| for each | unit |";
    for at in &shown {
        write!(text, " {} |", Program::ALL.get(*at).context("no such program")?.name())?;
    }
    text += " of Envoy | by SNI | bar | | × floor |\n| --- | --- |";
    text += &" ---: |".repeat(shown.len());
    text += " ---: | ---: | ---: | --- | ---: |\n";
    for line in &lines {
        write!(text, "| {} | {} |", line.row.title, line.row.unit())?;
        for at in &shown {
            write!(text, " {} |", figure(line.medians.get(*at).copied().flatten()))?;
        }
        let (bar, met) = (bar(line.row.bar), met(line.met));
        let (ratio, floor) = (against(line.of_envoy()), times(line.of_floor()));
        let by_name = against(line.of(Program::EnvoySni));
        writeln!(text, " {ratio} | {by_name} | {bar} | {met} | {floor} |")?;
    }
    Ok(text + &reasons(rounds, "- "))
}

/// For a document that has little room.
pub(crate) fn short(rounds: &[Round]) -> Result<String> {
    let last = &rounds.last().context("no round was measured")?.circumstances;
    let mut text = String::from(
        "| for each | portcullis | of Envoy | of Envoy by SNI | of nginx | of HAProxy |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for line in Line::all(rounds) {
        write!(text, "| {} | {} {} |", line.row.title, figure(line.own()), line.row.unit())?;
        for program in SHORT {
            write!(text, " {} |", against(line.of(program)))?;
        }
        text.push('\n');
    }
    let disturbed: u32 = rounds.iter().map(|round| round.disturbed).sum();
    write!(
        text,
        "\n{} rounds at commit {} on {} ({} cores), {}; {disturbed} windows disturbed by other work. \
         `~` where rounds disagree on who uses less.\n",
        rounds.len(),
        last.commit,
        last.cpu,
        last.cores,
        last.kernel
    )?;
    Ok(text)
}

/// A document with its tables replaced: what stands between `<!-- NAME -->` and `<!-- end of NAME -->`,
/// where NAME is `comparison` or `short comparison`.
pub(crate) fn into_document(document: &str, rounds: &[Round]) -> Result<String> {
    let long = format!("{PICTURE}\n\n{}", markdown(rounds)?);
    let tables = [("comparison", long), ("short comparison", short(rounds)?)];
    let mut text = document.to_owned();
    let mut replaced = 0;
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- end of {name} -->"));
        let Some((head, rest)) = text.split_once(&begin) else { continue };
        let (_, tail) = rest.split_once(&end).with_context(|| format!("there is no {end}"))?;
        text = format!("{head}{begin}\n{}\n{end}{tail}", table.trim_end());
        replaced += 1;
    }
    ensure!(replaced > 0, "there is no place for a table: <!-- comparison -->");
    Ok(text)
}

fn circumstances(rounds: &[Round], bullet: &str) -> Result<String> {
    let last = &rounds.last().context("no round was measured")?.circumstances;
    let mut text = format!(
        "{bullet}commit {}, {}, {} rounds\n{bullet}{}, {} ({} cores)\n",
        last.commit,
        last.date,
        rounds.len(),
        last.kernel,
        last.cpu,
        last.cores
    );
    let disturbed: u32 = rounds.iter().map(|round| round.disturbed).sum();
    if disturbed > 0 {
        let figures = rounds.iter().flat_map(|round| round.figures.values());
        let windows: usize = figures.map(BTreeMap::len).sum();
        writeln!(
            text,
            "{bullet}{disturbed} of {windows} windows were disturbed by other work in every try: \
             trust ratios more than figures, and neither far"
        )?;
    }
    for (program, version) in &last.versions {
        writeln!(text, "{bullet}{program}: {version}")?;
    }
    Ok(text)
}

/// What is missing, and why.
fn reasons(rounds: &[Round], bullet: &str) -> String {
    let all: BTreeMap<_, _> = rounds.iter().flat_map(|round| &round.skipped).collect();
    let lines = all.iter().map(|(what, why)| format!("{bullet}{what}: {why}\n"));
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\nWithout a figure:\n\n{lines}") }
}

pub(crate) fn figure(figure: Option<f64>) -> String {
    match figure {
        None => "–".to_owned(),
        Some(figure) if figure < 1.0 => format!("{figure:.3}"),
        Some(figure) if figure < 10.0 => format!("{figure:.2}"),
        Some(figure) => format!("{figure:.1}"),
    }
}

fn against(against: Option<Against>) -> String {
    match against {
        None => "–".to_owned(),
        Some(Against::Ratio(ratio)) => format!("{ratio:.2}"),
        Some(Against::Tie(ratio)) => format!("~{ratio:.2}"),
    }
}

fn bar(bar: Bar) -> String {
    match bar {
        Bar::OfEnvoy(bar) => format!("{bar:.2}"),
        Bar::Absolute(bar) => format!("{bar:.0}"),
    }
}

fn met(met: Option<bool>) -> &'static str {
    match met {
        None => "",
        Some(true) => "met",
        Some(false) => "MISSED",
    }
}

fn times(times: Option<f64>) -> String {
    times.map_or_else(|| "–".to_owned(), |times| format!("{times:.2}"))
}

/// The others in the short table.
const SHORT: [Program; 4] = [Program::Envoy, Program::EnvoySni, Program::Nginx, Program::Haproxy];

/// As seen from `docs/`, where the page with the long table is.
const PICTURE: &str = "![What portcullis uses as a share of Envoy](../perf/results/comparison.svg)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::tests::round;

    #[test]
    fn a_table_says_what_was_met_and_what_was_not() {
        let mut rounds = vec![round(&[("full", 60.0, 100.0), ("resumed", 60.0, 100.0)])];
        rounds[0].skipped.insert("io_uring".to_owned(), "not yet".to_owned());
        let text = text(&rounds).unwrap();
        let line = |title: &str| text.lines().find(|line| line.starts_with(title)).unwrap();
        assert!(line("full mTLS").contains("0.60   0.70  met"), "{text}");
        assert!(line("the same, resumed").contains("0.60   0.58  MISSED"), "{text}");
        assert!(text.contains("io_uring: not yet"));
        let markdown = markdown(&rounds).unwrap();
        assert!(markdown.contains("| CPU-us | 60.0 | 100.0 | 0.60 | – | 0.70 | met | 60.00 |"));
        assert!(!markdown.contains("nginx"), "{markdown}");
    }

    #[test]
    fn tables_go_where_a_document_wants_them() {
        let mut rounds = vec![round(&[("full", 60.0, 100.0)])];
        rounds[0].disturbed = 1;
        let document = "a\n<!-- short comparison -->\nold\n<!-- end of short comparison -->\nb\n";
        let new = into_document(document, &rounds).unwrap();
        assert!(new.starts_with("a\n<!-- short comparison -->\n| for each"), "{new}");
        assert!(
            new.contains("| 60.0 CPU-us | 0.60 | – | – | – |") && !new.contains("old"),
            "{new}"
        );
        assert!(new.contains("1 windows disturbed"), "{new}");
        assert!(new.ends_with("<!-- end of short comparison -->\nb\n"), "{new}");
        assert_eq!(into_document(&new, &rounds).unwrap(), new);
        assert!(into_document("nothing", &rounds).is_err());
        assert!(text(&rounds).unwrap().contains("1 of 2 windows were disturbed"));
    }

    #[test]
    fn nothing_measured_is_an_error() {
        assert!(text(&[]).is_err());
    }
}
