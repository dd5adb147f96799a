//! An example of each key of the configuration, as files write it that load.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Two, since some keys cannot stand beside each other.
const FILES: [&str; 2] = [include_str!("examples.toml"), include_str!("examples_keys.toml")];

/// Examples, by key.
pub(super) struct Examples(Vec<(&'static str, DeTable<'static>)>);

impl Examples {
    pub(super) fn new() -> Self {
        // A test loads them: those that are no TOML do not get as far as here.
        let parse = |text| Some((text, DeTable::parse(text).ok()?.into_inner()));
        Self(FILES.iter().copied().filter_map(parse).collect())
    }

    /// The first value of `key`, dotted with `*` for names, as it is written.
    pub(super) fn of(&self, key: &str) -> Option<&'static str> {
        let path: Vec<&str> = key.split('.').collect();
        self.0.iter().find_map(|(text, table)| {
            let mut found = Vec::new();
            in_table(table, &path, &mut found);
            let first = found.into_iter().min_by_key(|value| value.span().start)?;
            text.get(first.span())
        })
    }
}

type Value = Spanned<DeValue<'static>>;

fn in_table<'a>(table: &'a DeTable<'static>, path: &[&str], found: &mut Vec<&'a Value>) {
    let Some((&key, rest)) = path.split_first() else { return };
    for (name, value) in table {
        let name: &Cow<'_, str> = name.get_ref();
        if key == "*" || key == name {
            below(value, rest, found);
        }
    }
}

fn below<'a>(value: &'a Value, path: &[&str], found: &mut Vec<&'a Value>) {
    match value.get_ref() {
        _ if path.is_empty() => found.push(value),
        DeValue::Table(table) => in_table(table, path, found),
        DeValue::Array(elements) => elements.iter().for_each(|it| below(it, path, found)),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Style};

    #[test]
    fn the_files_of_the_examples_load() {
        for text in FILES {
            // `include` looks for files beside the one that names them: there are none.
            let loaded = config::load_text(text, Path::new("/nowhere/examples.toml"));
            let told = |problems: Vec<_>| config::render(&problems, Style::Plain);
            loaded.map_err(told).unwrap_or_else(|told| panic!("{told}"));
        }
    }

    #[test]
    fn every_key_that_holds_a_value_has_an_example() {
        let (examples, keys) = (Examples::new(), config::keys());
        for key in &keys {
            let is_table = key.expects == "a table" || key.expects == "a table of names";
            // Names only: a serial number there is refused.
            if !is_table && key.key != "trust.*.san.serial" {
                assert!(examples.of(&key.key).is_some(), "{} has no example", key.key);
            }
        }
    }

    #[test]
    fn an_example_is_the_value_as_it_is_written() {
        let examples = Examples::new();
        assert_eq!(examples.of("runtime.drain.spread"), Some("\"20s\""));
        assert_eq!(examples.of("limits.connections"), Some("50_000"));
        assert_eq!(examples.of("cluster.*.health.send"), Some("\"PING\\r\\n\""));
        assert_eq!(examples.of("cluster.*.endpoints.address"), Some("\"db.internal:6432\""));
        assert_eq!(
            examples.of("session_tickets.source.keys"),
            Some("[\"next.key\", \"current.key\", \"previous.key\"]")
        );
        assert_eq!(examples.of("runtime.nothing"), None);
    }
}
