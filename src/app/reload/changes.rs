//! What a reload has changed, for whoever asked for it: keys of the configuration with what they were and
//! are, and files whose content is another.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::admin::effective_config;
use crate::tls::{CertificateNote, NoteKind};
use crate::worker::Snapshot;

/// Between two generations. Long lists are cut, with how many there are in all.
pub(super) fn between(before: &Snapshot, after: &Snapshot) -> Value {
    let mut keys = Vec::new();
    let configs = [before, after].map(|snapshot| effective_config(&snapshot.plan));
    differ("", &configs[0], &configs[1], &mut keys);
    let files = files(before, after);
    json!({
        "key_count": keys.len(),
        "keys": keys.into_iter().take(SHOWN_MAX).collect::<Vec<_>>(),
        "file_count": files.len(),
        "files": files.into_iter().take(SHOWN_MAX).collect::<Vec<_>>(),
    })
}

/// Adds every key below `path` that is not the same.
fn differ(path: &str, before: &Value, after: &Value, found: &mut Vec<Value>) {
    if before == after {
        return;
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let nothing = (&Map::new(), &Map::new());
    let (old, new) = match (before, after) {
        (Value::Object(old), Value::Object(new)) => (old, new),
        // A table that comes or goes is one change.
        _ => nothing,
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    if keys.is_empty() {
        found.push(change(path, before, after));
        return;
    }
    for key in keys {
        let of = |table: &Map<String, Value>| table.get(key).cloned().unwrap_or(Value::Null);
        differ(&below(key), &of(old), &of(new), found);
    }
}

fn change(path: &str, before: &Value, after: &Value) -> Value {
    match (before, after) {
        (Value::Array(old), Value::Array(new)) => {
            let (was, is) =
                [old, new].map(|list| list.iter().map(Value::to_string).collect()).into();
            let (was, is): (BTreeSet<String>, BTreeSet<String>) = (was, is);
            let only = |list: &[Value], other: &BTreeSet<String>| {
                let only: Vec<&Value> =
                    list.iter().filter(|value| !other.contains(&value.to_string())).collect();
                let some: Vec<&Value> = only.iter().copied().take(SHOWN_MAX).collect();
                json!({ "count": only.len(), "values": some })
            };
            json!({ "key": path, "added": only(new, &was), "removed": only(old, &is) })
        }
        (Value::Null, Value::Object(_)) => json!({ "key": path, "is": "new" }),
        (Value::Object(_), Value::Null) => json!({ "key": path, "is": "gone" }),
        _ => json!({ "key": path, "before": before, "after": after }),
    }
}

/// The digests of all that is in a file, and until when the first of it is good.
type Files<'a> = BTreeMap<(NoteKind, &'a str), (Vec<[u8; 32]>, u64)>;

fn files(before: &Snapshot, after: &Snapshot) -> Vec<Value> {
    let old = by_place(before.material.certificates());
    let new = by_place(after.material.certificates());
    let changed = new
        .iter()
        .filter(|(place, (digests, _))| old.get(place).is_some_and(|(known, _)| known != digests));
    changed
        .map(|((kind, owner), (_, not_after))| {
            let before = old.get(&(*kind, *owner)).map(|(_, not_after)| not_after);
            json!({
                "kind": kind.name(),
                "name": owner,
                "not_after_before": before,
                "not_after": not_after,
            })
        })
        .collect()
}

fn by_place<'a>(notes: impl Iterator<Item = &'a CertificateNote>) -> Files<'a> {
    let mut files = Files::new();
    for note in notes {
        let (digests, end) =
            files.entry((note.kind, &note.owner)).or_insert_with(|| (Vec::new(), u64::MAX));
        digests.push(note.digest);
        *end = note.not_after.min(*end);
    }
    files
}

const SHOWN_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(before: &Value, after: &Value) -> Vec<Value> {
        let mut found = Vec::new();
        differ("", before, after, &mut found);
        found
    }

    #[test]
    fn every_key_that_differs_is_named_with_what_it_was_and_is() {
        let before = json!({ "a": { "x": 1, "y": "one" }, "gone": { "z": 1 }, "same": [1] });
        let after = json!({ "a": { "x": 2, "y": "one" }, "new": { "z": 1 }, "same": [1] });
        assert_eq!(
            changes(&before, &after),
            [
                json!({ "key": "a.x", "before": 1, "after": 2 }),
                json!({ "key": "gone", "is": "gone" }),
                json!({ "key": "new", "is": "new" }),
            ]
        );
        assert!(changes(&json!({ "a": [1] }), &json!({ "a": [1] })).is_empty());
    }

    #[test]
    fn of_lists_what_came_and_went_is_shown_and_long_ones_are_cut() {
        let many: Vec<u64> = (0..1_000).collect();
        let found = changes(&json!({ "names": ["a", "b"] }), &json!({ "names": many }));
        assert_eq!(found[0]["removed"], json!({ "count": 2, "values": ["a", "b"] }));
        assert_eq!(found[0]["added"]["count"], 1_000);
        assert_eq!(found[0]["added"]["values"].as_array().map(Vec::len), Some(SHOWN_MAX));
    }
}
