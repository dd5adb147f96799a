//! A record, or another answer, as one line of JSON.
//!
//! Escapes more than JSON asks for: no control, line separator or direction mark of Unicode reaches
//! a terminal or a reader that takes it for the end of a line.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::record::Record;

/// Appends the line, with its line feed.
pub(super) fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    write_line(record, out);
}

/// As `write`, for anything without maps.
pub fn write_line(value: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    // Into memory, and there is no map with keys that are no strings: neither can fail.
    match value.serialize(&mut Serializer::with_formatter(&mut *out, OneLine)) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(start),
    }
}

struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, from) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            if let Some(char) = chars.next() {
                let mut units = [0; 2];
                for unit in char.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Controls (C0, DEL, C1), zero-width and direction marks, line and paragraph separators.
pub fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || char == '\u{feff}'
}
