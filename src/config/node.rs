//! Walks a parsed file: typed values with their places, every mistake noted and none fatal.
//!
//! Knows TOML and nothing of gateways. Next: `raw`, the keys of each table.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::error::{Location, Problems};
use super::quantity::{self, QuantityError, Size};
use super::source::Source;
use super::suggest;

/// Longest name of a listener, chain, cluster and so on: they become metric labels and log fields.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// Keys that one may look for where they are not, and why they are not there.
const LOOKED_FOR: &[(&str, &str)] = &[(
    "tls.upstream.*.certificate.ocsp",
    "leave it out: a client's certificate is not stapled, and servers do not ask for it; a staple is for \
     certificates of `tls.downstream`",
)];

/// Keys that a table has in other places only: not allowed here, and `convert` says why.
const ELSEWHERE: &[&str] = &["trust.*.san.serial"];

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: Location,
}

/// A table of tables, each with a name that the operator chose, in name order.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) Vec<Entry<T>>);

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) name: Arc<str>,
    pub(super) at: Location,
    pub(super) value: T,
}

/// A type that a value in the file can be read as.
pub(super) trait FromNode: Sized {
    /// Completes "expected …".
    fn expected() -> String;

    /// `None` after at least one problem was added.
    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self>;

    /// Appends the keys that a value of this type has, each under `prefix`.
    fn keys_below(_prefix: &str, _keys: &mut Vec<Key>) {}
}

/// One key of the configuration, for documentation and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Dotted, with `*` for a name: `listener.*.timeouts.hello`.
    pub key: String,
    /// As in "expected …": `a duration such as "5s"`.
    pub expects: String,
    /// What it means and what holds without it.
    pub doc: String,
}

/// A value of a file, and how it was reached.
#[derive(Debug)]
pub(super) struct Node<'a> {
    source: &'a Source,
    /// Dotted, as in `cluster.echo.endpoints[0]`.
    key: String,
    /// Dotted, with `*` for names and nothing for indexes, as in `cluster.*.endpoints`.
    pattern: String,
    key_offset: usize,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Node<'a> {
    pub(super) fn root(source: &'a Source, document: &'a Spanned<DeValue<'a>>) -> Self {
        let (key, pattern) = (String::new(), String::new());
        Self { source, key, pattern, key_offset: 0, value: document }
    }

    pub(super) fn value(&self) -> &DeValue<'a> {
        self.value.get_ref()
    }

    /// A table is found at its key, any other value where it starts.
    pub(super) fn location(&self) -> Location {
        let offset = match self.value() {
            DeValue::Table(_) => self.key_offset,
            _ => self.value.span().start,
        };
        self.source.location(offset, &self.key)
    }

    /// Reads this value, with its place.
    pub(super) fn read<T: FromNode>(&self, problems: &mut Problems) -> Option<At<T>> {
        let value = T::from_node(self, problems);
        if value.is_none() {
            problems.excuse(&self.key);
        }
        Some(At { value: value?, at: self.location() })
    }

    /// Reads the value of `key` in this table, which may be absent.
    pub(super) fn read_key<T: FromNode>(
        &self,
        key: &str,
        problems: &mut Problems,
    ) -> Option<At<T>> {
        let DeValue::Table(table) = self.value() else { return None };
        let (written, value) = table.get_key_value(key)?;
        let node = Node {
            source: self.source,
            key: join(&self.key, key),
            pattern: join(&self.pattern, key),
            key_offset: written.span().start,
            value,
        };
        node.read(problems)
    }

    /// True if this is a table; notes a wrong type, and every key that is not among `allowed`.
    pub(super) fn expect_table(&self, allowed: &[&str], problems: &mut Problems) -> bool {
        let DeValue::Table(table) = self.value() else {
            self.wrong_type("a table", problems);
            return false;
        };
        for key in table.keys() {
            if allowed.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let at = self.source.location(key.span().start, &join(&self.key, key.get_ref()));
            let pattern = join(&self.pattern, key.get_ref());
            if let Some((_, why)) = LOOKED_FOR.iter().find(|(key, _)| *key == pattern) {
                problems.add(at, "unknown key", *why);
                continue;
            }
            let here = |key: &&&str| !ELSEWHERE.contains(&join(&self.pattern, key).as_str());
            let allowed: Vec<&str> = allowed.iter().filter(here).copied().collect();
            let help = suggest::help(key.get_ref(), allowed.iter().copied(), "keys allowed here");
            if let Some(near) = suggest::nearest(key.get_ref(), &allowed) {
                problems.excuse(&join(&self.key, near));
            }
            problems.add(at, "unknown key", help);
        }
        true
    }

    pub(super) fn wrong_type(&self, expected: &str, problems: &mut Problems) {
        let found = found(self.value());
        problems.add(self.location(), format!("expected {expected}, found {found}"), "");
    }

    fn text(&self, expected: &str, problems: &mut Problems) -> Option<&str> {
        let text = self.value().as_str();
        if text.is_none() {
            self.wrong_type(expected, problems);
        }
        text
    }

    fn elements(&self) -> Option<impl Iterator<Item = Node<'a>>> {
        let DeValue::Array(array) = self.value.get_ref() else { return None };
        let element = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| Node {
            source: self.source,
            key: format!("{}[{index}]", self.key),
            pattern: self.pattern.clone(),
            key_offset: value.span().start,
            value,
        };
        Some(array.iter().enumerate().map(element))
    }

    /// The tables in this table, each under a name of the operator's.
    fn named(&self) -> Option<impl Iterator<Item = (&'a str, Node<'a>)>> {
        let DeValue::Table(table) = self.value.get_ref() else { return None };
        Some(table.iter().map(|(name, value)| {
            let node = Node {
                source: self.source,
                key: join(&self.key, name.get_ref()),
                pattern: join(&self.pattern, "*"),
                key_offset: name.span().start,
                value,
            };
            (name.get_ref().as_ref(), node)
        }))
    }
}

