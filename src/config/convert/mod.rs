//! From what the files say to a plan that cannot be wrong: the only way in.
//!
//! Adds a problem for every value that does not hold, and goes on, so that one run shows them all.
//! Opens no file and resolves no name. Next: `listener`, `filter`, `tls`, `trust`, `cluster`,
//! `proxy_protocol`, `process`.

mod cluster;
mod filter;
mod health;
mod identity;
mod listener;
mod process;
mod proxy_protocol;
mod tls;
mod trust;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::process::admin;
pub use self::tls::{group_name, suite_name};
use super::error::{Location, Problems};
use super::node::{At, Entry, Named};
use super::plan::{FileRef, Plan};
use super::raw::RawFile;
use super::suggest;
use crate::core::prelude::Prelude;

/// A plan, if nothing is wrong; else `None`, and at least one problem is added.
///
/// `digest` is that of the files.
pub(super) fn plan(
    raw: &RawFile,
    digest: [u8; 32],
    whole: &Location,
    problems: &mut Problems,
) -> Option<Plan> {
    let tls = raw.tls.as_ref();
    let downstream = entries(tls.and_then(|tls| tls.value.downstream.as_ref()));
    let upstream = entries(tls.and_then(|tls| tls.value.upstream.as_ref()));
    let trusts = entries(raw.trust.as_ref());
    let clusters = entries(raw.cluster.as_ref());
    let names = Names {
        downstream: Ids::new("tls.downstream", downstream, problems),
        upstream: Ids::new("tls.upstream", upstream, problems),
        trust: Ids::new("trust", trusts, problems),
        cluster: Ids::new("cluster", clusters, problems),
    };

    let runtime = process::runtime(raw, problems);
    let admin = admin(raw, problems);
    let log = process::log(raw, problems);
    let access_log = process::access_log(raw, problems);
    let session_tickets = process::session_tickets(raw, problems);
    let listeners = listener::listeners(raw, whole, &names, problems);
    let downstream_tls = all(downstream, |entry| tls::downstream(entry, &names, problems));
    let upstream_tls = all(upstream, |entry| tls::upstream(entry, &names, problems));
    let trusts = all(trusts, |entry| trust::trust(entry, problems));
    let clusters = all(clusters, |entry| cluster::cluster(entry, &names, problems));
    let plan = Plan {
        digest,
        runtime: runtime?,
        limits: process::limits(raw),
        admin: admin?,
        log: log?,
        access_log: access_log?,
        session_tickets: session_tickets?,
        listeners: listeners?,
        downstream_tls: downstream_tls?,
        upstream_tls: upstream_tls?,
        trusts: trusts?,
        clusters: clusters?,
    };
    listener::cross_check(&plan, problems);
    filter::cross_check(&plan, problems);
    health::cross_check(&plan, problems);
    Some(plan)
}

/// What the tables of the files may refer to by name.
#[derive(Debug)]
struct Names {
    downstream: Ids,
    upstream: Ids,
    trust: Ids,
    cluster: Ids,
}

/// The names of one kind of table, each with its place in the plan's list.
#[derive(Debug)]
struct Ids {
    kind: &'static str,
    by_name: BTreeMap<Arc<str>, u16>,
}

impl Ids {
    fn new<T>(kind: &'static str, entries: &[Entry<T>], problems: &mut Problems) -> Self {
        let mut by_name = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            match u16::try_from(index) {
                Ok(id) => {
                    by_name.insert(Arc::clone(&entry.name), id);
                }
                Err(_) => {
                    let message = format!("more than {} tables [{kind}.NAME]", 1 << 16);
                    problems.add(entry.at.clone(), message, "");
                    break;
                }
            }
        }
        Self { kind, by_name }
    }

    /// The table that `written` names.
    fn find(&self, written: &At<String>, problems: &mut Problems) -> Option<u16> {
        let name = written.value.as_str();
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        let table = super::node::join(self.kind, name);
        if !problems.is_excused(&table) {
            let names = self.by_name.keys().map(AsRef::as_ref);
            let help = suggest::help(name, names, "defined");
            problems.add(written.at.clone(), format!("there is no [{table}]"), help);
        }
        None
    }
}

fn entries<T>(named: Option<&At<Named<T>>>) -> &[Entry<T>] {
    named.map_or(&[], |named| &named.value.0)
}

/// Converts all of `items` and not only those before the first that fails.
fn all<I: IntoIterator, T>(items: I, convert: impl FnMut(I::Item) -> Option<T>) -> Option<Vec<T>> {
    let converted: Vec<Option<T>> = items.into_iter().map(convert).collect();
    converted.into_iter().collect()
}

/// The value of a key that has no default.
fn required<'a, T>(
    value: Option<&'a At<T>>,
    table: &Location,
    (key, example): (&str, &str),
    problems: &mut Problems,
) -> Option<&'a At<T>> {
    let at = table.child(key);
    if value.is_none() && !problems.is_excused(&at.key) {
        problems.add(at, "missing, and there is no default", format!("write {key} = {example}"));
    }
    value
}

