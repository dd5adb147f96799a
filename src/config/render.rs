//! Shows problems to a person: each with its line of the file, a caret under the place, and help.
//!
//! Reads the files again for that, and shows what it can where they have changed or gone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::error::Problem;

/// Problems shown before the rest is only counted.
const SHOWN_MAX: usize = 100;
/// Characters of a line shown on each side of the place.
const CONTEXT_CHARS_MAX: usize = 80;

/// Whether to mark up for a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Colour,
}

/// All of `problems` as text for a terminal or a log, in the order given.
///
/// ```text
/// gateway.toml:12:1: listener.edge.adress: unknown key
///    12 | adress = "0.0.0.0:8443"
///       | ^^^^^^
///       = help: did you mean `address`?
/// ```
pub fn render(problems: &[Problem], style: Style) -> String {
    render_with(problems, style, |path| fs::read_to_string(path).ok())
}

/// As [`render`], with the texts of the files from `text_of`.
pub(super) fn render_with(
    problems: &[Problem],
    style: Style,
    text_of: impl Fn(&Path) -> Option<String>,
) -> String {
    let mut texts = BTreeMap::new();
    let mut out = String::new();
    for problem in problems.iter().take(SHOWN_MAX) {
        let file = problem.at.file.as_path();
        let text = texts.entry(file).or_insert_with(|| text_of(file));
        let line = (problem.at.line as usize)
            .checked_sub(1)
            .and_then(|index| text.as_deref()?.lines().nth(index));
        render_one(problem, line, style, &mut out);
    }
    let more = problems.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        push(&mut out, format_args!("and {more} more problems\n"));
    }
    out
}

fn render_one(problem: &Problem, line: Option<&str>, style: Style, out: &mut String) {
    let [bold, red, blue, plain] = match style {
        Style::Plain => [""; 4],
        Style::Colour => ["\x1b[1m", "\x1b[1;31m", "\x1b[34m", "\x1b[0m"],
    };
    push(out, format_args!("{bold}{}:{plain} ", printable(&problem.at.to_string())));
    if !problem.at.key.is_empty() {
        push(out, format_args!("{}: ", printable(&problem.at.key)));
    }
    push(out, format_args!("{red}{}{plain}\n", printable(&problem.message)));
    let number = problem.at.line.to_string();
    let width = number.len().max(4);
    if let Some(line) = line.filter(|line| !line.trim().is_empty()) {
        let excerpt = Excerpt::new(line, problem.at.column as usize);
        push(out, format_args!("{blue}{number:>width$} |{plain} {}\n", excerpt.text));
        let (pad, carets) = (" ".repeat(excerpt.pad), "^".repeat(excerpt.carets));
        push(out, format_args!("{blue}{:>width$} |{plain} {pad}{red}{carets}{plain}\n", ""));
    }
    if !problem.help.is_empty() {
        let help = printable(&problem.help);
        push(out, format_args!("{blue}{:>width$} ={plain} help: {help}\n", ""));
    }
}

/// The part of a line around a place.
#[derive(Debug)]
struct Excerpt {
    text: String,
    /// Characters of `text` before the place.
    pad: usize,
    /// Characters that the place covers.
    carets: usize,
}

impl Excerpt {
    /// `column` counts characters from 1.
    fn new(line: &str, column: usize) -> Self {
        let place = column.saturating_sub(1);
        let start = place.saturating_sub(CONTEXT_CHARS_MAX);
        let shown: String = line.chars().skip(start).take(2 * CONTEXT_CHARS_MAX).collect();
        let cut = line.chars().nth(start + 2 * CONTEXT_CHARS_MAX).is_some();
        let offset = place - start;
        let after: Vec<char> = shown.chars().skip(offset).collect();
        let (head, tail) = (if start > 0 { "…" } else { "" }, if cut { "…" } else { "" });
        Self {
            text: format!("{head}{}{tail}", printable(&shown)),
            pad: offset + head.chars().count(),
            carets: token_length(&after),
        }
    }
}

/// How many characters the value or key takes that `text` begins with; at least 1.
fn token_length(text: &[char]) -> usize {
    let length = match text.first() {
        Some(quote @ ('"' | '\'')) => {
            text.iter().skip(1).position(|c| c == quote).map_or(1, |end| end + 2)
        }
        Some('[') => text.iter().position(|c| *c == ']').map_or(1, |end| end + 1),
        _ => text.iter().take_while(|c| c.is_alphanumeric() || "_-+".contains(**c)).count(),
    };
    length.max(1)
}

/// One character for each of `text`, none of which a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            // Bidirectional marks would show the text in another order than it is read in.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                '\u{fffd}'
            }
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Writing to a string cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a string failed");
}
