//! `docs/configuration.md`: every key of the configuration, as `config` describes it.
//!
//! Keys, types and meanings are `config`'s; only their arrangement is made here. `examples` has a value
//! for each.

use super::cell;
use super::examples::Examples;
use crate::config::{self, Key};

/// The page, in Markdown: one section for each table that can be written, in the order of the keys.
pub fn configuration() -> String {
    let (keys, examples) = (config::keys(), Examples::new());
    let mut page = INTRODUCTION.to_owned();
    let mut tables = vec![""];
    for key in &keys {
        let table = parent(&key.key);
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    for table in tables {
        let rows = keys.iter().filter(|key| parent(&key.key) == table);
        let about = keys.iter().find(|key| key.key == table.trim_end_matches(".*"));
        section(&mut page, table, about, rows, &examples);
    }
    page
}

fn section<'a>(
    page: &mut String,
    table: &str,
    about: Option<&Key>,
    keys: impl Iterator<Item = &'a Key>,
    examples: &Examples,
) {
    page.push_str(&format!("\n## {}\n\n", heading(table)));
    if let Some(about) = about {
        page.push_str(&format!("{}\n\n", flowed(&about.doc)));
    }
    page.push_str("| key | value | meaning | example |\n| --- | --- | --- | --- |\n");
    for key in keys {
        let name = key.key.rsplit('.').next().unwrap_or(&key.key);
        page.push_str(&format!(
            "| `{name}` | {} | {} | {} |\n",
            cell(&key.expects),
            cell(&key.doc),
            example(key, examples)
        ));
    }
}

/// What may be written for a key; of a table, the section of its own shows it.
fn example(key: &Key, examples: &Examples) -> String {
    let is_table = key.expects.starts_with("a table");
    let example = examples.of(&key.key).filter(|_| !is_table);
    example.map(|example| format!("`{}`", cell(example))).unwrap_or_default()
}

/// The table that a key is in; empty at the top.
fn parent(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// `listener.NAME.chain.NAME` of `listener.*.chain.*`.
fn heading(table: &str) -> String {
    match table {
        "" => "The top of the file".to_owned(),
        table => format!("`{}`", table.replace('*', "NAME")),
    }
}

/// One paragraph of what was wrapped as a comment.
fn flowed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const INTRODUCTION: &str = "\
<!-- Made by `portcullis docs configuration`; do not edit. -->

# Configuration

One TOML file, and those that it includes. `config/minimal.toml` is the least that works,
`config/reference.toml` shows every key. `portcullis check -c FILE` loads all of it, with the
certificates and keys that it names, and prints every mistake with its line.

Each example is of a file that loads.

- A duration is a whole number and a unit in quotes: `\"250ms\"`, `\"5s\"`, `\"1m\"`, `\"2h\"`, `\"1d\"`.
- A size is a whole number and a unit in quotes: `\"64KiB\"`.
- A path is relative to the file that names it; where that is a link, to where the link lies.
- `NAME` stands for a name of your own. It appears in logs and metrics.
- A key that is not known, a name that is not defined and a table written twice are errors.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_on_the_page() {
        let page = configuration();
        for key in config::keys() {
            let name = key.key.rsplit('.').next().unwrap_or_default();
            let row = format!("| `{name}` | {} | {}", cell(&key.expects), cell(&key.doc));
            assert!(page.contains(&row), "{}", key.key);
        }
    }
}