/// A list that may not be empty.
fn filled<'a, T>(
    written: &'a At<Vec<At<T>>>,
    (key, example): (&str, &str),
    problems: &mut Problems,
) -> Option<&'a [At<T>]> {
    if written.value.is_empty() {
        let help = format!("write {key} = {example}");
        problems.add(written.at.clone(), "may not be empty", help);
        return None;
    }
    Some(&written.value)
}

/// One of a few words. `None` was not written: then `default` holds.
fn choice<T: Copy>(
    written: Option<&At<String>>,
    default: T,
    choices: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let Some(written) = written else { return Some(default) };
    one_of(written, choices, problems)
}

fn one_of<T: Copy>(
    written: &At<String>,
    choices: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let text = written.value.as_str();
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Some(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let near = suggest::nearest(text, &names);
    let help = near.map_or(String::new(), |near| format!("did you mean \"{near}\"?"));
    let allowed = any_of(&names);
    problems.add(written.at.clone(), format!("expected {allowed}, found {text:?}"), help);
    None
}

/// `"a", "b" or "c"`.
fn any_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// What is said before TLS, on either side.
fn prelude(written: Option<&At<String>>, problems: &mut Problems) -> Option<Option<Prelude>> {
    choice(written, None, &[("postgres", Some(Prelude::Postgres))], problems)
}

/// A number within `range`; `default` where none is written.
fn number<T>(
    written: Option<&At<u64>>,
    default: T,
    range: RangeInclusive<T>,
    problems: &mut Problems,
) -> Option<T>
where
    T: TryFrom<u64> + PartialOrd + fmt::Display,
{
    let Some(written) = written else { return Some(default) };
    let value = T::try_from(written.value).ok().filter(|value| range.contains(value));
    if value.is_none() {
        let (low, high) = (range.start(), range.end());
        let message = format!("{} is not from {low} to {high}", written.value);
        problems.add(written.at.clone(), message, "");
    }
    value
}

/// A duration that may not be zero; `default` where none is written.
fn positive(
    written: Option<&At<Duration>>,
    default: Duration,
    problems: &mut Problems,
) -> Option<Duration> {
    let Some(written) = written else { return Some(default) };
    if written.value.is_zero() {
        let help = format!("leave this key out for the default, {}", shown(default));
        problems.add(written.at.clone(), "must be longer than zero", help);
        return None;
    }
    Some(written.value)
}

/// How long the kernel may try to reach a peer; zero, and nothing written, is "off".
fn unacknowledged(
    written: Option<&At<Duration>>,
    problems: &mut Problems,
) -> Option<Option<Duration>> {
    let Some(written) = written.filter(|written| !written.value.is_zero()) else {
        return Some(None);
    };
    if !(UNACKNOWLEDGED_MIN..=UNACKNOWLEDGED_MAX).contains(&written.value) {
        let message = format!("{} is not from 1s to 1d", shown(written.value));
        problems.add(written.at.clone(), message, "write \"0s\" to leave it to the kernel");
        return None;
    }
    Some(Some(written.value))
}

/// Less is less than a retransmission takes.
const UNACKNOWLEDGED_MIN: Duration = Duration::from_secs(1);
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is said of an address whose port is a number too large for one, and the help.
fn port_beyond(text: &str) -> Option<(String, &'static str)> {
    let (_, port) = text.rsplit_once(':')?;
    let is_digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_beyond = is_digits && port.parse::<u16>().is_err();
    is_beyond.then(|| (format!("{text:?} has port {port}"), "write a port from 1 to 65535"))
}

fn plain<T: Copy>(written: Option<&At<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}

/// A file that the configuration names: relative to the file that names it, and made absolute.
fn file(written: &At<String>, problems: &mut Problems) -> Option<FileRef> {
    let at = &written.at;
    if written.value.is_empty() || written.value.contains('\0') {
        let message = format!("{:?} is not the path of a file", written.value);
        problems.add(at.clone(), message, "");
        return None;
    }
    Some(FileRef { path: beside(at, &written.value), at: at.clone() })
}

fn beside(at: &Location, path: &str) -> PathBuf {
    let joined = at.file.parent().map_or_else(|| PathBuf::from(path), |dir| dir.join(path));
    // Fails only where the working directory is gone; a relative path then fails on opening.
    std::path::absolute(&joined).unwrap_or(joined)
}

/// Weights beyond this say nothing that smaller ones could not.
const WEIGHT_MAX: u32 = 10_000;

/// As the file would write it.
fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let fits = |unit: &(&str, u128)| millis > 0 && millis.is_multiple_of(unit.1);
    let (unit, factor) = units.into_iter().find(fits).unwrap_or(("s", 1));
    format!("{}{unit}", millis / factor)
}