impl FromNode for String {
    fn expected() -> String {
        "a string".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        node.text("a string", problems).map(str::to_owned)
    }
}

impl FromNode for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let value = node.value().as_bool();
        if value.is_none() {
            node.wrong_type(&Self::expected(), problems);
        }
        value
    }
}

impl FromNode for u64 {
    fn expected() -> String {
        "a whole number".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let DeValue::Integer(integer) = node.value() else {
            node.wrong_type(&Self::expected(), problems);
            return None;
        };
        let value = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if value.is_none() {
            let message = format!("{integer} is out of range");
            problems.add(node.location(), message, "write a number from 0 to 2^63 - 1");
        }
        value
    }
}

impl FromNode for Duration {
    fn expected() -> String {
        "a duration such as \"5s\"".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(&Self::expected(), problems)?;
        let units = "write a whole number and a unit: \"250ms\", \"5s\", \"1m\", \"2h\" or \"1d\"";
        let result = quantity::duration(text);
        bad_quantity(node, text, result, ("duration", "365d", units), problems)
    }
}

impl FromNode for Size {
    fn expected() -> String {
        "a size such as \"64KiB\"".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(&Self::expected(), problems)?;
        let units = "write a whole number and a unit: \"0B\", \"64KiB\", \"1MiB\" or \"2GiB\"";
        let result = quantity::size(text);
        bad_quantity(node, text, result, ("size", "16EiB", units), problems)
    }
}

impl<T: FromNode> FromNode for Vec<At<T>> {
    fn expected() -> String {
        format!("a list, each element {}", T::expected())
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let Some(elements) = node.elements() else {
            let help = "put it in brackets, even where it is the only element";
            let message = format!("expected {}, found {}", Self::expected(), found(node.value()));
            problems.add(node.location(), message, help);
            return None;
        };
        // An element that cannot be read has its own problem; the list goes on without it. But a
        // list must not look empty that is not.
        let mut written = 0;
        let list: Self = elements
            .inspect(|_| written += 1)
            .filter_map(|element| element.read(problems))
            .collect();
        (written == 0 || !list.is_empty()).then_some(list)
    }

    fn keys_below(prefix: &str, keys: &mut Vec<Key>) {
        T::keys_below(prefix, keys);
    }
}

impl<T: FromNode> FromNode for Named<T> {
    fn expected() -> String {
        "a table of names".to_owned()
    }

    fn from_node(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let Some(tables) = node.named() else {
            node.wrong_type(&Self::expected(), problems);
            return None;
        };
        let mut entries = Vec::new();
        for (name, table) in tables {
            if !is_name(name) {
                let help = format!(
                    "use 1 to {NAME_BYTES_MAX} letters (a-z, A-Z), digits, `-`, `_` and `.`"
                );
                let at = table.source.location(table.key_offset, &table.key);
                problems.add(at, format!("{name:?} cannot be a name"), help);
            }
            if let Some(At { value, at }) = table.read(problems) {
                entries.push(Entry { name: Arc::from(name), at, value });
            }
        }
        Some(Self(entries))
    }

    fn keys_below(prefix: &str, keys: &mut Vec<Key>) {
        T::keys_below(&join(prefix, "*"), keys);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.key, self.expects, self.doc)
    }
}

/// Adds `key` to the dotted `path`, quoted where TOML would quote it.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
    let key = match !key.is_empty() && key.chars().all(bare) {
        true => key.to_owned(),
        false => format!("{key:?}"),
    };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed)
}

/// As in "expected …, found …".
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 40 => format!("the string {text:?}"),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(integer) => format!("the number {integer}"),
        DeValue::Float(float) => format!("the number {float}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn bad_quantity<T>(
    node: &Node<'_>,
    text: &str,
    result: Result<T, QuantityError>,
    (what, max, units): (&str, &str, &str),
    problems: &mut Problems,
) -> Option<T> {
    let (message, help) = match result {
        Ok(value) => return Some(value),
        Err(QuantityError::Number) => (format!("{text:?} is not a {what}"), units.to_owned()),
        Err(QuantityError::UnitMissing) => (format!("{text:?} has no unit"), units.to_owned()),
        Err(QuantityError::UnitUnknown) if text.contains('.') => {
            (format!("{text:?} is no whole number"), units.to_owned())
        }
        Err(QuantityError::UnitUnknown) => {
            (format!("{text:?} has a unit that is not known"), units.to_owned())
        }
        Err(QuantityError::TooLarge) => {
            (format!("{text:?} is too large"), format!("the largest {what} is \"{max}\""))
        }
    };
    problems.add(node.location(), message, help);
    None
}
