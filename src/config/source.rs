//! One configuration file as text: turns byte offsets into lines and columns.
//!
//! Never opens a file; `load` does. Next: `node`, which walks the parsed text.

use std::cell::Cell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Location;

/// The text of one file, with the start of each of its lines.
#[derive(Debug)]
pub(super) struct Source {
    file: Arc<PathBuf>,
    text: String,
    line_starts: Vec<usize>,
    /// The last place that was asked for: where its line starts, its offset, and the characters
    /// between. A line may hold a hundred thousand names, and they are asked for in order.
    last: Cell<(usize, usize, usize)>,
}

impl Source {
    pub(super) fn new(file: &Path, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { file: Arc::new(file.to_owned()), text, line_starts, last: Cell::new((0, 0, 0)) }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where `offset` stands; an offset beyond the end is the end.
    pub(super) fn location(&self, offset: usize, key: &str) -> Location {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let (from, counted) = match self.last.get() {
            (line, last, counted) if line == start && last <= offset => (last, counted),
            _ => (start, 0),
        };
        let characters =
            counted + self.text.get(from..offset).map_or(0, |text| text.chars().count());
        if self.text.is_char_boundary(offset) {
            self.last.set((start, offset, characters));
        }
        Location {
            file: Arc::clone(&self.file),
            line: saturate(line),
            column: saturate(characters + 1),
            key: Arc::from(key),
        }
    }

    /// The line (from 1) of the header of the table that `offset` is in; `None` before the first.
    pub(super) fn table_line(&self, offset: usize) -> Option<u32> {
        let lines = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let is_header =
            |line: &usize| matches!(self.line(*line).and_then(head), Some(Head::Table(_)));
        (0..lines).rev().find(is_header).map(|line| saturate(line + 1))
    }

    /// The line (from 1) on which the table or key that is repeated at `span` was first written.
    ///
    /// The parser drops the first one's place, so this reads the text again; `None` where the text
    /// is too unusual to be sure (keys in inline tables, quoted in different ways).
    pub(super) fn first_definition(&self, span: &Range<usize>) -> Option<u32> {
        let second = self.line_starts.partition_point(|start| *start <= span.start).max(1) - 1;
        let wanted = head(self.line(second)?)?;
        let above = (0..second).rev().map(|line| (line, self.line(line).and_then(head)));
        let mut found = None;
        for (line, candidate) in above {
            match (candidate, wanted) {
                (Some(candidate), wanted) if candidate == wanted => found = Some(line),
                // A key is only compared with the keys of its own table.
                (Some(Head::Table(_)), Head::Key(_)) => break,
                (Some(Head::Table(_) | Head::Key(_)) | None, _) => {}
            }
        }
        found.map(|line| saturate(line + 1))
    }

    fn line(&self, index: usize) -> Option<&str> {
        let start = *self.line_starts.get(index)?;
        let end = self.line_starts.get(index + 1).copied().unwrap_or(self.text.len());
        self.text.get(start..end)
    }
}

/// What a line opens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head<'a> {
    Table(&'a str),
    Key(&'a str),
}

fn head(line: &str) -> Option<Head<'_>> {
    let line = line.trim();
    if line.starts_with('[') {
        let end = line.find(']')?;
        return line.get(..=end).map(Head::Table);
    }
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.\"".contains(c);
    (!key.is_empty() && key.chars().all(plain)).then_some(Head::Key(key))
}

fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let source = Source::new(Path::new("a.toml"), "ä = 1\nböse = 2".to_owned());
        let place = |offset| {
            let at = source.location(offset, "");
            (at.line, at.column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(3), (1, 3), "after a two-byte character and a space");
        assert_eq!(place(7), (2, 1));
        assert_eq!(place(1_000), (2, 9), "beyond the end is the end");
        assert_eq!(place(1), (1, 1), "inside a character");
        assert_eq!(place(3), (1, 3), "and again");
        assert_eq!(place(0), (1, 1), "and back");
    }

    #[test]
    fn first_definition_is_looked_for_in_the_same_table() {
        let text = "[a]\nx = 1\n[b]\nx = 2\ny = 1\nx = 3\n[a]\n";
        let source = Source::new(Path::new("a.toml"), text.to_owned());
        let second_x = text.rfind("x = 3").expect("is there");
        assert_eq!(source.first_definition(&(second_x..second_x + 1)), Some(4));
        let second_a = text.rfind("[a]").expect("is there");
        assert_eq!(source.first_definition(&(second_a..second_a + 1)), Some(1));
    }
}
