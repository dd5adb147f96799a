//! A Rust file as the rules read it: its lines, and the same lines with nothing in them but code.
//!
//! No parser: comments, strings and characters are blanked, so that braces and words that are left
//! are code. `rules` and `modules` read the result.

/// One file of the tree.
#[derive(Debug)]
pub(crate) struct Source {
    /// Below the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// As long as `text`, with blanks in the place of comments and literals.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { path: path.into(), code: blank(&text), text }
    }

    /// The line (from 1) of a byte of `text` or `code`.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
    }

    /// Offsets at which `word` stands alone in the code.
    pub(crate) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        words_in(&self.code, word)
    }
}

/// Offsets at which `word` stands in `text` with no letter, digit or `_` on either side.
pub(crate) fn words_in<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let joins_before = word.starts_with(is_part) && text[..*at].ends_with(is_part);
        let joins_after = word.ends_with(is_part) && text[*at + word.len()..].starts_with(is_part);
        !joins_before && !joins_after
    })
}

fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let is_after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = literal_length(rest, is_after_word);
        if length == 0 {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            code.push_str(&rest[..next]);
            rest = &rest[next..];
        } else {
            let blanks = rest[..length].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' });
            code.extend(blanks);
            rest = &rest[length..];
        }
    }
    code
}

/// Length of the comment, string or character that `rest` starts with; 0 if it starts with code.
fn literal_length(rest: &str, is_after_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if !is_after_word {
        let after_prefix = rest.trim_start_matches(['b', 'c']);
        let prefix = rest.len() - after_prefix.len();
        if prefix <= 1 && after_prefix.starts_with('r') {
            let hashes = after_prefix[1..].bytes().take_while(|byte| *byte == b'#').count();
            if after_prefix[1 + hashes..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(hashes));
                let from = prefix + 2 + hashes;
                return rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len());
            }
        }
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    if let Some(after) = rest.strip_prefix('\'') {
        // A lifetime has no closing quote after its first character.
        let mut characters = after.chars();
        let start = (characters.next(), characters.next());
        let is_character = matches!(start, (Some('\\'), _) | (Some(_), Some('\'')));
        return if is_character { quoted_length(rest, '\'') } else { 0 };
    }
    0
}

fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn only_code_is_left_and_every_byte_keeps_its_place() {
    for (text, left) in [
        ("a // b\nc", "a \nc"),
        ("a /* { /* } */ */ b", "a  b"),
        (r#"f("{ \" }") g"#, "f() g"),
        (r##"f(r#"a " b"#, br"\", c"x") g"##, "f(, , c) g"),
        (r"m('{', '\'', '\u{1f}') 'a: loop", "m(, , ) 'a: loop"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("for r in x {}", "for r in x {}"),
        ("\"ü\" x", " x"),
    ] {
        let source = Source::new("a.rs", text);
        assert_eq!(source.code.len(), text.len(), "{text}");
        let squeeze = |text: &str| text.replace(' ', "");
        assert_eq!(squeeze(&source.code), squeeze(left), "{text}");
    }
}

#[test]
fn words_stand_alone() {
    let source = Source::new("a.rs", "unsafe_code; unsafe {}\nan_unsafe; unsafe");
    let lines: Vec<_> = source.words("unsafe").map(|at| source.line_of(at)).collect();
    assert_eq!(lines, [1, 2]);
}
