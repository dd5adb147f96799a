//! Puts the tables of an included file to those of the main file: may add, never redefine.
//!
//! Each value keeps the place in its own file. Next: `convert`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{Location, Problems};
use super::node::{At, Entry, Named};
use super::raw::{RawFile, RawListener, RawTls, Table};

/// Adds all of `from` to `into`. What both write is a problem that names both places.
pub(super) fn merge(into: &mut RawFile, from: RawFile, problems: &mut Problems) {
    let RawFile {
        include: _,
        runtime,
        limits,
        admin,
        log,
        access_log,
        session_tickets,
        listener,
        tls,
        trust,
        cluster,
    } = from;
    once(&mut into.runtime, runtime, problems);
    once(&mut into.limits, limits, problems);
    once(&mut into.admin, admin, problems);
    once(&mut into.log, log, problems);
    once(&mut into.access_log, access_log, problems);
    once(&mut into.session_tickets, session_tickets, problems);
    names(&mut into.listener, listener, merge_listener, problems);
    match (&mut into.tls, tls) {
        (Some(into), Some(At { value: RawTls { downstream, upstream }, .. })) => {
            names(&mut into.value.downstream, downstream, refuse, problems);
            names(&mut into.value.upstream, upstream, refuse, problems);
        }
        (into @ None, tls) => *into = tls,
        (Some(_), None) => {}
    }
    names(&mut into.trust, trust, refuse, problems);
    names(&mut into.cluster, cluster, refuse, problems);
}

/// A table that only one file may write.
fn once<T>(into: &mut Option<At<T>>, from: Option<At<T>>, problems: &mut Problems) {
    match (&into, from) {
        (Some(first), Some(second)) => redefined(&first.at, second.at, problems),
        (None, from) => *into = from,
        (Some(_), None) => {}
    }
}

/// A table of names: `both` takes the two tables of a name that both files write.
fn names<T>(
    into: &mut Option<At<Named<T>>>,
    from: Option<At<Named<T>>>,
    both: fn(&mut Entry<T>, Entry<T>, &mut Problems),
    problems: &mut Problems,
) {
    let Some(from) = from else { return };
    let Some(into) = into else {
        *into = Some(from);
        return;
    };
    let entries = std::mem::take(&mut into.value.0);
    let mut by_name: BTreeMap<Arc<str>, Entry<T>> =
        entries.into_iter().map(|entry| (Arc::clone(&entry.name), entry)).collect();
    for entry in from.value.0 {
        match by_name.get_mut(&entry.name) {
            Some(first) => both(first, entry, problems),
            None => {
                by_name.insert(Arc::clone(&entry.name), entry);
            }
        }
    }
    into.value.0 = by_name.into_values().collect();
}

fn refuse<T>(first: &mut Entry<T>, second: Entry<T>, problems: &mut Problems) {
    redefined(&first.at, second.at, problems);
}

/// A listener may get chains from several files, and all else from one.
fn merge_listener(
    first: &mut Entry<RawListener>,
    mut added: Entry<RawListener>,
    problems: &mut Problems,
) {
    match (only_chains(&first.value), only_chains(&added.value)) {
        (true, false) => std::mem::swap(first, &mut added),
        (false, false) => redefined(&first.at, added.at, problems),
        (true | false, true) => {}
    }
    names(&mut first.value.chain, added.value.chain, refuse, problems);
}

fn only_chains(listener: &RawListener) -> bool {
    listener.written().all(|(key, _)| key == "chain")
}

fn redefined(first: &Location, second: Location, problems: &mut Problems) {
    let help = "an included file may add tables, never write one again";
    problems.add(second, format!("already written at {first}"), help);
}
